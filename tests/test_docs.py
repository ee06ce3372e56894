"""The documentation names what there is, and what it names exists."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import cluster, compaction, load, precision, runner, scaling_table, speed, theory
from jepascore_core.datasets import DATASETS
from jepascore_core.encoders.presets import PRESETS
from tests.chaos import __main__ as chaos

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_command_is_in_the_readme() -> None:
    from jepascore_core.__main__ import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    missing = [name for name in names if f"jepascore_core {name}" not in README]
    assert not missing


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.id)
def test_every_preset_is_in_the_readme(spec) -> None:
    assert f"`{spec.id}`" in README


@pytest.mark.parametrize("known", DATASETS, ids=lambda known: known.name)
def test_every_known_dataset_is_in_the_readme(known) -> None:
    assert f"`{known.id}`" in README


def test_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("speed_cpu", speed.table),
        ("runner_cpu", runner.table),
        ("precision_cpu", precision.table),
        ("compaction", compaction.table),
        ("cluster", cluster.table),
    ],
)
def test_the_speed_tables_are_the_measured_ones(name: str, table: Callable[[list], str]) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    assert table(results["rows"]) in README


def test_the_largest_encoders_numbers_are_the_measured_ones() -> None:
    (row,) = json.loads((ROOT / "benchmarks" / "results" / "huge_cpu.json").read_text())["rows"]
    beyond, whole = (row[name] / 2**30 for name in ("peak_bytes", "peak_with_encoder_bytes"))
    assert whole < 12
    assert f"{row['seconds'] / 60:.0f} minutes" in README
    assert f"in {beyond:.1f} GiB beyond the encoder and {whole:.1f} GiB with it" in README


def test_the_arithmetic_of_scaling_is_the_commands() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
    assert scaling_table.table(results["rows"]) in (ROOT / "docs" / "scaling.md").read_text()
    assert [row["encoder"] for row in results["rows"]] == [s.id for s in PRESETS if not s.id.startswith("demo:")]
    dino = next(row for row in results["rows"] if row["name"] == "DINOv2 ViT-B/14")
    rate = results["assumed"]["flop_per_s"] * results["assumed"]["share"] / dino["flop"]
    assert dino["hours"][1] == pytest.approx(1_281_167 / rate / 3600 / 8)


@pytest.mark.parametrize("table", [theory.grid_table, theory.objective_table, theory.variant_table])
def test_the_theorys_tables_are_the_measured_ones(table: Callable[[list], str]) -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "theory.json").read_text())
    assert table(results["rows"]) in README


@pytest.mark.parametrize(
    ("name", "table"), [("chaos", lambda found: chaos.table(found["campaigns"])), ("load", load.table)]
)
def test_the_tables_of_faults_and_visitors_are_the_measured_ones(name: str, table: Callable[[dict], str]) -> None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("not measured yet")
    assert table(json.loads(path.read_text())) in README


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"run", "test", "lint", "bench"} <= named
    assert not [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


def test_changelog_has_an_entry() -> None:
    assert re.search(r"^- \S", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_requirement_says_why() -> None:
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"^[A-Za-z0-9_.-]+>=\S+\s+# \S", line), line


def test_the_dashboard_stays_on_this_machine() -> None:
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "localhost" and config["server"]["enableXsrfProtection"] is True
    assert config["server"]["maxUploadSize"] <= 50 and config["browser"]["gatherUsageStats"] is False

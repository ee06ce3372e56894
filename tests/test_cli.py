"""The command line as a shell sees it: stdout, stderr, exit code."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from jepascore_core import store
from jepascore_core.errors import RunError
from tests.forked import ROOT
from tests.forked import command_line as cli

COMMANDS = (
    "score",
    "cost",
    "runs",
    "show",
    "curate",
    "readiness",
    "compare",
    "map",
    "export",
    "import",
    "tags",
    "verify",
    "compact",
    "map",
    "report",
    "extremes",
    "encoders",
    "datasets",
    "train",
    "theory",
    "demo",
)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "jepascore_core", *map(str, arguments)]


def test_an_early_ctrl_c_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from jepascore_core import __main__
    from jepascore_core.commands import scoring

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "score_all", interrupted)
    monkeypatch.setattr(sys, "argv", ["jepascore_core", "demo"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted; what is scored is kept, and the same command resumes.\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), OSError(12, "Cannot allocate memory")], ids=repr
)
def test_a_lack_of_memory_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jepascore_core import __main__
    from jepascore_core.commands import scoring

    def hungry(*_: object) -> None:
        raise error

    monkeypatch.setattr(scoring, "score_all", hungry)
    monkeypatch.setattr(sys, "argv", ["jepascore_core", "demo"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 1 and capsys.readouterr().err.startswith("Memory ran out: ")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A runs folder with one finished run of twelve galaxies, and that run."""
    runs_dir = tmp_path_factory.mktemp("runs")
    done = cli(
        "score", "--encoder", "demo:jepa-tiny", "--dataset", "demo:galaxies", "--limit", 12, "--runs-dir", runs_dir
    )
    assert done.returncode == 0, done.stderr
    return runs_dir, Path(done.stdout.splitlines()[-1])


def test_score_prints_the_runs_folder_last(scored: tuple[Path, Path]) -> None:
    runs_dir, run = scored
    assert run.parent == runs_dir and (run / "run.json").is_file() and list(run.glob("part-*.parquet"))


def test_the_same_request_is_the_same_run_and_returns_at_once(scored: tuple[Path, Path]) -> None:
    runs_dir, run = scored
    before = {part.name: part.stat().st_mtime_ns for part in run.glob("part-*.parquet")}
    again = cli(
        "score", "--encoder", "demo:jepa-tiny", "--dataset", "demo:galaxies", "--limit", 12, "--runs-dir", runs_dir
    )
    assert again.stdout.splitlines()[-1] == str(run)
    assert before == {part.name: part.stat().st_mtime_ns for part in run.glob("part-*.parquet")}


def test_cost_tells_images_speed_and_time() -> None:
    arguments = ("cost", "--encoder", "demo:jepa-tiny", "--dataset", "demo:galaxies", "--limit", 12)
    told = json.loads(cli(*arguments, "--json").stdout)
    assert told["images"] == 12 and told["device"] and told["images_per_s"] > 0 and told["start_s"] > 0
    assert told["seconds"] == pytest.approx(told["start_s"] + 12 / told["images_per_s"])
    text = cli(*arguments).stdout
    assert re.search(r"^images +12$", text, re.MULTILINE) and re.search(r"^images/s +[\d.]+ on ", text, re.MULTILINE)
    assert re.search(r"^expected time  0:00:\d\d, 0:00:\d\d of it before the first image$", text, re.MULTILINE)


def test_runs_lists_it_as_json(scored: tuple[Path, Path]) -> None:
    runs_dir, run = scored
    (listed,) = json.loads(cli("runs", "--json", "--runs-dir", runs_dir).stdout)
    assert (listed["name"], listed["state"], listed["done"], listed["failed"]) == (run.name, "done", 12, 0)


def test_show_gives_extremes_that_are_in_order(scored: tuple[Path, Path]) -> None:
    runs_dir, run = scored
    shown = json.loads(cli("show", run.name, "--json", "--n", 2, "--runs-dir", runs_dir).stdout)
    assert shown["done"] == 12 and len(shown["classes"]) == 3 and not shown["failures"]
    for row in shown["classes"]:
        least, most = ([image["score"] for image in row[which]] for which in ("least", "most"))
        assert least == sorted(least) and most == sorted(most, reverse=True) and least[0] <= most[0]
    text = cli("show", run, "--runs-dir", runs_dir).stdout
    assert "12 of 12 scored" in text and shown["classes"][0]["least"][0]["key"] in text


@pytest.mark.parametrize("name", ["sphere", "corrected"])
def test_show_and_export_know_the_named_scores(name: str, scored: tuple[Path, Path], tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    run, target = scored[1], tmp_path / "out.csv"
    expected = store.scores(store.open_run(run), rule=store.ScoreRule(name)).set_index("key")["score"]
    shown = json.loads(CliRunner().invoke(app, ["show", str(run), "--json", "--score", name]).stdout)
    least = shown["classes"][0]["least"][0]
    assert shown["score"] == name and least["score"] == pytest.approx(expected[least["key"]])
    done = CliRunner().invoke(app, ["export", str(run), "--to", str(target), "--score", name])
    assert done.exit_code == 0
    assert pd.read_csv(target).set_index("key")["jepa_score"].to_dict() == pytest.approx(expected.to_dict())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".txt"])
def test_export_writes_every_row(scored: tuple[Path, Path], suffix: str, tmp_path: Path) -> None:
    runs_dir, run = scored
    target = tmp_path / f"scores{suffix}"
    done = cli("export", run.name, "--to", target, "--runs-dir", runs_dir)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(target)
    rows = {
        ".csv": lambda: len(pd.read_csv(target)),
        ".parquet": lambda: len(pd.read_parquet(target)),
        ".txt": lambda: len(target.read_text().splitlines()),
    }
    assert rows[suffix]() == 12


def test_export_packs_tagged_and_listed_images(scored: tuple[Path, Path], tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    def export(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["export", *map(str, arguments)])

    runs = [store.open_run(shutil.copytree(scored[1], tmp_path / name)) for name in ("one", "two")]
    keys = list(store.scores(runs[0])["key"])
    store.add_tag(runs[0], "odd", keys[:2])
    done = export("one", "two", "--runs-dir", tmp_path, "--to", tmp_path / "x.zip", "--tag", "odd")
    assert done.exit_code == 0 and done.stdout == f"{tmp_path / 'x.zip'}\n" and done.stderr.endswith("2 images\n")
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        assert len(file.namelist()) == 3 and all(name.startswith(("one/", "manifest")) for name in file.namelist())
    listed = tmp_path / "keys.txt"
    listed.write_text(f"{keys[0]}\ntwo\t{keys[1]}\nnope\n")
    done = export(*(run.path for run in runs), "--keys", listed, "--as", "huggingface", "--to", tmp_path / "hf")
    assert done.exit_code == 0 and done.stderr.endswith("3 images, 1 missing: see missing.txt\n")
    rows = [json.loads(line) for line in (tmp_path / "hf" / "metadata.jsonl").read_text().splitlines()]
    assert [(row["run"], row["key"]) for row in rows] == [("one", keys[0]), ("two", keys[0]), ("two", keys[1])]
    for arguments, words in (
        (("--tag", "even", "--to", "x.csv"), "No image has the tag 'even'; there are 'odd'."),
        (("--as", "zip-images", "--to", "x.csv"), "Cannot export zip-images to 'x.csv': the name must end in .zip."),
        (("--to", "x.doc"), "the name must end in one of"),
    ):
        refused = export(runs[0].path, *arguments)
        assert isinstance(refused.exception, RunError) and words in str(refused.exception) and refused.stdout == ""


def test_tags_are_listed_and_merged(scored: tuple[Path, Path], tmp_path: Path) -> None:
    from jepascore_core.__main__ import app

    def tags(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["tags", *map(str, arguments)])

    run, copy = (store.open_run(shutil.copytree(scored[1], tmp_path / name)) for name in ("one", "two"))
    store.add_tag(run, "odd\x1b[31m", ["a", "b"])
    store.add_tag(copy, "odd\x1b[31m", ["b", "c"])
    listed = tags("one", "--runs-dir", tmp_path)
    assert listed.exit_code == 0 and re.search(r"^odd�\[31m +2 +20", listed.stdout, re.MULTILINE)
    (path,) = (copy.path / "tags").glob("*.json")
    merged = tags(run.path, "--merge", copy.path, "--json")
    assert merged.stderr == "1 new\n"
    (row,) = json.loads(merged.stdout)
    assert (row["name"], row["images"], row["keys"]) == ("odd\x1b[31m", 3, ["a", "b", "c"])
    path.write_text("{")
    damaged = tags(copy.path)
    assert damaged.exit_code == 0 and damaged.stderr == f"{path.name} is not valid JSON.\n"


def test_lists_are_json() -> None:
    presets = json.loads(cli("encoders", "--json").stdout)
    assert {"demo:jepa-tiny", "timm:vit_small_patch14_dinov2.lvd142m"} <= {spec["id"] for spec in presets}
    known = json.loads(cli("datasets", "--json").stdout)
    assert any("demo:photos" in row.values() for row in known)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    from typer.testing import CliRunner

    from jepascore_core.__main__ import app

    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"python -m jepascore_core {name}" in shown.stdout and "--runs-dir" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "--encoder", "demo:jepa-tinny", "--dataset", "demo:photos"), "demo:jepa-tiny"),
        (("score", "--encoder", "demo:jepa-tiny", "--dataset", "folder:/does/not/exist"), "/does/not/exist"),
        (("score", "--encoder", "demo:jepa-tiny", "--dataset", "demo:photos", "--classes", "unicorn"), "unicorn"),
        (("cost", "--encoder", "demo:jepa-tinny", "--dataset", "demo:photos"), "demo:jepa-tiny"),
        (("show", "no-such-run"), "no-such-run"),
        (("export", "no-such-run", "--to", "out.csv"), "no-such-run"),
        (("report", "no-such-run"), "no-such-run"),
        (("compare", "no-such-run", "another"), "no-such-run"),
    ],
)
def test_errors_are_one_sentence_on_stderr(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = cli(*arguments, "--runs-dir", tmp_path)
    assert done.returncode != 0
    assert words in done.stderr and "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if words in line][-1]
    assert message.endswith((".", "?")) and done.stdout == ""


def test_a_bad_image_is_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "class;\x1b[31m\n<b>"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.effect_noise((64, 64), 60 + number).convert("RGB").save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    runs_dir = tmp_path / "runs"
    dataset = f"folder:{tmp_path / 'images'}"
    done = cli("score", "--encoder", "demo:jepa-tiny", "--dataset", dataset, "--runs-dir", runs_dir)
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("show", done.stdout.splitlines()[-1], "--json", "--runs-dir", runs_dir).stdout)
    assert shown["done"] == 3 and [Path(row["key"]).name for row in shown["failures"]] == ["broken.jpg"]
    text = cli("show", done.stdout.splitlines()[-1], "--runs-dir", runs_dir).stdout
    assert "\x1b" not in text and "broken.jpg" in text


@pytest.mark.parametrize("interrupt", [signal.SIGTERM, signal.SIGINT])
def test_signals_flush_and_resume(interrupt: signal.Signals, tmp_path: Path) -> None:
    arguments = ("score", "--encoder", "demo:jepa-tiny", "--dataset", "demo:digits", "--batch-size", 2, "--limit", 80)
    process = subprocess.Popen(
        command(*arguments, "--runs-dir", tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(interrupt)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0 and "resumes" in stderr and "Traceback" not in stderr
    (stopped,) = json.loads(cli("runs", "--json", "--runs-dir", tmp_path).stdout)
    assert stopped["state"] == "cancelled" and 0 < stopped["done"] < stopped["planned"]
    resumed = cli(*arguments, "--runs-dir", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    (whole,) = json.loads(cli("runs", "--json", "--runs-dir", tmp_path).stdout)
    assert whole["state"] == "done" and whole["done"] == whole["planned"]


def test_train_writes_an_encoder_that_scores(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.safetensors"
    trained = cli("train", "--out", weights, "--steps", 2, "--batch-size", 16)
    assert trained.returncode == 0, trained.stderr
    encoder = trained.stdout.splitlines()[-1]
    done = cli("score", "--encoder", encoder, "--dataset", "demo:photos", "--limit", 4, "--runs-dir", tmp_path / "runs")
    assert done.returncode == 0, done.stderr


def test_core_imports_without_streamlit() -> None:
    code = """
import importlib, pkgutil, sys, jepascore_core
for module in pkgutil.walk_packages(jepascore_core.__path__, "jepascore_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import jepascore_core.__main__
assert "streamlit" not in sys.modules, "the core knows no screen"
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_listing_does_not_wait_for_torch() -> None:
    code = "import sys; import jepascore_core.__main__, jepascore_core.store; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

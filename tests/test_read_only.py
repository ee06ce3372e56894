"""A read-only dashboard: visitors look, compare and export; nothing is started, stopped, written or uploaded."""

import dataclasses
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from jepascore_core import allowed, importing, jobs, packs, store
from jepascore_core.__main__ import main
from jepascore_core.encoders.download import WeightsSource, fetch
from jepascore_core.errors import DatasetError, RunError
from jepascore_core.importing import ImportRequest
from jepascore_core.jobs import children, maps
from jepascore_core.runner import score_dataset
from jepascore_core.store import Run
from jepascore_core.store.maps import MapRequest
from jepascore_core.store.request import RunRequest
from tests.runs_made import made_run
from tests.test_jobs import fake
from tests.test_pages import PAGES, ROOT

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
DIGITS = RunRequest("demo:jepa-tiny", "demo:digits", limit=2, device="cpu")
LAB = {"Theory lab": "pages/theory_lab.py"}


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run, a tag and a stopped job, and then the setting; in the end all is as it was."""
    rng, home = np.random.default_rng(0), store.runs_home(None)
    labels = np.arange(24) % 3
    for seed in (0, 1):
        run = made_run(home, rng.normal(size=(24, 4)), labels, rng.normal(size=24), seed=seed)
    store.add_tag(run, "odd", ["class 0/00000.png"])
    fake(home, state="cancelled", request=DIGITS.to_json())
    monkeypatch.setenv(allowed.READ_ONLY, "1")
    before = tree(home)
    upload_mb = config.get_option("server.maxUploadSize")
    yield run
    config.set_option("server.maxUploadSize", upload_mb)
    assert tree(home) == before
    assert not children.children


def tree(folder: Path) -> dict[str, str]:
    """Every file with a digest of its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = digest
    return found


def a_file(folder: Path) -> ImportRequest:
    path = folder / "scores.csv"
    path.write_text("key,score\na,1.0\nb,2.0\n")
    return ImportRequest(path, "theirs", "birds")


DEEDS: dict[str, Callable[[Run, Path], object]] = {
    "start": lambda run, _: jobs.start(DIGITS),
    "start the demo": lambda run, _: jobs.start_demo(),
    "start a grid": lambda run, _: jobs.start_theory(jobs.TheoryRequest((2,), (100,), 1)),
    "start an experiment": lambda run, _: jobs.start_sensitivity(jobs.SensitivityRequest(run.name, "corruptions")),
    "resume": lambda run, _: jobs.resume(jobs.list_jobs()[0]),
    "cancel": lambda run, _: jobs.cancel(dataclasses.replace(jobs.list_jobs()[0], state="scoring")),
    "dismiss": lambda run, _: jobs.dismiss(jobs.list_jobs()[0]),
    "forget a cost": lambda run, _: jobs.forget([DIGITS]),
    "stop a map": lambda run, _: maps.cancel(MapRequest((run.name,), "umap")),
    "forget a map": lambda run, _: maps.forget(MapRequest((run.name,), "umap")),
    "tag": lambda run, _: store.add_tag(run, "new", ["class 0/00000.png"]),
    "untag": lambda run, _: store.remove_from_tag(run, "odd", ["class 0/00000.png"]),
    "rename a tag": lambda run, _: store.rename_tag(run, "odd", "even"),
    "delete a tag": lambda run, _: store.delete_tag(run, "odd"),
    "merge tags": lambda run, _: store.merge_tags(run, run),
    "import": lambda run, folder: importing.import_file(a_file(folder)),
    "save an import": lambda run, folder: importing.save(importing.look(a_file(folder))),
    "score": lambda run, _: score_dataset(DIGITS),
    "download": lambda run, _: fetch(WeightsSource("timm:x.y", url="https://weights.invalid/x.safetensors")),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_changes_anything_is_refused_in_one_sentence(deed: str, shared: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^This dashboard is read-only \(JEPASCORE_READ_ONLY\): only its owner can"):
        DEEDS[deed](shared, tmp_path)


def test_costs_and_slow_maps_are_not_begun(shared: Run) -> None:
    assert [estimate.cost for estimate in jobs.estimates([DIGITS])] == [None]
    now = maps.make(MapRequest((shared.name,), "umap"))
    assert now.settled and "read-only" in now.problem


def test_a_dataset_is_not_downloaded_for_a_visitor(shared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from jepascore_core.datasets import hub, load_dataset

    monkeypatch.setattr(hub, "_hub_answers", lambda: pytest.fail("asked the network"))
    with pytest.raises(DatasetError, match="not on this machine"):
        load_dataset("hf:nobody/nothing:test")


@pytest.mark.parametrize("value", ["", "0"])
def test_the_setting_can_be_off(value: str, shared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed.READ_ONLY, value)
    assert not allowed.read_only()


def test_the_command_line_is_the_owners(shared: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = a_file(tmp_path)
    argv = ["import", str(request.path), "--encoder", "e", "--dataset", "d", "--runs-dir", str(tmp_path / "own")]
    monkeypatch.setattr(sys, "argv", ["jepascore_core", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and len(store.list_runs(tmp_path / "own")) == 1
    assert allowed.read_only(), "only for the length of the command"


def test_exports_of_visitors_are_few_and_small(shared: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(packs.MOST_FILES_SHARED + 3):
        last = packs.pack({shared: None}, "zip-thumbnails")
        assert last.path.exists() and last.images == 24
    assert len(list(tmp_path.glob("jepascore-export-*"))) == packs.MOST_FILES_SHARED
    assert packs.packed_bytes({shared: None}, "csv").startswith(b'"index","key"')
    assert len(list(tmp_path.glob("jepascore-export-*"))) < packs.MOST_FILES_SHARED
    monkeypatch.setattr(packs, "MOST_BYTES_SHARED", 1000)
    with pytest.raises(RunError, match="holds at most 0 MiB of images: select fewer"):
        packs.pack({shared: None}, "zip-thumbnails")
    assert packs.pack({shared: None}, "zip-thumbnails", tmp_path / "own.zip").images == 24  # where one names a file


FORBIDDEN = (
    "Start",
    "Score",
    "Cancel",
    "Resume",
    "Dismiss",
    "Measure",
    "Import",
    "Add",
    "Remove",
    "Try again",
    "Choose",
)


@pytest.mark.parametrize("page", [*PAGES, "Theory lab"])
def test_pages_offer_nothing_that_is_off(page: str, shared: Run) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["chosen"] = f"{shared.name}/class 0/00000.png"
    if page == "Map":
        at.query_params["projection"] = "UMAP"
    if page == "Theory lab":
        at.query_params["view"] = "Dimension × samples"
    at = at.run().switch_page((PAGES | LAB)[page]).run()
    assert not at.exception and not at.error, [error.value for error in at.error]
    assert at.title[0].value == page
    assert not [button.label for button in at.button if button.label.startswith(FORBIDDEN)]
    assert not at.get("file_uploader") and config.get_option("server.maxUploadSize") == 0
    assert any("Read-only" in caption.value for caption in at.sidebar.caption)
    if page == "Score images":
        assert any("cancelled" in text.value for text in at.markdown), "jobs are still told"


def test_pages_without_a_run_offer_nothing_either(shared: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "empty"))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not at.exception and not at.error and not jobs.list_jobs()
    assert not [button.label for button in at.button if button.label.startswith(FORBIDDEN)]


def test_an_address_names_runs_of_the_runs_folder_only(shared: Run, tmp_path: Path) -> None:
    other = made_run(tmp_path / "elsewhere", None, None, np.arange(3.0), seed=9)
    for name in (str(other.path), f"../../elsewhere/{other.name}", "", ".", "..", "~", "\0"):
        with pytest.raises(RunError, match="no such run"):
            store.named_run(name)
    assert store.named_run(shared.name).name == shared.name

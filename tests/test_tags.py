"""Tags: named sets of images beside a run, which no second writer, crash or hostile name may harm."""

import itertools
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jepascore_core import files, locks, store
from jepascore_core.errors import RunError
from jepascore_core.files import write_json
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import Run
from tests.tiny import TinyDataset, tiny_work

HOSTILE = [
    "../../etc/passwd",
    "/absolute",
    "con",
    ".",
    "..",
    "a\0b",
    "two\nlines",
    "<script>alert(1)</script>",
    "**bold** :red[x] $x$",
    "\u202egnp.exe",
    "ärger 猫 🐈",
    "\udcff",
    "x" * 80,
    "🐈" * 80,
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(tmp_path_factory.mktemp("home")))
        return score_work(tiny_work(tmp_path_factory.mktemp("runs"), TinyDataset(8)), Hooks(threading.Event()))


@pytest.fixture
def run(scored: Run, tmp_path: Path) -> Run:
    """A copy that a test may write in."""
    return store.open_run(shutil.copytree(scored.path, tmp_path / "runs" / scored.name))


def held(run: Run) -> dict[str, list[str]]:
    return {tag.name: list(tag.keys) for tag in store.list_tags(run)}


def test_tags_are_made_grow_shrink_and_go(run: Run) -> None:
    assert store.list_tags(run) == [] and store.tagged(run, "blurry") == [] and not (run.path / "tags").exists()
    assert store.add_tag(run, "blurry", ["b", "a", "b"]) == 2
    assert store.add_tag(run, "blurry", ["c", "a"]) == 1
    assert store.add_tag(run, "Apart") == 0
    assert held(run) == {"Apart": [], "blurry": ["a", "b", "c"]}
    assert store.tags_by_key(run) == {key: ["blurry"] for key in "abc"}
    assert store.remove_from_tag(run, "blurry", ["a", "nobody"]) == 1
    assert store.remove_from_tag(run, "no such tag", ["a"]) == 0
    created = store.list_tags(run)[1].created
    store.rename_tag(run, "blurry", "soft")
    assert held(run) == {"Apart": [], "soft": ["b", "c"]} and store.list_tags(run)[1].created == created
    assert store.delete_tag(run, "soft") == 2 and store.delete_tag(run, "soft") == 0
    assert held(run) == {"Apart": []}


def test_a_tag_is_a_file_that_a_person_can_read(run: Run) -> None:
    store.add_tag(run, "blurry", ["b", "a"])
    (path,) = (run.path / "tags").glob("*.json")
    data = json.loads(path.read_text())
    assert data["name"] == "blurry" and data["keys"] == ["a", "b"] and data["created"].endswith("+00:00")


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name(run: Run, name: str) -> None:
    before = {path for path in run.path.parent.parent.rglob("*")}
    store.add_tag(run, name, ["\udcff", "ok"])
    ((known, keys),) = held(run).items()
    assert known == files.storable(name) and keys == ["\\udcff", "ok"]
    known.encode()
    assert store.tagged(run, name) == keys
    made = {path.parent for path in run.path.parent.parent.rglob("*")} - {path.parent for path in before}
    assert made == {run.path / "tags"}, "a file was made elsewhere"
    store.rename_tag(run, name, "plain")
    assert held(run) == {"plain": keys}


def test_texts_that_look_alike_are_one_tag(run: Run) -> None:
    assert store.add_tag(run, "cafe\u0301", ["a"]) == 1
    assert store.add_tag(run, " caf\u00e9 ", ["a"]) == 0
    assert held(run) == {"caf\u00e9": ["a"]}


@pytest.mark.parametrize(("name", "words"), [("", "needs a name"), (" \t", "needs a name"), ("x" * 81, "not 81")])
def test_what_is_no_name(run: Run, name: str, words: str) -> None:
    with pytest.raises(RunError, match=words):
        store.add_tag(run, name, ["a"])
    assert not (run.path / "tags").exists()


def test_a_name_that_is_taken_or_unknown(run: Run) -> None:
    store.add_tag(run, "a", ["1"])
    store.add_tag(run, "b", ["2"])
    with pytest.raises(RunError, match="has a tag 'b' already"):
        store.rename_tag(run, "a", "b")
    with pytest.raises(RunError, match="has no tag 'c'"):
        store.rename_tag(run, "c", "d")
    store.rename_tag(run, "a", " a ")
    assert held(run) == {"a": ["1"], "b": ["2"]}


def test_two_dashboards_add_to_one_tag_and_nothing_is_lost(run: Run) -> None:
    """Four writers, two of them processes of their own."""
    code = (
        "import sys; from jepascore_core import store; run = store.open_run(sys.argv[1])\n"
        "for n in range(25): store.add_tag(run, 'both', [f'{sys.argv[2]}-{n}'])"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, run.path, str(n)]) for n in range(2)]

    def add(writer: int) -> None:
        for n in range(25):
            store.add_tag(run, "both", [f"{writer}-{n}"])

    threads = [threading.Thread(target=add, args=(writer,)) for writer in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in others] == [0, 0]
    assert set(store.tagged(run, "both")) == {f"{writer}-{n}" for writer in range(4) for n in range(25)}


def test_readers_never_see_half_a_tag(run: Run) -> None:
    store.add_tag(run, "growing", [f"{n:04d}" for n in range(500)])
    done = threading.Event()

    def grow() -> None:
        for n in range(500, 520):
            store.add_tag(run, "growing", [f"{n:04d}"])
        done.set()

    thread = threading.Thread(target=grow)
    thread.start()
    sizes = []
    while not done.is_set():
        sizes.append(len(store.tagged(run, "growing")))
    thread.join()
    assert sizes == sorted(sizes) and min(sizes) >= 500 and store.damaged_tags(run) == {}


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"[" * 9000,
    b"{}",
    b'{"name": "x", "keys": ["a", 3], "created": ""}',
    b'{"name": "x", "keys": {}, "created": ""}',
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_file_is_named_and_left_alone(run: Run, garbage: bytes) -> None:
    store.add_tag(run, "x", ["a"])
    (path,) = (run.path / "tags").glob("*.json")
    store.add_tag(run, "y", ["a"])
    path.write_bytes(garbage)
    assert held(run) == {"y": ["a"]} and store.tags_by_key(run) == {"a": ["y"]}
    assert list(store.damaged_tags(run)) == [path.name] and path.name in store.damaged_tags(run)[path.name]
    for harm in (
        lambda: store.add_tag(run, "x", ["b"]),
        lambda: store.remove_from_tag(run, "x", ["a"]),
        lambda: store.delete_tag(run, "x"),
        lambda: store.rename_tag(run, "y", "x"),
        lambda: store.tagged(run, "x"),
    ):
        with pytest.raises(RunError, match=path.name):
            harm()
    assert path.read_bytes() == garbage and held(run) == {"y": ["a"]}


def test_a_file_under_a_foreign_name_is_damage(run: Run) -> None:
    store.add_tag(run, "x", ["a"])
    (path,) = (run.path / "tags").glob("*.json")
    shutil.copy(path, path.with_name("copy.json"))
    assert held(run) == {"x": ["a"]} and store.damaged_tags(run) == {"copy.json": "copy.json belongs to no tag 'x'."}


def test_merging_two_copies(run: Run, scored: Run, tmp_path: Path) -> None:
    store.add_tag(run, "both", ["a", "b"])
    store.add_tag(run, "mine", ["c"])
    other = store.open_run(shutil.copytree(scored.path, tmp_path / "elsewhere"))
    store.add_tag(other, "both", ["b", "z"])
    store.add_tag(other, "theirs", ["d", "e"])
    store.add_tag(other, "empty")
    before = {path.name: path.read_bytes() for path in (other.path / "tags").glob("*.json")}
    assert store.merge_tags(run, other.path) == 3
    assert held(run) == {"both": ["a", "b", "z"], "empty": [], "mine": ["c"], "theirs": ["d", "e"]}
    assert store.merge_tags(run, other) == 0
    assert before == {path.name: path.read_bytes() for path in (other.path / "tags").glob("*.json")}


def test_a_merge_keeps_the_older_date_and_refuses_other_images(run: Run, scored: Run, tmp_path: Path) -> None:
    other = store.open_run(shutil.copytree(scored.path, tmp_path / "other"))
    for each, created in ((run, "2025-02-01T00:00:00+00:00"), (other, "2024-02-01T00:00:00+00:00")):
        store.add_tag(each, "x", [created])
        (path,) = (each.path / "tags").glob("*.json")
        write_json(path, json.loads(path.read_text()) | {"created": created})
    store.merge_tags(run, other)
    assert store.list_tags(run)[0].created.startswith("2024")
    write_json(other.path / "run.json", other.meta | {"dataset": other.meta["dataset"] | {"fingerprint": "f00"}})
    with pytest.raises(RunError, match="different images"):
        store.merge_tags(run, other.path)
    with pytest.raises(RunError, match="There is no run"):
        store.merge_tags(run, tmp_path / "nowhere")


def test_a_merge_that_meets_damage_writes_nothing(run: Run, scored: Run, tmp_path: Path) -> None:
    other = store.open_run(shutil.copytree(scored.path, tmp_path / "other"))
    for name in ("x", "y"):
        store.add_tag(other, name, ["a"])
    store.add_tag(run, "x", ["b"])
    (path,) = (run.path / "tags").glob("*.json")
    path.write_text("{")
    with pytest.raises(RunError, match=path.name):
        store.merge_tags(run, other)
    assert held(run) == {}


def test_a_folder_that_cannot_be_written_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_tag(run, "x", ["a"])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    for where, name in ((Path, "mkdir"), (locks, "FileLock"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, refuse)
            with pytest.raises(RunError, match=r"^Cannot write in .*tags \(Read-only file system\)\.$"):
                store.add_tag(run, "x", ["b"])
            assert held(run) == {"x": ["a"]}
    (run.path / "tags").rename(run.path / "aside")
    (run.path / "tags").write_text("a file where the folder should be")
    assert held(run) == {}
    with pytest.raises(RunError, match="Cannot write in"):
        store.add_tag(run, "x", ["b"])


def test_a_lock_that_is_held_for_long(run: Run) -> None:
    store.add_tag(run, "x", ["a"])
    lock = run.path / "tags" / ".lock"
    with locks.hold_briefly(lock):
        with pytest.raises(locks.Busy, match="try again"), locks.hold_briefly(lock, timeout_s=0.05):
            pass
        assert held(run) == {"x": ["a"]}, "readers need no lock"


def test_what_a_dead_writer_left_is_cleared(run: Run) -> None:
    store.add_tag(run, "x", ["a"])
    (run.path / "tags" / ".x.json.1-2.tmp").write_text("half")
    assert held(run) == {"x": ["a"]}
    store.add_tag(run, "x", ["b"])
    assert list((run.path / "tags").glob("*.tmp")) == []


def test_tags_survive_resuming_and_a_zip(run: Run, tmp_path: Path) -> None:
    home = run.path.parent
    store.add_tag(run, "x", ["cat/0000.png"])
    for part in list(run.path.glob("part-*")):
        part.unlink()
    resumed = score_work(tiny_work(home, TinyDataset(8)), Hooks(threading.Event()))
    assert resumed == run and store.counts(resumed)["done"] == 8 and held(resumed) == {"x": ["cat/0000.png"]}
    assert [listed.name for listed in store.list_runs(home)] == [run.name]
    archive = shutil.make_archive(str(tmp_path / "run"), "zip", resumed.path)
    shutil.unpack_archive(archive, tmp_path / "elsewhere" / "renamed")
    moved = store.open_run(tmp_path / "elsewhere" / "renamed")
    assert moved.problem is None and held(moved) == {"x": ["cat/0000.png"]}


def test_the_version_changes_with_every_change(run: Run) -> None:
    versions = [store.tags_version(run)]
    for change in (
        lambda: store.add_tag(run, "x", ["a"]),
        lambda: store.add_tag(run, "y"),
        lambda: store.remove_from_tag(run, "x", ["a"]),
        lambda: store.rename_tag(run, "y", "z"),
        lambda: store.delete_tag(run, "z"),
    ):
        change()
        versions.append(store.tags_version(run))
    assert all(one != other for one, other in itertools.pairwise(versions))
    assert store.tags_version(run) == versions[-1]

"""``verify`` names what is wrong with a run and nothing else; after ``--repair``, resuming gives the unbroken rows."""

import contextlib
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jepascore_core import allowed, store
from jepascore_core.__main__ import app
from jepascore_core.errors import RunError
from jepascore_core.files import read_json, write_json
from jepascore_core.importing import ImportRequest, import_file
from jepascore_core.locks import hold_briefly
from jepascore_core.planned import planned_keys
from jepascore_core.runner import Hooks, score_work
from jepascore_core.score import views_score
from jepascore_core.store import part_writer, parts
from jepascore_core.store.compacting import compact
from jepascore_core.store.repairing import repair
from jepascore_core.store.row_faults import COLUMNS, Expected, expected_of, faults
from jepascore_core.store.verifying import Verified, verify
from tests.tiny import D, TinyDataset, tiny_encoder, tiny_work

N, BAD = 36, 3
EXACT = ["index", "key", "label", "class_name", "width", "height", "jepa_score", "error"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """36 images in several parts of several row groups, one image bad."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(part_writer, "_PART_ROWS", 12)
        patch.setattr(part_writer, "_ROW_GROUP", 5)
        return score_again(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may harm."""
    return shutil.copytree(run.path, tmp_path / "runs" / run.name)


def score_again(home: Path) -> store.Run:
    """Ask for the run; the same request resumes it."""
    return score_work(tiny_work(home, TinyDataset(N, bad=(BAD,)), tiny_encoder(null_dim=1)), Hooks(threading.Event()))


def frame_of(folder: Path) -> pd.DataFrame:
    tables = [pq.ParquetFile(path).read().to_pandas() for path in parts.part_files(folder)]
    return pd.concat(tables).sort_values("index", ignore_index=True)


def change(path: Path, **columns) -> None:
    """Write a part with other columns."""
    table = pq.ParquetFile(path).read()
    for name, values in columns.items():
        field = parts.SCHEMA.field(name)
        table = table.set_column(parts.SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    pq.write_table(table, path, row_group_size=5, write_page_checksum=True)


def subjects(found: Verified) -> list[str]:
    return [wrong.subject for wrong in found.wrong]


def assert_mended(folder: Path, run: store.Run, rescored: int) -> None:
    """Nothing is wrong any more; resuming scores what is missing, and the rows are those of the unbroken run."""
    found = verify(folder)
    assert found.sound, found.wrong
    assert N - found.done - found.failed == rescored
    assert read_json(folder / "progress.json")["state"] == ("interrupted" if rescored else "done")
    before = {path.name: path.stat().st_mtime_ns for path in parts.part_files(folder)}
    again = score_again(folder.parent)
    assert again.path == folder and again.progress().state == "done"
    after = {path.name: path.stat().st_mtime_ns for path in parts.part_files(folder)}
    assert before.items() <= after.items()  # what was whole was not touched
    assert sum(pq.read_metadata(folder / name).num_rows for name in set(after) - set(before)) == rescored
    pd.testing.assert_frame_equal(frame_of(folder)[EXACT], frame_of(run.path)[EXACT], rtol=1e-6)
    assert verify(folder).sound


def test_a_sound_run(run):
    found = verify(run.path)
    assert found.sound and (found.planned, found.done, found.failed) == (N, N - 1, 1)
    assert not found.unsound and not found.damaged
    assert repair(run.path) == []


def test_runs_of_every_kind_are_sound(tmp_path):
    """No false alarm: eq. (4), spectra and scores of others with bad rows, an embedding without singular values."""
    rng = np.random.default_rng(0)
    views = score_work(tiny_work(tmp_path, TinyDataset(6, bad=(2,)), views=3), Hooks(threading.Event()))
    sigma = np.exp(rng.normal(size=(9, 4)))  # not in order
    sigma[4, 1], sigma[5], sigma[6, 2] = np.nan, 0.0, 1e-9
    np.save(tmp_path / "s.npy", sigma)
    np.savez(tmp_path / "v.npz", singular_values=np.abs(sigma), view_scores=rng.normal(size=(9, 2)))
    pd.DataFrame({"key": list("abc"), "score": [1.0, np.nan, -3.0]}).to_csv(tmp_path / "g.csv", index=False)
    pd.DataFrame({"key": list("ab"), "score": [1.0, 2.0], "embedding": ["[1,2,3]", "[3,4,5]"]}).to_csv(
        tmp_path / "e.csv", index=False
    )
    runs = [
        import_file(ImportRequest(tmp_path / name, "mine", name), tmp_path)[0]
        for name in ("s.npy", "v.npz", "g.csv", "e.csv")
    ]
    for run in (views, *runs):
        found = verify(run.path, planned_keys(run)[0])
        assert found.sound, (run.name, found.wrong)
        assert found.done + found.failed == run.planned
        compact(run.path)
        assert verify(run.path).sound


def test_an_unfinished_run_is_sound(copy, run):
    parts.part_files(copy)[-1].unlink()
    write_json(copy / "progress.json", {**read_json(copy / "progress.json"), "state": "cancelled"})
    found = verify(copy)
    assert found.sound and any("left to score" in note for note in found.notes)


@pytest.mark.parametrize("harm", ["truncate", "empty", "text", "flip", "version", "columns", "folder", "pipe"])
def test_a_damaged_part_is_set_aside(copy, run, harm):
    path = parts.part_files(copy)[1]
    lost, data, kept = pq.read_metadata(path).num_rows, path.read_bytes(), 0
    if harm == "flip":  # a byte of a thumbnail in the second of three row groups, which no query would notice
        column = pq.read_metadata(path).row_group(1).column(11)
        at = column.data_page_offset + column.total_compressed_size // 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        kept = lost - pq.read_metadata(path).row_group(1).num_rows
    elif harm == "version":
        pq.write_table(pq.read_table(path).replace_schema_metadata({"jepascore_format_version": "7"}), path)
    elif harm == "columns":
        pq.write_table(pq.read_table(path).drop_columns(["error"]), path)
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    elif harm == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "text": b"PAR1"}[harm])
    found = verify(copy)
    assert path.name in subjects(found) and list(found.damaged) == [path.name]
    before = {other: other.stat().st_mtime_ns for other in parts.part_files(copy) if other != path}
    deeds = repair(copy)
    assert any(f"{path.name}.damaged" in deed for deed in deeds)
    assert all(other.stat().st_mtime_ns == time for other, time in before.items())
    assert (copy / f"{path.name}.damaged").exists()
    assert_mended(copy, run, lost - kept)


def test_resuming_keeps_what_is_whole_of_a_damaged_part(copy, run):
    """A compacted part has 65,536 rows: one bad sector must not cost them all."""
    path = parts.part_files(copy)[1]
    column = pq.read_metadata(path).row_group(1).column(6)
    data, at = path.read_bytes(), column.data_page_offset
    path.write_bytes(data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 60]) + data[at + 60 :])
    kept = pq.read_metadata(path).num_rows - pq.read_metadata(path).row_group(1).num_rows
    again = score_again(copy.parent)
    assert again.path == copy and again.progress().state == "done" and verify(copy).sound
    assert pq.read_metadata(path).num_rows == kept and (copy / f"{path.name}.damaged").exists()
    pd.testing.assert_frame_equal(frame_of(copy)[EXACT], frame_of(run.path)[EXACT], rtol=1e-6)


def test_a_damaged_part_that_was_set_aside_before_is_not_lost(copy):
    path = parts.part_files(copy)[0]
    (copy / f"{path.name}.damaged").write_text("of another day")
    path.write_bytes(b"")
    repair(copy)
    assert (copy / f"{path.name}.damaged").read_text() == "of another day"
    assert (copy / f"{path.name}.2.damaged").exists()


def test_rows_that_are_there_twice(copy, run):
    first, second = parts.part_files(copy)[:2]
    shutil.copy(first, copy / "part-000077-00000000.parquet")
    rows = pq.read_table(second)
    joined = pa.concat_tables([rows, rows.slice(1, 2)])
    pq.write_table(joined, second, row_group_size=5)
    found = verify(copy)
    extra = pq.read_metadata(first).num_rows
    assert subjects(found) == ["rows"] and f"{extra + 2} rows have a key that another row has" in found.wrong[0].words
    assert {name: len(places) for name, places in found.unsound.items()} == {
        second.name: 2,
        "part-000077-00000000.parquet": extra,
    }
    repair(copy)
    assert_mended(copy, run, 0)


def test_of_two_rows_the_one_with_a_score_stays(copy, run):
    first = parts.part_files(copy)[0]
    shutil.copy(first, copy / "part-000077-00000000.parquet")
    n = pq.read_metadata(first).num_rows
    blank = dict.fromkeys(("jepa_score", "score_error", "singular_values", "sphere_term", "embedding"), [None] * n)
    change(first, error=["The file is empty."] * n, **blank)
    repair(copy)
    assert_mended(copy, run, 0)


SIGMA = np.array([4.0, 2.0, 1.0, 0.5, 1e-9], np.float32)


def rows_of(n: int = 4, **columns) -> pa.Table:
    """Sound rows of D = 5 with one null dimension, in which a test changes some columns."""
    sound = {
        "index": list(range(n)), "key": [str(i) for i in range(n)], "class_name": ["cat"] * n,
        "jepa_score": [float(np.log(4.0))] * n, "score_error": [0.1] * n, "singular_values": [SIGMA.tolist()] * n,
        "sphere_term": [None] * n, "embedding": [[0.0] * D] * n, "error": [None] * n, "view_scores": [None] * n,
    }  # fmt: skip
    sound |= columns
    return pa.table({name: pa.array(sound[name], parts.SCHEMA.field(name).type) for name in COLUMNS})


PROMISED = Expected(dim=D, null_dim=1, size=4, classes=frozenset({"cat"}))
UNSOUND = [
    ("no key", {"key": ["0", None, "2", "3"]}),
    ("neither", {"jepa_score": [1.38629436, None, 1.38629436, 1.38629436]}),
    ("both", {"error": [None, "No.", None, None]}),
    ("not part of the run", {"index": [0, 4, 2, 3]}),
    ("not part of the run", {"index": [0, -1, 2, 3]}),
    ("not part of the run", {"class_name": ["cat", "dog", "cat", "cat"]}),
    ("not finite", {"score_error": [0.1, float("nan"), None, 0.1]}),
    ("not finite", {"sphere_term": [0.1, float("inf"), None, 0.1]}),
    ("not finite", {"embedding": [[0.0] * D, [0.0, 1.0, float("nan"), 0.0, 0.0], [0.0] * D, [0.0] * D]}),
    ("wrong number", {"singular_values": [SIGMA.tolist(), SIGMA[:4].tolist(), SIGMA.tolist(), SIGMA.tolist()]}),
    ("wrong number", {"singular_values": [SIGMA.tolist(), None, SIGMA.tolist(), SIGMA.tolist()]}),
    ("or negative", {"singular_values": [SIGMA, [4.0, 2.0, 1.0, 0.5, -1.0], SIGMA, SIGMA]}),
    ("or negative", {"singular_values": [SIGMA, [4.0, 2.0, 1.0, 0.5, None], SIGMA, SIGMA]}),
    ("do not descend", {"singular_values": [SIGMA, [2.0, 4.0, 1.0, 0.5, 0.0], SIGMA, SIGMA]}),
    ("not that of its", {"jepa_score": [1.38629436, 1.3864, 1.38629436, 1.38629436]}),
    ("wrong length", {"embedding": [[0.0] * D, [0.0], [0.0] * D, [0.0] * D]}),
]


@pytest.mark.parametrize(("words", "columns"), UNSOUND)
def test_an_unsound_row_is_told_from_sound_ones(words, columns):
    found = faults(rows_of(**columns), PROMISED)
    assert len(found) == 1 and words in next(iter(found))
    assert next(iter(found.values())).tolist() == [False, True, False, False]


def test_sound_rows_have_no_faults():
    assert faults(rows_of(), PROMISED) == {} and faults(rows_of(), Expected()) == {}
    assert faults(rows_of(0), PROMISED) == {}
    nothing = dict.fromkeys(("jepa_score", "score_error", "singular_values", "embedding"), [None] * 4)
    assert faults(rows_of(error=["No."] * 4, **nothing), PROMISED) == {}
    given = {"singular_values": [None] * 4, "embedding": [None] * 4, "jepa_score": [7.0] * 4}
    assert faults(rows_of(**given), Expected(dim=D, null_dim=1, spectra=False, computed=False)) == {}
    assert "singular values of the wrong number" in faults(rows_of(**given), PROMISED)


def test_scores_of_several_views():
    """Eq. (4), against the formula of the maths module."""
    import torch

    plain = float(np.log(4.0))
    views = [[plain, plain + 1, plain - 2]] * 4
    score = views_score(torch.tensor(views[:1], dtype=torch.float64)).item()
    promised = Expected(dim=D, null_dim=1, views=3)
    assert faults(rows_of(view_scores=views, jepa_score=[score] * 4), promised) == {}
    wrong = [views[0], [plain, plain + 1, plain], views[0], views[0]]
    (mask,) = faults(rows_of(view_scores=wrong, jepa_score=[score] * 4), promised).values()
    assert mask.tolist() == [False, True, False, False]
    moved = [[plain + 0.01, *row[1:]] for row in views]  # the plain view's score is not that of its spectrum
    scores = views_score(torch.tensor(moved, dtype=torch.float64)).tolist()
    (mask,) = faults(rows_of(view_scores=moved, jepa_score=scores), promised).values()
    assert mask.all()


def test_what_a_run_promises(run):
    assert expected_of(run.meta) == Expected(dim=D, null_dim=1, size=N)
    assert expected_of({}) == Expected()


def test_an_unsound_row_is_left_out_and_scored_again(copy, run):
    path = parts.part_files(copy)[1]
    n = pq.read_metadata(path).num_rows
    scores = pq.read_table(path)["jepa_score"].to_pylist()
    change(path, jepa_score=[scores[0] + 1, *scores[1:]])
    found = verify(copy)
    assert len(found.wrong) == 1 and "1 row has a score that is not that of" in found.wrong[0].words
    assert path.name in found.wrong[0].words
    assert found.unsound[path.name].tolist() == [0]
    repair(copy)
    assert pq.read_metadata(path).num_rows == n - 1 and (copy / f"{path.name}.damaged").exists()
    assert_mended(copy, run, 1)


def test_rows_that_are_not_planned(copy):
    keys = frozenset(frame_of(copy)["key"][:-2])
    found = verify(copy, keys)
    assert subjects(found) == ["rows"] and "2 rows have a key that the dataset has no image of" in found.wrong[0].words
    meta = read_json(copy / "run.json")
    write_json(copy / "run.json", {**meta, "planned": N - 2})
    assert any("holds 36" in wrong.words and not wrong.mendable for wrong in verify(copy).wrong)


@pytest.mark.parametrize("garbage", [None, b"", b"{", b"[]", b'{"state": "flying"}'])
def test_garbage_in_progress_is_made_anew_from_the_parts(copy, run, garbage):
    path = copy / "progress.json"
    path.unlink() if garbage is None else path.write_bytes(garbage)
    os.utime(copy / "run.json", (0, 0))
    found = verify(copy)
    assert subjects(found) == ["progress.json"]
    repair(copy)
    progress = read_json(path)
    assert (progress["state"], progress["done"], progress["failed"], progress["planned"]) == ("done", N - 1, 1, N)
    assert_mended(copy, run, 0)


def test_a_run_that_says_done_and_lacks_a_part(copy, run):
    lost = parts.part_files(copy)[0]
    rows = pq.read_metadata(lost).num_rows
    lost.unlink()
    assert subjects(verify(copy)) == ["progress.json"]
    repair(copy)
    assert f"{rows} images" in store.open_run(copy).progress().message
    assert_mended(copy, run, rows)


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"encoder": 3}', None])
def test_garbage_in_run_json_says_what_to_do(copy, run, garbage):
    path = copy / "run.json"
    path.unlink() if garbage is None else path.write_bytes(garbage)
    parts.part_files(copy)[0].write_bytes(b"")  # the rest is mended all the same
    repair(copy)
    found = verify(copy)
    assert subjects(found) == ["run.json"] and not found.wrong[0].mendable
    assert "ask for the same run again" in found.wrong[0].words
    score_again(copy.parent)
    assert verify(copy).sound and len(frame_of(copy)) == N


@pytest.mark.parametrize(("name", "value"), [("eps", -1.0), ("eps", "x"), ("views", 0), ("planned", -3), ("eps", None)])
def test_run_json_that_contradicts_itself(copy, name, value):
    write_json(copy / "run.json", {**read_json(copy / "run.json"), name: value})
    assert "run.json" in subjects(verify(copy))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_value_anywhere_in_the_json_never_raises(tmp_path_factory, run, data):
    folder = tmp_path_factory.mktemp("any") / run.name
    folder.mkdir()
    os.link(parts.part_files(run.path)[0], folder / "part-000001-0.parquet")
    for name in ("run.json", "progress.json"):
        content = read_json(run.path / name)
        for section in (content, content.get("encoder", {}), content.get("dataset", {}), content.get("sample", {})):
            for key in data.draw(st.lists(st.sampled_from(sorted(section) or [""]), max_size=2)):
                section[key] = data.draw(json_values)
        (folder / name).write_text(json.dumps(content))
    found = verify(folder, planned_keys(store.open_run(folder))[0])
    assert all(wrong.words.endswith(".") for wrong in found.wrong)
    with contextlib.suppress(RunError):
        repair(folder)


def test_a_run_of_another_version_is_left_alone(copy):
    write_json(copy / "run.json", {**read_json(copy / "run.json"), "format_version": 2})
    parts.part_files(copy)[0].write_bytes(b"")
    assert any("version that made" in wrong.words for wrong in verify(copy).wrong)
    with pytest.raises(RunError, match="format 2"):
        repair(copy)
    assert not list(copy.glob("*.damaged"))


def test_temporary_files(copy):
    (copy / ".part-000009-0.parquet.123-abc.tmp").write_bytes(b"PAR1")
    found = verify(copy)
    assert subjects(found) == ["files"] and "half written" in found.wrong[0].words
    assert repair(copy) == ["Removed 1 file half written."]
    assert verify(copy).sound


def test_another_process_holds_the_run(copy):
    parts.part_files(copy)[0].write_bytes(b"")
    with hold_briefly(copy / ".lock"), pytest.raises(RunError, match="Another process is at work"):
        repair(copy)
    assert not list(copy.glob("*.damaged"))


def test_visitors_cannot_repair(copy, monkeypatch):
    monkeypatch.setenv(allowed.READ_ONLY, "1")
    with pytest.raises(RunError, match="read-only"):
        repair(copy)


def test_a_repair_that_is_killed_loses_nothing(copy, run, monkeypatch):
    """At each step: the folder is whole, and repairing again ends where an unbroken repair does."""
    path = parts.part_files(copy)[1]
    scores = pq.read_table(path)["jepa_score"].to_pylist()
    change(path, jepa_score=[scores[0] + 1, *scores[1:]])

    class Killed(BaseException):
        pass

    for owner, step in ((os, "link"), (Path, "replace")):
        with monkeypatch.context() as patch:

            def die(*_: object, **__: object) -> None:
                raise Killed

            patch.setattr(owner, step, die)
            with pytest.raises(Killed):
                repair(copy)
        assert len(frame_of(copy)) == N and store.open_run(copy).warning is None
    repair(copy)
    assert_mended(copy, run, 1)


def test_a_part_of_which_no_row_is_sound(copy, run):
    path = parts.part_files(copy)[2]
    n = pq.read_metadata(path).num_rows
    change(path, jepa_score=[0.5] * n)
    repair(copy)
    assert not path.exists() and (copy / f"{path.name}.damaged").exists()
    assert_mended(copy, run, n)


def test_a_file_system_without_links(copy, run, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    path = parts.part_files(copy)[1]
    change(path, jepa_score=[0.5] * pq.read_metadata(path).num_rows)
    as_it_was = path.read_bytes()
    repair(copy)
    assert (copy / f"{path.name}.damaged").read_bytes() == as_it_was


def test_what_the_dataset_says(tmp_path):
    from PIL import Image

    from jepascore_core.runner import score_dataset
    from jepascore_core.store.request import RunRequest

    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (60, 60), (60 * number, 9, 9)).save(folder / f"{number}.png")
    run = score_dataset(
        RunRequest("demo:jepa-tiny", f"folder:{folder}", limit=3, device="cpu"), runs_dir=tmp_path / "r"
    )
    keys, note = planned_keys(run)
    assert keys == set(frame_of(run.path)["key"]) and note == ""
    assert verify(run.path, keys).sound
    (folder / "0.png").unlink()
    keys, note = planned_keys(run)
    assert keys is None and "has changed since" in note
    shutil.rmtree(folder)
    assert planned_keys(run)[0] is None and "out of reach" in planned_keys(run)[1]


def test_the_command(copy, run):
    def cli(*arguments):
        return CliRunner().invoke(app, ["verify", str(copy), *arguments])

    good = cli()
    assert good.exit_code == 0 and good.stdout.startswith(f"{copy.name}: sound")
    parts.part_files(copy)[0].write_bytes(b"")
    bad = cli()
    assert bad.exit_code == 1 and "wrong" in bad.stdout and "Traceback" not in bad.output
    facts = json.loads(cli("--json").stdout)[0]
    assert not facts["sound"] and facts["wrong"][0]["subject"].startswith("part-")
    mended = cli("--repair")
    assert mended.exit_code == 0 and "sound after repair" in mended.stdout
    assert cli().exit_code == 0
    assert_mended(copy, run, 12)


def test_the_command_checks_every_run(tmp_path, copy):
    other = shutil.copytree(copy, copy.parent / "other")
    (other / "run.json").write_text("")
    result = CliRunner().invoke(app, ["verify", "--runs-dir", str(copy.parent)])
    assert result.exit_code == 1 and f"{copy.name}: sound" in result.stdout and "other: 1 wrong\n" in result.stdout
    empty = CliRunner().invoke(app, ["verify", "--runs-dir", str(tmp_path / "none")])
    assert empty.exit_code == 0

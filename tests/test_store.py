import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepascore_core import processes, score, store
from jepascore_core.errors import RunError
from jepascore_core.files import read_json, write_json, written_aside
from jepascore_core.runner import Hooks, score_work
from jepascore_core.score import jepa_score
from jepascore_core.store import ScoreRule, part_writer, parts, progress, rule
from jepascore_core.store.shelf import shelf
from tests.tiny import D, TinyDataset, tiny_encoder, tiny_work

N, BAD = 36, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real run of 36 images, one of them bad, in a folder that globs and quotes would trip over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(part_writer, "_PART_ROWS", 8)  # several parts
        home = tmp_path_factory.mktemp("store") / "we[ird] *'dir\\?"
        home.mkdir()
        encoder = tiny_encoder(null_dim=1)
        return score_work(tiny_work(home, TinyDataset(N, bad=(BAD,)), encoder), Hooks(threading.Event()))


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may harm."""
    return store.open_run(shutil.copytree(run.path, tmp_path / "runs" / run.name))


@pytest.fixture
def empty(run, tmp_path):
    """The run before its first part."""
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    shutil.copy(run.path / "run.json", folder)
    return store.open_run(folder)


def frame_of(run) -> pd.DataFrame:
    """All rows, read without the store."""
    return pd.concat([pq.ParquetFile(p).read().to_pandas() for p in parts.part_files(run.path)]).sort_values("index")


def test_several_parts_of_the_right_schema(run):
    files = parts.part_files(run.path)
    assert len(files) > 2 and all(pq.read_schema(path).equals(parts.SCHEMA) for path in files)
    assert pq.read_schema(files[0]).metadata[b"jepascore_format_version"] == b"1"


def test_whoever_changes_what_a_run_says_changes_no_one_elses(copy):
    os.utime(copy.path / "run.json", ns=(1, 10**18))  # remembered from now on
    one, other = store.open_run(copy.path), store.open_run(copy.path)
    one.meta["dataset"]["id"], one.meta["planned"] = "folder:/elsewhere", 0
    assert other.meta == copy.meta == store.open_run(copy.path).meta != one.meta


def test_counts_and_classes(run):
    assert store.counts(run) == {"planned": N, "done": N - 1, "failed": 1}
    table = store.class_counts(run)
    assert list(table.columns) == ["label", "class_name", "n", "failed", "median"]
    assert table.to_dict("records")[1] | {"n": 17, "failed": 1, "class_name": "dog"} == table.to_dict("records")[1]
    expected = frame_of(run).groupby("class_name")["jepa_score"].median()
    np.testing.assert_allclose(table.set_index("class_name")["median"], expected)


def test_scores(run):
    table = store.scores(run)
    assert list(table.columns) == ["index", "key", "label", "class_name", "score", "score_error"]
    assert list(table["index"]) == [i for i in range(N) if i != BAD]
    assert set(store.scores(run, classes=["dog"])["class_name"]) == {"dog"}
    assert store.scores(run, classes=[]).empty and store.scores(run, classes=["' OR true --"]).empty


@pytest.mark.parametrize("convention", ["raw", "listing1"])
@pytest.mark.parametrize("eps", [1e-6, 1e-3, 0.3, 5.0])
def test_every_rule_agrees_with_the_maths(run, convention, eps):
    rows = frame_of(run).dropna(subset="jepa_score")
    sigma = torch.from_numpy(np.stack(rows["singular_values"]))
    expected = jepa_score(sigma, eps=eps, null_dim=1 if convention == "raw" else 0)
    got = store.scores(run, rule=ScoreRule(convention, eps))["score"]
    np.testing.assert_allclose(got, expected, rtol=1e-5 if (convention, eps) == ("raw", 1e-6) else 1e-12, atol=1e-6)


def test_the_default_rule_is_the_stored_column(run):
    assert rule.EPS == score.EPS
    assert rule.score_column(run, ScoreRule()) == "jepa_score"
    np.testing.assert_array_equal(store.scores(run)["score"], frame_of(run)["jepa_score"].dropna())


@pytest.mark.parametrize("bad", [ScoreRule("eq6"), ScoreRule("raw", 0.0), ScoreRule("raw", float("nan"))])
def test_unknown_rules_are_refused(run, bad):
    with pytest.raises(RunError):
        store.scores(run, rule=bad)


@pytest.mark.parametrize("which,ascending", [("least", True), ("most", False)])
@pytest.mark.parametrize("class_name", [None, "cat"])
def test_extremes(run, which, ascending, class_name):
    rows = frame_of(run).dropna(subset="jepa_score")
    rows = rows if class_name is None else rows[rows["class_name"] == class_name]
    expected = rows.sort_values(["jepa_score", "key"], ascending=[ascending, True])
    table = store.extremes(run, 5, which=which, class_name=class_name)
    assert list(table["key"]) == list(expected["key"][:5])
    assert list(table["thumbnail"]) == list(expected["thumbnail"][:5])
    assert table["thumbnail"][0].startswith(b"\xff\xd8")
    ends = [50 / len(rows), 100 - 50 / len(rows)]
    assert table["percentile"][0] == pytest.approx(ends[0] if ascending else ends[1])
    second = store.extremes(run, 5, which=which, class_name=class_name, offset=5)
    assert list(second["key"]) == list(expected["key"][5:10])


def test_random_is_seeded_and_pages(run):
    keys = [list(store.extremes(run, 9, which="random", seed=seed)["key"]) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert list(store.extremes(run, 4, which="random", offset=5)["key"]) == keys[0][5:]


def test_between_brushes_a_histogram(run):
    values = np.sort(store.scores(run)["score"])
    table = store.extremes(run, 100, which="between", low=values[4], high=values[11])
    np.testing.assert_allclose(table["score"], values[4:12])
    assert len(store.extremes(run, 100, which="between", high=values[2])) == 3
    assert len(store.extremes(run, 100, which="between")) == N - 1


def test_a_ranking_holds_every_score_in_order(run):
    held = store.ranking(run)
    frame = store.scores(run).sort_values(["score", "key"], ignore_index=True)
    assert held.keys.to_pylist() == frame["key"].tolist() and len(held) == N - 1
    np.testing.assert_array_equal(held.scores, frame["score"])
    table = held.rows(np.arange(len(held)))
    for name in ("index", "class_name", "label"):
        assert table[name].tolist() == frame[name].tolist()
    np.testing.assert_allclose(table["score_error"], frame["score_error"])
    medians = frame.groupby("class_name")["score"].agg(["size", "median"])
    assert list(held.classes()["n"]) == list(medians["size"])
    np.testing.assert_allclose(held.classes()["median"], medians["median"])


def test_places_can_be_narrowed(run):
    held = store.ranking(run)
    dogs = held.places(["dog"])
    assert {held.class_names[code] for code in held.class_codes[dogs]} == {"dog"} and (np.diff(dogs) > 0).all()
    assert list(held.places(["dog", "cat", "dog"])) == list(range(len(held))) == list(held.places())
    assert not len(held.places(["nope"]))
    low, high = held.scores[5], held.scores[9]
    assert list(held.places(low=low, high=high)) == [5, 6, 7, 8, 9]
    assert list(held.places(["dog"], low=low, high=high)) == [place for place in range(5, 10) if place in dogs]
    keys = [held.keys[7].as_py(), held.keys[2].as_py(), "nope"]
    assert list(held.places_of(keys)) == [2, 7]
    assert held.place_of(keys[0]) == 7 and held.place_of("nope") is None
    assert np.array_equal(held.class_scores("dog"), held.scores[dogs])


def test_a_ranking_is_read_once_until_the_parts_change(copy, monkeypatch):
    first = store.ranking(copy)
    assert store.ranking(copy) is first and store.ranking(copy, ScoreRule("listing1")) is not first
    path = parts.part_files(copy.path)[0]
    lost = pq.read_metadata(path).num_rows
    path.unlink()
    assert len(store.ranking(copy)) in (len(first) - lost, len(first) - lost + 1)
    monkeypatch.setattr(shelf, "most_bytes", 1)
    again = store.ranking(copy, ScoreRule("listing1"))
    assert store.ranking(copy, ScoreRule("listing1")) is again  # the last one is kept, however large
    assert store.ranking(copy) is not first and store.ranking(copy, ScoreRule("listing1")) is not again


def test_thumbnails_are_those_of_the_images(run):
    frame = store.extremes(run, 6, which="random")
    found = store.thumbnails(run, frame["index"])
    assert found == dict(zip(frame["index"], frame["thumbnail"], strict=True)) and len(found) == 6
    assert store.thumbnails(run, []) == {} and store.thumbnails(run, [10**9]) == {}


def test_the_first_thumbnails_are_those_of_the_first_scored_images(run):
    rows = pd.concat([pq.ParquetFile(p).read().to_pandas() for p in parts.part_files(run.path)])
    expected = rows.dropna(subset="jepa_score")["thumbnail"].tolist()
    assert store.first_thumbnails(run, 5) == expected[:5] and len(store.first_thumbnails(run, 1000)) == N - 1


def test_the_median_is_that_of_the_stored_scores(run, empty):
    assert store.median(run) == frame_of(run)["jepa_score"].median()
    assert np.isnan(store.median(empty))


def test_ties_are_broken_by_key(copy):
    for path in parts.part_files(copy.path):
        table = pq.read_table(path)
        column = parts.pa.array([None if s is None else 1.0 for s in table["jepa_score"].to_pylist()])
        pq.write_table(table.set_column(6, parts.SCHEMA.field("jepa_score"), column), path)
    for which in ("least", "most"):
        keys = list(store.extremes(copy, 100, which=which)["key"])
        assert keys == sorted(keys, reverse=which == "most") and len(keys) == N - 1
    assert set(store.extremes(copy, 100)["percentile"]) == {50.0}


def test_row(run):
    values = store.row(run, "cat/0004.png")
    assert set(values) == set(parts.SCHEMA.names)
    assert values["error"] is None and type(values["index"]) is int and len(values["singular_values"]) == D
    bad = store.row(run, f"dog/{BAD:04d}.png")
    assert bad["error"] == "The file is empty." and bad["jepa_score"] is None and bad["thumbnail"] is None
    with pytest.raises(RunError, match="no image"):
        store.row(run, "nope' OR '1'='1")


def test_neighbours_walk_the_order_of_scores(run):
    order = list(store.extremes(run, 100)["key"])
    assert store.neighbours_of(run, order[3], 2) == order[5]
    assert store.neighbours_of(run, order[3], -3) == order[0]
    assert store.neighbours_of(run, order[3], -4) is None and store.neighbours_of(run, order[-1], 1) is None
    assert store.neighbours_of(run, "nope", 0) is None


@given(at=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_percentile_is_the_mid_rank(run, at):
    values = store.scores(run)["score"].to_numpy()
    expected = 50 * ((values < at).mean() + (values <= at).mean())
    assert store.percentile(run, at) == pytest.approx(expected)


def test_spectra_and_band(run):
    keys, values = store.spectra(run)
    assert values.shape == (N - 1, D) and values.dtype == np.float32 and (np.diff(values) <= 0).all()
    some = ["dog/0005.png", "cat/0002.png", f"dog/{BAD:04d}.png"]
    found, picked = store.spectra(run, keys=some)
    assert found == some[:2]
    np.testing.assert_array_equal(picked[0], values[keys.index("dog/0005.png")])
    assert store.spectra(run, class_name="dog", limit=4)[1].shape == (4, D)
    band = store.spectrum_band(run)
    np.testing.assert_allclose(band["median"], np.median(values, axis=0))
    assert list(band["k"]) == list(range(1, D + 1)) and (band["low"] <= band["high"]).all()


def test_failures(run):
    assert store.failures(run).to_dict("records") == [
        {"index": BAD, "key": f"dog/{BAD:04d}.png", "error": "The file is empty."}
    ]


def test_the_median_is_the_same_from_memory(copy):
    from jepascore_core.store.reading import known_reading

    assert known_reading(copy.path) is None
    read = store.median(copy)
    store.ranking(copy)
    assert known_reading(copy.path) is not None
    assert store.median(copy) == pytest.approx(read) == np.median(frame_of(copy)["jepa_score"].dropna())


def test_failures_are_not_looked_for_where_there_are_none(copy, monkeypatch):
    from jepascore_core.store import query

    shown = store.failures(copy)
    for path in parts.part_files(copy.path):
        table = pq.read_table(path)
        if table["error"].null_count < len(table):
            part_writer.write_tables(path, [table.filter(table["error"].is_null())])
    monkeypatch.setattr(query, "query", None)
    assert store.failures(copy).empty and list(store.failures(copy).columns) == list(shown.columns)


def test_a_run_before_its_first_part_answers_with_nothing(empty, tmp_path):
    assert store.counts(empty) == {"planned": N, "done": 0, "failed": 0}
    for table in (store.scores(empty), store.class_counts(empty), store.extremes(empty, 3), store.failures(empty)):
        assert table.empty
    assert "percentile" in store.extremes(empty, 3) and "thumbnail" in store.extremes(empty, 3)
    assert store.scores(empty, rule=ScoreRule("listing1")).empty
    assert store.spectra(empty)[1].shape == (0, D) and len(store.spectrum_band(empty)) == D
    assert np.isnan(store.percentile(empty, 0.0))
    assert store.export(empty, tmp_path / "nothing.csv") == 0


@pytest.mark.parametrize("harm", ["truncate", "empty", "text", "flip"])
def test_a_damaged_part_is_named_and_the_rest_is_shown(copy, harm):
    path = parts.part_files(copy.path)[1]
    lost = pq.read_metadata(path).num_rows
    data = path.read_bytes()
    if harm == "flip":  # the footer is whole, the pages are not
        start = pq.read_metadata(path).row_group(0).column(6).data_page_offset
        data = data[:start] + bytes(b ^ 0xFF for b in data[start : start + 60]) + data[start + 60 :]
    path.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "text": b"PAR1", "flip": data}[harm])
    assert len(store.scores(copy)) in (N - lost, N - 1 - lost)
    again = store.open_run(copy.path)
    assert again.problem is None and path.name in again.warning
    assert store.counts(again)["done"] == len(store.scores(copy))
    assert len(store.extremes(copy, 100)) == len(store.scores(copy))


def test_a_part_that_vanishes_during_a_query_is_tolerated(copy, monkeypatch):
    from jepascore_core.store import database

    listed, calls = parts.readable_parts(copy.path), itertools.count()

    def stale(folder):
        return [*listed, folder / "part-000099-gone.parquet"] if next(calls) == 0 else listed

    monkeypatch.setattr(database, "readable_parts", stale)
    assert len(store.scores(copy)) == N - 1 and next(calls) == 2


def test_queries_while_parts_appear(copy):
    """Readers never see half a part."""
    files = parts.part_files(copy.path)
    aside = copy.path / "aside"
    aside.mkdir()
    for path in files:
        path.rename(aside / path.name)
    done = threading.Event()

    def grow():
        for path in files:
            time.sleep(0.03)
            with written_aside(path) as temporary:
                temporary.write_bytes((aside / path.name).read_bytes())
        done.set()

    thread = threading.Thread(target=grow)
    thread.start()
    sizes = []
    while not done.is_set():
        sizes.append(len(store.scores(copy)))
    thread.join()
    assert sizes == sorted(sizes) and len(store.scores(copy)) == N - 1


def test_queries_from_many_threads(run):
    results = []
    threads = [threading.Thread(target=lambda: results.append(len(store.extremes(run, 7)))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 12


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b'{"encoder": 3}',
    b'{"format_version": 1, "encoder": {}}',
    b"[" * 9000,
]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", ["run.json", "progress.json"])
def test_garbage_never_raises(copy, name, garbage):
    (copy.path / name).write_bytes(garbage)
    (run,) = store.list_runs(copy.path.parent)
    assert run.label and run.progress().state in store.STATES
    if name == "run.json":
        assert "run.json" in run.problem and run.meta == {} and run.label == run.name
    else:
        assert run.problem is None and "progress.json" in run.warning and run.progress().state == "done"
    assert len(store.scores(run)) == N - 1  # the rows are there all the same


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_value_anywhere_in_the_json_never_raises(tmp_path_factory, run, data):
    home = tmp_path_factory.mktemp("any")
    folder = home / "r"
    folder.mkdir()
    for name in ("run.json", "progress.json"):
        content = read_json(run.path / name)
        for key in data.draw(st.lists(st.sampled_from(sorted(content)), max_size=3)):
            content[key] = data.draw(json_values)
        (folder / name).write_text(json.dumps(content))
    (listed,) = store.list_runs(home)
    assert isinstance(listed.label, str) and listed.progress().state in store.STATES
    assert 0 <= listed.progress().fraction <= 1
    assert listed.problem is not None or listed.meta["encoder"]["name"]


def test_missing_files(copy):
    (copy.path / "progress.json").unlink()
    (run,) = store.list_runs(copy.path.parent)
    assert run.problem is None and run.progress().state == "done"
    (copy.path / "run.json").unlink()
    (run,) = store.list_runs(copy.path.parent)
    assert run.problem == "run.json is missing."
    with pytest.raises(RunError, match="null dimension"):
        store.scores(run, rule=ScoreRule("raw", 1e-3))


def test_a_run_without_progress_is_queued_at_first(empty):
    (empty.path / "run.json").touch()
    assert empty.progress().state == "queued" and store.open_run(empty.path).warning is None
    os.utime(empty.path / "run.json", (0, 0))
    assert empty.progress().state == "interrupted"
    assert store.open_run(empty.path).warning == "progress.json is missing."


def test_another_format_is_a_problem(copy):
    write_json(copy.path / "run.json", {**copy.meta, "format_version": 2})
    assert "format 2" in store.open_run(copy.path).problem


def test_lists_newest_first_and_passes_over_what_is_no_run(copy, tmp_path):
    home = copy.path.parent
    older = shutil.copytree(copy.path, home / "older")
    write_json(older / "run.json", {**copy.meta, "created": "2001-01-01T00:00:00+00:00"})
    (home / "notes").mkdir()
    (home / ".jobs").mkdir()
    (home / "readme.txt").write_text("")
    assert [run.name for run in store.list_runs(home)] == [copy.name, "older"]
    assert store.list_runs(tmp_path / "new") == [] and (tmp_path / "new").is_dir()


def test_open_run_by_name_and_by_path(copy):
    home = copy.path.parent
    assert store.open_run(copy.name, home) == store.open_run(copy.path) == store.open_run(str(copy.path), home)
    for wrong in ("nope", "/nope/nope", "a\0b", ".", "x" * 5000):
        with pytest.raises(RunError, match="There is no run"):
            store.open_run(wrong, home)


def test_runs_home(tmp_path, monkeypatch):
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "elsewhere"))
    assert store.runs_home() == tmp_path / "elsewhere" / "runs"
    assert store.runs_home(tmp_path / "given") == tmp_path / "given"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot make the runs folder"):
        store.runs_home(tmp_path / "file" / "runs")


def test_labels(run):
    assert run.label == "tiny · blobs" and run.name.startswith("tiny-blobs-")


def test_the_request_of_a_run_resumes_it(run):
    request = run.request()
    assert (request.encoder_id, request.dataset_id, request.device) == ("demo:tiny", "demo:blobs", "auto")


def beat(copy, **changes):
    data = read_json(copy.path / "progress.json")
    write_json(copy.path / "progress.json", {**data, **changes})
    return store.open_run(copy.path).progress()


def test_interrupted_is_what_readers_conclude(copy):
    lost = parts.part_files(copy.path)[0]
    aside = lost.rename(lost.with_suffix(".aside"))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    life = {"host": processes.HOST, "pid": child.pid, "process": processes.identity(child.pid), "heartbeat": 0.0}
    assert beat(copy, state="running", **life).state == "running"  # an old heartbeat says nothing on one machine
    assert beat(copy, state="running", **life | {"process": "another:1"}).state == "interrupted"  # a reused id
    child.kill()
    time.sleep(0.2)  # not yet reaped: a zombie
    assert beat(copy, state="waiting", **life).state == "interrupted"
    child.wait()
    aside.rename(lost)
    after = beat(copy, state="running", done=3, eta_s=9.0, images_per_s=1.0, **life)
    assert (after.state, after.done, after.failed, after.eta_s) == ("done", N - 1, 1, None)  # all rows are there


def test_another_machine_is_judged_by_its_heartbeat(copy):
    far = {"state": "running", "host": "another-machine", "pid": 1}
    assert beat(copy, heartbeat=time.time() - 30, **far).state == "running"
    assert beat(copy, heartbeat=time.time() + 3600, **far).state == "running"  # our clock was set back
    parts.part_files(copy.path)[0].unlink()
    assert beat(copy, heartbeat=time.time() - 61, **far).state == "interrupted"


def test_the_heartbeat_goes_on_while_a_batch_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_HEARTBEAT_S", 0.05)
    with progress.ProgressFile(tmp_path, planned=10) as file:
        file.set("running")
        first = progress.read_progress(tmp_path).heartbeat
        time.sleep(0.3)
        assert progress.read_progress(tmp_path).heartbeat > first
        file.add(3, 1, {"read_s": 0.1})
        time.sleep(0.01)
        file.add(1, 0, {"read_s": 0.1})
        assert file.now.images_per_s > 0 and file.now.eta_s > 0 and file.now.fraction == 0.5
    assert (progress.read_progress(tmp_path).done, progress.read_progress(tmp_path).failed) == (4, 1)


def test_export_csv(run, tmp_path):
    assert store.export(run, tmp_path / "x.csv") == N
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "thumbnail" not in rows[0] and "singular_values" not in rows[0]
    assert [int(row["index"]) for row in rows] == list(range(N))
    assert float(rows[4]["jepa_score"]) == frame_of(run)["jepa_score"].iloc[4]
    assert rows[BAD]["error"] == "The file is empty." and rows[BAD]["jepa_score"] == ""


def test_export_parquet_and_keys(run, tmp_path):
    other = ScoreRule("listing1", 1e-3)
    assert store.export(run, tmp_path / "x.parquet", rule=other) == N
    table = pd.read_parquet(tmp_path / "x.parquet").dropna(subset="jepa_score")
    np.testing.assert_allclose(table["jepa_score"], store.scores(run, rule=other)["score"])
    assert set(table.columns) == set(parts.SCHEMA.names)
    assert store.export(run, tmp_path / "x.txt", keys=["cat/0002.png", f"dog/{BAD:04d}.png"]) == 1
    assert (tmp_path / "x.txt").read_text() == "cat/0002.png\n"
    assert sorted(path.name for path in tmp_path.glob("x*")) == ["x.parquet", "x.txt"]


@pytest.mark.parametrize("name", ["x.xlsx", "x", "no/such/folder/x.csv"])
def test_export_says_why_not(run, tmp_path, name):
    with pytest.raises(RunError, match="Cannot"):
        store.export(run, tmp_path / name)


def test_a_spreadsheet_runs_no_formula(tmp_path):
    keys = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "plain", 'quo"te,comma\nline']
    dataset = TinyDataset(8, keys=keys, class_names=("=cmd|' /C calc'!A0", "b"))
    run = score_work(tiny_work(tmp_path, dataset), Hooks(threading.Event()))
    store.export(run, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["'" + key for key in keys[:6]] + keys[6:]
    assert rows[0]["class_name"].startswith("'=")
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    store.export(run, tmp_path / "x.txt")
    assert len((tmp_path / "x.txt").read_text().splitlines()) == 8


def test_a_failed_export_leaves_the_old_file(run, tmp_path, monkeypatch):
    from jepascore_core.store import exports

    (tmp_path / "x.csv").write_text("old")

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "disarmed", broken)
    with pytest.raises(RunError, match="No space left"):
        store.export(run, tmp_path / "x.csv")
    assert [path.read_text() for path in tmp_path.glob("*x.csv*")] == ["old"]


def test_the_store_needs_neither_torch_nor_streamlit():
    code = "import jepascore_core.store, jepascore_core.jobs, sys; print({'torch', 'streamlit'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_temporary_file_is_gone_after_a_failure(tmp_path):
    with pytest.raises(ValueError), written_aside(tmp_path / "x") as aside:
        aside.write_text("half")
        raise ValueError
    assert list(tmp_path.glob("*x*")) == []

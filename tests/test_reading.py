"""What all orders of a run share: read once, added to, forgotten by its bytes; and scores as SQL has them."""

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from jepascore_core import store
from jepascore_core.agreement import rank
from jepascore_core.errors import RunError
from jepascore_core.files import write_json
from jepascore_core.store import ScoreRule, columns, parts, score_values
from jepascore_core.store import reading as reading_module
from jepascore_core.store.array_files import array_file, read_arrays, write_arrays
from jepascore_core.store.database import query_arrow
from jepascore_core.store.part_writer import write_table
from jepascore_core.store.progress import ProgressFile
from jepascore_core.store.reading import Reading, known_reading, reading
from jepascore_core.store.rule import columns_beside, score_column
from jepascore_core.store.shelf import Shelf, held_by, shelf

N, D, FAILED = 90, 7, 4
RULES = [ScoreRule(), *(ScoreRule(name, eps) for name in store.CONVENTIONS for eps in (1e-6, 0.5))]


def rows(first: int, last: int, *, encoder: int = 0, tied: bool = False) -> pa.Table:
    """Some rows of a made-up run: two of three classes, one failure, one embedding without direction."""
    draw = np.random.default_rng([encoder, first])
    n = last - first
    index = np.arange(first, last)
    spectra = -np.sort(-np.exp(draw.normal(size=(n, D))), axis=1).astype(np.float32)
    embeddings = draw.normal(size=(n, D)).astype(np.float32)
    embeddings[index == 11] = 0
    failed = index == FAILED
    scores = np.round(np.log(spectra).sum(1), 0 if tied else 12)
    names = [("ant", "cat", None)[i % 3] for i in index]
    held = {
        "index": index,
        "key": [f"{(i * 37) % N:03d}é.png" for i in index],
        "label": [{"ant": 7, "cat": 3, None: None}[name] for name in names],
        "class_name": names,
        "width": np.full(n, 8),
        "height": np.full(n, 8),
        "jepa_score": pa.array(scores, mask=failed),
        "score_error": pa.array(np.full(n, 0.01), mask=failed),
        "singular_values": [None if bad else row for bad, row in zip(failed, spectra, strict=True)],
        "sphere_term": pa.array(draw.normal(size=n), mask=failed),
        "embedding": [None if bad else row for bad, row in zip(failed, embeddings, strict=True)],
        "thumbnail": [None if bad else b"\xff\xd8%d" % i for bad, i in zip(failed, index, strict=True)],
        "error": ["broken" if bad else None for bad in failed],
        "view_scores": pa.nulls(n, parts.SCHEMA.field("view_scores").type),
    }
    return pa.table([pa.array(held[f.name], f.type) for f in parts.SCHEMA], schema=parts.SCHEMA)


def made(folder: Path, cuts: tuple[int, ...] = (0, 30, 60, 90), *, encoder: int = 0, **options: bool) -> store.Run:
    """A run of some parts, which end where the cuts are."""
    folder.mkdir(parents=True)
    encoders = {"id": f"demo:{encoder}", "name": "made", "digest": str(encoder), "embedding_dim": D, "null_dim": 0}
    dataset = {"id": "folder:made", "fingerprint": "f", "class_names": ["cat", "ant"], "size": N}
    meta = {"format_version": 1, "name": folder.name, "encoder": encoders, "dataset": dataset, "eps": 1e-6, "views": 1}
    write_json(folder / "run.json", meta | {"sample": {"seed": 0}, "planned": N})
    for number, (first, last) in enumerate(itertools.pairwise(cuts), start=1):
        write_table(folder, number, rows(first, last, encoder=encoder, **options))
    return store.open_run(folder)


@pytest.fixture(autouse=True)
def empty_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from other tests."""
    shelf.drop(lambda name, stamp: True)


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    return made(tmp_path / "run")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The parts that are read, in turn."""
    seen: list[Path] = []
    scored = columns._scored
    monkeypatch.setattr(columns, "_scored", lambda path, *rest: seen.append(path) or scored(path, *rest))
    return seen


def sql_order(run: store.Run, rule: ScoreRule) -> list[tuple[str, float]]:
    """Keys and scores as a query sorts them."""
    score = score_column(run, rule)
    table = query_arrow(
        run.path,
        f'SELECT "key", {score} AS score FROM rows WHERE jepa_score IS NOT NULL AND {score} IS NOT NULL ORDER BY 2, 1',
        beside=columns_beside(run, rule),
    )
    return list(zip(table["key"].to_pylist(), table["score"].to_pylist(), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_scores_and_their_order_are_those_of_sql(run, rule):
    held, expected = store.ranking(run, rule), sql_order(run, rule)
    assert held.keys.to_pylist() == [key for key, _ in expected]
    np.testing.assert_allclose(held.scores, [score for _, score in expected], rtol=1e-12)
    assert len(held) == N - 1 - (rule.convention == "sphere")  # one embedding has no direction


@pytest.mark.parametrize("dim,null_dim", [(1, 0), (2, 1), (5, 5), (8, 0), (9, 3), (0, 0)])
@pytest.mark.parametrize("eps", [1e-300, 1e-6, 2.0, 1e300])
def test_volumes_in_products_are_sums_of_logarithms(dim, null_dim, eps):
    spectra = -np.sort(-np.geomspace(1e-38, 3e38, 4 * dim, dtype=np.float32).reshape(4, dim), axis=1)
    found = score_values._log_volumes(pa.array(list(spectra), pa.list_(pa.float32())), null_dim, eps).to_pylist()
    kept = spectra[:, : dim - null_dim].astype(np.float64)
    assert found == ([None] * 4 if dim == null_dim else pytest.approx(np.log(np.maximum(kept, eps)).sum(1), rel=1e-12))


def test_lists_of_several_lengths_and_nulls_have_their_own_scores():
    lists = pa.array([[3.0, 1.0], None, [2.0], [], [4.0, 2.0, 1e-9]], pa.list_(pa.float32()))
    found = score_values._log_volumes(lists, 1, 1e-6).to_pylist()
    assert found == [pytest.approx(np.log(3)), None, None, None, pytest.approx(np.log(8))]
    terms = score_values._sphere_terms(pa.array([1.0, 1.0, None, 1.0, 1.0]), lists).to_pylist()
    expected = [1 - np.log(np.hypot(3, 1)), None, None, None, 1 - 2 * np.log(np.hypot(4, 2))]
    assert terms == [None if value is None else pytest.approx(value) for value in expected]


def test_ties_nan_and_infinity_stand_where_a_sort_by_score_and_key_puts_them():
    from jepascore_core.store.rankings import _order

    keys = pa.array(["f", "e", "d", "c", "b", "a", "g", "h"])
    values = pa.array([1.0, np.nan, 1.0, -np.inf, np.nan, np.inf, None, -0.0])
    assert keys.take(pa.array(_order(values, keys))).to_pylist() == ["c", "h", "d", "f", "a", "b", "e"]


def test_conventions_share_one_reading_and_read_only_their_own_column(run, read):
    first = store.ranking(run)
    assert len(read) == 3
    second = store.ranking(run, ScoreRule("listing1"))
    assert len(read) == 6 and second.reading is first.reading
    store.ranking(run, ScoreRule("listing1"))
    shelf.drop(lambda name, _: name[0] == "ranking")
    assert store.ranking(run) is not first and store.ranking(run, ScoreRule("listing1")).reading is first.reading
    assert len(read) == 6


def test_runs_of_the_same_images_share_their_keys(tmp_path):
    runs = [made(tmp_path / "a"), made(tmp_path / "b", (0, 50, 90), encoder=1)]
    first, second = (store.ranking(run).reading for run in runs)
    assert first.keys is second.keys and first.digest == second.digest and len(first.starts) != len(second.starts)


def test_a_run_that_grows_is_added_to(run, read, tmp_path):
    rules = [ScoreRule(), ScoreRule("listing1"), ScoreRule("sphere"), ScoreRule("corrected")]
    later = parts.part_files(run.path)[1]
    aside = later.rename(tmp_path / later.name)  # it comes last, and belongs in the middle
    assert {len(store.ranking(run, rule)) for rule in rules} == {58, 59}
    read.clear()
    shutil.move(aside, later)
    grown = [store.ranking(run, rule) for rule in rules[:3]]
    assert read == [later] * 3  # once for the narrow columns, and once for each convention
    shelf.drop(lambda name, stamp: True)
    for rule, held in zip(rules, [*grown, store.ranking(run, rules[3])], strict=True):
        anew = store.ranking(run, rule)
        assert held.keys.equals(anew.keys) and np.array_equal(held.scores, anew.scores)
        assert held.classes().equals(anew.classes()) and np.array_equal(held.class_codes, anew.class_codes)
        assert held.rows(held.places()).equals(anew.rows(anew.places()))


def test_a_class_that_comes_later_takes_its_place(tmp_path):
    run = made(tmp_path / "run", (0, 1))
    assert store.ranking(run).class_names == ("ant",)
    write_table(run.path, 2, rows(1, 30))
    held = store.ranking(run)
    assert held.class_names == ("", "cat", "ant") and held.labels == (-1, 3, 7)
    assert held.classes()["n"].tolist() == [10, 9, 10]
    assert {held.class_names[code] for code in held.codes_at(held.places(["cat"]))} == {"cat"}


def test_a_class_without_a_score_under_a_rule_is_not_listed(tmp_path):
    table = rows(0, 30)
    none = pa.array([None if name == "cat" else 1.0 for name in table["class_name"].to_pylist()])
    run = made(tmp_path / "run", (0,))
    write_table(run.path, 1, table.set_column(9, parts.SCHEMA.field("sphere_term"), none))
    held = store.ranking(run, ScoreRule("sphere"))
    assert held.class_names == ("", "ant") and set(held.rows(held.places())["class_name"]) == {"", "ant"}
    assert held.classes()["n"].tolist() == [9, 10] and len(store.ranking(run).class_names) == 3


def test_parts_out_of_order_are_put_in_the_order_of_numbers(tmp_path):
    run = made(tmp_path / "run", (0,))
    for number, first in enumerate((60, 0, 30), start=1):
        write_table(run.path, number, rows(first, first + 30))
    held, tidy = store.ranking(run), store.ranking(made(tmp_path / "tidy"))
    assert held.reading.by_index is not None and held.reading.digest == tidy.reading.digest
    assert held.index[held.by_index()].tolist() == [i for i in range(N) if i != FAILED]
    assert held.keys.equals(tidy.keys) and held.reading.rows_of([0, FAILED, 10**9, 89]).tolist() == [30, -1, -1, 29]
    assert store.thumbnails(run, [0, 89]) == {0: b"\xff\xd80", 89: b"\xff\xd889"}


@pytest.mark.parametrize("tied", [False, True])
def test_ranks_of_a_comparison_are_those_of_a_sort(tmp_path, tied):
    runs = [made(tmp_path / str(number), encoder=number, tied=tied) for number in range(2)]
    for rule in (ScoreRule(), ScoreRule("listing1")):
        found = store.common_images(runs, rule)
        for number in range(2):
            scores, codes = found.scores(number), found.in_class[0].classes
            expected = rank(scores), rank(scores, codes, len(found.class_names))
            for ours, theirs in zip((found.in_run[number], found.in_class[number]), expected, strict=True):
                assert np.array_equal(ours.below, theirs.below) and np.array_equal(ours.ties, theirs.ties)
                assert np.array_equal(ours.sizes, theirs.sizes)
            assert found.in_run[number].percentiles() == pytest.approx(
                100 * (stats.rankdata(scores) - 0.5) / len(scores)
            )


@pytest.fixture
def done(run: store.Run, monkeypatch: pytest.MonkeyPatch) -> store.Run:
    """A run that is done, and counts as a large one."""
    monkeypatch.setattr(reading_module, "LEAST_KEPT", 10)
    with ProgressFile(run.path, planned=N, done=N - 1, failed=1) as progress:
        progress.set("done")
    return run


def kept_files(run: store.Run) -> list[Path]:
    return sorted((run.path.parent / ".readings").glob("*"))


def again(run: store.Run) -> Reading:
    """The reading as the next process gets it."""
    shelf.drop(lambda name, stamp: True)
    return reading(run.path)


def assert_alike(one: Reading, other: Reading) -> None:
    for name in ("files", "class_names", "labels", "digest"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("starts", "index", "class_codes", "errors"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.keys.equals(other.keys) and one.stored.equals(other.stored)
    assert (one.by_index is None) == (other.by_index is None)
    assert one.by_index is None or np.array_equal(one.by_index, other.by_index)


@pytest.mark.parametrize("ascending", [True, False])
def test_the_next_process_finds_what_was_read_of_a_large_run(done, read, ascending):
    if not ascending:
        for number, path in zip((3, 2, 1), parts.part_files(done.path), strict=True):
            path.rename(path.with_name(f"part-{number:06d}-turned.parquet"))
    first = reading(done.path)
    assert len(read) == 3 and len(kept_files(done)) == 1 and (first.by_index is None) == ascending
    assert_alike(again(done), first)
    assert len(read) == 3, "no part is read again"
    assert [store.ranking(done).key(place) for place in range(5)] == [key for key, _ in sql_order(done, RULES[0])[:5]]


def test_a_run_whose_parts_change_is_read_again_and_so_is_one_that_is_copied(done, read, tmp_path):
    reading(done.path)
    os.utime(parts.part_files(done.path)[1], ns=(1, 10**18))
    assert len(again(done).files) == 3 and len(read) == 6
    assert len(kept_files(done)) == 2
    shutil.copytree(done.path, tmp_path / "copy")
    assert len(reading(tmp_path / "copy")) == N - 1 and len(read) == 9


def test_nothing_is_kept_of_a_small_run_one_at_work_or_where_nobody_may_write(done, read, monkeypatch):
    with ProgressFile(done.path, planned=N) as progress:
        progress.set("scoring")
        reading(done.path)
        progress.set("done")
    with monkeypatch.context() as patch:
        patch.setattr(reading_module, "LEAST_KEPT", N)
        again(done)
    with monkeypatch.context() as patch:
        patch.setenv("JEPASCORE_READ_ONLY", "1")
        again(done)
    assert len(read) == 9 and not kept_files(done)
    (done.path.parent / ".readings").write_text("no folder")
    assert len(again(done)) == N - 1 and len(read) == 12


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "no archive", "a byte"])
def test_a_damaged_file_is_as_if_there_were_none(done, read, damage):
    first = reading(done.path)
    (file,) = kept_files(done)
    held = bytearray(file.read_bytes())
    for at in range(0, len(held), 97) if damage == "a byte" else [0]:
        wrong = bytearray(held)
        wrong[at] ^= 0x55
        kinds = {"cut": held[: len(held) // 2], "empty": b"", "zeros": bytes(len(held)), "no archive": b"[]" * 99}
        file.write_bytes(wrong if damage == "a byte" else kinds[damage])
        assert_alike(again(done), first)
    assert len(read) > 3 and file.read_bytes() == bytes(held), "it is written anew"


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("codes", np.full(N - 1, 3, np.int32)), ("codes", np.zeros(N - 1, np.int64)), ("index", np.arange(5)),
        ("offsets", np.full(N, 1 << 30, np.int32)), ("offsets", np.zeros(3, np.int32)), ("starts", np.array([0, 9])),
        ("starts", np.array([0, 80, 30, N - 1])), ("stored", np.zeros(3)), ("about", np.zeros(3, np.uint8)),
        ("by_index", np.zeros(N - 1, np.int32)), ("letters", np.full(9 * N, 255, np.uint8)), ("errors", None),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_together_are_not_used(done, read, name, wrong):
    first = reading(done.path)
    (file,) = kept_files(done)
    arrays = read_arrays(file)
    assert arrays is not None
    arrays[name] = wrong
    np.savez(file, **{key: array for key, array in arrays.items() if array is not None})
    assert_alike(again(done), first)
    assert len(read) == 6


def test_the_oldest_are_forgotten(tmp_path):
    for number in range(5):
        path = array_file(tmp_path / "kept", ["made", number])
        assert write_arrays(path, {"x": np.arange(3)}, most=3)
        os.utime(path, ns=(number, number))
    assert len(list((tmp_path / "kept").iterdir())) == 3
    assert read_arrays(array_file(tmp_path / "kept", ["made", 0])) is None
    assert read_arrays(path)["x"].tolist() == [0, 1, 2]


def test_what_was_read_is_forgotten_last_and_by_bytes():
    kept = Shelf(100)
    many = {name: np.zeros(5) for name in "abc"}  # 40 bytes each
    kept.put(("read", "a"), "", 1, held_by(many["a"]), dear=True)
    kept.put(("order", "b"), "", 2, held_by(many["b"], many["a"], many["b"][:2]))
    assert kept.held_bytes() == 80  # what two share counts once, views as what they are views of
    kept.put(("order", "c"), "", 3, held_by(many["c"]))
    assert kept.get(("order", "b"), "") is None and kept.get(("read", "a"), "") == 1 and kept.held_bytes() == 80
    kept.put(("order", "d"), "", 4, held_by(np.zeros(50)))
    assert kept.get(("order", "d"), "") == 4 and kept.get(("read", "a"), "") is None  # the last is kept, however large
    assert kept.get(("order", "d"), "another") is None


def test_memory_is_bounded_whatever_is_asked(tmp_path, monkeypatch):
    runs = [made(tmp_path / str(number), encoder=number) for number in range(3)]
    one = store.ranking(runs[0])
    size = sum(one.held().values())
    monkeypatch.setattr(shelf, "most_bytes", 3 * size)
    for rule in RULES:
        for run in runs:
            assert store.ranking(run, rule).scores[0] == sql_order(run, rule)[0][1] or rule != ScoreRule()
            assert shelf.held_bytes() <= 3 * size
    assert store.ranking(runs[0]).keys.equals(one.keys)


def test_a_part_that_proves_damaged_in_another_column_is_left_out(run):
    assert len(store.ranking(run)) == N - 1
    path = parts.part_files(run.path)[1]
    start = pq.read_metadata(path).row_group(0).column(8).data_page_offset  # of singular_values
    data = bytearray(path.read_bytes())
    data[start : start + 200] = bytes(b ^ 0xFF for b in data[start : start + 200])
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the footer is not looked at again
    assert len(store.ranking(run, ScoreRule("listing1"))) == N - 1 - 30
    assert path.name in store.open_run(run.path).warning and len(store.ranking(run)) == N - 1 - 30


def test_rows_that_move_to_another_part_meanwhile_are_each_read_once(run, monkeypatch):
    first, scored = parts.part_files(run.path)[0], columns._scored
    moved = first.with_name("part-000009-cafe.parquet")

    def moving(path, *rest):
        if path == first and first.exists():
            first.rename(moved)  # as compaction does
        return scored(path, *rest)

    monkeypatch.setattr(columns, "_scored", moving)
    known = reading(run.path)
    assert sorted(known.index.tolist()) == [i for i in range(N) if i != FAILED]
    moved.rename(first)
    assert len(store.ranking(run, ScoreRule("listing1"))) == len(store.nearest(run, "000é.png", N)) + 2 == N - 1
    counted = query_arrow(run.path, "SELECT count(*) AS n FROM rows", [first])["n"].to_pylist()
    assert counted == [N] and query_arrow(run.path, "SELECT 1 FROM rows", [moved]).num_rows == 30


def test_text_that_is_not_utf8_is_refused_in_a_sentence(tmp_path):
    run = made(tmp_path / "run", (0,))
    table = rows(0, 30)
    keys = pa.array([b"\xff%d" % i for i in range(30)]).view(pa.string())
    write_table(run.path, 1, table.set_column(1, parts.SCHEMA.field("key"), keys))
    with pytest.raises(RunError, match="cannot be read"):
        store.ranking(run)


def test_one_image_is_read_from_the_part_that_holds_it(run, monkeypatch):
    from jepascore_core.store import database

    cold = store.row(run, "037é.png"), store.nearest(run, "037é.png", 4), store.spectrum_band(run, "cat")
    store.ranking(run)
    assert known_reading(run.path) is reading(run.path)
    assert reading(run.path).paths_of(reading(run.path).rows_of([1, 31])) == parts.part_files(run.path)[:2]
    asked = []
    relation = database._relation
    monkeypatch.setattr(
        database, "_relation", lambda c, sql, paths, *rest: asked.append(paths) or relation(c, sql, paths, *rest)
    )
    warm = store.row(run, "037é.png"), store.nearest(run, "037é.png", 4), store.spectrum_band(run, "cat")
    assert asked and all(paths == parts.part_files(run.path)[:1] for paths in asked)
    assert {name: str(value) for name, value in cold[0].items()} == {
        name: str(value) for name, value in warm[0].items()
    }
    assert cold[1].equals(warm[1]) and np.allclose(cold[2], warm[2])
    assert store.row(run, f"{FAILED * 37 % N:03d}é.png")["error"] == "broken"


def test_the_nearest_are_those_of_the_cosine(run):
    index, z = store.embedded(run)
    keys = {i: f"{(i * 37) % N:03d}é.png" for i in range(N)}
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30)
    cosine = unit @ unit[list(index).index(20)]
    order = [i for i in np.argsort(-cosine) if index[i] not in (20, 11)]
    found = store.nearest(run, keys[20], 6)
    assert found["key"].tolist() == [keys[index[i]] for i in order[:6]]
    assert found["similarity"].to_numpy() == pytest.approx(cosine[order[:6]], abs=1e-6)
    few = store.nearest(run, keys[20], 50, among=35)
    assert set(few["index"]) == set(range(35)) - {20, 11, FAILED} and len(few) == 32
    assert store.nearest(run, keys[11], 3).empty and store.nearest(run, "nobody", 3).empty


def test_the_band_of_a_class_in_a_large_run_rests_on_its_first_images(run, monkeypatch):
    from jepascore_core.store import query

    whole = store.spectra(run, class_name="ant")[1]
    store.ranking(run)
    monkeypatch.setattr(query, "_BAND_LEAST", 12)
    monkeypatch.setattr(query, "_BAND_NUMBERS", D)
    band = store.spectrum_band(run, "ant")
    np.testing.assert_allclose(band["median"], np.median(whole[:12], axis=0), rtol=1e-6)
    assert store.spectrum_band(run, "nobody")["median"].isna().all()

"""Two-dimensional maps: known answers of the maths, what is kept beside the runs, and processes that make maps."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import percentileofscore
from sklearn.decomposition import PCA
from typer.testing import CliRunner

from jepascore_core import map_plots, mapping, projection, store
from jepascore_core.__main__ import app
from jepascore_core.errors import RunError
from jepascore_core.jobs import children, maps
from jepascore_core.mapping import Circled, circled, make_map, scored_points
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import Run, parts
from jepascore_core.store.maps import MapRequest, map_file, read_map, recorded, write_map
from tests.tiny import TinyDataset, tiny_encoder, tiny_work

pytestmark = pytest.mark.usefixtures("nothing_left_at_work")
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def blobs(n: int, dim: int = 8, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Points in groups that lie ten standard deviations apart, and the group of each."""
    group = np.arange(n) % groups
    return (10 * np.eye(dim)[group] + normal(n, dim)).astype(np.float32), group


@pytest.mark.parametrize("shape", [(60, 12), (9, 30), (40, 2)])
def test_pca_is_that_of_scikit_learn_up_to_sign(shape: tuple[int, int]) -> None:
    embeddings = normal(*shape) * np.linspace(3, 1, shape[1], dtype=np.float32) + 5
    xy, share = projection.pca(embeddings)
    reference = PCA(2).fit(embeddings.astype(np.float64))
    theirs = reference.transform(embeddings.astype(np.float64))
    signs = np.sign((xy * theirs).sum(axis=0))
    np.testing.assert_allclose(xy * signs, theirs, atol=1e-4)
    np.testing.assert_allclose(share, reference.explained_variance_ratio_, atol=1e-6)


def test_pca_of_one_image_or_one_dimension_is_flat() -> None:
    assert projection.pca(normal(1, 4))[0].tolist() == [[0, 0]]
    xy, share = projection.pca(normal(20, 1))
    assert share == pytest.approx((1, 0)) and not xy[:, 1].any()


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_its_seed_decides() -> None:
    embeddings, group = blobs(90)
    first, again = (projection.umap(embeddings, seed=3) for _ in range(2))
    assert first.shape == (90, 2) and np.array_equal(first, again)
    assert not np.array_equal(first, projection.umap(embeddings, seed=4))
    apart = np.square(first[:, None] - first[None]).sum(-1)
    np.fill_diagonal(apart, np.inf)
    assert (group[np.argsort(apart, axis=1)[:, :10]] == group[:, None]).all()
    assert projection.trust(embeddings, first) > 0.8
    assert np.isfinite(projection.umap(np.ones((12, 4), np.float32), neighbours=50)).all()


def test_umap_of_a_handful_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 10 images, not 9"):
        projection.umap(normal(9, 4))


def test_trust_is_one_for_the_embedding_itself_and_a_half_for_chance() -> None:
    flat = normal(400, 2)
    assert projection.trust(flat, 3 * flat) == 1
    assert projection.trust(flat, RNG.normal(size=(400, 2))) == pytest.approx(0.5, abs=0.05)
    assert projection.trust(flat[:29], flat[:29]) is None


def test_trust_is_judged_on_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_TRUST_IMAGES", 50)
    embeddings = normal(300, 6)
    xy = embeddings[:, :2]
    assert projection.trust(embeddings, xy, seed=1) == projection.trust(embeddings, xy, seed=1)
    assert projection.trust(embeddings, xy, seed=1) != projection.trust(embeddings, xy, seed=2)


@pytest.mark.parametrize(
    ("sizes", "most", "taken"),
    [([], 5, []), ([3], 5, [3]), ([9], 5, [5]), ([10, 1, 10], 11, [5, 1, 5]), ([2, 2], 3, [1, 2]), ([0, 4], 2, [0, 2])],
)
def test_a_sample_is_shared_alike(sizes: list[int], most: int, taken: list[int]) -> None:
    assert projection.shares(sizes, most) == taken


def test_inside_a_polygon() -> None:
    grid = np.stack(np.meshgrid(np.arange(0.5, 4), np.arange(0.5, 4)), -1).reshape(-1, 2).astype(np.float32)

    def held(*corners: tuple[float, float]) -> set[tuple[float, float]]:
        return {tuple(point) for point in grid[projection.inside(grid, np.array(corners, float))].tolist()}

    assert held((0, 0), (2, 0), (2, 1), (0, 1)) == {(0.5, 0.5), (1.5, 0.5)}
    assert held((0, 1), (2, 1), (2, 0), (0, 0)) == {(0.5, 0.5), (1.5, 0.5)}  # the other way round
    u_shape = held((0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3))
    assert len(u_shape) == 7 and (1.5, 1.5) not in u_shape and (1.5, 0.5) in u_shape
    bow_tie = held((0, 0), (4, 4), (4, 0), (0, 4))
    assert (0.5, 1.5) in bow_tie and (3.5, 1.5) in bow_tie and (1.5, 0.5) not in bow_tie
    assert held((0, 0), (4, 4)) == held() == set()


def scored(home: Path, n: int = 24, embeddings: np.ndarray | None = None, **options) -> Run:
    """A run of the tiny encoder; its stored embeddings may be replaced."""
    encoder = tiny_encoder(**options.pop("encoder", {}))
    home.mkdir(exist_ok=True)
    run = score_work(tiny_work(home, TinyDataset(n, **options), encoder), Hooks(threading.Event()))
    if embeddings is not None:
        start = 0
        for path in parts.part_files(run.path):
            table = pq.ParquetFile(path).read()
            rows = [row.tolist() for row in embeddings[start : start + len(table)]]
            place = table.schema.get_field_index("embedding")
            column = pa.array(rows, table.field(place).type)
            pq.write_table(table.set_column(place, table.field(place), column), path)
            start += len(table)
    return store.open_run(run.path)


def test_a_map_names_each_image_and_sets_its_score_on_it(tmp_path: Path) -> None:
    run = scored(tmp_path, 40, bad=(3, 7))
    found = make_map(MapRequest((run.name,)), tmp_path)
    index, embeddings = store.embedded(run)
    assert found.index.tolist() == index.tolist() and len(index) == 38
    np.testing.assert_array_equal(found.xy, projection.pca(embeddings)[0])
    points = scored_points(found, [store.ranking(run)])
    assert sorted(points.number) == list(range(38)) and points.number.tolist() != list(range(38))
    known = store.scores(run).set_index("key")
    for at in range(len(points)):
        row = known.loc[points.keys[at]]
        assert row["index"] == found.index[points.number[at]]
        assert row["score"] == points.scores[at]
        assert row["class_name"] == points.class_names[points.class_codes[at]]
        np.testing.assert_array_equal(points.xy[at], found.xy[points.number[at]])


def test_percentiles_are_of_all_runs_or_of_each(tmp_path: Path) -> None:
    runs = [scored(tmp_path, 20), scored(tmp_path, 12)]
    found = make_map(MapRequest(tuple(run.name for run in runs)), tmp_path)
    rankings = [store.ranking(run) for run in runs]
    together, apart = (scored_points(found, rankings, comparable=flag) for flag in (True, False))
    pool = np.concatenate([held.scores for held in rankings])
    np.testing.assert_allclose(together.percentiles, percentileofscore(pool, together.scores, "mean"))
    for code, held in enumerate(rankings):
        mine = apart.codes == code
        assert mine.sum() == len(held)
        np.testing.assert_allclose(apart.percentiles[mine], percentileofscore(held.scores, apart.scores[mine], "mean"))


def test_many_images_are_sampled_alike_from_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "MOST_IMAGES", 20)
    runs = [scored(tmp_path, 30), scored(tmp_path, 4), scored(tmp_path, 25)]
    found = make_map(MapRequest(tuple(run.name for run in runs)), tmp_path)
    assert np.bincount(found.codes).tolist() == [8, 4, 8]
    for code, run in enumerate(runs):  # a run begins with a stratified sample
        mine = found.index[found.codes == code]
        assert mine.tolist() == store.embedded(run)[0][: len(mine)].tolist()


def test_what_cannot_be_mapped_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run = scored(tmp_path)
    other = scored(tmp_path, 10)
    meta = json.loads((other.path / "run.json").read_text())
    meta["encoder"]["digest"] = "another"
    (other.path / "run.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match="different encoders share no space"):
        make_map(MapRequest((run.name, other.name)), tmp_path)
    for request in (MapRequest(()), MapRequest((run.name,), "tsne"), MapRequest((run.name,), "umap", 1)):
        with pytest.raises(RunError, match=r"\.$"):
            make_map(request, tmp_path)
    with pytest.raises(RunError, match="no run 'nope'"):
        make_map(MapRequest(("nope",)), tmp_path)
    few = scored(tmp_path, 5)
    with pytest.raises(RunError, match="at least 10 images, not 5"):
        make_map(MapRequest((few.name,), "umap"), tmp_path)


def test_embeddings_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    embeddings = normal(24, 5)
    embeddings[[2, 9]] = np.nan
    run = scored(tmp_path, 24, embeddings)
    found = make_map(MapRequest((run.name,)), tmp_path)
    assert found.index.tolist() == np.delete(store.embedded(run)[0], [2, 9]).tolist() and np.isfinite(found.xy).all()
    run = scored(tmp_path, 16, np.full((16, 5), np.inf, np.float32))
    with pytest.raises(RunError, match="is finite"):
        make_map(MapRequest((run.name,)), tmp_path)
    run = scored(tmp_path, 14, np.zeros((14, 0), np.float32))
    with pytest.raises(RunError, match="These runs hold no embedding"):
        make_map(MapRequest((run.name,)), tmp_path)


def test_what_is_circled() -> None:
    xy = np.array([[0, 0], [1, 0], [2, 0], [3, 3]], np.float32)
    zeros = np.zeros(4, np.int64)
    points = mapping.Points(np.array([3, 1, 0, 2]), zeros, zeros, xy, zeros, zeros, zeros, ("",), list("abcd"))
    assert circled(points, Circled(areas=(((-0.5, 1.5), (1, -1)),))).tolist() == [0, 1]
    lasso = ((1.5, 4, 4, 1.5), (-1, -1, 4, 4))
    assert circled(points, Circled(areas=(lasso,))).tolist() == [2, 3]
    assert circled(points, Circled(areas=(lasso, ((0.9, 1.1), (0, 0))))).tolist() == [1, 2, 3]
    assert circled(points, Circled(singles=(3, 2))).tolist() == [0, 3]
    assert circled(points, Circled(singles=(0,))).tolist() == [2, 1, 0, 3]  # the nearest first
    assert circled(points, Circled()).tolist() == [] and not Circled()
    assert circled(points, Circled(singles=(99,))).tolist() == []


def test_a_map_is_kept_until_its_rows_or_settings_change(tmp_path: Path) -> None:
    run = scored(tmp_path)
    request = MapRequest((run.name,))
    path = map_file(request, tmp_path)
    assert path == map_file(request, tmp_path) and read_map(path) is None
    found = make_map(request, tmp_path)
    write_map(path, found)
    kept = read_map(path)
    assert (kept.request, kept.dim, kept.share, kept.trust) == (request, found.dim, found.share, found.trust)
    for name in ("codes", "index", "xy"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(found, name))
    assert map_file(replace(request, neighbours=5), tmp_path) != path
    assert map_file(replace(request, seed=1), tmp_path) != path
    part = parts.part_files(run.path)[0]
    os.utime(part, ns=(0, part.stat().st_mtime_ns + 1))
    assert map_file(request, tmp_path) != path
    path.write_bytes(b"not a map")
    assert read_map(path) is None
    assert not store.list_runs(tmp_path)[0].problem and len(store.list_runs(tmp_path)) == 1


def test_only_so_many_maps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.maps, "_KEPT", 2)
    found = make_map(MapRequest((scored(tmp_path).name,)), tmp_path)
    for number in range(4):
        path = tmp_path / ".maps" / f"{number}.parquet"
        write_map(path, found)
        os.utime(path, (number, number))
    assert sorted(path.name for path in path.parent.glob("*.parquet")) == ["2.parquet", "3.parquet"]


def settled(request: MapRequest, home: Path, seconds: float = 60) -> maps.Making:
    until = time.monotonic() + seconds
    while not (now := maps.make(request, runs_dir=home)).settled:
        assert time.monotonic() < until
        time.sleep(0.05)
    return now


def test_a_process_makes_the_map_once(tmp_path: Path) -> None:
    run = scored(tmp_path / "runs")
    home, request = run.path.parent, MapRequest((run.name,))
    first = maps.make(request, runs_dir=home)
    assert not first.settled and first.since_s is not None
    other = maps.make(replace(request, seed=1), runs_dir=home)
    assert not other.settled and other.since_s is None and len(children.children) == 1  # it waits
    found = settled(request, home).map
    np.testing.assert_array_equal(found.xy, make_map(request, home).xy)
    assert settled(replace(request, seed=1), home).map is not None
    assert not list(home.glob(".maps/*.pid"))


def test_a_map_that_fails_says_why_and_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    run = scored(tmp_path / "runs", 5)
    home, request = run.path.parent, MapRequest((run.name,), "umap")
    assert settled(request, home).problem == "UMAP needs at least 10 images, not 5."
    assert maps.make(request, runs_dir=home).settled
    maps.forget(request, runs_dir=home)
    assert not maps.make(request, runs_dir=home).settled
    maps.cancel(request, runs_dir=home)
    assert not children.at_work(home / ".maps")


def test_a_map_whose_process_was_killed_says_so(tmp_path: Path) -> None:
    run = scored(tmp_path / "runs")
    home, request = run.path.parent, MapRequest((run.name,))
    maps.make(request, runs_dir=home)
    (child,) = children.children
    child.kill()
    child.wait()
    assert "without a word" in maps.make(request, runs_dir=home).problem


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    run = scored(tmp_path / "runs")
    (run.path.parent / ".maps").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"Cannot make a map in .*\.maps"):
        maps.make(MapRequest((run.name,)), runs_dir=run.path.parent)
    with pytest.raises(RunError, match="Cannot write in"):
        found = make_map(MapRequest((run.name,)), run.path.parent)
        write_map(run.path.parent / ".maps" / "a.parquet", found)


def test_a_surprise_is_written_down(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(ZeroDivisionError), recorded(path):
        raise ZeroDivisionError("nothing there")
    assert read_map(path) == "ZeroDivisionError: nothing there"


def test_the_command_writes_a_map_that_a_spreadsheet_reads_as_text(tmp_path: Path) -> None:
    run = scored(tmp_path, 24, keys=[f"=cmd|{i}" for i in range(24)])
    out = tmp_path / "map.csv"
    arguments = ["map", run.name, "--projection", "pca", "--runs-dir", str(tmp_path), "--to", str(out)]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0 and told.stdout.splitlines()[-1] == str(out)
    frame = pd.read_csv(out)
    assert list(frame.columns) == ["run", "key", "class_name", "jepa_score", "x", "y"]
    found = make_map(MapRequest((run.name,)), tmp_path)
    np.testing.assert_allclose(frame[["x", "y"]], found.xy, rtol=1e-5)
    assert frame["key"].tolist() == [f"'=cmd|{i}" for i in found.index]
    parquet = tmp_path / "map.parquet"
    assert CliRunner().invoke(app, [*arguments[:-1], str(parquet)]).exit_code == 0
    assert pq.read_table(parquet)["key"].to_pylist() == [f"=cmd|{i}" for i in found.index]
    assert "must end in" in str(CliRunner().invoke(app, [*arguments[:-1], "map.txt"]).exception)


def points(n: int, classes: tuple[str, ...] = ("cat", "dog"), key: str = "{}") -> mapping.Points:
    numbers = np.arange(n)
    codes = (numbers % len(classes)).astype(np.int64)
    scores = np.linspace(-50, -10, n)
    keys = [key.format(i) for i in range(n)]
    return mapping.Points(
        numbers, codes.astype(np.int32) % 2, numbers, normal(n, 2), scores, 100 * numbers / max(1, n - 1), codes,
        classes, keys,
    )  # fmt: skip


def test_scores_are_coloured_by_percentile_from_orange_to_blue() -> None:
    some = points(101)
    some.scores[-1] = 1e9  # an outlier takes no more of the scale than any other image
    colouring = map_plots.by_score(some)
    assert colouring.values.tolist() == np.round(np.arange(101) * 2.5).tolist()
    assert (colouring.scale[0], colouring.scale[-1]) == ([0.0, map_plots.LEAST], [1.0, map_plots.MOST])
    assert colouring.ticks[0] == (0, "least likely<br>−50.0 nats") and colouring.ticks[1] == (
        125,
        "median<br>−30.0 nats",
    )
    assert "nats" not in str(map_plots.by_score(some, in_nats=False).ticks)


def test_the_largest_classes_have_colours_and_the_others_are_grey() -> None:
    names = tuple(f"c{i}" for i in range(12))
    some = points(130, names)
    largest = map_plots.largest_classes(some)
    assert largest == list(names[:8])  # the first ten have eleven images, the others ten
    told = map_plots.by_class(some, ["c5", "c2"]).names
    assert [(name, n) for _, name, n in told] == [("c5", 11), ("c2", 11), ("other classes", 108)]
    figure = map_plots.map_plot(some, map_plots.by_class(some, ["c5", "c2"]), dot_px=5, webgl=False)
    (trace,) = figure.data
    shades = [colour_at(trace, value) for value in trace.marker.color[:12]]
    assert shades[5] == map_plots.DATASET_COLOURS[0] and shades[2] == map_plots.DATASET_COLOURS[1]
    assert len({shade for i, shade in enumerate(shades) if i not in (2, 5)}) == 1
    assert [name for _, name, _ in map_plots.by_class(points(4, ("",)), []).names] == ["no class"]


def colour_at(trace, value: float) -> str:
    """The colour that a colour scale of steps gives a value."""
    share = (value - trace.marker.cmin) / (trace.marker.cmax - trace.marker.cmin)
    return next(colour for edge, colour in reversed(trace.marker.colorscale) if edge <= share)


@pytest.mark.parametrize("key", ["{}", "日本語" * 60 + "{}", "<b>&" * 40 + "{}"])
def test_a_full_map_is_a_megabyte_whatever_its_names(key: str) -> None:
    some = points(store.maps.MOST_IMAGES, ("<i>class</i>" * 20, "猫" * 50), key)
    text = map_plots.labels(some)
    assert not any("<b>" in label or "<i>" in label for label in text)
    figure = map_plots.map_plot(some, map_plots.by_score(some), dot_px=5, webgl=True)
    assert len(figure.to_json().encode()) < 1e6
    assert len(set(text)) == len(text)  # keys are told apart by their ends


def test_a_map_is_drawn_with_what_was_circled_before() -> None:
    some = points(30)
    colouring = map_plots.by_run(some, ["a", "b"], ["#111111", "#222222"])
    areas = [((0, 1), (2, 3)), ((0, 1, 1), (0, 0, 1))]
    figure = map_plots.map_plot(some, colouring, shown=20, dot_px=5, webgl=False, areas=areas, picked=[4])
    assert len(figure.data[0].x) == len(figure.data[0].text) == len(figure.data[0].marker.color) == 20
    box, lasso = figure.layout.selections
    assert (box.x0, box.x1, box.y0, box.y1) == (0, 1, 2, 3)
    assert lasso.path == "M0.0,0.0L1.0,0.0L1.0,1.0Z"
    assert figure.data[0].selectedpoints == (4,) and figure.data[0].type == "scatter"
    assert figure.layout.yaxis.scaleanchor == "x" and figure.layout.xaxis.showticklabels is False
    plain = map_plots.map_plot(some, colouring, dot_px=5, webgl=True, axes=("one", "two"))
    assert plain.data[0].type == "scattergl" and plain.data[0].selectedpoints is None
    assert plain.layout.xaxis.title.text == "one"

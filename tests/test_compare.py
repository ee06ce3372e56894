"""Encoders side by side: images matched by key, the page that shows it, and the command."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from streamlit.testing.v1 import AppTest
from torch import nn
from typer.testing import CliRunner

from jepascore_core import store
from jepascore_core.__main__ import app
from jepascore_core.agreement import Estimate
from jepascore_core.compare_plots import agreement_scatter, correlation_matrix
from jepascore_core.comparison import correlations, interval, strangest
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import RunError
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import ScoreRule
from jepascore_core.store.shelf import shelf
from pages.components.compare import told
from pages.components.compare_boxes import scatter_name
from pages.components.compare_choice import Choice, comparable
from pages.components.compare_scatter import PICTURE_BYTES, dots, selected
from tests.test_pages import HOSTILE, check, galleries, opened, words
from tests.tiny import SIDE, D, TinyDataset, tiny_encoder, tiny_work

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
N = 24


def encoder(name: str, seed: int = 1, *, family: str = "test") -> Encoder:
    """A tiny encoder of other weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, D))
    first = tiny_encoder()
    spec = replace(first.spec, id=f"demo:{name}", name=name, family=family)
    return Encoder(model, spec, first.transform, digest=name)


def scored(runs: Path, dataset: TinyDataset, made: Encoder | None = None, **options) -> store.Run:
    """A run of a tiny encoder; of the usual one unless another is given."""
    return score_work(tiny_work(runs, dataset, made, **options), Hooks(threading.Event()))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three encoders over one dataset, with hostile names; the third has a smaller sample. And one dataset alone."""
    folder = tmp_path_factory.mktemp("compare")
    runs = store.runs_home(folder / "runs")
    keys = [f"{HOSTILE[i % 2]}/{i:03d}{'<b>' * (i % 3)}.png" for i in range(N)]
    blobs = TinyDataset(N, bad=(3,), keys=keys, class_names=HOSTILE)
    scored(runs, blobs)
    scored(runs, blobs, encoder("other <i>"))
    scored(runs, blobs, encoder("untrained", 2, family="untrained"), per_class=6)
    scored(runs, TinyDataset(5))
    return folder


@pytest.fixture
def on_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[store.Run]:
    """The three comparable runs, oldest encoder first."""
    monkeypatch.setenv("JEPASCORE_HOME", str(home))
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    (group,) = [group for group in store.same_dataset(store.list_runs()) if len(group) > 1]
    return sorted(group, key=lambda run: ("tiny", "other <i>", "untrained").index(run.meta["encoder"]["name"]))


def test_images_are_matched_by_key(on_home: list[store.Run]):
    common = store.common_images(on_home)
    frames = [store.scores(run).set_index("key")["score"] for run in on_home]
    keys = sorted(set.intersection(*(set(frame.index) for frame in frames)))
    assert 8 < len(keys) == len(common) < len(frames[0]) == N - 1
    for number, frame in enumerate(frames):
        rows = common.rows(number, np.arange(len(common)))
        assert sorted(rows["key"]) == keys
        assert rows["score"].tolist() == frame[rows["key"]].tolist() == common.scores(number).tolist()
    assert (
        common.rows(0, np.arange(len(common)))["key"].tolist() == common.rows(2, np.arange(len(common)))["key"].tolist()
    )
    assert list(common.index(0)) == sorted(common.index(0))


def test_of_the_same_sample_all_images_are_common_in_any_order(on_home: list[store.Run]):
    one, other = store.common_images(on_home[:2]), store.common_images(on_home[1::-1])
    assert len(one) == len(other) == N - 1 and one.images == other.images
    assert one.scores(0).tolist() == other.scores(1).tolist()
    assert one.images != store.common_images(on_home).images


def test_what_is_remembered_of_a_comparison_is_known_and_nothing_else(on_home):
    shelf.drop(lambda name, stamp: True)
    rule = ScoreRule("listing1")
    assert store.known_common(on_home, rule) is None and store.known_ranking(on_home[0], rule) is None
    found = store.common_images(on_home, rule)
    assert store.known_common(on_home, rule) is found and store.known_common(on_home) is None
    assert store.known_ranking(on_home[0], rule) is found.rankings[0]
    assert store.known_common(on_home, rule, [HOSTILE[0]]) is None and store.known_common(on_home[::-1], rule) is None


@pytest.mark.parametrize("runs", [slice(0, 2), slice(0, 3)])
def test_common_images_are_ranked_among_themselves(on_home: list[store.Run], runs: slice):
    common = store.common_images(on_home[runs])
    for number in range(len(common.rankings)):
        scores, codes = common.scores(number), common.in_class[0].classes
        assert common.in_run[number].percentiles() == pytest.approx(100 * (stats.rankdata(scores) - 0.5) / len(scores))
        for code in set(codes):
            mine = codes == code
            expected = 100 * (stats.rankdata(scores[mine]) - 0.5) / mine.sum()
            assert common.in_class[number].percentiles()[mine] == pytest.approx(expected)
    pair = correlations(common, 0, 1)
    assert pair.spearman.value == pytest.approx(stats.spearmanr(common.scores(0), common.scores(1)).statistic)


def test_classes_can_be_kept(on_home: list[store.Run]):
    common = store.common_images(on_home)
    one = common.of_classes([HOSTILE[0], "no such class"])
    assert 0 < len(one) < len(common) and set(one.rows(1, np.arange(len(one)))["class_name"]) == {HOSTILE[0]}
    assert not one.has_classes and one.images != common.images
    assert one.in_run[1].percentiles() == pytest.approx(one.in_class[1].percentiles())
    assert len(common.of_classes(["no such class"])) == 0 and common.of_classes([]) is common


def test_scores_that_are_no_numbers_are_left_out(on_home: list[store.Run], monkeypatch: pytest.MonkeyPatch):
    real = store.common.ranking

    def damaged(run, rule):
        held = real(run, rule)
        return replace(held, scores=np.where(np.arange(len(held)) == 2, np.nan, held.scores))

    monkeypatch.setattr(store.common, "ranking", damaged)
    common = store.common_images(on_home[:2])
    assert N - 3 <= len(common) <= N - 2 and np.isfinite(common.scores(0)).all() and np.isfinite(common.scores(1)).all()


def test_only_runs_of_one_dataset_are_compared(on_home: list[store.Run]):
    alone = next(run for run in store.list_runs() if run.planned == 5)
    with pytest.raises(RunError, match="different images"):
        store.common_images([on_home[0], alone])
    with pytest.raises(RunError, match="at least two runs"):
        store.common_images(on_home[:1])
    with pytest.raises(RunError, match="convention"):
        store.common_images(on_home, ScoreRule("nonsense"))
    (names,) = (comparable([alone, *on_home]),)
    assert list(names) == ["blobs"] and alone not in names["blobs"]


def test_the_page_shows_two_encoders_and_the_control(on_home: list[store.Run]):
    at = check(opened("Compare encoders"))
    text = words(at)
    assert "in common, matched by key; scored are" in text and "untrained 12" in text
    assert len(at.table[0].value) == 3 and "beyond chance" in at.table[0].value.columns
    assert "Never trained: untrained." in text and re.search(r"Spearman −?\d\.\d\d \(−?\d\.\d\d … ", text)
    assert len(at.get("plotly_chart")) == 2  # the matrix and the scatter
    tiles = [sum(len(row["cells"][0]) for row in data["rows"]) for data in galleries(at) if "rows" in data]
    assert tiles == [len(images) for images in strangest(store.common_images(on_home), 0, 1, 10)]
    assert "<i>" not in text.replace("\\<i\\>", "") and ":red[=cmd" not in text and "<script>" not in text
    figure = at.get("plotly_chart")[-1].proto.spec
    assert "<script>" not in figure and "&lt;script&gt;" in figure


def test_the_page_follows_the_address(on_home: list[store.Run]):
    at = check(
        opened(
            "Compare encoders", dataset="blobs", compare=["other <i>", "tiny"], classes=[HOSTILE[1]], n="2",
            axes="Score", within="Run",
        )
    )  # fmt: skip
    common = store.common_images(on_home[1::-1]).of_classes([HOSTILE[1]])
    table = at.table[0].value
    assert len(table) == 1 and table["encoders"][0] == r"other \<i\> × tiny"
    assert table["Spearman (95 %)"][0].strip("\u2007").replace("\u00a0", " ") == told(
        correlations(common, 0, 1).spearman
    )
    assert "2 least likely images of all" in words(at) and "share no scale" in words(at)
    (figure,) = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert figure["layout"]["xaxis"]["title"]["text"].startswith("other &lt;i&gt;: JEPA-SCORE (nats)")


def test_an_unknown_choice_in_the_address_is_the_usual_one(on_home: list[store.Run]):
    at = check(opened("Compare encoders", dataset="nonsense", n="4", compare=["?"], axes="", within="x", score=""))
    assert "unknown dataset and n" in words(at) and len(at.table[0].value) == 3


def test_one_encoder_is_no_comparison(on_home: list[store.Run]):
    at = opened("Compare encoders")
    at.multiselect(key="compare").set_value(["tiny"]).run()
    assert "Choose at least two encoders" in words(check(at))
    at.multiselect(key="compare").set_value(["tiny", "other <i>"]).run()
    at.multiselect(key="classes").set_value([HOSTILE[0]]).run()
    assert "share" in words(check(at))


def test_without_two_encoders_the_page_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    scored(store.runs_home(), TinyDataset(4))
    at = check(opened("Compare encoders"))
    assert "No dataset has been scored by two encoders yet" in words(at) and not at.table


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_images_are_a_calm_page(n: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    for made in (None, encoder("other")):
        scored(store.runs_home(), TinyDataset(n), made)
    at = check(opened("Compare encoders"))
    assert "No class has two images" in words(at) and "cannot be told" in words(at)


def test_samples_without_a_common_image_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    scored(store.runs_home(), TinyDataset(8), classes=("cat",))
    scored(store.runs_home(), TinyDataset(8), encoder("other"), classes=("dog",))
    assert "no image in common" in words(check(opened("Compare encoders")))


def pictures(at: AppTest) -> dict[str, str]:
    """What was sent for the dots of the scatter."""
    sent = [json.loads(element.proto.json) for element in at.get("bidi_component") if element.proto.json]
    (found,) = [data["pictures"] for data in sent if "pictures" in data]
    return found


def test_pictures_over_dots_are_sent_once_and_bounded(on_home: list[store.Run], monkeypatch: pytest.MonkeyPatch):
    at = check(opened("Compare encoders"))
    sent, common = pictures(at), store.common_images(on_home)
    assert set(sent) == {str(index) for index in common.index(0)}
    assert all(source.startswith("data:image/jpeg;base64,") for source in sent.values())
    monkeypatch.setattr("pages.components.compare_scatter.PICTURE_BYTES", 3000)
    fewer = pictures(check(at.run()))
    assert 0 < sum(map(len, fewer.values())) <= 3000 < PICTURE_BYTES
    assert f"{len(fewer)} dots show their picture" in words(at)


def test_a_box_means_every_image_in_it_drawn_or_not(on_home: list[store.Run]):
    common = store.common_images(on_home[:2])
    choice = Choice(on_home[:2], ["tiny", "other"], (), 5, False, True, ScoreRule())
    x, y = common.scores(0), common.scores(1)
    box = {"x": [x.max(), np.median(x)], "y": [y.min(), np.median(y)]}
    found = selected([box], choice, common)
    assert set(found) == set(np.flatnonzero((x >= np.median(x)) & (y <= np.median(y))))
    gap = np.abs(common.in_class[0].percentiles() - common.in_class[1].percentiles())
    assert list(gap[found]) == sorted(gap[found], reverse=True)
    assert len(selected([{"x": [0, 100], "y": [100, 0]}], replace(choice, percentiles=True), common)) == len(common)
    assert scatter_name(choice) != scatter_name(replace(choice, percentiles=True))
    assert list(dots(common, 5)) == list(dots(common, 5)) and len(set(dots(common, 5))) == 5


def test_the_address_restores_a_box_of_its_own_scatter(on_home: list[store.Run]):
    names = ["tiny", "other <i>"]
    choice = Choice(on_home[:2], names, (), 5, True, True, ScoreRule())
    common = store.common_images(on_home[:2])
    inside = selected([{"x": [0, 50], "y": [50, 100]}], choice, common)
    asked = f"{scatter_name(choice)};50,0,100,50;x,1,,;nan,0,0,inf"
    at = check(opened("Compare encoders", compare=names, box=asked))
    assert f"Selected: {len(inside)} images" in words(at)
    assert json.loads(at.get("plotly_chart")[0].proto.spec)["layout"]["selections"][0]["x0"] == 50
    assert at.query_params["box"] == [asked] or at.query_params["box"] == asked
    at.button(key="clear_boxes").click().run()
    assert "Selected" not in words(check(at)) and "box" not in at.query_params
    assert "Selected" not in words(check(opened("Compare encoders", compare=names, box="another;0,50,50,100")))


def test_the_scatter_draws_what_it_is_given(on_home: list[store.Run]):
    common = store.common_images(on_home[:2])
    rows = common.rows(0, np.arange(len(common)))
    frame = rows.assign(x=rows["percentile"], y=50.0, score_x=rows["score"], score_y=-rows["score"])
    figure = agreement_scatter(frame, ("a<b", "c"), colour="#123456", percentiles=True)
    diagonal, points = figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert points.type == "scatter" and points.customdata[:, 0].tolist() == rows["index"].tolist()
    assert "a&lt;b" in figure.layout.xaxis.title.text and "<b>" not in points.text[1].replace("<b>", "", 1)
    many = frame.loc[np.zeros(2000, int)]
    assert agreement_scatter(many, ("a", "b"), colour="#123456", percentiles=False).data[0].type == "scattergl"


def test_the_matrix_has_a_cell_for_each_pair():
    known, opposed, none = (Estimate(x, x - 0.1, x + 0.1, 9, "") for x in (0.5, -0.5, np.nan))
    cells = [(0, 1, known), (0, 2, opposed), (1, 2, none)]
    figure = correlation_matrix(["a", "b" * 40, "<c>"], cells)
    assert np.array_equal(figure.data[0].z, [[0.5, np.nan], [-0.5, np.nan]], equal_nan=True)
    shown = [note.text for note in figure.layout.annotations]
    assert "0.50" in shown[0] and "−0.60 to −0.40" in shown[1] and shown[2] == "–"
    assert figure.layout.yaxis.ticktext[1] == "&lt;c&gt;" and len(figure.layout.yaxis.ticktext[0]) == 22


def cli(*arguments: object, runs: Path) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments), "--runs-dir", str(runs)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_says_the_same(on_home: list[store.Run], home: Path):
    names = [run.name for run in on_home]
    found = json.loads(cli(*names, "--n", 3, "--json", runs=home / "runs"))
    common = store.common_images(on_home)
    assert found["images"] == len(common) and found["n"] == 3 and len(found["pairs"]) == 3
    pair = correlations(common, 0, 2)
    told = found["pairs"][1]
    assert (told["first"], told["second"]) == (names[0], names[2])
    assert told["spearman"]["value"] == pair.spearman.value and told["kendall_in_class"]["n"] == len(common)
    assert told["shared"]["n"] == sum(row["n"] for row in told["classes"]) == 6
    assert told["shared"]["chance"] == pytest.approx(sum(9 / row["images"] for row in told["classes"]))
    assert {row["class_name"] for row in told["classes"]} == set(HOSTILE)
    assert told["first_likelier"] and not set(told["first_likelier"]) & set(told["second_likelier"])
    text = cli(*names, "--n", 3, runs=home / "runs")
    assert f"{len(common)} images in common; raw score" in text
    assert re.search(r"spearman +-?\d\.\d\d \(-?\d\.\d\d to -?\d\.\d\d\), within classes", text)
    assert f"of {told['shared']['n']:.0f}, by chance {told['shared']['chance']:.3g}; beyond chance" in text
    assert "other <i>" not in text and HOSTILE[0] in text
    some = json.loads(cli(*names[:2], "--classes", "nothing", "--json", runs=home / "runs"))
    assert some["images"] == 0 and some["pairs"] == []


def test_an_interval_in_words():
    assert interval({"value": -0.5, "low": -0.61, "high": -0.4, "n": 9}) == "-0.50 (-0.61 to -0.40)"
    assert interval({"value": 0.5714, "low": 0.5701, "high": 0.5729}) == "0.571 (0.570 to 0.573)"
    assert interval({"value": float("nan"), "low": 0.0, "high": 0.0}) == "undefined"
    assert told(Estimate(0.5, np.nan, np.nan, 3, "none")) == "0.50"
    assert told(Estimate(-0.5, -0.61, -0.4, 30, "")) == "−0.50 (−0.61 … −0.40)"

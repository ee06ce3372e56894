"""The outliers page on real tiny runs: hostile names, missing columns, links that restore it; decisions and figures."""

import io
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import outliers, store
from jepascore_core.outlier_plots import Curve, Whisker, band_chart, method_chart, roc_chart, sweep_chart, values_chart
from jepascore_core.outliers import (
    as_csv,
    baselines,
    decide,
    decision_table,
    disagreements,
    evaluate,
    make_rows,
    most_outlying,
)
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import parts
from jepascore_core.store.part_writer import write_table
from tests.test_pages import HOSTILE, check, galleries, opened, words
from tests.tiny import TinyDataset, tiny_encoder, tiny_work

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small forest, which is nearly all of the time that methods take."""
    monkeypatch.setattr(baselines, "TREES", 10)


def scored(runs: Path, dataset: TinyDataset, encoder=None) -> store.Run:
    return score_work(tiny_work(runs, dataset, encoder), Hooks(threading.Event()))


def dataset(n: int, name: str, *, class_names=("cat", "dog")) -> TinyDataset:
    keys = [f"{class_names[i % 2]}/{name}{i:03d}.png" for i in range(n)]
    made = TinyDataset(n, keys=keys, class_names=class_names)
    made.id = f"demo:{name}"
    return made


def without(run: store.Run, *columns: str) -> None:
    """Take columns out of a run's rows, as an imported run may lack them."""
    for number, path in enumerate(parts.part_files(run.path), start=1):
        table = pq.read_table(path)
        for column in columns:
            place = parts.SCHEMA.get_field_index(column)
            field = parts.SCHEMA.field(column)
            table = table.set_column(place, field, pa.nulls(len(table), field.type))
        path.unlink()
        write_table(run.path, number, table.cast(parts.SCHEMA))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of one encoder, one of them with hostile names, one bare; and one of another encoder."""
    folder = tmp_path_factory.mktemp("outliers")
    runs = store.runs_home(folder / "runs")
    scored(runs, dataset(40, "usual"))
    scored(runs, dataset(30, "odd", class_names=HOSTILE))
    without(scored(runs, dataset(20, "bare")), "embedding", "singular_values", "sphere_term")
    scored(runs, dataset(20, "usual"), tiny_encoder(null_dim=1))
    return folder


@pytest.fixture
def on_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(home))
    monkeypatch.setenv("JEPASCORE_DEMO", "0")


def tables(at: AppTest) -> str:
    return "\n".join(element.value.to_string() for element in at.table)


def charts(at: AppTest) -> int:
    return len(at.get("plotly_chart"))


def page(**query: str | list[str]) -> AppTest:
    return check(opened("Outliers", inside="tiny · usual", **query))


def test_the_page_measures_shows_and_says(on_home: None):
    at = page(others=["odd"])
    text, table = words(at), tables(at)
    assert charts(at) == 3  # methods, values, ROC
    assert "Against **odd**, JEPA-SCORE reaches AUROC" in text and "judged by a model fitted to" in text
    assert "k\\-NN distance" in table and "Listing 1" in table and "< 1 ms" in table.replace("\u00a0", " ")
    assert "Flagged: usual 2 of 40 (5.0 %)" in text
    assert len(galleries(at)) >= 3 and all("badge" in str(sent) for sent in galleries(at)[:2])


def test_a_link_restores_it(on_home: None):
    at = page(others=["odd", "bare"], by="Gaussian", share="25", flag="High values", against="bare", drop="40")
    # without embeddings in one run, no method that needs them is offered; the page says so and shows the rest
    assert "is left out: bare holds no embeddings" in "\n".join(str(element.value) for element in at.markdown)
    at = page(others=["odd"], by="Gaussian", share="25", flag="High values", drop="40", versus="JEPA-SCORE, tail")
    text = words(at)
    assert "Flagged: usual 10 of 40 (25.0 %)" in text and "Outlying by Gaussian, not by JEPA\\-SCORE\\, tail" in text
    assert "top 40 % dropped" in tables(at).replace("\\", "")
    for share in (40, 15):  # from the address, then from the control
        at = at if share == 40 else at.select_slider(key="drop").set_value(share).run()
        labels = [popover.proto.popover.label.replace("\\", "") for popover in at.get("popover")]
        assert any(f"top {share} %" in label for label in labels)


def test_the_spectrum_is_a_view_of_its_own(on_home: None):
    at = page(others=["odd"], view="Spectrum")
    text = words(at)
    assert charts(at) == 3 and "q chosen on other folds" in text and "insensitive" in text
    at = page(others=["bare"], view="Spectrum")
    assert charts(at) == 0 and "bare holds no singular values" in words(at)


def test_only_runs_of_the_encoder_are_offered(on_home: None):
    at = opened("Outliers", inside="tiny · usual")
    (others,) = at.multiselect
    assert set(others.options) == {"odd", "bare"} and set(others.value) == {"odd", "bare"}
    (inside,) = [box for box in at.selectbox if box.key == "inside"]
    assert len(inside.options) == 3  # that of the other encoder has nothing beside it
    assert "Choose at least one other run" in words(check(opened("Outliers", inside="tiny · usual", others="")))


def test_one_run_has_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    scored(store.runs_home(), TinyDataset(6))
    text = words(check(opened("Outliers")))
    assert "No encoder has scored two sets of images yet" in text and "Score a second set under tiny" in text


def test_flagged_images_can_be_selected(on_home: None):
    at = page(others=["odd"])
    at.button("select_flagged").click().run()
    assert "images selected" in words(check(at))


# decisions and figures without a page


def judged(values_in, values_out):
    inside, other = (make_rows(name, scores=np.asarray(values, float)) for name, values in
                     (("in", values_in), ("=out", values_out)))  # fmt: skip
    found = evaluate(inside, [other])
    return found, found.judged["jepa_score"]


def test_a_threshold_flags_the_share_it_was_asked_for():
    found, held = judged(range(100), [-1, 4, 5, 50, np.nan])
    decision = decide(held, 5)
    assert decision.threshold == 5 and decision.inside.sum() == 5
    assert decision.others[0].tolist() == [True, True, False, False, False]
    high = decide(held, 50, flag_low=False)
    assert high.inside.sum() == 50 and high.threshold == 49 and high.others[0].tolist() == [False] * 3 + [True, False]
    assert decide(held, 0).inside.sum() == 0 and decide(held, 0).others[0].sum() == 1  # below all usual ones
    assert decide(held, 100).inside.all() and not decide(held, 100).others[0][4]
    table = pd.read_csv(io.BytesIO(as_csv(decision_table(found, held, decision))))
    assert list(table) == ["run", "role", "key", "class_name", "method", "value", "flagged"] and len(table) == 105
    assert table[table["role"] == "out"]["run"].unique().tolist() == ["'=out"]  # no spreadsheet runs it
    assert table["flagged"].sum() == 7 and np.isnan(table["value"].iloc[-1])


def test_extremes_and_disagreements():
    assert most_outlying(np.array([3.0, np.nan, 1.0, 2.0]), 2).tolist() == [2, 3]
    assert most_outlying(np.array([3.0, np.nan, 1.0, 2.0]), 9, flag_low=False).tolist() == [0, 3, 2]
    _, first = judged(range(6), [6, 7])
    _, second = judged([7, 1, 2, 3, 4, 5], [6, 0])
    outlying, usual = disagreements(first, second, 1)
    assert outlying == [(0, 0)] and usual == [(1, 1)]
    assert disagreements(first, first, 3) == ([], [])


def test_figures_stay_small_and_escape_names():
    whiskers = [Whisker(name, 0.7, 0.6, 0.8, True, name[0] == "J") for name in ("JEPA", "<b>x", "y")]
    figure = method_chart([("<i>", "#2F6FDE", whiskers), ("b", "#E08A1E", whiskers[:2])])
    assert "&lt;b&gt;x" in figure.to_json() and "<i>" not in figure.to_json()
    generator = np.random.default_rng(0)
    x, y = outliers.roc(generator.normal(size=20_000), generator.normal(size=20_000))
    curves = [Curve(f"curve {number}", "#2F6FDE", x, y, strong=number < 3) for number in range(14)]
    assert len(roc_chart([("a", "#2F6FDE", curves)] * 4).to_json()) < 1_000_000
    values = generator.normal(size=20_000)
    for threshold in (0.0, np.inf, -np.inf):
        assert len(values_chart([("a", "#2F6FDE", values)], threshold, flag_low=True, axis="v").to_json()) < 40_000
    assert values_chart([("a", "#2F6FDE", np.ones(4))], 1.0, flag_low=True, axis="v").data
    frame = pd.DataFrame({"band_low": [0.0, 50], "band_high": [50.0, 100], "auroc": [0.5, 0.6], "low": [0.4, 0.5],
                          "high": [0.6, 0.7]})  # fmt: skip
    assert band_chart([("a", "#2F6FDE", frame)]).data
    ends = np.array([0.0, 1.0])
    near = sweep_chart([Curve(name, "#2F6FDE", ends, ends + 0.5) for name in "ab"], axis="q")
    heights = [note.y for note in near.layout.annotations]
    assert abs(heights[0] - heights[1]) > 0.05  # names of two equal curves lie apart

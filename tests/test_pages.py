"""Every page on a real tiny store: filled, empty, half-way, with failures, hostile names and a broken folder."""

import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from jepascore_core import jobs, store
from jepascore_core.devices import lock_of, resolve_device
from jepascore_core.files import read_json, write_json
from jepascore_core.jobs import children
from jepascore_core.locks import hold
from jepascore_core.runner import Hooks, score_dataset, score_work
from jepascore_core.store.costs import Cost, cost_file, recorded
from jepascore_core.store.request import RunRequest
from pages.components.separation_table import directions
from pages.components.text import md, number
from tests.runs_made import made_run
from tests.tiny import TinyDataset, tiny_encoder, tiny_work

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
ROOT = Path(__file__).parent.parent
PAGES = {
    "Overview": "pages/overview.py",
    "Score images": "pages/score_images.py",
    "Class extremes": "pages/class_extremes.py",
    "Distributions": "pages/distributions.py",
    "Singular vectors": "pages/singular_vectors.py",
    "Compare encoders": "pages/compare_encoders.py",
    "Map": "pages/map.py",
    "Outliers": "pages/outliers.py",
    "Curation": "pages/curation.py",
    "Readiness": "pages/readiness.py",
    "Sensitivity": "pages/sensitivity.py",
}
HOSTILE = ("<script>alert(1)</script> :cat: $x$ [a](b)", "**bold** :red[=cmd|'/c calc'!A1] \\ `tick`")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of real demo encoders, one with hostile names and failures, one half-way, one broken folder."""
    home = tmp_path_factory.mktemp("filled")
    runs = home / "runs"
    for encoder in ("demo:jepa-tiny-untrained", "demo:jepa-tiny"):
        score_dataset(RunRequest(encoder, "demo:digits", per_class=2, device="cpu"), runs_dir=runs)
    keys = [f"{HOSTILE[i % 2]}/{i}{'<b>' * (i % 3)}.png" for i in range(16)]
    score_work(tiny_work(runs, TinyDataset(16, bad=(3, 8), keys=keys, class_names=HOSTILE)), Hooks(threading.Event()))
    stop = threading.Event()
    score_work(tiny_work(runs, TinyDataset(40)), Hooks(stop, on_progress=lambda p: p.done >= 8 and stop.set()))
    (runs / "broken-birds-0000000000").mkdir()
    (runs / "broken-birds-0000000000" / "run.json").write_text('{"format_version": 1,')
    return home


@pytest.fixture
def on_filled(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JEPASCORE_HOME", str(filled))


def opened(page: str, **query: str | list[str]) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    for name, value in query.items():
        at.query_params[name] = value
    return at.switch_page(PAGES[page]).run() if page != "Overview" or query else at


def words(at: AppTest) -> str:
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def galleries(at: AppTest) -> list[dict]:
    """What the galleries were sent."""
    sent = [json.loads(element.proto.json) for element in at.get("bidi_component") if element.proto.json]
    return [data for data in sent if "rows" in data or "tiles" in data]


def check(at: AppTest) -> AppTest:
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    return at


@pytest.mark.parametrize("page", PAGES)
def test_filled(page: str, on_filled: None):
    at = check(opened(page))
    assert at.title[0].value == page
    if page in ("Distributions", "Singular vectors", "Compare encoders", "Map", "Outliers"):
        assert at.get("plotly_chart")
    if page in ("Overview", "Class extremes", "Distributions", "Score images", "Compare encoders", "Map"):
        assert galleries(at)


def test_a_link_to_a_page_may_be_the_first_request(on_filled: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at._page_hash = ""  # as a browser that opens the link
    at.switch_page(PAGES["Distributions"]).run()
    assert check(at).title[0].value == "Distributions"
    assert PagesManager.uses_pages_directory is False


@pytest.mark.parametrize("page", PAGES)
def test_empty(page: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    at = check(opened(page))
    assert at.title[0].value == page
    assert page == "Score images" or "No run to show yet" in words(at)
    assert not jobs.list_jobs()


def test_first_open_starts_the_demo_once_and_shows_it():
    first, second = check(opened("Overview")), check(opened("Overview"))
    try:
        (job,) = jobs.list_jobs()
        assert job.kind == "demo"
        for at in (first, second):
            assert at.progress
            assert "The demo" in words(at) or "Scoring" in words(at)
    finally:
        jobs.cancel(job)
        ended(job.id)


def ended(job_id: str, seconds: float = 60) -> jobs.Job:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job = next(job for job in jobs.list_jobs() if job.id == job_id)
        if not job.active:
            return job
        time.sleep(0.2)
    raise AssertionError(f"the job is still {job.state}")


def test_overview_says_what_the_score_is_not(on_filled: None):
    text = words(opened("Overview"))
    assert "Not a calibrated probability" in text
    assert "brightness" in text
    assert "inverted" in text


def test_the_measured_direction_is_told_with_its_interval(on_filled: None):
    runs = {run.label: run for run in store.list_runs()}
    twins = [runs["jepa-tiny · digits"], runs["jepa-tiny-untrained · digits"]]
    told = directions(twins)
    names = (md(run.label) for run in twins)
    assert told.startswith("Measured against {}, AUROC with 95 % interval: {} ".format(*names))
    assert re.search(r" (lower|higher|not told apart) \(\d\.\d\d, \d\.\d\d–\d\.\d\d\)\.$", told), told
    assert directions(twins[:1]) == "" and directions([]) == ""


def test_a_broken_folder_is_listed_with_its_reason(on_filled: None):
    at = check(opened("Overview"))
    (warning,) = [w.value for w in at.warning if "broken" in w.value]
    assert "not valid JSON" in warning
    frame = at.dataframe[0].value
    assert set(frame["State"].str.split(",").str[0]) == {"Done", "Cancelled"}
    assert len(frame) == 4


def test_names_from_data_are_never_markup(on_filled: None):
    label = next(
        run.label for run in store.list_runs() if not run.problem and len(run.meta["dataset"]["class_names"]) == 2
    )
    for page in ("Class extremes", "Distributions"):
        at = check(opened(page, runs=[label], classes=list(HOSTILE), by="Class"))
        text = words(at)
        assert "<script>" not in text
        assert ":red[=cmd" not in text
        assert ":cat:" not in text
        if page == "Class extremes":
            (data,) = galleries(at)
            assert {row["title"] for row in data["rows"]} == set(HOSTILE)  # drawn with textContent


def test_failures_are_told(on_filled: None):
    run = next(run for run in store.list_runs() if not run.problem and store.counts(run)["failed"] == 2)
    frame = opened("Overview").dataframe[0].value
    assert list(frame.loc[frame["Failed"] == "2", "Images"]) == [str(store.counts(run)["done"])]


def test_class_extremes_follow_the_url(on_filled: None):
    label = "jepa-tiny · digits"
    at = check(opened("Class extremes", runs=[label, "no such run"], classes=["digit 3", "nonsense"], n="3", size="L"))
    (data,) = galleries(at)
    (row,) = data["rows"]
    assert row["title"] == "digit 3"
    assert [len(cell) for cell in row["cells"]] == [2, 2]  # two images of each class in the sample
    assert data["size"] == 168 and galleries(opened("Class extremes", size="72"))[0]["size"] == 72
    run = next(run for run in store.list_runs() if run.label == label)
    least = store.extremes(run, 1, which="least", class_name="digit 3")
    assert row["cells"][0][0]["id"] == f"{run.name}\n{least['key'].iloc[0]}"
    assert row["cells"][0][0]["badge"] == f"{least['score'].iloc[0]:.1f}".replace("-", "−")
    assert row["cells"][0][0]["src"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("page", ["Class extremes", "Distributions", "Singular vectors", "Compare encoders", "Map"])
@pytest.mark.parametrize("score", ["Sphere", "Corrected"])
def test_every_page_shows_the_named_scores(page: str, score: str, on_filled: None):
    run = next(label for label in run_labels() if label.startswith("jepa-tiny · digits"))
    at = check(opened(page, score=score, run=run, runs=[run]))
    assert f"Score: {score.lower()}, in nats" in words(at)
    assert ("Gaussian fitted to digits (20 embeddings, D = 16; covariance shrunk by" in words(at)) == (
        score == "Corrected"
    )


def test_fewer_embeddings_than_dimensions_are_told():
    score_work(tiny_work(store.runs_home(), TinyDataset(4)), Hooks(threading.Event()))
    at = check(opened("Class extremes", score="Corrected"))
    assert "4 embeddings, D = 5; fewer embeddings than dimensions: covariance shrunk by" in words(at)


def test_corrected_scores_of_two_runs_are_not_compared(on_filled: None):
    from pages.components.pickers import by_label

    two = [
        label for label in by_label([run for run in store.list_runs() if not run.problem]) if label.startswith("tiny")
    ]
    assert "AUROC (95 %)" in check(opened("Distributions", runs=two)).table[0].value.columns
    at = check(opened("Distributions", score="Corrected", runs=two))
    assert "AUROC (95 %)" not in at.table[0].value.columns
    assert "no AUROC is given" in words(at) and "compare images within a run, not runs" in words(at)


def run_labels() -> list[str]:
    return [run.label for run in store.list_runs() if run.problem is None]


def test_a_run_without_a_sphere_score_falls_back_to_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    work = tiny_work(store.runs_home(), TinyDataset(12), tiny_encoder(null_dim=1))
    score_work(work, Hooks(threading.Event()))
    at = check(opened("Class extremes", score="Sphere"))
    assert "its Jacobian vanishes in 1 direction by construction" in words(at) and "Shown is the raw score" in words(at)
    assert "Score: raw\\, eq\\. \\(5\\), in nats" in words(at)
    at = check(opened("Class extremes", score="Corrected"))
    assert "D = 5, on a surface of 4" in words(at)


def test_without_a_class_each_run_is_one_row(on_filled: None):
    at = check(opened("Class extremes", runs=["jepa-tiny · digits"], classes=""))
    (data,) = galleries(at)
    assert [row["title"] for row in data["rows"]] == ["digits"]
    assert any("all images" in popover.proto.popover.label for popover in at.get("popover"))


def test_random_images_come_between_the_ends(on_filled: None):
    at = opened("Class extremes")
    at.toggle(key="random").set_value(True).run()
    (data,) = galleries(check(at))
    assert [column["tone"] for column in data["columns"]] == ["least", "plain", "most"]


@pytest.mark.parametrize("page", ["Class extremes", "Distributions"])
def test_nothing_chosen_is_a_calm_page(page: str, on_filled: None):
    at = opened(page)
    at.multiselect(key="runs").set_value([]).run()
    check(at)
    assert all(button.proto.disabled for button in at.download_button if button.key == "report")


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], str | bytes]]:
    """What each download button would call when it is clicked, by its key."""
    makers: dict[str, Callable[[], str | bytes]] = {}
    drawn = st.download_button

    def remember(label: str, data: Callable[[], str | bytes], *args: Any, key: str, **options: Any) -> bool:
        makers[key] = data
        return drawn(label, data, *args, key=key, **options)

    monkeypatch.setattr(st, "download_button", remember)
    return makers


def test_a_report_is_made_when_it_is_asked_for(on_filled: None, handed_out: dict):
    runs = [run for run in store.list_runs() if not run.problem]
    check(opened("Distributions", runs=["jepa-tiny · digits"], score="Sphere"))
    told = handed_out["report"]()
    assert "jepa-tiny" in told and "Score: sphere, in nats" in told and "jepa-tiny-untrained" not in told
    check(opened("Overview"))
    assert f"in {len(runs)} runs" in handed_out["report_runs"]()


@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF-"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_figure_for_print_is_drawn_when_it_is_asked_for(kind: str, start: bytes, on_filled: None, handed_out: dict):
    at = check(opened("Class extremes", runs=["jepa-tiny · digits"], classes=["digit 3"], n="3", random="true"))
    figure = handed_out[f"paper_{kind}"]()
    assert figure.startswith(start)
    if kind == "svg":
        assert b">digit 3<" in figure and b">Random<" in figure and b'width="510.2' in figure
        at.segmented_control(key="paper_width").set_value("One column, 88 mm").run()
        assert b'width="249.4' in handed_out["paper_svg"]()


def test_a_figure_of_too_many_images_is_refused_before_the_click(on_filled: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pages.components.paper.MOST_IMAGES", 30)
    at = check(opened("Class extremes", runs=["jepa-tiny · digits"], classes=["digit 3", "digit 4"], n="7"))
    assert not any(button.proto.disabled for button in at.download_button)
    at.slider(key="n").set_value(8).run()
    assert "at most 30 images" in words(check(at))
    assert [button.proto.disabled for button in at.download_button] == [True] * 3


@pytest.mark.parametrize("page", ["Class extremes", "Distributions", "Singular vectors"])
def test_an_empty_choice_in_the_address_is_the_usual_one(page: str, on_filled: None):
    check(opened(page, **dict.fromkeys(("run", "score", "size", "as", "by", "end", "k"), "")))


@pytest.mark.parametrize("shape", ["Density", "Histogram", "Ridgeline", "ECDF"])
@pytest.mark.parametrize("by", ["Run", "Class"])
def test_distributions_in_every_shape(shape: str, by: str, on_filled: None):
    at = check(opened("Distributions", **{"as": shape, "by": by, "score": "Listing 1, ε 1e−4"}))
    assert "Listing 1" in words(at).replace("\\", "")
    assert len(at.get("plotly_chart")) == 1


def figures(at: AppTest) -> list[dict]:
    return [json.loads(element.proto.spec) for element in at.get("plotly_chart")]


def curve_names(at: AppTest) -> set[str]:
    return {trace["name"] for figure in figures(at) for trace in figure["data"]}


def test_classes_of_the_address_get_a_curve_each(on_filled: None):
    at = check(opened("Distributions", runs=["jepa-tiny · digits"], by="Class", classes=["digit 3", "digit 7", "none"]))
    assert curve_names(at) == {"digit 3", "digit 7"}
    assert list(at.table[0].value.columns) == ["class", "images", "median", "5–95 %", "AUROC (95 %)", "KS"]
    at = check(opened("Distributions", runs=["jepa-tiny · digits"], by="Class"))
    assert curve_names(at) == {f"digit {i}" for i in range(8)}  # the largest eight of ten, which are equally large
    assert "brightness" not in words(at)
    check(at.multiselect(key="classes").set_value([]).run())
    assert curve_names(at) == {"digits"}


def test_a_class_that_a_run_does_not_hold_is_told(on_filled: None):
    both = [label for label in run_labels() if label in ("jepa-tiny · digits", "tiny · blobs")]
    at = check(opened("Distributions", runs=both, by="Class", classes=["digit 3"]))
    assert "blobs has no image of these classes" in words(at)


def ranged(at: AppTest) -> str:
    return next(m.value for m in at.markdown if m.value.startswith("**:orange["))


def test_a_brush_of_the_address_shows_all_images_of_its_panel(on_filled: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pages.components.curves.drawn_curves.__kwdefaults__", {"dots": 3})
    label = "jepa-tiny · digits"
    run = next(run for run in store.list_runs() if run.label == label)
    scores = store.ranking(run).scores
    low, high = scores[4] - 1e-3, scores[15] + 1e-3
    at = check(opened("Distributions", runs=[label, "jepa-tiny-untrained · digits"], brush=f"1:{low}:{high}"))
    assert sum(len(trace.get("text", ())) for figure in figures(at) for trace in figure["data"]) == 3
    assert ranged(at).endswith("nats, 12 images]**") and "Brushed, jepa\\-tiny\\, 48 px" in ranged(at)
    ((row,),) = [data["rows"] for data in galleries(at)]
    keys = [tile["id"].split("\n")[1] for tile in row["cells"][0]]
    assert keys == store.ranking(run).keys[4:16].to_pylist()
    (mark,) = figures(at)[0]["layout"]["selections"]
    assert (mark["xref"], mark["x0"], mark["x1"]) == ("x", low, high)


@pytest.mark.parametrize("brush", ["", "1", "0:1:2", "1:a:2", "1:2:1", "1:nan:2", "1:-inf:inf", "99:1:2", "1:2:3:4"])
def test_a_brush_that_means_nothing_is_the_lowest_scores(brush: str, on_filled: None):
    at = check(opened("Distributions", runs=["jepa-tiny · digits"], brush=brush))
    assert ranged(at).startswith("**:orange[Lowest 5 %: ") and ranged(at).endswith(" nats, 1 image]**")


def test_a_brush_outlives_another_shape_but_not_another_score(on_filled: None):
    at = check(opened("Distributions", runs=["jepa-tiny · digits"], brush="1:-200:200"))
    check(at.segmented_control(key="as").set_value("Ridgeline").run())
    assert "Brushed" in ranged(at) and figures(at)[0]["layout"]["selections"]
    check(at.radio(key="score").set_value("Sphere").run())
    assert "Lowest 5 %" in ranged(at) and "brush" not in at.query_params
    assert "selections" not in figures(at)[0]["layout"]


def test_a_clicked_dot_shows_its_neighbours_until_they_are_dropped(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    at = opened("Distributions", runs=[run.label])
    key = store.ranking(run).keys[9].as_py()
    at.session_state["clicked_dot"] = (run.name, key)
    check(at.run())
    assert "Nearest in score" in words(at)
    (data,) = galleries(at)
    assert data["selected"] == f"{run.name}\n{key}"
    assert [t["id"].split("\n")[1] for t in data["rows"][0]["cells"][0]] == store.ranking(run).keys[3:15].to_pylist()
    check(at.button(key="forget").click().run())
    assert "Lowest 5 %" in ranged(at)


def test_a_look_at_the_same_rows_makes_no_figure_again(on_filled: None, monkeypatch: pytest.MonkeyPatch):
    from jepascore_core import distribution_plots

    made = []
    shapes = {"Density": lambda *args, **options: made.append(1) or distribution_plots.density_plot(*args, **options)}
    monkeypatch.setattr("pages.components.distribution.SHAPES", shapes)
    at = check(opened("Distributions", runs=["jepa-tiny · digits"]))
    before = [element.proto.id for element in at.get("plotly_chart")]
    check(at.run())
    assert made == [1] and [element.proto.id for element in at.get("plotly_chart")] == before


def test_a_growing_figure_lies_over_the_one_before_until_it_is_drawn():
    def script():
        import plotly.graph_objects as go
        import streamlit as st

        from pages.components.steady import steady

        rows = st.session_state.get("rows", 1)
        figure = lambda: go.Figure(go.Scatter(y=list(range(rows))))  # noqa: E731
        steady(figure, rows, key="it", alt="rows", growing=st.session_state.get("growing", True))

    at = check(AppTest.from_function(script).run())

    def shown():
        return [len(figure["data"][0]["y"]) for figure in figures(at)]

    assert shown() == [1]
    at.session_state["rows"] = 2
    check(at.run())
    assert sorted(shown()) == [1, 2]
    check(at.run())
    assert shown() == [2]
    at.session_state["rows"], at.session_state["growing"] = 3, False
    check(at.run())
    assert shown() == [3]


def test_encoders_are_not_put_on_one_axis(on_filled: None):
    names = ["jepa-tiny · digits", "jepa-tiny-untrained · digits"]
    at = check(opened("Distributions", runs=names))
    assert "share no scale" in words(at)
    assert len(at.table) == 2


def test_separation_table_states_the_measured_direction(on_filled: None):
    tiny = [run.label for run in store.list_runs() if run.meta and run.meta["encoder"]["id"] == "demo:tiny"]
    labels = opened("Distributions").multiselect(key="runs").options
    at = check(opened("Distributions", runs=[label for label in labels if label.startswith(tiny[0])]))
    assert "Measured, not assumed" in words(at)
    frame = at.table[0].value
    assert {"AUROC (95 %)", "KS", "brightness"} <= set(frame.columns)


def test_singular_vectors_show_image_leverage_and_walk(on_filled: None):
    at = check(opened("Singular vectors", run="jepa-tiny · digits", k="3", end="Smallest"))
    text = words(at)
    assert "sum to the rank, 16.00" in text
    assert "σ₁₄" in text and "σ₁₆" in text
    before = next(m.value for m in at.markdown if m.value.startswith("α ="))
    assert "moves by **0**" in before
    at.slider(key="alpha").set_value(2.5).run()
    after = next(m.value for m in check(at).markdown if m.value.startswith("α ="))
    assert after.startswith("α = 2.50") and "moves by **0**" not in after


def test_leverage_of_each_half_of_the_spectrum_sums_to_its_directions(on_filled: None):
    for band, sum_, which in (("Large σ", "8.00", "larger"), ("Small σ", "8.00", "smaller")):
        at = check(opened("Singular vectors", run="jepa-tiny · digits", leverage=band))
        assert f"the {which} half of the singular values. They sum to {sum_} of the rank, 16.00" in words(at)
        assert "overlap by" in words(at)


def test_the_path_is_shown_among_the_runs_images_or_alone(on_filled: None):
    at = check(opened("Singular vectors", run="jepa-tiny · digits"))
    assert "principal directions of the run’s embeddings" in words(at)
    at = check(opened("Singular vectors", run="jepa-tiny · digits", plane="The path alone"))
    assert "principal directions of the path itself" in words(at)


def inspected(part: str | None = None, run: str = "jepa-tiny · digits") -> AppTest:
    """Class extremes with the drawer of a run's least likely image open."""
    found = next(known for known in store.list_runs() if known.label == run)
    query = {"image": store.extremes(found, 1)["key"][0], "of": found.name} | ({"part": part} if part else {})
    return opened("Class extremes", **query)


def test_the_inspector_says_what_is_known_of_an_image(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    least = store.extremes(run, 2)
    at = check(inspected())
    assert at.metric[0].value == number(least["score"][0], 2)
    assert md(least["key"][0]) in words(at) and "1 of 20" in words(at)
    next(button for button in at.button if button.label == "More likely").click().run()
    assert check(at).query_params["image"] == least["key"][1] and "2 of 20" in words(at)


def test_the_inspector_takes_an_image_apart(on_filled: None):
    assert "sum to the rank, 16.00" in words(check(inspected("Patches")))
    at = check(inspected("Vectors"))
    assert sum("σ" in caption.value for caption in at.caption) >= 3
    near = galleries(check(inspected("Neighbours")))[-1]["rows"][0]["cells"][0]
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    key = store.extremes(run, 1)["key"][0]
    assert [tile["id"].split("\n")[1] for tile in near] == store.nearest(run, key, 12)["key"].tolist()
    assert "share the class" in words(inspected("Neighbours"))
    table = check(inspected("Encoders")).table[-1].value
    assert list(table["encoder"]) == [md("jepa-tiny · digits"), md("jepa-tiny-untrained · digits")]
    origin = check(inspected("Origin")).table[-1].value["value"]
    assert any(md("demo:jepa-tiny") in value for value in origin) and any(md(run.name) in value for value in origin)


def test_an_image_that_is_nowhere_is_one_sentence(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    at = opened("Class extremes", image="no such image", of=run.name)
    assert not at.exception and [md("has no image 'no such image'") in error.value for error in at.error] == [True]
    at = opened("Class extremes", image="x", of="no-such-run")
    assert not at.exception and len(at.error) == 1


def test_all_images_stand_in_order(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    order = list(store.extremes(run, 100)["key"])
    for name, keys in (("Least likely first", order), ("Most likely first", order[::-1])):
        (data,) = galleries(check(opened("Class extremes", view="In order", run=run.label, order=name)))
        assert [tile["id"].split("\n")[1] for tile in data["tiles"]] == keys and data["total"] == 20
    (data,) = galleries(check(opened("Class extremes", view="In order", run=run.label, order="Random")))
    assert sorted(tile["id"].split("\n")[1] for tile in data["tiles"]) == sorted(order)
    (data,) = galleries(check(opened("Class extremes", view="In order", run=run.label, only="digit 3", at="2")))
    within = list(store.extremes(run, 9, class_name="digit 3")["key"])
    assert [tile["id"].split("\n")[1] for tile in data["tiles"]] == within and data["at"] == 1
    assert [tile["rank"] for tile in data["tiles"]] == ["1", "2"]


def test_a_selection_comes_with_the_address_and_stays(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    first, second = store.extremes(run, 2)["key"]
    at = check(opened("Class extremes", view="In order", run=run.label, chosen=[f"{run.name}/{first}", "nonsense"]))
    assert "**1 image selected**" in words(at)
    assert [tile["chosen"] for tile in galleries(at)[0]["tiles"][:2]] == [True, False]
    at.session_state["chosen_images"][run.name][second] = None
    assert "**2 images selected**" in words(check(at.run()))
    check(at.switch_page("pages/overview.py").run())
    assert "**2 images selected**" in words(at)
    next(button for button in at.button if button.label == "Clear").click().run()
    assert "selected**" not in words(check(at))


def test_a_selection_can_be_tagged_found_again_and_exported(on_filled: None):
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    keys = list(store.extremes(run, 3)["key"])
    store.add_tag(run, "to look at <b>")  # AppTest chooses among known ones only
    at = opened("Class extremes", view="In order", run=run.label, chosen=[f"{run.name}/{key}" for key in keys])
    at.selectbox(key="tag_name").set_value("to look at <b>").run()
    at.button(key="tag_add").click().run()
    assert store.tagged(run, "to look at <b>") == sorted(keys)
    at.selectbox(key="export_kind").set_value("csv").run()
    at.button(key="export_make").click().run()
    assert "3 images." in words(check(at)) and at.get("download_button")
    (data,) = galleries(check(opened("Class extremes", view="In order", run=run.label, tag="to look at <b>")))
    assert [tile["id"].split("\n")[1] for tile in data["tiles"]] == keys and data["total"] == 3
    assert "tagged to look at" in words(check(inspected()))
    at = opened("Class extremes", view="In order", run=run.label, chosen=[f"{run.name}/{key}" for key in keys])
    at.selectbox(key="tag_name").set_value("to look at <b>").run()
    at.button(key="tag_remove").click().run()
    assert store.tagged(run, "to look at <b>") == [] and not at.exception


def test_singular_vectors_step_through_the_ranks_and_keep_the_key(on_filled: None):
    at = opened("Singular vectors", run="jepa-tiny · digits")
    run = next(run for run in store.list_runs() if run.label == "jepa-tiny · digits")
    best, second = store.extremes(run, 2, which="most")["key"]
    assert at.session_state["image"] == best
    next(button for button in at.button if button.label == "Less likely").click().run()
    assert check(at).session_state["image"] == second
    assert at.query_params["key"] == second
    assert check(opened("Singular vectors", run=run.label, key="no such image")).session_state["image"] == best
    assert check(opened("Singular vectors", run=run.label, key=second)).session_state["image"] == second


def test_singular_vectors_without_the_source_offer_an_upload(on_filled: None):
    labels = opened("Singular vectors").selectbox(key="run").options
    at = check(opened("Singular vectors", run=next(label for label in labels if label.startswith("tiny"))))
    assert "not at hand" in words(at)
    assert at.file_uploader
    assert at.get("plotly_chart")  # the stored spectrum


def test_one_image_is_scored_and_placed(on_filled: None):
    at = opened("Score images")
    at.session_state["tab"] = "Try one image"
    at.run()
    at.selectbox(key="against").set_value("jepa-tiny · digits").run()
    at.file_uploader[0].upload("a.png", png(Image.effect_noise((60, 40), 80).convert("RGB"))).run()
    assert "percentile of" in words(check(at)) or "of the run" in words(at)
    assert at.metric[0].label == "JEPA-SCORE (nats)"


VIEWS = "from pages.components import lab_views\nlab_views.draw()"


def test_views_settle_and_move_images(tmp_path: Path):
    work = tiny_work(
        store.runs_home(), TinyDataset(14, bad=(3,), keys=[f"{HOSTILE[0]}/{i}" for i in range(14)]), views=6
    )
    score_work(work, Hooks(threading.Event()))
    at = check(AppTest.from_string(VIEWS, default_timeout=60).run())
    assert "against all T \\= 6" in words(at) or "against all T = 6" in words(at)
    assert "two disjoint sets of t views; at t = 3" in words(at) and "mild\\-1" in words(at)
    rows = galleries(at)[0]["rows"]
    assert {row["title"] for row in rows} <= {"Rise", "Fall"} and rows[0]["cells"][0][0]["badge"].startswith("+")
    assert "percentile by eq. (5)" in rows[0]["cells"][0][0]["tip"]


def test_without_views_the_lab_tells_how_to_make_them(on_filled: None):
    at = check(AppTest.from_string(VIEWS, default_timeout=60).run())
    assert "No run of several views yet" in words(at) and "--views 8" in at.code[0].value


def test_two_images_have_no_ranking_to_show():
    score_work(tiny_work(store.runs_home(), TinyDataset(2), views=2), Hooks(threading.Event()))
    at = check(AppTest.from_string(VIEWS, default_timeout=60).run())
    assert "a ranking needs at least 3" in words(at)


def bomb() -> bytes:
    """A small PNG whose header claims 3.6 gigapixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 9)))
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_uploads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = made_run(store.runs_home(), None, None, np.arange(9.0))
    at = opened("Score images")
    at.session_state["tab"] = "Try one image"
    assert check(at.run()).file_uploader[0].proto.max_upload_size_mb == 25
    at.session_state["tab"] = "Import results"
    assert check(at.run()).file_uploader[0].proto.max_upload_size_mb == 50
    assert st.get_option("server.maxUploadSize") == 50, "what a page offers the server must take, and no more"
    write_json(run.path / "progress.json", read_json(run.path / "progress.json") | {"images_per_s": 1 / 2220})
    at.session_state["tab"] = "Try one image"
    at.run()
    at.file_uploader[0].upload("a.png", b"\x89PNG").run()
    assert "An image takes this encoder about 37 min here" in words(check(at))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, bomb()])
def test_a_bad_upload_is_one_sentence(content: bytes, on_filled: None):
    at = opened("Score images")
    at.session_state["tab"] = "Try one image"
    at.run()
    at.file_uploader[0].upload("a.png", content).run()
    assert not at.exception
    assert len(at.error) == 1
    assert "Traceback" not in at.error[0].value


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def cost_told(at: AppTest) -> str:
    return next(caption.value for caption in check(at).caption if caption.value.startswith("Cost of"))


def measured(encoders: list[str], seconds: float = 120) -> None:
    """Wait until the page's own processes have measured what photographs cost."""
    until = time.monotonic() + seconds
    while not all(e.settled for e in jobs.estimates([RunRequest(encoder, "demo:photos") for encoder in encoders])):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_cost_is_measured_by_itself_and_told_before_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    at = opened("Score images")
    assert cost_told(at) == r"Cost of jepa\-tiny: measuring…"
    measured(["demo:jepa-tiny"])
    whole = re.fullmatch(r"Cost of jepa\\-tiny: 273 images at (\S+) images/s, about (\d+) s\.", cost_told(at.run()))
    assert whole and float(whole[1]) > 0
    at.number_input[1].set_value(7).run()  # at most, in all: told at once, from the same measurement
    assert f"7 images at {whole[1]} images/s" in cost_told(at)
    at.multiselect(key="encoders").set_value(["demo:jepa-tiny", "demo:no-such-encoder"]).run()
    measured(["demo:no-such-encoder"])
    _, first, second = cost_told(at.run()).split("\n")
    assert "images/s" in first and "cannot be measured: " in second and "no\\-such\\-encoder" in second
    next(button for button in at.button if button.label == "Measure again").click().run()
    assert cost_told(at).count("measuring…") == 2


def test_the_cost_is_not_measured_beside_another_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    lock = lock_of(resolve_device("auto"))
    with hold(lock, holder="birds", waiting=lambda words: None):
        assert "the device is busy with birds; the cost is measured when it is free" in cost_told(
            opened("Score images")
        )
    assert not children.children


def test_a_set_of_unknown_size_has_a_cost_for_a_thousand_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    path = cost_file(RunRequest("demo:jepa-tiny", "mnist"), store.runs_home(None))
    path.parent.mkdir()
    with recorded(path) as keep:
        keep(Cost(50.0, 3.0, "cpu"))
    at = opened("Score images")
    at.multiselect(key="datasets").set_value(["mnist"]).run()
    assert "50 images/s, about 20 s for 1000 images; how many there are is not known yet" in cost_told(at)


def test_an_unknown_folder_is_one_sentence_before_the_start(on_filled: None):
    at = opened("Score images")
    at.multiselect(key="datasets").set_value(["folder:/no/such/folder"]).run()
    assert not at.exception
    assert len(at.error) == 1


def test_a_stopped_run_can_be_resumed_from_the_page(on_filled: None):
    at = check(opened("Score images"))
    assert "Not finished" in words(at)
    assert [button.label for button in at.button].count("Resume") == 1


def test_start_runs_a_process_and_its_results_appear(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    at = opened("Score images")
    at.multiselect(key="datasets").set_value(["demo:digits"]).run()
    at.number_input[1].set_value(5).run()  # at most, in all
    next(box for box in at.selectbox if box.label == "Precision").set_value("tf32").run()
    next(entry for entry in at.number_input if entry.label == "Tolerance, nats").set_value(0.02).run()
    at.slider[0].set_value(50).run()
    next(button for button in at.button if button.label == "Start").click().run()
    (job,) = jobs.list_jobs()
    asked = {"limit": 5, "precision": "tf32", "tolerance": 0.02, "memory_share": 0.5}
    assert job.request is not None and asked.items() <= job.request.items()
    assert "jepa" in words(check(at))
    assert ended(job.id, 90).state == "done"
    (data,) = galleries(check(at.run()))
    assert len(data["rows"][0]["cells"][0]) == 5


def test_two_trained_encoders_are_offered_where_there_are_only_controls(on_filled: None, monkeypatch):
    asked: list[RunRequest] = []
    monkeypatch.setattr(jobs, "start", asked.append)
    at = check(opened("Compare encoders", dataset="digits"))
    at.button(key="twins").click().run()
    assert [(request.encoder_id, request.dataset_id) for request in asked] == [
        ("demo:jepa-small", "demo:photos"), ("demo:jepa-small-vicreg", "demo:photos")
    ]  # fmt: skip


def test_a_failed_job_says_why_and_can_be_dismissed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    job = jobs.start(RunRequest("demo:jepa-tiny", "folder:/no/<such>/folder"))
    assert ended(job.id).state == "failed"
    at = opened("Score images")
    (error,) = at.error
    assert "folder" in error.value and "<such>" not in error.value
    next(button for button in at.button if button.label == "Dismiss").click().run()
    assert not check(at).error


def test_a_folder_that_goes_away_does_not_break_the_page(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "copy"))
    shutil.copytree(filled, tmp_path / "copy")
    at = opened("Class extremes")
    for run in store.list_runs():
        if run.label == "jepa-tiny · digits":
            shutil.rmtree(run.path)
    assert not at.run().exception

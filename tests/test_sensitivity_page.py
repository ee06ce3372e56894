"""The sensitivity page: its four experiments, its form, its address, and what it says where nothing can be shown."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import jobs, store
from jepascore_core.jobs import Estimate, SensitivityRequest
from jepascore_core.naming import is_variant
from jepascore_core.runner import Hooks, score_dataset, score_work
from jepascore_core.sensitivity import experiments
from jepascore_core.sensitivity_plots import (
    AUROC,
    CHANGE,
    CONTROL,
    class_plot,
    depth_means_plot,
    depth_plot,
    dose_plot,
    method_colours,
    share_plot,
)
from jepascore_core.store.costs import Cost
from jepascore_core.store.request import RunRequest
from pages.components import live, pickers, sensitivity_words
from tests.test_pages import check, galleries, opened, words
from tests.tiny import TinyDataset, tiny_work

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
DOSES = ("noise:1", "noise:3", "blur:5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean digits and photos of the demo, some corrupted digits, and the first layer of both."""
    home = tmp_path_factory.mktemp("sensitivity-page")
    wanted = [("demo:jepa-tiny@layer1", "demo:photos"), ("demo:jepa-tiny@layer1", "demo:digits")]
    wanted += [("demo:jepa-tiny", f"corrupted:{dose}:demo:digits") for dose in DOSES]
    wanted += [("demo:jepa-tiny", "demo:photos"), ("demo:jepa-tiny", "demo:digits")]
    for encoder, dataset in wanted:
        score_dataset(RunRequest(encoder, dataset, per_class=6, device="cpu"), runs_dir=home / "runs")
    return home


@pytest.fixture(autouse=True)
def known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process measures a cost here."""
    cost = Cost(10.0, 2.0, "cpu", 60)
    monkeypatch.setattr(jobs, "estimates", lambda requests, **_: [Estimate(request, cost) for request in requests])
    monkeypatch.setenv("JEPASCORE_DEMO", "0")


@pytest.fixture
def on_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JEPASCORE_HOME", str(home))
    return home


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SensitivityRequest]]:
    """Requests that the page starts, none of which runs."""
    found: list[SensitivityRequest] = []
    monkeypatch.setattr(jobs, "start_sensitivity", lambda request, **_: found.append(request))
    yield found


def shown(run_of: str = "digits", **query: Any) -> AppTest:
    """The page on the clean run of one dataset."""
    run = next(run for run in store.list_runs() if not is_variant(run) and run.name.startswith(f"jepa-tiny-{run_of}"))
    labels = pickers.by_label([run for run in store.list_runs() if not is_variant(run)])
    label = next(label for label, one in labels.items() if one.name == run.name)
    return check(opened("Sensitivity", run=label, **query))


def figures(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def test_corruptions_are_drawn_beside_one_image_at_each_severity(on_home: Path):
    at = shown()
    (figure,) = figures(at)
    assert {"xaxis", "xaxis2"} <= figure["layout"].keys() and "xaxis3" not in figure["layout"]  # noise and blur
    first = next(trace for trace in figure["data"] if trace["name"] == "JEPA-SCORE" and len(trace["text"]) == 3)
    assert first["text"][0] == "clean image" and first["text"][2].startswith("noise 3")
    (gallery,) = galleries(at)
    assert [row["title"] for row in gallery["rows"]] == ["blur", "noise"]
    tiles = gallery["rows"][1]["cells"][0]
    assert [tile["badge"].split(" ")[0] for tile in tiles] == ["clean", "1", "3"]
    runs = [tile["id"].split("\n")[0] for tile in tiles]
    assert len(set(runs)) == 3 and runs[1].startswith("jepa-tiny-digits-noise-1-")
    assert len({tile["src"] for tile in tiles}) == 3
    said = words(at)
    assert "At the greatest severity JEPA\\-SCORE" in said and "60 images compared with themselves" in said
    assert "blur 5" in said and "noise 3" in said


def test_another_image_is_in_the_address(on_home: Path):
    at = shown()
    before = galleries(at)[0]["rows"][0]["cells"][0][0]["id"]
    at.button(key="another").click().run()
    after = galleries(check(at))[0]["rows"][0]["cells"][0][0]["id"]
    assert before != after and at.query_params["example"] in (after.split("\n")[1], [after.split("\n")[1]])
    again = shown(example=after.split("\n")[1])
    assert galleries(again)[0]["rows"][0]["cells"][0][0]["id"] == after
    assert galleries(shown(example="no such image"))[0]["rows"][0]["cells"][0][0]["id"] == before


def test_the_address_chooses_experiment_quantity_and_methods(on_home: Path):
    (figure,) = figures(shown(show="Mean change", methods=["Embedding norm"]))
    assert {trace["name"] for trace in figure["data"]} == {"Embedding norm"}
    assert figure["layout"]["yaxis"]["title"]["text"] == CHANGE.title
    at = shown(view="nonsense", methods=["magic"])
    assert "unknown" in words(at) and "view" in words(at) and len(figures(at)) == 1


def test_leaving_classes_out(on_home: Path):
    at = shown(view="Leave one class out", methods=["JEPA-SCORE", "k-NN distance"])
    (figure,) = figures(at)
    assert {trace["name"] for trace in figure["data"]} == {"JEPA-SCORE", "k-NN distance"}
    assert len(figure["data"][0]["text"]) == 11  # ten digits and the mean
    assert "**" in words(at) and "classes, higher in" in words(at) and not galleries(at)


def test_label_noise_shows_the_control(on_home: Path):
    at = shown(view="Label noise")
    (figure,) = figures(at)
    control = next(trace for trace in figure["data"] if "control" in trace["name"])
    assert control["line"]["color"] == CONTROL and len(control["text"]) == 5
    assert "does not see labels: it is the control" in words(at)


def test_layers_are_drawn_over_depth(on_home: Path):
    at = shown(view="Layers")
    auroc, means = figures(at)
    assert "layer 1 of 4" in auroc["data"][0]["text"] and "layer 4 of 4" in auroc["data"][0]["text"]
    assert [trace["name"] for trace in means["data"]] == ["digits", "photos"]
    assert "2 of 4 layers have been scored on both" in words(at)
    assert "Score 4 runs" in [button.label for button in at.button]  # layers 2 and 3 of both


def test_the_form_asks_for_what_is_missing(on_home: Path, started: list[SensitivityRequest]):
    at = shown()
    button = at.button(key="ask_start")
    assert button.label == "Score 17 runs" and not button.disabled
    assert "17 runs of 60 images" in words(at) and "at about 10 images/s" in words(at)
    at.number_input(key="ask_limit").set_value(5).run()
    assert at.button(key="ask_start").label == "Score 17 runs"
    at.button(key="ask_start").click().run()
    (request,) = started
    assert (request.experiment, request.limit) == ("corruptions", 5) and len(request.kinds) == 4
    assert store.open_run(request.run).meta["dataset"]["id"] == "demo:digits"


def test_layers_are_asked_for(on_home: Path, started: list[SensitivityRequest]):
    at = shown(view="Layers")
    at.button(key="ask_start").click().run()
    (request,) = started
    assert request.experiment == "layers" and store.open_run(request.out).meta["dataset"]["id"] == "demo:photos"


def test_a_job_scores_what_is_missing_and_says_what_it_does(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = next(run.name for run in store.list_runs(home / "runs") if run.name.startswith("jepa-tiny-photos-"))
    runs = store.runs_home(tmp_path / "runs")
    shutil.copytree(home / "runs" / name, runs / name)
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    request = SensitivityRequest(name, "corruptions", kinds=("jpeg",), severities=(2, 4), limit=2)
    job = jobs.start_sensitivity(request)
    assert live.title(job) == f"Corruptions of {name}"
    at = opened("Sensitivity")
    if ended_now(job) is None:
        assert "being scored now" in words(at)
    until = time.monotonic() + 60
    while ended_now(job) is None and time.monotonic() < until:
        time.sleep(0.2)
    assert ended_now(job) == "done"
    found = experiments.find_corrupted(store.open_run(name), store.list_runs())
    assert set(found) == {("jpeg", 2), ("jpeg", 4)} and {run.planned for run in found.values()} == {2}
    check(opened("Sensitivity"))


def ended_now(job: jobs.Job) -> str | None:
    """How a job ended, or None while it is at work."""
    now = next(one for one in jobs.list_jobs() if one.id == job.id)
    return None if now.active else now.state


def test_before_the_first_corrupted_run(on_home: Path):
    at = shown("photos")
    assert "No corrupted images have been scored yet" in words(at) and not figures(at)
    assert at.button(key="ask_start").label == "Score 20 runs"


def test_runs_that_an_experiment_is_not_made_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    dataset = TinyDataset(8, class_names=("", ""))
    run = score_work(tiny_work(store.runs_home(), dataset), Hooks(threading.Event()))
    assert "needs at least two classes" in words(check(opened("Sensitivity", view="Leave one class out")))
    assert "Label noise needs at least two classes" in words(check(opened("Sensitivity", view="Label noise")))
    assert "nothing to tell the images from" in words(check(opened("Sensitivity", view="Layers")))
    shutil.copytree(run.path, copy := run.path.with_name("copy-0123456789"))
    meta = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({name: value for name, value in meta.items() if name != "request"}))
    assert "cannot be scored layer by layer" in words(check(opened("Sensitivity", view="Layers")))  # demo:tiny is no id
    labels = pickers.by_label(store.list_runs())
    label = next(label for label, one in labels.items() if one.name == copy.name)
    at = check(opened("Sensitivity", run=label))
    assert "does not say what was asked for" in words(at) and at.button(key="ask_start").disabled


def test_corrupted_runs_do_not_crowd_other_pages(on_home: Path):
    family = pickers.latest_family(store.list_runs())
    assert {run.meta["dataset"]["id"] for run in family} == {"demo:digits", "demo:photos"}
    assert not any(map(is_variant, family))
    variants = [run for run in store.list_runs() if is_variant(run)]
    assert len(variants) == 5 and pickers.latest_family(variants)


def test_the_form_of_new_runs_corrupts_images(on_home: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[RunRequest] = []
    monkeypatch.setattr(jobs, "start", lambda request, **_: asked.append(request))
    at = check(opened("Score images"))
    at.pills(key="corruptions").set_value(["blur", "jpeg"]).run()
    at.pills(key="severities").set_value([1, 5]).run()
    next(button for button in check(at).button if button.label == "Start 5 runs").click().run()
    assert [request.dataset_id for request in asked] == [
        "demo:photos", "corrupted:blur:1:demo:photos", "corrupted:blur:5:demo:photos",
        "corrupted:jpeg:1:demo:photos", "corrupted:jpeg:5:demo:photos",
    ]  # fmt: skip


# Figures and words


TITLES = {"jepa_score": "JEPA-SCORE", "knn": "k-NN <b>"}


def findings(values: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    """One line for each method and value, with intervals of ± 0.05."""
    rows = [
        {"method": method, "auroc": value, "auroc_low": value - 0.05, "auroc_high": value + 0.05, "n": 9}
        | {"direction": "holds" if value > 0.55 else "inverted" if value < 0.45 else "undecided"}
        | {name: given[place] for name, given in columns.items()}
        for method, mine in values.items()
        for place, value in enumerate(mine)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def names_of(figure: Any) -> list[Any]:
    return [note for note in figure.layout.annotations if note.xref == "paper"]


def test_a_dose_begins_at_the_clean_image_and_names_do_not_collide():
    frame = findings({"jepa_score": [0.6, 0.7], "knn": [0.6, 0.701]}, severity=[1, 2], kind=["blur", "blur"])
    figure = dose_plot(frame, TITLES, AUROC, {"blur": ["a", "b", "c", "d", "e"]})
    assert list(figure.data[0].x) == [0, 1, 2] and list(figure.data[0].y) == [0.5, 0.6, 0.7]
    assert figure.data[1].name == "k-NN &lt;b&gt;" and "<b>" not in figure.data[1].name
    first, second = names_of(figure)
    assert abs(first.yshift - second.yshift) >= 14  # nearly equal ends
    low, high = figure.layout.yaxis.range
    assert low <= 0.35 and high >= 0.75  # no axis so short that noise looks like an effect


def test_an_effect_of_any_size_fits_on_the_axis():
    frame = findings({"jepa_score": [0.5]}, severity=[1], kind=["blur"])
    frame = frame.assign(change_sd=-7.0, change_sd_low=-8.0, change_sd_high=-6.0)
    low, high = dose_plot(frame, TITLES, CHANGE, {"blur": ["a"] * 5}).layout.yaxis.range
    assert low < -8 and high > 0


def test_classes_are_in_the_order_of_the_first_method():
    frame = findings({"jepa_score": [0.2, 0.9], "knn": [0.7, 0.6]}, class_name=["low", "<i>"], n_out=[5, 6])
    macro = findings({"jepa_score": [0.55], "knn": [0.65]}, classes=[2])
    figure = class_plot(frame, macro, TITLES)
    assert list(figure.layout.yaxis.ticktext) == ["<b>mean</b>", "&lt;i&gt;", "low"]
    assert "&lt;i&gt;, 6 images" in figure.data[0].text and "mean of 2 classes" in figure.data[0].text
    said = sensitivity_words.of_classes(frame, macro, TITLES)
    assert "**1 of 2** classes, higher in 1, and cannot be told apart in 0" in said and "highest, k\\-NN" in said


def test_a_control_is_grey_and_a_colour_belongs_to_a_method():
    assert method_colours(["control", "a", "b"], ["control"])["control"] == CONTROL
    assert method_colours(["a", "b"])["a"] == method_colours(["control", "a", "b"], ["control"])["a"]
    frame = findings({"jepa_score": [0.5, 0.5], "knn": [0.8, 0.7]}, share=[0.1, 0.3], wrong=[2.0, 5.0])
    figure = share_plot(frame, TITLES, ["jepa_score"])
    assert list(figure.data[0].x) == [10, 30] and figure.data[0].line.dash == "dot"
    assert sensitivity_words.of_labels(frame, TITLES, ["jepa_score"]).startswith("Of 30 % shuffled labels **k\\-NN")


def test_depth_says_where_and_whether_the_direction_changes():
    frame = findings(
        {"jepa_score": [0.2, 0.5, 0.7]}, layer=[1, 2, 4], mean_in=[1.0, 2.0, 3.0], mean_out=[1.5, 2.5, float("nan")]
    )
    figure = depth_plot(frame, TITLES, 4)
    assert list(figure.data[0].x) == [1, 2, 4] and list(figure.layout.xaxis.tickvals) == [1, 2, 3, 4]
    said = sensitivity_words.of_depth(frame, TITLES, ("in", "out"), 4)
    assert "layer 1 of 4" in said and "scores lower at layer 4, higher at layer 1" in said
    assert "3 of 4 layers" in said
    means = depth_means_plot(frame, ("in", "out"), ("#000000", "#111111"), 4)
    assert {note.text for note in names_of(means)} == {"<b>in</b>", "out"}

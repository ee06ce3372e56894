"""The pages on curation and readiness, on runs with known answers and on runs that cannot be measured."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import curating, curation, readiness, store
from jepascore_core.decision_plots import RULE_NAMES, curation_plot
from tests.runs_made import made_run
from tests.test_pages import HOSTILE, check, galleries, opened, words

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of one encoder, one with hostile names and copies, and runs that lack something."""
    folder = tmp_path_factory.mktemp("decide")
    runs, rng = folder / "runs", np.random.default_rng(0)
    y = np.arange(120) % 2
    x = (rng.normal(size=(2, 6))[y] * 2 + rng.normal(size=(120, 6))).astype(np.float32)
    x[110:114] = x[:4]
    made_run(runs, x, y, rng.normal(size=120), seed=1, class_names=HOSTILE)
    made_run(runs, x + 20, y, rng.normal(-4, 1, 120), seed=2)
    made_run(runs, rng.normal(size=(60, 6)).astype(np.float32), np.zeros(60, int), rng.normal(size=60), seed=3)
    made_run(runs, None, y[:40], rng.normal(size=40), seed=4)
    made_run(runs, x[:3], np.arange(3), rng.normal(size=3), seed=5)
    made_run(runs, x, y, rng.normal(size=120), seed=6, encoder="alone")
    return folder


@pytest.fixture
def on_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, store.Run]:
    """The runs by label."""
    monkeypatch.setenv("JEPASCORE_HOME", str(home))
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    return {run.label: run for run in store.list_runs()}


def plain(at: AppTest) -> str:
    """All words without the escapes of Markdown."""
    return words(at).replace("\\", "")


def figure(at: AppTest) -> dict:
    (chart,) = at.get("plotly_chart")
    return json.loads(chart.proto.spec)


def test_curation_says_what_the_command_says(on_home: dict[str, store.Run]):
    run = on_home["tiny · set1"]
    at = check(opened("Curation", run=run.label, splits="10"))
    searched = curating.search(run)
    among = curating.candidates(run, "raw", searched)
    found = curating.measure(among, searched, seeds=10)
    told = plain(at).replace("**", "")
    assert curation.verdict(found) in told
    assert curating.sentence_on_duplicates(among, searched) in told and "4 of 120 images repeat" in told
    names = {trace.get("name") for trace in figure(at)["data"]}
    assert {"random", "all images", *(RULE_NAMES[rule] for rule in curation.USUAL_RULES)} <= names
    assert "not another dataset" in told


def test_groups_of_duplicates_and_what_is_kept_are_shown_as_images(on_home: dict[str, store.Run]):
    run = on_home["tiny · set1"]
    at = check(opened("Curation", run=run.label, splits="10", share="10 %", kept_by="lowest"))
    copies, kept = galleries(at)
    assert [len(row["cells"][0]) for row in copies["rows"]] == [2] * 4
    assert all(row["note"].startswith("equal embeddings") for row in copies["rows"])
    frame = store.scores(run).set_index("key")["score"]
    mine, others = ({tile["id"].split("\n")[1] for tile in row["cells"][0]} for row in kept["rows"])
    assert len(mine) == 12 and frame[list(mine)].max() < frame[list(others)].median()
    assert mine & set(frame.nsmallest(5).index)
    assert "12 of 120 images are kept, lowest 10 %" in plain(at)
    assert {button.key for button in at.download_button} >= {"kept_txt", "kept_csv", "kept_parquet"}


def test_choices_of_the_address_are_followed(on_home: dict[str, store.Run]):
    query = {"scored_by": "Brightness", "rules": ["lowest", "highest per class"], "splits": "10", "copies": "all"}
    at = check(opened("Curation", run="tiny · set1", near="equal only", **query))
    told = plain(at)
    assert "chosen by mean brightness" in told and "120 images in 2 classes" in told
    assert "mean of 10 splits" in told and "cosine similarity from 1, as set" in told
    names = {trace.get("name") for trace in figure(at)["data"]}
    assert "lowest" in names and "highest per class" in names and "middle" not in names


def test_names_from_data_are_never_markup(on_home: dict[str, store.Run]):
    at = check(opened("Curation", run="tiny · set1", splits="10"))
    assert "<script>" not in json.dumps(figure(at)) and "<script>" not in words(at).replace("\\<script\\>", "")


@pytest.mark.parametrize("page", ["Curation", "Readiness"])
def test_what_means_nothing_in_the_address_is_the_usual(page: str, on_home: dict[str, store.Run]):
    wrong = dict.fromkeys(("run", "scored_by", "rules", "splits", "near", "copies", "kept_by", "share", "beside"), "?")
    check(opened(page, **wrong))
    check(opened(page, **dict.fromkeys(wrong, "")))


@pytest.mark.parametrize(
    ("label", "reason", "shown"),
    [
        ("tiny · set3", "These images have one class only", 1),
        ("tiny · set4", "tiny · set4 holds no embeddings, so that no probe can be fitted", 1),
        ("tiny · set5", "Too few images to hold some out: 3 without duplicates", 1),
    ],
)
def test_what_cannot_be_measured_is_said_and_the_rest_is_shown(
    label: str, reason: str, shown: int, on_home: dict[str, store.Run]
):
    at = check(opened("Curation", run=label))
    assert f"Nothing can be measured here.** {reason}" in plain(at)
    assert not at.get("plotly_chart") and len(galleries(at)) == shown
    assert "are kept" in plain(at)


def test_a_score_that_a_run_lacks_is_the_raw_one(on_home: dict[str, store.Run]):
    at = check(opened("Curation", run="tiny · set4", scored_by="Corrected"))
    assert "The raw score is used." in plain(at)


def test_the_figure_marks_what_differs_from_random():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = (np.array([[-3.0], [3.0]])[y] + rng.normal(size=(300, 1))).astype(np.float32)
    keys = [str(i) for i in range(300)]
    images = curation.Images(keys, "test", y, ("a", "b"), x[:, 0].astype(float), x, np.arange(300))
    found = curation.run_trials(images, rules=("top",), fractions=(0.1, 0.75), seeds=10)
    drawn = curation_plot(found)
    (linear, _) = (trace for trace in drawn.data if trace.name == "highest")
    assert list(linear.marker.symbol) == ["circle", "circle-open"] and found.of("top", "linear")[0].found == "worse"
    assert linear.error_y.array[0] == pytest.approx(
        100 * (found.outcomes[1].difference_high - found.outcomes[1].difference) if found.outcomes[1].control else
        100 * (found.of("top", "linear")[0].difference_high - found.of("top", "linear")[0].difference)
    )  # fmt: skip
    random = next(trace for trace in drawn.data if trace.name == "random")
    assert list(random.y) == pytest.approx([100 * one.accuracy for one in found.of("random", "linear")])


def test_readiness_says_what_the_command_says(on_home: dict[str, store.Run]):
    at = check(opened("Readiness", run="tiny · set2", beside=["set1"]))
    found = readiness.assess(on_home["tiny · set2"], [on_home["tiny · set1"]])
    told = plain(at)
    assert all(part in told for part in readiness.sentences(found))
    assert "set2 differs measurably from set1" in told and "Its classes lie apart" in told
    assert len(at.get("plotly_chart")) == 1 and "ready" not in told.lower().replace("readiness", "")
    beside, within = (pd.DataFrame(table.value) for table in at.table)
    assert beside["coverage"].iloc[0].startswith("0.00") and beside["scores lie"].iloc[0] == "lower"
    assert within["images"].iloc[0] == "120"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("tiny · set3", "It has one class only"),
        ("tiny · set4", "no embeddings"),
        ("tiny · set5", "Too few labelled images"),
    ],
)
def test_readiness_says_what_a_domain_lacks(label: str, reason: str, on_home: dict[str, store.Run]):
    at = check(opened("Readiness", run=label, beside=["set1", "set2"]))
    assert reason in plain(at) and "nan" not in plain(at)


def test_readiness_takes_references_of_the_same_encoder_only(on_home: dict[str, store.Run]):
    at = check(opened("Readiness", run="alone · set6"))
    assert at.selectbox(key="run").value != "alone · set6"
    assert not {"set6"} & set(at.multiselect(key="beside").options)


def test_readiness_without_a_reference_is_calm(on_home: dict[str, store.Run]):
    at = opened("Readiness", run="tiny · set2")
    at.multiselect(key="beside").set_value([]).run()
    assert "Choose at least one reference above." in words(check(at))


def test_corrected_scores_are_not_compared(on_home: dict[str, store.Run]):
    at = check(opened("Readiness", run="tiny · set2", beside=["set1"], score="Corrected"))
    assert "rest on two Gaussians" in plain(at) and "Score: raw" in plain(at)


def test_one_dataset_an_encoder_has_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path))
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    made_run(tmp_path / "runs", np.eye(4, dtype=np.float32), np.arange(4) % 2, np.arange(4.0))
    assert "No encoder has scored two datasets yet" in words(check(opened("Readiness")))

"""Eq. (4) over the first t views: known answers, and what a real run keeps."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from jepascore_core import store, views
from jepascore_core.runner import Hooks, score_work
from jepascore_core.score import jepa_score, views_score
from jepascore_core.view_policy import POLICY
from jepascore_core.views_plots import ranking_plot, settling_plot
from tests.tiny import TinyDataset, tiny_work

DICE = np.random.default_rng(0)
SCORES = DICE.normal(size=(80, 1)) * 3 + DICE.normal(size=(80, 12))  # nats


def test_one_view_is_eq_5_exactly() -> None:
    estimates = views.running_estimates(SCORES)
    np.testing.assert_array_equal(estimates[:, 0], SCORES[:, 0])
    assert (views.running_estimates(SCORES[:, :1]) == SCORES[:, :1]).all()


def test_each_column_is_eq_4() -> None:
    estimates = views.running_estimates(SCORES)
    for t in (2, 5, 12):
        np.testing.assert_allclose(estimates[:, t - 1], views_score(torch.from_numpy(SCORES[:, :t])), rtol=1e-12)
    np.testing.assert_allclose(estimates[:, 2], -np.log(np.exp(-SCORES[:, :3]).mean(axis=1)))


def test_it_does_not_overflow() -> None:
    np.testing.assert_allclose(views.running_estimates(np.array([[-3000.0, 3000.0]])), [[-3000, np.log(2) - 3000]])


@pytest.mark.parametrize("shape", [(3,), (3, 0)])
def test_what_holds_no_view_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="T at least 1"):
        views.running_estimates(np.zeros(shape))


def test_effective_views_count_those_that_weigh() -> None:
    got = views.effective_views(np.array([[1.0, 1.0, 1.0, 1.0], [-1000.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(got, [4, 1])


def test_settling_ends_at_zero_and_holds_its_median() -> None:
    frame = views.settling(SCORES)
    estimates = views.running_estimates(SCORES)
    np.testing.assert_allclose(frame["median"], np.median(np.abs(estimates - estimates[:, -1:]), axis=0))
    assert frame.iloc[-1].drop("t").eq(0).all() and list(frame["t"]) == list(range(1, 13))
    for inner in ("low", "median_low"):
        assert (frame[inner] <= frame["median"]).all() and (
            frame["median"] <= frame[inner.replace("low", "high")]
        ).all()


def test_ranking_is_spearmans() -> None:
    frame = views.ranking(SCORES)
    estimates = views.running_estimates(SCORES)
    for t in (1, 4, 12):
        assert frame["first"][t - 1] == pytest.approx(spearmanr(estimates[:, t - 1], estimates[:, -1]).statistic)
    assert frame["first"].iloc[-1] == pytest.approx(1)
    assert frame["disjoint"].notna().tolist() == [True] * 6 + [False] * 6
    assert (frame["disjoint"].dropna() < frame["first"][:6]).all()  # sharing views flatters
    assert (frame["first_low"] <= frame["first"] + 1e-9).all() and (frame["first"] <= frame["first_high"] + 1e-9).all()


def test_disjoint_sets_of_views_of_pure_noise_agree_on_nothing() -> None:
    frame = views.ranking(np.random.default_rng(1).normal(size=(400, 8)))
    assert frame["disjoint"].abs().max() < 0.15 and frame["first"][3] > 0.5


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Two views of one signal: the correlation of their ranks over a population is known from a large sample."""
    dice = np.random.default_rng(2)

    def draw(n: int) -> np.ndarray:
        return dice.normal(size=(n, 1)) + dice.normal(size=(n, 2))

    truth = views.ranking(draw(20_000))["disjoint"][0]
    frames = [views.ranking(draw(100)) for _ in range(60)]
    covered = np.mean([frame["disjoint_low"][0] <= truth <= frame["disjoint_high"][0] for frame in frames])
    assert covered > 0.85


def test_two_images_have_no_ranking() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        views.ranking(SCORES[:2])


def test_moves_are_percentile_points() -> None:
    moved = views.moves(np.array([[1.0, 1.0], [2.0, -9.0], [3.0, 3.0], [4.0, 4.0]]))
    assert moved["one"].tolist() == [12.5, 37.5, 62.5, 87.5]
    assert moved["move"].tolist() == [25, -25, 0, 0]


@pytest.mark.parametrize("plot,frame", [(settling_plot, views.settling(SCORES)), (ranking_plot, views.ranking(SCORES))])
def test_figures_mark_eq_5(plot, frame) -> None:
    figure = plot(frame)
    assert any(annotation.text == "eq. (5)" for annotation in figure.layout.annotations)
    assert list(figure.layout.xaxis.tickvals) == [1, 2, 4, 8, 12]


def test_a_run_keeps_the_score_of_every_view(tmp_path: Path) -> None:
    run = score_work(tiny_work(tmp_path, TinyDataset(9, bad=(3,)), views=4), Hooks(threading.Event()))
    keys, scores = store.view_scores(run)
    stored = store.scores(run).set_index("key")["score"]
    assert scores.shape == (8, 4) and run.meta["view_policy"] == POLICY
    np.testing.assert_allclose(views.running_estimates(scores)[:, -1], stored[keys], rtol=1e-12)
    _, sigma = store.spectra(run, keys=keys)
    np.testing.assert_allclose(
        scores[:, 0], jepa_score(torch.from_numpy(sigma)), atol=1e-5
    )  # view 0 is the plain image
    assert len(store.view_scores(run, limit=2)[0]) == 2


def test_a_run_of_one_view_is_eq_5_exactly(tmp_path: Path) -> None:
    run = score_work(tiny_work(tmp_path, TinyDataset(6), precision="float64"), Hooks(threading.Event()))
    _, sigma = store.spectra(run, keys=list(store.scores(run)["key"]))
    np.testing.assert_allclose(store.scores(run)["score"], jepa_score(torch.from_numpy(sigma)), atol=1e-5)
    keys, scores = store.view_scores(run)
    assert keys == [] and scores.shape == (0, 0) and "view_policy" not in run.meta

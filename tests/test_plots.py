"""Figures, pictures and separation: known answers, one colour a dataset, no markup from data."""

import numpy as np
import pandas as pd
import pytest

from jepascore_core import plots, walk_plots
from jepascore_core.pictures import common_scale, leverage_picture, vector_picture
from jepascore_core.plane import principal_plane
from jepascore_core.separation import separation

HOSTILE = '<img src=x onerror=alert(1)> "cat" & <b>dog</b>'


def test_a_dataset_keeps_its_colour_whatever_else_there_is():
    alone = plots.dataset_colours(["demo:digits"])
    crowd = plots.dataset_colours(["folder:/b", "demo:photos", "folder:/a", "demo:digits"])
    assert alone["demo:digits"] == crowd["demo:digits"] == "#E08A1E"
    assert crowd["demo:photos"] == "#2F6FDE"
    assert len(set(crowd.values())) == len(crowd)


def test_spectrum_is_the_logarithm_and_leaves_out_null_directions():
    band = pd.DataFrame({"k": [1, 2, 3], "low": [1.0, 0.5, 0], "median": [2.0, 1.0, 0], "high": [3.0, 2.0, 0]})
    figure = plots.spectrum_plot(band, {HOSTILE: [np.e, 1.0, 1e-9]}, band_name=HOSTILE, null_dim=1)
    line = figure.data[-1]
    np.testing.assert_allclose(line.y, [1, 0])
    assert len(figure.data[1].x) == 2
    assert "<img" not in line.name + figure.data[1].name + line.hovertemplate


def test_spectrum_without_a_band_and_with_zeros_draws():
    figure = plots.spectrum_plot(None, {"x": [1.0, 0.0]}, band_name="none")
    assert np.isnan(figure.data[0].y[1])


def test_movement_shows_both_curves_where_the_slider_stands():
    path = pd.DataFrame({"alpha": [-1.0, 0, 1], "movement": [2.0, 0, 2], "score": [np.nan, -3.0, np.nan]})
    figure = walk_plots.movement_plot(path, 0.5)
    assert [list(trace.x) for trace in figure.data] == [[-1, 0, 1]] * 2
    assert figure.layout.shapes[0].x0 == 0.5


def test_the_path_starts_hollow_and_stands_where_the_slider_is():
    path = np.array([[0.0, 0], [1, 1], [2, 0]])
    alphas = np.array([-1.0, 0, 1])
    figure = walk_plots.path_plot(np.zeros((0, 2)), path, alphas, 0.9, ("first", "second"))
    start, here = figure.data[2:]
    assert (start.x[0], here.x[0]) == (1, 2) and figure.layout.xaxis.title.text == "first"
    assert [note.text for note in figure.layout.annotations] == ["<b>−α</b>", "<b>+α</b>"]


def test_the_principal_plane_is_that_of_the_widest_directions():
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1, 3, 0.1, 2] + 5
    plane = principal_plane(z)
    np.testing.assert_allclose(np.abs(plane.directions).argmax(axis=1), [1, 3])
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-12)
    variance = np.sort(np.linalg.eigvalsh(np.cov(z.T)))[::-1]
    np.testing.assert_allclose(plane.share, variance[:2] / variance.sum())
    np.testing.assert_allclose(plane.project(z).var(axis=0), variance[:2] * 499 / 500)
    line = np.outer([-1.0, 0, 1], plane.directions[0])
    assert plane.held(line) == pytest.approx(1) and plane.held(np.outer([0, 1], [0, 0, 1, 0])) < 0.1
    assert np.isnan(plane.held(np.zeros((3, 4))))


def test_a_plane_of_one_dimension_or_one_embedding_is_flat():
    assert principal_plane(np.array([[1.0], [3.0]])).project(np.array([[2.0], [4.0]])).tolist() == [[0, 0], [2, 0]]
    assert principal_plane(np.ones((1, 3))).share.tolist() == [0, 0]
    with pytest.raises(ValueError, match="plane"):
        principal_plane(np.zeros((0, 3)))


def test_zero_is_mid_grey_and_signs_mirror():
    picture = vector_picture(np.array([[[0.0, 1, -1, 9]]]), 1.0)
    assert picture[0, :, 0].tolist() == [128, 255, 0, 255]
    assert picture.shape == (1, 4, 3)


def test_scale_ignores_one_hot_pixel():
    vectors = np.full((2, 3, 20, 20), 0.1)
    vectors[0, 0, 0, 0] = 50
    assert common_scale(vectors) == pytest.approx(0.1)


def test_leverage_is_amber_where_the_volume_is():
    picture = leverage_picture(np.full((8, 8, 3), 128, np.uint8), np.array([[1.0, 0], [0, 0]]))
    hot, cold = picture[1, 1].astype(int), picture[6, 6].astype(int)
    assert hot[0] - hot[2] > 150
    assert cold[0] == cold[1] == cold[2]


def test_separation_of_disjoint_equal_and_mirrored_sets():
    far = separation([3.0, 4, 5], [0.0, 1, 2])
    assert (far.auroc, far.ks, far.direction) == (1.0, 1.0, "lower")
    assert separation([0.0, 1, 2], [3.0, 4, 5]).direction == "higher"
    same = separation([1.0, 2, 3], [1.0, 2, 3])
    assert (same.auroc, same.ks, same.direction) == (0.5, 0.0, "not separated")


def test_separation_agrees_with_scikit_learn_and_scipy():
    from scipy.stats import ks_2samp
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(1)
    a, b = draw.normal(0, 1, 200).round(1), draw.normal(0.4, 2, 150).round(1)  # rounded: ties
    found = separation(a, b)
    truth = np.r_[np.ones(200), np.zeros(150)]
    assert found.auroc == pytest.approx(roc_auc_score(truth, np.r_[a, b]))
    assert found.ks == pytest.approx(ks_2samp(a, b).statistic)


@pytest.mark.parametrize("digits", [0, 1, 6])  # many ties, some, none
def test_the_interval_is_delongs(digits):
    draw = np.random.default_rng(3)
    a, b = draw.normal(0, 1, 40).round(digits), draw.normal(0.5, 2, 25).round(digits)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)  # every pair, as DeLong (1988) writes it
    variance = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 25
    found = separation(a, b)
    assert found.auroc == pytest.approx(wins.mean())
    assert found.high - found.auroc == pytest.approx(1.959964 * np.sqrt(variance))
    assert found.auroc - found.low == pytest.approx(1.959964 * np.sqrt(variance))


def test_interval_covers_the_true_auroc_about_as_often_as_it_says():
    draw, truth, hits = np.random.default_rng(2), 0.7602, 0  # Φ(1/√2) for unit normals one apart
    for _ in range(300):
        found = separation(draw.normal(1, 1, 80), draw.normal(0, 1, 80))
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 300 <= 0.99


def test_separation_needs_two_of_each():
    with pytest.raises(ValueError, match="two scores"):
        separation([1.0], [1.0, 2.0])

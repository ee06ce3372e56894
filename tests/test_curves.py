"""Curves of scores: their maths against numpy and scipy, what a figure of them holds, and names that cross nothing."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jepascore_core import distribution_plots as plots
from jepascore_core.curve_labels import HALF_LINE_PX, HEIGHT_PX, WIDTH_PX, half_width_px
from jepascore_core.curves import (
    Curve,
    Span,
    between,
    bin_counts,
    bin_edges,
    evenly,
    fair_shares,
    finite,
    kernel_density,
    lowest,
    quantile,
)
from jepascore_core.plots import SCORE_AXIS

HOSTILE = '<img src=x onerror=alert(1)> "cat" & <b>dog</b>'
SHAPES = list(plots.SHAPES.values())
NAMED = [plots.density_plot, plots.histogram_plot, plots.ecdf_plot]
BLUE, AMBER = "#2F6FDE", "#E08A1E"
values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60).map(lambda x: np.sort(np.array(x)))


def curve(name: str, x: np.ndarray, panel: str = "encoder", scale: str = "", dots: int = 10_000) -> Curve:
    ranks = evenly(len(x), dots)
    keys = [f"{name}/{rank}" for rank in ranks]
    return Curve(panel, scale or panel, name, BLUE, "r", np.sort(np.asarray(x, float)), ranks, keys)


def demo_like() -> list[Curve]:
    """Like the demo's sets: one curve lies on another at the right, two narrow ones stand at the left."""
    draw = np.random.default_rng(0)
    sets = {
        "photos": np.concatenate([draw.normal(-42, 6, 200), draw.normal(-60, 12, 100)]),
        "digits": draw.normal(-62, 2.6, 300),
        "galaxies": np.concatenate([draw.normal(-73, 2.2, 330), draw.normal(-60, 9, 70)]),
        "histology": np.concatenate([draw.normal(-52, 3.5, 140), draw.normal(-40, 4, 120)]),
    }
    return [curve(name, x) for name, x in sets.items()]


@given(values, st.floats(0, 1))
def test_quantiles_are_numpys(x, share):
    assert quantile(x, share) == pytest.approx(np.quantile(x, share), rel=1e-9, abs=1e-9)


def test_no_scores_have_no_quantile():
    assert np.isnan(quantile(np.zeros(0), 0.5))


@given(values, st.integers(1, 30))
def test_bins_hold_what_numpy_says(x, bins):
    edges = np.linspace(x[0] - 0.5, x[-1], bins + 1)
    np.testing.assert_array_equal(bin_counts(x, edges), np.histogram(x, edges)[0])


def test_bins_cover_all_scores_also_equal_ones():
    for x in (np.array([2.0]), np.array([3.0, 3, 3]), np.arange(100.0)):
        edges = bin_edges([curve("a", x)])
        assert bin_counts(x, edges).sum() == len(x)
        assert 8 <= len(edges) - 1 <= 80


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(1, 400))
def test_dots_are_divided_fairly(sizes, most):
    shares = fair_shares(sizes, most)
    assert all(1 <= share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) == min(max(most, len(sizes)), sum(sizes))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not cut or max(shares) - min(cut) <= 1  # nobody gets more than who was cut


def test_ranks_are_even_and_hold_both_ends():
    ranks = evenly(1_000_001, 11)
    assert ranks.tolist() == list(range(0, 1_000_001, 100_000))
    assert evenly(3, 11).tolist() == [0, 1, 2]


def test_ranges_hold_both_ends_and_only_numbers():
    scores = np.array([-np.inf, 1, 2, 2, 3, np.inf, np.nan])
    assert scores[finite(scores)].tolist() == [1, 2, 2, 3]
    assert between(scores[1:5], 2, 3) == slice(1, 4) and between(scores[1:5], 5, 9) == slice(4, 4)


@given(st.lists(values, min_size=1, max_size=4), st.floats(0, 1))
def test_the_lowest_share_is_that_of_all_images_together(parts, share):
    together = np.sort(np.concatenate(parts))
    at = lowest([curve(str(i), x) for i, x in enumerate(parts)], share)
    assert at == together[max(1, int(np.ceil(share * len(together)))) - 1]


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60).map(sorted))
@example([683.4017782393746] * 3)  # whose standard deviation is rounding
@settings(max_examples=40, deadline=None)
def test_density_integrates_to_one(x):
    grid, density = kernel_density(np.array(x), x[0], x[-1])
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.03)


def test_density_is_that_of_scipy():
    from scipy.stats import gaussian_kde

    x = np.sort(np.random.default_rng(0).normal(-20, 2, 500))
    grid, density = kernel_density(x, x[0], x[-1])
    spread = min(x.std(), np.subtract(*np.percentile(x, [75, 25])) / 1.349)
    expected = gaussian_kde(x, 0.9 * spread * len(x) ** -0.2 / x.std(ddof=1))(grid)
    np.testing.assert_allclose(density, expected, atol=0.01 * expected.max())


@pytest.mark.parametrize("shape", SHAPES)
def test_dots_name_their_images(shape):
    curves = demo_like()
    dots = [trace for trace in shape(curves).data if trace.mode == "markers"]
    named = {(trace.legendgroup, key): x for trace in dots for key, x in zip(trace.customdata, trace.x, strict=True)}
    assert named == {("r", key): c.scores[rank] for c in curves for key, rank in zip(c.keys, c.ranks, strict=True)}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_figure_does_not_grow_with_images(shape):
    draw = np.random.default_rng(0)
    small, large = (
        shape([curve(f"class {i}", draw.normal(i, 2, n), dots=75) for i in range(40)]).to_json()
        for n in (1_000, 40_000)
    )
    assert len(large) < 1.2 * len(small) and len(large) < 1e6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x", [[1.0], [2.0, 2.0, 2.0], [-1e9, 1e9], list(range(9000))], ids=len)
def test_odd_samples_draw(shape, x):
    figure = shape([curve("a", np.array(x))])
    drawn = [trace for trace in figure.data if trace.name != "median"]
    assert drawn and all(np.isfinite(np.asarray(trace.y, float)).all() for trace in drawn)
    assert json.loads(figure.to_json())


@pytest.mark.parametrize("shape", SHAPES)
def test_encoders_get_panels_of_their_own(shape):
    here = demo_like()
    other = [curve(c.name, c.scores * 100, "another") for c in here]
    figure = shape([*here, *other])
    assert figure.layout.xaxis2.title.text == SCORE_AXIS and figure.layout.yaxis.range[1] > 0
    assert figure.layout.xaxis.range != figure.layout.xaxis2.range  # scores of two encoders share no scale
    assert {"<b>encoder</b>", "<b>another</b>"} <= {note.text for note in figure.layout.annotations}


@pytest.mark.parametrize("shape", SHAPES)
def test_panels_of_one_encoder_share_their_range(shape):
    here = demo_like()
    other = [curve(c.name, c.scores - 40, "another", "encoder") for c in here]
    figure = shape([*here, *other])
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range
    low, high = figure.layout.xaxis.range
    assert low < min(c.scores[0] for c in other) and high > max(c.scores[-1] for c in here)


@pytest.mark.parametrize("shape", SHAPES)
def test_names_from_data_are_not_markup(shape):
    figure = shape([curve(HOSTILE, np.arange(5.0), HOSTILE), curve(HOSTILE, np.arange(5.0), "b")])
    visible = [note.text for note in figure.layout.annotations] + [str(trace.name) for trace in figure.data]
    visible += [str(trace.hovertemplate) for trace in figure.data] + [str(t) for x in figure.data for t in x.text or ()]
    visible += [text for axis in figure.select_yaxes() for text in axis.ticktext or ()]
    assert not any("<img" in text or "<b>dog" in text for text in visible)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_brush_is_marked_in_its_panel(shape):
    curves = [*demo_like(), curve("b", np.arange(50.0), "another")]
    (mark,) = shape(curves, brush=Span(1, 3.0, 4.5)).layout.selections
    assert (mark.x0, mark.x1, mark.xref, mark.yref) == (3.0, 4.5, "x2", "y2")
    assert not shape(curves, brush=Span(2, 3.0, 4.5)).layout.selections  # there is no third panel
    assert not shape(curves).layout.selections


def test_a_dot_stays_where_it_is_when_others_arrive():
    def heights(n):
        (trace,) = [trace for trace in plots.ridgeline_plot([curve("a", np.arange(n))]).data if trace.mode == "markers"]
        return dict(zip(trace.customdata, trace.y, strict=True))

    few, many = heights(20), heights(60)
    assert len(set(few.values())) == 20
    assert all(many[key] == y for key, y in few.items())


def test_ridges_stand_in_the_order_of_the_first_panels_medians():
    first = [curve("low", [0.0, 1, 2]), curve("high", [5.0, 6, 9]), curve("middle", [2.0, 3, 4])]
    second = [curve("low", [7.0, 8, 9], "b"), curve("high", [1.0, 2, 3], "b")]
    figure = plots.ridgeline_plot([*first, *second])
    for axis, names in ((figure.layout.yaxis, ["high", "middle", "low"]), (figure.layout.yaxis2, ["high", "low"])):
        assert list(axis.tickvals) == list(range(len(names) - 1, -1, -1))
        assert all(f">{name}<" in text for name, text in zip(names, axis.ticktext, strict=True))
    marks = next(trace for trace in figure.data if trace.name == "median")
    assert [x for x in marks.x if x is not None] == [6, 6, 3, 3, 1, 1]
    ridges = [trace for trace in figure.data if trace.mode == "lines" and trace.name != "median"]
    assert [max(trace.y) - min(trace.y) for trace in ridges] == pytest.approx([0.86] * 5, abs=0.01)  # equally high


def test_curves_of_one_colour_differ_by_their_dashes():
    curves = [curve(str(i), np.arange(9.0) + i) for i in range(3)]  # all blue
    figure = plots.density_plot([*curves, curve("b", np.arange(9.0), "another")])
    assert [trace.line.dash for trace in figure.data if trace.mode == "lines"] == ["solid", "dash", "dot", "solid"]


def boxes(figure) -> list[tuple[float, float, float, str]]:
    """Middle and half width of each name, in px of a panel of the least size."""
    left, right = figure.layout.xaxis.range
    up, along = HEIGHT_PX / (figure.layout.yaxis.range[1] / 1.03), WIDTH_PX / (right - left)
    found = []
    for note in figure.layout.annotations:
        name = note.text.removeprefix("<b>").removesuffix("</b>")
        half = half_width_px(name)
        aside = {"center": 0, "left": half, "right": -half}[note.xanchor]
        found.append(((note.x - left) * along + note.xshift + aside, note.y * up + note.yshift, half, name))
    return found


def assert_clear(figure, *, of_curves: bool = True) -> None:
    """No name covers another, leaves the panel, or is crossed by a curve."""
    left, right = figure.layout.xaxis.range
    up, along = HEIGHT_PX / (figure.layout.yaxis.range[1] / 1.03), WIDTH_PX / (right - left)
    placed = boxes(figure)
    for (x, y, half, name), (u, v, other_half, other) in combinations(placed, 2):
        assert abs(x - u) >= half + other_half or abs(y - v) >= 2 * HALF_LINE_PX, (name, other)
    for x, y, half, name in placed:
        assert half <= x <= WIDTH_PX - half and y <= HEIGHT_PX - HALF_LINE_PX, name
        for trace in figure.data if of_curves else ():
            if trace.mode == "lines":
                at = np.linspace(x - half, x + half, 200)
                px = np.interp(at, (np.asarray(trace.x) - left) * along, np.asarray(trace.y) * up, left=0, right=0)
                assert not np.any(abs(px - y) < HALF_LINE_PX - 2), (name, trace.name)


@pytest.mark.parametrize("shape", NAMED)
def test_names_cross_no_curve_though_one_lies_on_another(shape):
    assert_clear(shape(demo_like()))


@pytest.mark.parametrize("shape", [plots.density_plot, plots.histogram_plot])
@pytest.mark.parametrize("n", [3, 8])
def test_names_of_close_peaks_do_not_overlap(shape, n):
    figure = shape([curve(f"class {i}", np.random.default_rng(i).normal(0, 1, 300)) for i in range(n)])
    assert len(boxes(figure)) == n
    assert_clear(figure, of_curves=False)
    top = max(max(trace.y) for trace in figure.data)
    assert top < figure.layout.yaxis.range[1] <= 3 * top


def test_a_long_name_is_cut_where_it_is_written_and_whole_where_it_is_told():
    name = "a class with a name that no chart has room for"
    figure = plots.density_plot([curve(name, np.arange(30.0))])
    assert figure.layout.annotations[0].text == "<b>a class with a name that no…</b>"
    assert any(name in str(trace.hovertemplate) for trace in figure.data)

"""Figures: DataFrame in, Plotly figure out. One visual language for every page.

Text colours are left to the page's theme; curves carry the fixed colours of datasets. Text that comes from
data is escaped, because Plotly reads some HTML in labels.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray
from plotly.subplots import make_subplots

LEAST, MOST = "#D9541E", "#2F6FDE"
LEVERAGE = "#F2A60C"
DATASET_COLOURS = ("#2F6FDE", "#E08A1E", "#A24FC8", "#1E9E7A", "#56B4E9", "#B8566B", "#8C7A2E", "#6B7F99")
DEMO_ORDER = ("demo:photos", "demo:digits", "demo:galaxies", "demo:histology")
GRID = "rgba(128,130,136,0.18)"
MUTED = "#85878D"
FONT = "Inter, sans-serif"
SCORE_AXIS = "JEPA-SCORE (nats), higher is likelier →"
_PLOT_PX = 200  # height of a panel between its axis and its highest curve, about
_LEAST_WIDTH = 1e-3  # nats; scores that differ by less, or by rounding alone, are one peak
MAX_DOTS = 4000  # dots of one curve's strip; more would only overprint


class Label(NamedTuple):
    """Name of a curve, and the point that it names; ``side`` is where the name stands."""

    name: str
    colour: str
    x: float
    y: float
    side: str = "above"


def dataset_colours(dataset_ids: Sequence[str]) -> dict[str, str]:
    """Give each dataset its colour: the demo sets always the same, the others in order of name.

    Args:
        dataset_ids: Ids of all datasets that have a run, in any order.

    Returns:
        Hex colour by dataset id.
    """
    others = sorted(set(dataset_ids) - set(DEMO_ORDER))
    known = {name: DATASET_COLOURS[i] for i, name in enumerate(DEMO_ORDER)}
    free = DATASET_COLOURS[len(DEMO_ORDER) :] + DATASET_COLOURS[: len(DEMO_ORDER)]
    return known | {name: free[i % len(free)] for i, name in enumerate(others)}


def density_plot(scores: pd.DataFrame, colours: Mapping[str, str], *, dots: bool = True) -> go.Figure:
    """Smoothed score densities, one panel per encoder, each image a dot beneath its curve (paper Fig. 3).

    Args:
        scores: Columns ``panel`` (title), ``scale`` (encoder: panels with one scale share their range), ``curve``
            (label), ``key``, ``run`` and ``score`` (nats).
        colours: Hex colour by curve.
        dots: Draw the strip of dots, which is what a click or a brush selects.

    Returns:
        The figure; customdata of a dot is (run, key).
    """
    figure = _panels(scores)
    for row, (_, panel) in enumerate(scores.groupby("panel", sort=False), start=1):
        low, high = panel["score"].min(), panel["score"].max()
        labels = []
        for curve, part in panel.groupby("curve", sort=False):
            x, y = kernel_density(part["score"], low, high)
            labels.append(_add_curve(figure, row, str(curve), colours[str(curve)], x, y, fill=True))
        _add_labels(figure, row, labels)
        if dots:
            _add_strips(figure, row, panel, colours)
    figure.update_yaxes(title_text="density (1/nat)", showticklabels=False)
    return _share_ranges(figure, scores)


def histogram_plot(scores: pd.DataFrame, colours: Mapping[str, str], *, dots: bool = True) -> go.Figure:
    """Score histograms on shared bins, one panel per encoder; arguments as ``density_plot``.

    Args:
        scores: Columns ``panel``, ``scale``, ``curve``, ``key``, ``run`` and ``score`` (nats).
        colours: Hex colour by curve.
        dots: Draw the strip of dots.

    Returns:
        The figure; the y axis is the share of each curve's images in a bin.
    """
    figure = _panels(scores)
    for row, (_, panel) in enumerate(scores.groupby("panel", sort=False), start=1):
        edges = np.histogram_bin_edges(panel["score"], bins=int(np.clip(np.sqrt(len(panel)) * 1.6, 8, 80)))
        labels = []
        for curve, part in panel.groupby("curve", sort=False):
            counts, _ = np.histogram(part["score"], edges)
            share = np.concatenate([[0.0], np.repeat(100 * counts / len(part), 2), [0.0]])
            outline = np.repeat(edges, 2)
            labels.append(_add_curve(figure, row, str(curve), colours[str(curve)], outline, share, fill=True))
        _add_labels(figure, row, labels)
        if dots:
            _add_strips(figure, row, panel, colours)
    figure.update_yaxes(title_text="images (%)")
    return _share_ranges(figure, scores)


def ecdf_plot(scores: pd.DataFrame, colours: Mapping[str, str], *, dots: bool = True) -> go.Figure:
    """Empirical distribution functions, one panel per encoder; arguments as ``density_plot``.

    Args:
        scores: Columns ``panel``, ``scale``, ``curve``, ``key``, ``run`` and ``score`` (nats).
        colours: Hex colour by curve.
        dots: Draw the strip of dots.

    Returns:
        The figure; the y axis is the share of images below a score.
    """
    figure = _panels(scores)
    for row, (_, panel) in enumerate(scores.groupby("panel", sort=False), start=1):
        labels = []
        order = panel.groupby("curve")["score"].median().sort_values().index  # names go up the curves one by one
        for place, curve in enumerate(order, start=1):
            x = np.sort(panel.loc[panel["curve"] == curve, "score"].to_numpy())
            y = 100 * np.arange(1, len(x) + 1) / len(x)
            keep = np.unique(np.linspace(0, len(x) - 1, 600).astype(int))
            name, colour = str(curve), colours[str(curve)]
            at = 1 - place / (len(order) + 1)
            label = _add_curve(figure, row, name, colour, x[keep], y[keep], fill=False, label_at=at)
            labels.append(label._replace(side="left" if place <= (len(order) + 1) / 2 else "right"))
        _add_labels(figure, row, labels)
        if dots:
            _add_strips(figure, row, panel, colours)
    figure.update_yaxes(title_text="images below (%)", tickvals=[0, 25, 50, 75, 100])
    return _share_ranges(figure, scores)


def spectrum_plot(
    band: pd.DataFrame | None, spectra: Mapping[str, ArrayLike], *, band_name: str, null_dim: int = 0
) -> go.Figure:
    """Log singular values of some images over the run's or class's median and 5–95 % band.

    Args:
        band: Columns ``k`` (1-based), ``low``, ``median``, ``high`` (σ); None when there is none.
        spectra: Singular values (D,) descending, by label.
        band_name: What the band covers, such as ``cat``.
        null_dim: Directions that vanish by construction; they are left out.

    Returns:
        The figure, ln σ over k.
    """
    figure = go.Figure()
    if band is not None and len(band):
        band = band.iloc[: len(band) - null_dim or None]
        k = band["k"].to_numpy()
        ribbon = _log(np.concatenate([band["high"], band["low"][::-1]]))
        figure.add_scatter(
            x=np.concatenate([k, k[::-1]]), y=ribbon, fill="toself", fillcolor="rgba(128,130,136,0.16)",
            line={"width": 0}, hoverinfo="skip", name="5–95 %",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=_log(band["median"]), line={"color": MUTED, "width": 1.5, "dash": "dot"},
            name=f"median of {escape(band_name)}", hovertemplate="k = %{x}<br>median ln σ = %{y:.2f}<extra></extra>",
        )  # fmt: skip
    for (name, values), colour in zip(spectra.items(), (MOST, LEAST, *DATASET_COLOURS[2:]), strict=False):
        sigma = np.asarray(values, dtype=float)
        sigma = sigma[: len(sigma) - null_dim or None]
        figure.add_scatter(
            x=np.arange(1, len(sigma) + 1), y=_log(sigma), mode="lines+markers" if len(sigma) <= 64 else "lines",
            line={"color": colour, "width": 2}, marker={"size": 5}, name=escape(name),
            hovertemplate="k = %{x}<br>ln σ = %{y:.2f}<extra>" + escape(name) + "</extra>",
        )  # fmt: skip
    frame_figure(figure, height=300)
    longest = max([0, *(np.size(trace.x) and np.nanmax(trace.x) for trace in figure.data)])
    figure.update_xaxes(title_text="k, singular value by size", showgrid=False, range=[0.4, longest + 0.6])
    figure.update_yaxes(title_text="ln σ<sub>k</sub>", gridcolor=GRID)
    return figure


def kernel_density(
    scores: ArrayLike, low: float, high: float, *, points: int = 400
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gaussian kernel density on a grid, with Silverman's bandwidth; time does not grow with n.

    Args:
        scores: Values (N,), nats.
        low: Lowest value to cover; the grid goes three bandwidths further.
        high: Highest value to cover.
        points: Length of the grid.

    Returns:
        Grid (points,) in nats and density (points,) per nat; it integrates to 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    quartiles = np.subtract(*np.percentile(values, [75, 25])) / 1.349
    spread = min(values.std(), quartiles) or values.std()
    width = max(0.9 * spread * len(values) ** -0.2, (high - low) / points, _LEAST_WIDTH)
    grid = np.linspace(low - 3 * width, high + 3 * width, points)
    step = grid[1] - grid[0]
    counts, _ = np.histogram(values, np.append(grid - step / 2, grid[-1] + step / 2))
    reach = np.arange(-int(4 * width / step) - 1, int(4 * width / step) + 2) * step
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="full")
    start = len(kernel) // 2
    return grid, density[start : start + points] / (len(values) * step)


def _panels(scores: pd.DataFrame) -> go.Figure:
    """Empty stacked panels, one per encoder, each with its own axes."""
    names = [escape(str(name)) for name in scores["panel"].unique()]
    figure = make_subplots(
        rows=len(names), cols=1, subplot_titles=names if len(names) > 1 else None, vertical_spacing=0.18 / len(names)
    )
    frame_figure(figure, height=110 + 250 * len(names))
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "family": FONT})
    figure.update_layout(dragmode="select", selectdirection="h", hoverdistance=12)
    figure.update_layout(newselection={"line": {"color": LEAST, "width": 1, "dash": "dot"}})
    figure.update_xaxes(showgrid=True, gridcolor=GRID, zeroline=False, ticks="", tickformat=",.3~f")
    figure.update_xaxes(title_text=SCORE_AXIS, row=len(names))
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure


def _share_ranges(figure: go.Figure, scores: pd.DataFrame) -> go.Figure:
    """Give panels of one encoder one range, so that they can be read against each other; other encoders' stay apart."""
    scales = list(scores.groupby("panel", sort=False)["scale"].first())
    for scale in set(scales):
        rows = [row for row, name in enumerate(scales, start=1) if name == scale]
        lines = [trace for row in rows for trace in figure.select_traces({"mode": "lines"}, row=row, col=1)]
        low, high = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
        margin = 0.02 * (high - low) or 1.0
        for row in rows:
            figure.update_xaxes(range=[low - margin, high + margin], row=row)
    return figure


def frame_figure(figure: go.Figure, *, height: int) -> None:
    """Give a figure the settings that every figure shares.

    Args:
        figure: The figure.
        height: px.
    """
    figure.update_layout(
        height=height, showlegend=False, margin={"l": 8, "r": 12, "t": 28, "b": 8}, bargap=0,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", separators=".\u202f",
        font={"family": FONT, "size": 12.5}, hoverlabel={"font": {"family": FONT, "size": 12.5}}, uirevision="keep",
    )  # fmt: skip
    figure.update_xaxes(title_font_size=12.5, tickfont_size=12, automargin=True)
    figure.update_yaxes(title_font_size=12.5, tickfont_size=12, automargin=True)


def _add_curve(
    figure: go.Figure,
    row: int,
    name: str,
    colour: str,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    fill: bool,
    label_at: float | None = None,
) -> Label:
    """Draw one curve; return where its name goes: the peak, or where it crosses a share of its height."""
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 2, "simplify": False},
        fill="tozeroy" if fill else None,
        fillcolor=faded(colour, 0.16), name=escape(name), hoverinfo="skip", row=row, col=1,
    )  # fmt: skip
    at = int(np.argmax(y)) if label_at is None else int(np.searchsorted(y, label_at * y[-1]))
    return Label(name, colour, float(x[at]), float(y[at]))


def _add_labels(figure: go.Figure, row: int, labels: Sequence[Label]) -> None:
    """Write each curve's name at its point, lifted until it covers no other name; leave room for the lifted ones."""
    if not labels:
        return
    traces = list(figure.select_traces(row=row, col=1))
    left, right = (end(end(trace.x) for trace in traces) for end in (min, max))
    top = max(max(trace.y) for trace in traces)
    px_per_y = _PLOT_PX / (top or 1)
    for _ in range(6):  # lifted names need a taller axis, on which the curves are lower
        shifts = lifts(labels, left, right, px_per_y)
        needed = max(label.y * px_per_y + shift for label, shift in zip(labels, shifts, strict=True)) + 10
        if needed <= _PLOT_PX:
            break
        px_per_y *= max(_PLOT_PX / needed, 0.8)
    if len(labels) > 4:  # many fills on top of each other are only grey
        figure.update_traces(fillcolor="rgba(0,0,0,0)", row=row, col=1)
    anchors = {"above": ("center", 0), "left": ("right", -8), "right": ("left", 8)}
    for label, shift in zip(labels, shifts, strict=True):
        anchor, beside = anchors[label.side]
        figure.add_annotation(
            x=label.x, y=label.y, text=f"<b>{escape(label.name)}</b>", showarrow=False, row=row, col=1,
            yshift=shift, xanchor=anchor, xshift=beside, font={"color": label.colour, "size": 13, "family": FONT},
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1.03 * _PLOT_PX / px_per_y], row=row)


def lifts(labels: Sequence[Label], left: float, right: float, px_per_y: float, *, width: float = 900) -> list[int]:
    """How far each name must be lifted so that none covers another; the lowest are placed first.

    Args:
        labels: Names and the points that they name.
        left: Least x of the chart.
        right: Greatest x of the chart.
        px_per_y: Height of one unit of y.
        width: Of the chart, px.

    Returns:
        Upward shifts in px, in the order of ``labels``.
    """
    taken: list[tuple[float, float, float]] = []  # middle x, y, half width
    shifts = dict.fromkeys(range(len(labels)), 0)
    for place in sorted(shifts, key=lambda place: labels[place].y):
        label = labels[place]
        x, y = width * (label.x - left) / (right - left or 1), label.y * px_per_y
        half, shift = 4.0 * len(label.name) + 4, 11 if label.side == "above" else 0
        while any(abs(x - u) < half + w and abs(y + shift - v) < 15 for u, v, w in taken):
            shift += 4
        taken.append((x, y + shift, half))
        shifts[place] = shift
    return list(shifts.values())


def _add_strips(figure: go.Figure, row: int, panel: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """A strip of dots beneath the curves: every image once, jittered so that close scores stay apart."""
    tops = [max(trace.y) for trace in figure.select_traces(row=row, col=1)]
    names = panel["curve"].nunique()
    lane = min(0.055, 0.3 / names) * max(tops)
    axis = next(figure.select_yaxes(row=row, col=1))
    axis.range = [-lane * (names + 0.9), axis.range[1]]
    for number, (curve, part) in enumerate(panel.groupby("curve", sort=False), start=1):
        if len(part) > MAX_DOTS:
            part = part.sort_values("score").iloc[np.linspace(0, len(part) - 1, MAX_DOTS).astype(int)]
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(part))
        figure.add_scatter(
            x=part["score"], y=-lane * (number + jitter), mode="markers", row=row, col=1, name=escape(str(curve)),
            marker={"size": 4, "color": colours[str(curve)], "opacity": 0.55},
            selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.25}},
            customdata=np.stack([part["run"], part["key"]], axis=1),
            text=[escape(str(key)) for key in part["key"]],
            hovertemplate="%{text}<br>%{x:.2f} nats<extra>" + escape(str(curve)) + "</extra>",
        )  # fmt: skip


def faded(colour: str, alpha: float) -> str:
    """A hex colour with an opacity.

    Args:
        colour: ``#RRGGBB``.
        alpha: 0 to 1.

    Returns:
        The colour as CSS writes it.
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _log(values: ArrayLike) -> NDArray[np.float64]:
    """Natural logarithm; zeros become gaps."""
    array = np.asarray(values, dtype=np.float64)
    return np.log(np.where(array > 0, array, np.nan))

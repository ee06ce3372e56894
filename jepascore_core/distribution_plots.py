"""Figures of score distributions (paper Fig. 3): curves in, Plotly figure out. One panel for each encoder or run.

A figure's size depends on the number of curves and dots, not of images. Its colours, frame and type are ``plots``'.
"""

import zlib
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from jepascore_core.curve_labels import Line, place_labels, shortened
from jepascore_core.curves import Curve, Span, bin_counts, bin_edges, kernel_density, panels, quantile
from jepascore_core.plots import FONT, GRID, LEAST, SCORE_AXIS, faded, frame_figure

_PANEL_PX, _AXIS_PX, _TITLE_PX = 250, 92, 16  # height of a panel, of all that is no panel, and of a title in that
_RIDGE_PX, _LEAST_RIDGE_PX, _MANY = 46, 30, 8  # height of a ridge where there are few, and where there are many
_RIDGE = 0.86  # of its height that a ridge fills; dots lie beneath the next one's
_DASHES = ("solid", "dash", "dot", "dashdot")  # curves of one colour in one panel
_FILLED = 4  # more fills on top of each other are only grey
_ECDF_POINTS = 400
_MARK = "rgba(128,130,136,0.95)"

Floats = NDArray[np.float64]


def density_plot(curves: Sequence[Curve], *, brush: Span | None = None) -> go.Figure:
    """Smoothed score densities, with a strip of dots beneath them.

    Args:
        curves: Curves, those of a panel one after the other.
        brush: Range to mark as chosen.

    Returns:
        The figure; a dot's customdata is the image's key, its legendgroup the run.
    """
    figure = _named(curves, _densities, brush=brush)
    figure.update_yaxes(title_text="density (1/nat)", showticklabels=False)
    return figure


def histogram_plot(curves: Sequence[Curve], *, brush: Span | None = None) -> go.Figure:
    """Score histograms on shared bins; arguments as ``density_plot``.

    Args:
        curves: Curves, those of a panel one after the other.
        brush: Range to mark as chosen.

    Returns:
        The figure; the y axis is the share of each curve's images in a bin.
    """
    figure = _named(curves, _histograms, brush=brush)
    figure.update_yaxes(title_text="images (%)", nticks=6)
    return figure


def ecdf_plot(curves: Sequence[Curve], *, brush: Span | None = None) -> go.Figure:
    """Empirical distribution functions; arguments as ``density_plot``.

    Args:
        curves: Curves, those of a panel one after the other.
        brush: Range to mark as chosen.

    Returns:
        The figure; the y axis is the share of images with at most a score.
    """
    figure = _named(curves, _ecdfs, brush=brush, rising=True)
    figure.update_yaxes(title_text="images below (%)", tickvals=[0, 25, 50, 75, 100])
    return figure


def ridgeline_plot(curves: Sequence[Curve], *, brush: Span | None = None) -> go.Figure:
    """One density over the other, each on a baseline of its own with its name; arguments as ``density_plot``.

    The likeliest by median stands on top; panels keep the order of the first. All ridges are equally high.

    Args:
        curves: Curves, those of a panel one after the other.
        brush: Range to mark as chosen.

    Returns:
        The figure; a short upright line marks each median.
    """
    groups = [_by_median(panel, curves) for panel in panels(curves)]
    drawn = [_densities(group) for group in groups]
    heights = [len(group) * (_RIDGE_PX if len(group) <= _MANY else _LEAST_RIDGE_PX) + 12.0 for group in groups]
    figure = _panels(groups, heights, _ranges(groups, drawn))
    for row, (group, lines) in enumerate(zip(groups, drawn, strict=True), start=1):
        for place, (curve, line) in enumerate(zip(group, lines, strict=True)):
            base = float(len(group) - 1 - place)
            ridge = base + _RIDGE * line.y / line.y.max()
            _add_line(figure, row, Line(line.name, line.colour, line.x, ridge), fill="toself", width=1.5)
            _add_dots(figure, row, curve, base - 0.12, 0.14)
        _add_medians(figure, row, group, lines)
        _name_ridges(figure, row, group)
        figure.update_yaxes(range=[-0.3, len(group) - 0.02], row=row)
    return _marked(figure, brush)


SHAPES: dict[str, Callable[..., go.Figure]] = {
    "Density": density_plot,
    "Histogram": histogram_plot,
    "Ridgeline": ridgeline_plot,
    "ECDF": ecdf_plot,
}


def _densities(panel: Sequence[Curve]) -> list[Line]:
    """Densities of one panel, each as far as it can be told from zero."""
    low, high = min(curve.scores[0] for curve in panel), max(curve.scores[-1] for curve in panel)
    lines = []
    for curve in panel:
        x, y = kernel_density(curve.scores, float(low), float(high))
        seen = np.flatnonzero(y > 0.003 * y.max())
        part = slice(max(0, seen[0] - 1), seen[-1] + 2)
        lines.append(Line(curve.name, curve.colour, x[part], y[part]))
    return lines


def _histograms(panel: Sequence[Curve]) -> list[Line]:
    """Outlines of the histograms of one panel, from its first bin with an image to its last."""
    edges, lines = bin_edges(panel), []
    for curve in panel:
        share = 100 * bin_counts(curve.scores, edges) / len(curve.scores)
        held = np.flatnonzero(share)
        part = slice(held[0], held[-1] + 1)
        y = np.concatenate([[0.0], np.repeat(share[part], 2), [0.0]])
        lines.append(Line(curve.name, curve.colour, np.repeat(edges[part.start : part.stop + 1], 2), y))
    return lines


def _ecdfs(panel: Sequence[Curve]) -> list[Line]:
    """Distribution functions of one panel."""
    lines = []
    for curve in panel:
        n = len(curve.scores)
        keep = np.unique(np.linspace(0, n - 1, _ECDF_POINTS).astype(int))
        lines.append(Line(curve.name, curve.colour, curve.scores[keep], 100 * (keep + 1) / n))
    return lines


def _named(
    curves: Sequence[Curve],
    outlines: Callable[[Sequence[Curve]], list[Line]],
    *,
    brush: Span | None,
    rising: bool = False,
) -> go.Figure:
    """Panels of curves on one baseline, each with its name beside it and its dots beneath."""
    groups, notes = panels(curves), []
    drawn = [outlines(group) for group in groups]
    ranges = _ranges(groups, drawn)
    figure = _panels(groups, [_PANEL_PX] * len(groups), ranges)
    for row, (group, lines) in enumerate(zip(groups, drawn, strict=True), start=1):
        filled = "tozeroy" if not rising and len(lines) <= _FILLED else None
        for place, line in enumerate(lines):
            alike = sum(other.colour == line.colour for other in lines[:place])
            _add_line(figure, row, line, fill=filled, dash=_DASHES[alike % len(_DASHES)])
        labels, top = place_labels(lines, *ranges[row - 1], rising=rising)
        anchors = {"above": ("center", 0), "left": ("right", -7), "right": ("left", 7)}
        for label in labels:
            anchor, aside = anchors[label.side]
            notes.append({
                "x": label.x, "y": label.y, "xref": _axis("x", row), "yref": _axis("y", row), "showarrow": False,
                "text": f"<b>{escape(label.name)}</b>", "xanchor": anchor, "xshift": aside, "yshift": label.lift,
                "font": {"color": label.colour, "size": 13, "family": FONT},
            })  # fmt: skip
        lane = min(0.055, 0.3 / len(group)) * top if any(len(curve.ranks) for curve in group) else 0.0
        for number, curve in enumerate(group, start=1):
            _add_dots(figure, row, curve, -lane * number, 0.6 * lane)
        figure.update_yaxes(range=[-lane * (len(group) + 0.9), 1.03 * top], row=row)
    figure.update_layout(annotations=[*figure.layout.annotations, *notes])
    return _marked(figure, brush)


def _panels(
    groups: Sequence[Sequence[Curve]], heights: Sequence[float], ranges: Sequence[tuple[float, float]]
) -> go.Figure:
    """Empty panels, one above the other, each with its own axes."""
    names = [f"<b>{escape(group[0].panel)}</b>" for group in groups]
    total = sum(heights)
    between = 52.0 if len(groups) > 1 else 0.0  # px: room for the ticks of one and the title of the next
    whole = total + between * (len(groups) - 1)
    figure = make_subplots(
        rows=len(names), cols=1, subplot_titles=names if len(names) > 1 else None,
        vertical_spacing=between / whole, row_heights=list(heights),
    )  # fmt: skip
    frame_figure(figure, height=int(whole) + _AXIS_PX - (0 if len(names) > 1 else _TITLE_PX))
    figure.update_layout(margin_t=28 if len(names) > 1 else 28 - _TITLE_PX, margin_b=0)
    figure.update_annotations(x=0, xanchor="left", yshift=4, font={"size": 13, "family": FONT})
    figure.update_layout(dragmode="select", selectdirection="h", hoverdistance=12)
    figure.update_layout(newselection={"line": {"color": LEAST, "width": 1, "dash": "dot"}})
    figure.update_xaxes(showgrid=True, gridcolor=GRID, zeroline=False, ticks="", tickformat=",.3~f")
    figure.update_xaxes(title_text=SCORE_AXIS, row=len(names))
    for row, ends in enumerate(ranges, start=1):
        figure.update_xaxes(range=ends, row=row)
    figure.update_yaxes(showgrid=False, zeroline=False)
    return figure


def _ranges(groups: Sequence[Sequence[Curve]], drawn: Sequence[Sequence[Line]]) -> list[tuple[float, float]]:
    """Ends of each panel's axis; those of one encoder share them, so that they can be read against each other."""
    ends: dict[str, list[float]] = {}
    for group, lines in zip(groups, drawn, strict=True):
        found = [
            float(x[place]) for x in (*(c.scores for c in group), *(line.x for line in lines)) for place in (0, -1)
        ]
        ends.setdefault(group[0].scale, []).extend(found)
    margins = {scale: 0.02 * (max(xs) - min(xs)) or 1.0 for scale, xs in ends.items()}
    return [
        (min(ends[scale]) - margins[scale], max(ends[scale]) + margins[scale])
        for scale in (group[0].scale for group in groups)
    ]


def _marked(figure: go.Figure, brush: Span | None) -> go.Figure:
    """Mark the range that was brushed, as a browser does."""
    heights = [axis.range for axis in figure.select_yaxes()]
    if brush is not None and 0 <= brush.panel < len(heights):
        row, (bottom, top) = brush.panel + 1, heights[brush.panel]
        figure.add_selection(
            x0=brush.low, x1=brush.high, y0=bottom, y1=top, xref=_axis("x", row), yref=_axis("y", row),
            line={"color": LEAST, "width": 1, "dash": "dot"},
        )  # fmt: skip
    return figure


def _add_line(
    figure: go.Figure, row: int, line: Line, *, fill: str | None, width: float = 2, dash: str = "solid"
) -> None:
    """Draw one curve."""
    figure.add_scatter(
        x=line.x, y=line.y, mode="lines", fill=fill,
        line={"color": line.colour, "width": width, "simplify": False, "dash": dash},
        fillcolor=faded(line.colour, 0.16), name=escape(line.name), hoverinfo="skip", row=row, col=1,
    )  # fmt: skip


def _add_dots(figure: go.Figure, row: int, curve: Curve, middle: float, spread: float) -> None:
    """A strip of dots: a jitter keeps close scores apart, and keeps each image where it was when others arrive."""
    if not len(curve.ranks):
        return
    jitter = np.array([zlib.crc32(key.encode("utf-8", "replace")) for key in curve.keys]) / 2**32 - 0.5
    figure.add_scatter(
        x=curve.scores[curve.ranks], y=middle + spread * jitter, mode="markers", row=row, col=1,
        name=escape(curve.name), marker={"size": 4, "color": curve.colour, "opacity": 0.55},
        selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.25}},
        customdata=list(curve.keys), legendgroup=curve.run, text=[escape(key) for key in curve.keys],
        hovertemplate="%{text}<br>%{x:.2f} nats<extra>" + escape(curve.name) + "</extra>",
    )  # fmt: skip


def _by_median(panel: Sequence[Curve], curves: Sequence[Curve]) -> list[Curve]:
    """Curves of a panel, the highest median first; a name that an earlier panel has goes by that one's median."""
    median: dict[str, float] = {}
    for curve in curves:
        median.setdefault(curve.name, quantile(curve.scores, 0.5))
    return sorted(panel, key=lambda curve: -median[curve.name])


def _add_medians(figure: go.Figure, row: int, group: Sequence[Curve], lines: Sequence[Line]) -> None:
    """An upright line from each baseline to its ridge, at the median."""
    x, y = [], []
    for place, (curve, line) in enumerate(zip(group, lines, strict=True)):
        middle, base = quantile(curve.scores, 0.5), len(group) - 1 - place
        x += [middle, middle, None]
        y += [base, base + _RIDGE * float(np.interp(middle, line.x, line.y)) / float(line.y.max()), None]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": _MARK, "width": 1.5}, name="median", hoverinfo="skip", row=row, col=1,
    )  # fmt: skip


def _name_ridges(figure: go.Figure, row: int, group: Sequence[Curve]) -> None:
    """Names of the ridges in place of the axis's numbers, and a faint line under each."""
    names = [f'<span style="color:{c.colour}"><b>{escape(shortened(c.name))}</b></span>' for c in group]
    figure.update_yaxes(
        tickvals=list(range(len(group) - 1, -1, -1)), ticktext=names, tickfont_size=13, ticks="", showgrid=True,
        gridcolor=GRID, ticklabelstandoff=4, row=row,
    )  # fmt: skip


def _axis(letter: str, row: int) -> str:
    """How Plotly calls an axis of a panel."""
    return letter if row == 1 else f"{letter}{row}"

"""Figures of the outliers page: AUROC of methods, ROC curves, values beside a threshold, and sweeps of the spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import log10

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from jepascore_core.plots import FONT, GRID, LEAST, MUTED, faded, frame_figure

_ROW_PX, _HEAD_PX, _FOOT_PX = 25, 34, 46  # of the chart of methods
_GAP = 0.6  # rows between the scores and their rivals
_ROC_PX, _VALUES_PX, _SWEEP_PX = 370, 210, 330
_BINS = 60
_APART = 0.075  # of the axis that two names need
_DASHES = ("solid", "dash", "dot", "dashdot")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Whisker:
    """AUROC of one method.

    Attributes:
        name: The method.
        value: AUROC.
        low: Lower end of its interval.
        high: Upper end.
        decided: Whether the interval leaves out ½.
        is_score: Whether it is JEPA-SCORE or a variant.
    """

    name: str
    value: float
    low: float
    high: float
    decided: bool
    is_score: bool


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A named line; ``low`` and ``high`` are a band around it."""

    name: str
    colour: str
    x: Floats = field(repr=False)
    y: Floats = field(repr=False)
    low: Floats | None = field(repr=False, default=None)
    high: Floats | None = field(repr=False, default=None)
    strong: bool = True


def method_chart(panels: Sequence[tuple[str, str, Sequence[Whisker]]]) -> go.Figure:
    """AUROC of methods with intervals, a panel for each set of other images.

    Args:
        panels: Name and colour of each set, and its methods; the first method of all is the yardstick.

    Returns:
        The figure: filled dots where the direction is decided, hollow ones where it is not; a dotted line at the first
        method's AUROC.
    """
    order: dict[str, Whisker] = {}
    for _, _, whiskers in panels:
        order |= {one.name: one for one in whiskers if one.name not in order}
    places = _rows(list(order.values()))
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=0.028)
    for column, (name, colour, whiskers) in enumerate(panels, start=1):
        _panel(figure, column, name, colour, whiskers, places)
    top = max(places.values(), default=0)
    frame_figure(figure, height=round((top + 1) * _ROW_PX) + _HEAD_PX + _FOOT_PX)
    figure.update_layout(margin={"t": _HEAD_PX}, hovermode="closest")
    figure.update_yaxes(range=[top + 0.7, -0.7], showgrid=False, zeroline=False, ticks="")
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[f"<b>{escape(name)}</b>" if place == 0 else escape(name) for name, place in places.items()],
        col=1,
    )
    figure.update_xaxes(
        range=[-0.03, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=["0", "", "0.5", "", "1"], tickangle=0,
        gridcolor=GRID, showgrid=True, zeroline=False, ticks="",
        title_text="AUROC, in-distribution above →" if len(panels) < 3 else "AUROC →",
    )  # fmt: skip
    return figure


def roc_chart(panels: Sequence[tuple[str, str, Sequence[Curve]]]) -> go.Figure:
    """ROC curves, a panel for each set of other images; weak ones are thin and grey, strong ones are named.

    Args:
        panels: Name and colour of each set, and its curves: x is the share of other rows at or above a threshold, y
            that of in-distribution rows.

    Returns:
        The figure.
    """
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=0.028)
    for column, (name, colour, curves) in enumerate(panels, start=1):
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip",
            row=1, col=column,
        )  # fmt: skip
        for curve in [one for one in curves if not one.strong]:
            _line(figure, curve, width=1, colour=faded(MUTED, 0.45), hover=_ROC_HOVER, column=column)
        strong = [one for one in curves if one.strong]
        for place, curve in enumerate(strong):
            _line(figure, curve, width=2.2, dash=_DASHES[place % len(_DASHES)], hover=_ROC_HOVER, column=column)
        _name_curves(figure, strong, column)
        figure.add_hline(y=0.95, line={"color": faded(MUTED, 0.6), "width": 1, "dash": "dot"}, row=1, col=column)
        _title(figure, column, name, colour)
    frame_figure(figure, height=_ROC_PX)
    figure.update_layout(margin={"t": _HEAD_PX})
    ticks = {
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "gridcolor": GRID,
        "showgrid": True,
        "zeroline": False,
        "range": [-0.01, 1.01],
    }
    figure.update_xaxes(title_text="others kept (FPR)", **ticks)
    figure.update_yaxes(**ticks)
    figure.update_yaxes(title_text="in-distribution kept (TPR)", col=1)
    return figure


def values_chart(sets: Sequence[tuple[str, str, Floats]], threshold: float, *, flag_low: bool, axis: str) -> go.Figure:
    """Values of each set as outlined histograms, and the threshold with the side that it flags.

    Args:
        sets: Name, colour and values (N,) of each set, finite ones.
        threshold: Where the flagged side begins; infinite where nothing or everything is flagged.
        flag_low: Whether the values below it are flagged, else those above.
        axis: Name of the values.

    Returns:
        The figure; shares of each set.
    """
    joint = np.concatenate([values for _, _, values in sets])
    low, high = (float(end) for end in np.percentile(joint, [0.5, 99.5]))
    span = (high - low) or 1.0
    edges = np.linspace(low - 0.03 * span, high + 0.03 * span, _BINS + 1)
    figure = go.Figure()
    peaks = []
    for name, colour, values in sets:
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        share = 100 * counts / max(len(values), 1)
        figure.add_scatter(
            x=edges, y=[*share, 0], mode="lines", line={"color": colour, "width": 1.6, "shape": "hv"}, fill="tozeroy",
            fillcolor=faded(colour, 0.14), name=escape(name),
            hovertemplate="%{x:.3g}: %{y:.1f} %<extra>" + escape(name) + "</extra>",
        )  # fmt: skip
        peaks.append((float(edges[share.argmax()]), float(share.max()), name, colour))
    _threshold(figure, threshold, edges, flag_low=flag_low)
    frame_figure(figure, height=_VALUES_PX)
    top = max((y for _, y, _, _ in peaks), default=1.0)
    taken: list[tuple[float, float]] = []
    for x, y, name, colour in sorted(peaks, key=lambda peak: peak[1]):
        while any(abs(x - u) < 0.16 * span and abs(y - v) < 0.13 * top for u, v in taken):
            y += 0.02 * top
        taken.append((x, y))
        figure.add_annotation(
            x=x, y=y, text=f"<b>{escape(name)}</b>", showarrow=False, yanchor="bottom", xanchor="left",
            font={"color": colour, "size": 13, "family": FONT},
        )  # fmt: skip
    figure.update_layout(margin={"t": 16})
    reach = max([top, *(v for _, v in taken)])
    figure.update_yaxes(title_text="images (%)", gridcolor=GRID, zeroline=False, nticks=4, range=[0, 1.2 * reach])
    figure.update_xaxes(title_text=f"{escape(axis)}, more in-distribution →", showgrid=False, zeroline=False,
                        range=[edges[0], edges[-1]])  # fmt: skip
    return figure


def sweep_chart(
    curves: Sequence[Curve], *, axis: str, logarithmic: bool = False, mark: tuple[float, str] | None = None
) -> go.Figure:
    """AUROC over something that is varied, with the band of its interval.

    Args:
        curves: The lines, named at their right ends (on a logarithmic axis at their left ends, where they lie apart);
            those that are not strong are dotted.
        axis: What is varied.
        logarithmic: Whether the axis is.
        mark: A place on the axis, and what is there.

    Returns:
        The figure.
    """
    figure = go.Figure()
    for curve in curves:
        if curve.low is not None and curve.high is not None:
            figure.add_scatter(
                x=[*curve.x, *curve.x[::-1]], y=[*curve.high, *curve.low[::-1]], fill="toself", mode="lines",
                fillcolor=faded(curve.colour, 0.13), line={"width": 0}, hoverinfo="skip",
            )  # fmt: skip
    for curve in curves:
        _line(figure, curve, width=2, dash="solid" if curve.strong else "dot", hover=_SWEEP_HOVER, markers=True)
    frame_figure(figure, height=_SWEEP_PX)
    _auroc_axis(figure)
    reach = [float(x) for curve in curves for x in (curve.x[0], curve.x[-1])]
    first, last = (log10(x) if logarithmic else x for x in (min(reach), max(reach)))
    room = 0.02 * (last - first)
    figure.update_xaxes(title_text=axis, showgrid=False, zeroline=False, range=[first - room, last + room])
    if logarithmic:
        figure.update_xaxes(type="log", exponentformat="power", dtick=2)
    if mark is not None:
        figure.add_vline(x=mark[0], line={"color": LEAST, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=log10(mark[0]) if logarithmic else mark[0], y=1, yref="paper", text=escape(mark[1]), showarrow=False,
            xanchor="left", yanchor="bottom", font={"color": LEAST, "size": 12.5},
        )  # fmt: skip
    named = [one for one in curves if one.name]
    place = 0 if logarithmic else -1
    ends = [float(one.y[place]) for one in named]
    heights = _beside(ends) if logarithmic else _spread(ends)
    for curve, y in zip(named, heights, strict=True):
        figure.add_annotation(
            x=first if logarithmic else last, y=y, text=f"<b>{escape(curve.name)}</b>", showarrow=False,
            xanchor="left", xshift=0 if logarithmic else 12,
            font={"color": curve.colour, "size": 13, "family": FONT},
        )  # fmt: skip
    longest = max((len(one.name) for one in named), default=0)
    figure.update_layout(margin={"r": 16 if logarithmic else 20 + 8 * longest, "t": 26})
    return figure


def band_chart(sets: Sequence[tuple[str, str, pd.DataFrame]]) -> go.Figure:
    """AUROC of single bands of the spectrum: a dot with whiskers at the middle of each.

    Args:
        sets: Name, colour and frame of each set; see ``sweep.over_bands``.

    Returns:
        The figure.
    """
    figure = go.Figure()
    labels: list[tuple[float, float, str, str]] = []
    for place, (name, colour, frame) in enumerate(sets):
        width = float((frame["band_high"] - frame["band_low"]).iloc[0])
        x = (frame["band_low"] + frame["band_high"]) / 2 + width * 0.5 * (place - (len(sets) - 1) / 2) / len(sets)
        figure.add_scatter(
            x=x, y=frame["auroc"], mode="markers+lines", line={"color": faded(colour, 0.35), "width": 1},
            marker={"color": colour, "size": 8}, name=escape(name),
            error_y={"array": frame["high"] - frame["auroc"], "arrayminus": frame["auroc"] - frame["low"],
                     "width": 0, "thickness": 1.6, "color": colour},
            customdata=frame[["band_low", "band_high", "low", "high"]].to_numpy(),
            hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g} % of σ<br>AUROC %{y:.3f} "
                          "(%{customdata[2]:.3f} to %{customdata[3]:.3f})<extra>" + escape(name) + "</extra>",
        )  # fmt: skip
        labels.append((float(x.iloc[-1]), float(frame["auroc"].iloc[-1]), name, colour))
    frame_figure(figure, height=_SWEEP_PX)
    _auroc_axis(figure)
    for (end, _, name, colour), y in zip(labels, _spread([label[1] for label in labels]), strict=True):
        figure.add_annotation(
            x=end, y=y, text=f"<b>{escape(name)}</b>", showarrow=False, xanchor="left", xshift=10,
            font={"color": colour, "size": 13, "family": FONT},
        )  # fmt: skip
    figure.update_layout(margin={"r": 20 + 8 * max((len(label[2]) for label in labels), default=0), "t": 26})
    figure.update_xaxes(title_text="band of the spectrum, % from the largest σ", showgrid=False, zeroline=False,
                        range=[-1, 101])  # fmt: skip
    return figure


_ROC_HOVER = "keeps %{y:.3f} of in-distribution<br>and %{x:.3f} of the others"
_SWEEP_HOVER = "%{x:.3g}: AUROC %{y:.3f}"


def _rows(methods: Sequence[Whisker]) -> dict[str, float]:
    """Height of each method's row, from 0 downwards; a gap parts the scores from their rivals."""
    places, at = {}, 0.0
    for before, one in zip([None, *methods], methods, strict=False):
        if before is not None:
            at += 1 + (_GAP if before.is_score != one.is_score else 0)
        places[one.name] = at
    return places


def _panel(
    figure: go.Figure, column: int, name: str, colour: str, whiskers: Sequence[Whisker], places: dict[str, float]
) -> None:
    """One set of other images."""
    y = [places[one.name] for one in whiskers]
    figure.add_scatter(
        x=[one.value for one in whiskers], y=y, mode="markers", row=1, col=column,
        marker={"color": [colour if one.decided else "rgba(0,0,0,0)" for one in whiskers], "size": 9,
                "line": {"color": colour, "width": 1.6}},
        error_x={"array": [one.high - one.value for one in whiskers],
                 "arrayminus": [one.value - one.low for one in whiskers], "color": colour, "thickness": 1.8,
                 "width": 0},
        text=[escape(one.name) for one in whiskers], customdata=[(one.low, one.high) for one in whiskers],
        hovertemplate="%{text}<br>AUROC %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": faded(MUTED, 0.8), "width": 1}, row=1, col=column)
    if whiskers and places[whiskers[0].name] == 0:
        figure.add_vline(
            x=whiskers[0].value, line={"color": faded(colour, 0.7), "width": 1, "dash": "dot"}, row=1, col=column
        )
    _title(figure, column, name, colour)


def _title(figure: go.Figure, column: int, name: str, colour: str) -> None:
    """Name of a panel, over its middle."""
    figure.add_annotation(
        x=0.5, y=1, yref="paper", xref=f"x{column if column > 1 else ''}", text=f"<b>{escape(name)}</b>",
        showarrow=False, yanchor="bottom", yshift=8, font={"color": colour, "size": 13, "family": FONT},
    )  # fmt: skip


def _name_curves(figure: go.Figure, curves: Sequence[Curve], column: int) -> None:
    """Names of ROC curves, in the order of their heights: under those above the diagonal, over those below it."""
    axis = column if column > 1 else ""
    at = 0.32
    heights = {curve.name: float(np.interp(at, curve.x, curve.y)) for curve in curves}
    above = sorted((one for one in curves if heights[one.name] >= at), key=lambda one: -heights[one.name])
    below = sorted((one for one in curves if heights[one.name] < at), key=lambda one: heights[one.name])
    for group, way in ((above, -1), (below, 1)):
        y = 0.0
        for place, curve in enumerate(group):
            near = heights[curve.name] + 0.06 * way
            y = near if place == 0 else min(near, y - _APART) if way < 0 else max(near, y + _APART)
            figure.add_annotation(
                x=at, y=min(max(y, 0.03), 0.97), xref=f"x{axis}", yref=f"y{axis}", text=f"<b>{escape(curve.name)}</b>",
                showarrow=False, xanchor="left", xshift=6, font={"color": curve.colour, "size": 13, "family": FONT},
            )  # fmt: skip


def _threshold(figure: go.Figure, threshold: float, edges: Floats, *, flag_low: bool) -> None:
    """The line at a threshold, and a veil over what it flags."""
    if not np.isfinite(threshold):
        return
    at = float(np.clip(threshold, edges[0], edges[-1]))
    ends = (float(edges[0]), at) if flag_low else (at, float(edges[-1]))
    figure.add_vrect(x0=ends[0], x1=ends[1], fillcolor=faded(LEAST, 0.1), line_width=0, layer="below")
    figure.add_vline(x=at, line={"color": LEAST, "width": 2})


def _line(
    figure: go.Figure, curve: Curve, *, width: float, hover: str, dash: str = "solid", colour: str = "",
    markers: bool = False, column: int | None = None,
) -> None:  # fmt: skip
    figure.add_scatter(
        x=curve.x, y=curve.y, mode="lines+markers" if markers else "lines", marker={"size": 5},
        line={"color": colour or curve.colour, "width": width, "dash": dash},
        hovertemplate=hover + "<extra>" + escape(curve.name) + "</extra>",
        **({} if column is None else {"row": 1, "col": column}),
    )  # fmt: skip


def _auroc_axis(figure: go.Figure) -> None:
    """An axis of AUROC that shows all of it, with ½ marked."""
    figure.add_hline(y=0.5, line={"color": faded(MUTED, 0.8), "width": 1})
    figure.update_yaxes(
        title_text="AUROC", gridcolor=GRID, zeroline=False, range=[-0.02, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1]
    )


def _spread(heights: Sequence[float], apart: float = _APART) -> list[float]:
    """Heights moved up as little as keeps names apart."""
    placed = list(heights)
    last = -np.inf
    for place in np.argsort(heights, kind="stable"):
        placed[place] = last = max(heights[place], last + apart)
    return placed


def _beside(heights: Sequence[float]) -> list[float]:
    """Heights for names on top of flat lines: the highest stands over its line, the others under theirs."""
    top = max(range(len(heights)), key=lambda place: heights[place], default=0)
    under = [-(height - 0.05) for height in heights]
    under[top] = -(heights[top] + 0.05)
    return [-height for height in _spread(under)]

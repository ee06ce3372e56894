"""Figures of the theory lab: arrays in, Plotly figure out, in the language of ``plots``.

Densities fade from nothing to blue, the colour of the likely, so that they read on a light page and on a dark one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray
from plotly.subplots import make_subplots

from jepascore_core.plots import DATASET_COLOURS, FONT, GRID, MOST, MUTED, frame_figure

DENSITY = [[0.0, "rgba(47,111,222,0.0)"], [0.5, "rgba(47,111,222,0.30)"], [1.0, "rgba(47,111,222,0.95)"]]
AGREEMENT = [[0.0, "#B8430F"], [0.5, "#74767C"], [1.0, "#2560C4"]]  # white reads on all of it, in either theme
ELLIPSE = DATASET_COLOURS[1]
DEPTH_NATS = 10.0  # of a density, from its maximum down, that colours tell apart
PANEL_PX = 330

Array = NDArray[np.float64]


def loss_plot(history: pd.DataFrame, steps: int) -> go.Figure:
    """Loss and its two terms over the steps of a training.

    Args:
        history: Columns ``step``, ``loss``, ``invariance`` and ``regulariser``.
        steps: Planned, which is where the axis ends.

    Returns:
        The figure; each curve is named at its end.
    """
    figure = go.Figure()
    names = {"loss": (MOST, 2.2), "regulariser": (DATASET_COLOURS[2], 1.3), "invariance": (DATASET_COLOURS[3], 1.3)}
    shown = history.iloc[np.unique(np.linspace(0, len(history) - 1, 300).astype(int))] if len(history) else history
    for name, (colour, width) in names.items():
        figure.add_scatter(
            x=shown["step"], y=shown[name], mode="lines", line={"color": colour, "width": width}, name=name,
            hovertemplate="step %{x}<br>%{y:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    frame_figure(figure, height=210)
    if len(shown):
        ends = {name: float(shown[name].iloc[-1]) for name in names}
        span = float(shown[list(names)].max().max() - shown[list(names)].min().min()) or 1.0
        places = _apart(list(ends.values()), 0.13 * span)
        for (name, (colour, _)), place in zip(names.items(), places, strict=True):
            figure.add_annotation(
                x=1.01, xref="paper", y=place, text=f"<b>{name}</b>", showarrow=False, xanchor="left",
                font={"color": colour, "size": 12, "family": FONT},
            )  # fmt: skip
    figure.update_layout(margin={"r": 78, "t": 10})
    figure.update_xaxes(title_text="step", range=[0, steps], showgrid=False, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, nticks=5)
    return figure


def eigenvalue_plot(eigenvalues: Sequence[float]) -> go.Figure:
    """Eigenvalues of the embeddings' covariance beside the 1 that each should be.

    Args:
        eigenvalues: Descending, ≥ 0.

    Returns:
        The figure.
    """
    k = np.arange(1, len(eigenvalues) + 1)
    figure = go.Figure()
    figure.add_scatter(
        x=k, y=eigenvalues, mode="lines+markers", line={"color": MOST, "width": 2}, marker={"size": 6},
        hovertemplate="k = %{x}<br>eigenvalue %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": MUTED, "width": 1, "dash": "dot"})
    frame_figure(figure, height=210)
    figure.add_annotation(
        x=1, xref="paper", xanchor="right", y=1, yanchor="bottom", text="ideal: 1", showarrow=False,
        font={"color": MUTED, "size": 12, "family": FONT},
    )  # fmt: skip
    figure.update_layout(margin={"t": 10})
    figure.update_xaxes(
        title_text="k, eigenvalue by size", range=[0.5, len(k) + 0.5], showgrid=False, zeroline=False,
        dtick=1 if len(k) < 12 else None, tickformat="d",
    )  # fmt: skip
    figure.update_yaxes(range=[-0.05, 1.1 * max([1.6, *eigenvalues])], gridcolor=GRID, zeroline=False, nticks=5)
    return figure


def density_plot(
    axes: Array,
    values: Array,
    top: float,
    *,
    points: Array | None = None,
    outlines: Iterable[Array] = (),
    name: str = "log p",
) -> go.Figure:
    """A log-density over the plane.

    Args:
        axes: Grid along x and along y, (2, n).
        values: Log-density at [y, x], (n, n), nats.
        top: The value of the strongest colour, nats; rounded up; the weakest lies ``DEPTH_NATS`` below.
        points: Dots over it, (N, 2).
        outlines: Closed curves over it, (T, 2) each.
        name: What the values are.

    Returns:
        The figure, both axes in units of the data and of one scale.
    """
    figure = go.Figure()
    top = math.ceil(top)
    ticks = [top - DEPTH_NATS + 2 * i for i in range(int(DEPTH_NATS / 2) + 1)]
    bar = {
        "tickvals": ticks, "ticktext": [f"{tick:.0f}".replace("-", "−") for tick in ticks], "ticks": "",
        "orientation": "h", "thickness": 6, "len": 1.0, "y": -0.03, "yanchor": "top", "outlinewidth": 0,
        "title": {"text": f"{name} (nats)", "side": "bottom", "font": {"size": 12}}, "tickfont": {"size": 11.5},
    }  # fmt: skip
    figure.add_contour(
        x=axes[0], y=axes[1], z=np.maximum(values, top - 2 * DEPTH_NATS), zmin=top - DEPTH_NATS, zmax=top,
        colorscale=DENSITY, contours={"coloring": "heatmap", "start": top - DEPTH_NATS, "end": top, "size": 1.0},
        line={"width": 0.4, "color": "rgba(128,130,136,0.45)"}, colorbar=bar,
        hovertemplate="(%{x:.1f}, %{y:.1f})<br>%{z:.2f} nats<extra></extra>",
    )  # fmt: skip
    if points is not None:
        figure.add_scatter(
            x=points[:, 0], y=points[:, 1], mode="markers", hoverinfo="skip",
            marker={"size": 2.5, "color": MUTED, "opacity": 0.8},
        )  # fmt: skip
    _add_lines(figure, outlines, ELLIPSE, 1.2)
    return _square(figure, axes)


def warped_plot(lines: Sequence[Array], circles: Sequence[Array], points: Array, *, on_sphere: bool) -> go.Figure:
    """A regular grid as the encoder places it, with what it makes of the ellipses.

    Args:
        lines: (L, 2) each; NaN is a gap.
        circles: (L, 2) each; NaN is a gap.
        points: Embedded data, (N, 2).
        on_sphere: Draw the rim of Lambert's projection, of radius 2.

    Returns:
        The figure.
    """
    figure = go.Figure()
    _add_lines(figure, lines, "rgba(128,130,136,0.55)", 0.8)
    figure.add_scatter(
        x=points[:, 0], y=points[:, 1], mode="markers", hoverinfo="skip",
        marker={"size": 2.5, "color": MOST, "opacity": 0.6},
    )  # fmt: skip
    _add_lines(figure, circles, ELLIPSE, 1.2)
    if on_sphere:
        figure.add_shape(type="circle", x0=-2, y0=-2, x1=2, y1=2, line={"color": MUTED, "width": 1})
        reach = np.array([[-2.05, 2.05], [-2.05, 2.05]])
    else:
        middle = (points.min(0) + points.max(0)) / 2
        half = 0.6 * float((points.max(0) - points.min(0)).max()) or 1.0
        reach = np.stack([middle - half, middle + half], axis=1)
    figure = _square(figure, reach)
    if on_sphere:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
    return figure


def agreement_plot(truth: Array, scores: Mapping[str, Array], notes: Mapping[str, str]) -> go.Figure:
    """Scores against the true log-density, one panel each on one scale, around their medians.

    Args:
        truth: True log p, (M,), nats.
        scores: Scores by panel, (M,) each, nats; the first panel is blue, the others grey.
        notes: What stands behind a panel's name.

    Returns:
        The figure; the dotted line has slope 1, which an exact score has.
    """
    titles = [f"<b>{name}</b> · {notes[name]}" for name in scores]
    figure = make_subplots(rows=1, cols=len(scores), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.04)
    ends = np.array([truth.min(), truth.max()])
    for place, score in enumerate(scores.values(), start=1):
        figure.add_scatter(
            x=truth, y=score - np.median(score), mode="markers", row=1, col=place,
            marker={"size": 3.5, "color": MOST if place == 1 else MUTED, "opacity": 0.4},
            hovertemplate="log p = %{x:.2f}<br>score %{y:.2f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=ends, y=ends - np.median(truth), mode="lines", row=1, col=place, hoverinfo="skip",
            line={"color": MUTED, "width": 1, "dash": "dot"},
        )  # fmt: skip
    figure.add_annotation(
        x=ends[0], y=ends[0] - np.median(truth), text="slope 1", showarrow=False, xanchor="left", yanchor="top",
        font={"color": MUTED, "size": 12, "family": FONT}, row=1, col=1,
    )  # fmt: skip
    frame_figure(figure, height=300)
    for title in figure.layout.annotations[: len(scores)]:
        title.update(font={"size": 12.5, "family": FONT}, yshift=4)
    figure.update_xaxes(title_text="true log p (nats)", gridcolor=GRID, zeroline=False, nticks=7)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, nticks=6)
    figure.update_yaxes(title_text="score − its median (nats)", col=1)
    return figure


def walk_plot(data: Array, paths: Mapping[str, Array], box: Array, every: int) -> go.Figure:
    """Samples that walk, animated in the browser, beside the data they should end up like.

    Args:
        data: Held-out points, (N, 2).
        paths: States of each walk, (F, N, 2), by panel.
        box: Least and greatest corner, (2, 2).
        every: Steps from one state to the next.

    Returns:
        The figure, at the last state; a play button and a slider move through the others.
    """
    names = ["held-out data", *paths]
    figure = make_subplots(
        rows=1, cols=len(names), subplot_titles=[f"<b>{name}</b>" for name in names], horizontal_spacing=0.03
    )
    last = len(next(iter(paths.values()))) - 1
    colours = [MUTED, MOST, *DATASET_COLOURS[3:]]
    for place, points in enumerate([data, *(path[last] for path in paths.values())], start=1):
        figure.add_scatter(**_dots(points), marker={"size": 3.5, "color": colours[place - 1], "opacity": 0.65},
                           mode="markers", hoverinfo="skip", row=1, col=place)  # fmt: skip
    moving = list(range(1, len(names)))
    figure.frames = [
        go.Frame(data=[_dots(np.round(path[i], 2)) for path in paths.values()], traces=moving, name=str(i * every))
        for i in range(last + 1)
    ]
    frame_figure(figure, height=PANEL_PX + 70)
    for title in figure.layout.annotations:
        title.update(font={"size": 12.5, "family": FONT}, yshift=6)
    figure.update_layout(margin={"t": 36})
    figure.update_xaxes(range=[box[0, 0], box[1, 0]], showgrid=False, zeroline=False, showticklabels=False)
    figure.update_yaxes(range=[box[0, 1], box[1, 1]], showgrid=False, zeroline=False, showticklabels=False)
    figure.update_xaxes(mirror=True, showline=True, linecolor=GRID, ticks="")
    figure.update_yaxes(mirror=True, showline=True, linecolor=GRID, ticks="")
    for place in range(1, len(names) + 1):
        figure.update_yaxes(scaleanchor=f"x{place if place > 1 else ''}", constrain="domain", row=1, col=place)
        figure.update_xaxes(constrain="domain", row=1, col=place)
    return _animated(figure, [str(i * every) for i in range(last + 1)])


def correlation_heatmap(cells: pd.DataFrame, dims: Sequence[int], samples: Sequence[int]) -> go.Figure:
    """Correlation of a score with the true log-density over dimension and number of samples (Figure 2, top right).

    Args:
        cells: Columns ``dim``, ``samples``, ``seeds``, ``mean``, ``low`` and ``high``, as ``theory.grid.summary`` gives
            them.
        dims: Rows, in this order from the top; a cell that is not there stays empty.
        samples: Columns.

    Returns:
        The figure, the number in each cell and its interval beneath.
    """
    known = {(int(cell["dim"]), int(cell["samples"])): cell for _, cell in cells.iterrows()}
    values = [[float(known[d, n]["mean"]) if (d, n) in known else math.nan for n in samples] for d in dims]
    rows, columns = [f"d = {d}" for d in dims], [f"N = {n:,}".replace(",", "\u202f") for n in samples]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=columns, y=rows, zmin=-1, zmax=1, colorscale=AGREEMENT, xgap=4, ygap=4, showscale=False,
            hovertemplate="%{y}, %{x}<br>%{z:.3f}<extra></extra>", hoverongaps=False,
        )
    )  # fmt: skip
    for d, row in zip(dims, rows, strict=True):
        for n, column in zip(samples, columns, strict=True):
            figure.add_annotation(
                x=column, y=row, text=_cell(known.get((d, n))), showarrow=False, align="center",
                font={"color": "#FFFFFF", "family": FONT},
            )  # fmt: skip
    frame_figure(figure, height=70 + 78 * len(dims))
    figure.update_layout(margin={"t": 30})
    figure.update_xaxes(side="top", ticks="", showgrid=False, zeroline=False, type="category")
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, zeroline=False, type="category")
    return figure


def _cell(cell: "pd.Series | None") -> str:
    """What stands in a cell: the mean, large, and its interval beneath."""
    if cell is None:
        return f'<span style="color:{MUTED}">–</span>'
    low, high = cell["low"], cell["high"]
    interval = "one seed" if pd.isna(low) else f"{_signed(low)} to {_signed(high)}"
    return f'<span style="font-size:17px"><b>{_signed(cell["mean"])}</b></span><br>' + (
        f'<span style="font-size:11.5px">{interval}</span>'
    )


def _signed(value: float) -> str:
    """Two decimals and a true minus sign."""
    shown = f"{value:.2f}"
    return shown.replace("-", "−") if float(shown) else shown.lstrip("-")


def _dots(points: ArrayLike) -> dict[str, Any]:
    """A scatter's x and y."""
    array = np.asarray(points)
    return {"type": "scatter", "x": array[:, 0], "y": array[:, 1]}


def _add_lines(figure: go.Figure, lines: Iterable[Array], colour: str, width: float) -> None:
    """Many lines as one trace."""
    gap = np.full((1, 2), np.nan)
    joined = np.concatenate([gap, *(piece for line in lines for piece in (line, gap))])
    figure.add_scatter(
        x=joined[:, 0], y=joined[:, 1], mode="lines", hoverinfo="skip", connectgaps=False,
        line={"color": colour, "width": width, "simplify": False},
    )  # fmt: skip


def _square(figure: go.Figure, axes: Array) -> go.Figure:
    """A panel with equal scales on both axes."""
    frame_figure(figure, height=PANEL_PX + 50)
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 46}, dragmode=False)
    style = {"showgrid": False, "ticks": "", "zeroline": False, "showticklabels": False, "constrain": "domain"}
    figure.update_xaxes(range=[axes[0][0], axes[0][-1]], **style)
    figure.update_yaxes(range=[axes[1][0], axes[1][-1]], scaleanchor="x", **style)
    return figure


def _apart(values: list[float], least: float) -> list[float]:
    """Places near some values, at least so far from each other, in the order of the values."""
    order = np.argsort(values)
    places = list(values)
    for before, after in pairwise(order):
        places[after] = max(places[after], places[before] + least)
    return places


def _animated(figure: go.Figure, names: list[str]) -> go.Figure:
    """Give a figure with frames a play button and a slider, both quiet."""
    quick = {"frame": {"duration": 80, "redraw": False}, "transition": {"duration": 0}, "mode": "immediate"}
    jump = {**quick, "frame": {"duration": 0, "redraw": False}}
    buttons = [
        {"label": "Play", "method": "animate", "args": [names, quick]},
        {"label": "Pause", "method": "animate", "args": [[None], jump]},
    ]
    figure.update_layout(
        updatemenus=[{
            "type": "buttons", "direction": "right", "showactive": False, "buttons": buttons, "x": 0, "xanchor": "left",
            "y": -0.05, "yanchor": "top", "pad": {"t": 4}, "bgcolor": "rgba(128,130,136,0.10)", "borderwidth": 0,
            "font": {"size": 12.5},
        }],
        sliders=[{
            "active": len(names) - 1, "x": 0.14, "len": 0.86, "y": -0.02, "yanchor": "top", "pad": {"t": 0, "b": 0},
            "currentvalue": {"prefix": "step ", "xanchor": "right", "font": {"size": 12.5, "color": MUTED},
                             "offset": 4}, "ticklen": 0,
            "minorticklen": 0, "borderwidth": 0, "bgcolor": "rgba(128,130,136,0.25)",
            "font": {"size": 1, "color": "rgba(0,0,0,0)"},
            "steps": [{"label": name, "method": "animate", "args": [[name], jump]} for name in names],
        }],
        margin={"b": 56},
    )  # fmt: skip
    return figure

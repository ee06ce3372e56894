"""Figures of the page that compares encoders: two encoders' scores of the same images, and all correlations."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from jepascore_core.agreement import Estimate
from jepascore_core.lab_plots import AGREEMENT
from jepascore_core.plots import FONT, GRID, MUTED, frame_figure

_WEBGL_FROM = 1500  # dots; fewer are sharper as vectors
_SCATTER_PX = 470
_SHORT = 22  # letters of a name on an axis


def agreement_scatter(
    images: pd.DataFrame,
    names: tuple[str, str],
    *,
    colour: str,
    percentiles: bool,
    of: str = "class",
    score: str = "JEPA-SCORE",
) -> go.Figure:
    """Images under two encoders, a dot each.

    Args:
        images: Columns ``x`` and ``y`` (percentiles 0..100, or nats), ``index`` (number in the first run), ``key``,
            ``class_name``, ``score_x`` and ``score_y`` (nats).
        names: Of the encoders on x and on y.
        colour: Hex colour of the dots.
        percentiles: Whether x and y are percentiles, so that both axes are one scale and images on which the encoders
            agree lie on the diagonal.
        of: What the percentiles are of: class or run.
        score: Name of the score.

    Returns:
        The figure; customdata of a dot is (index, score_x, score_y).
    """
    first, second = (escape(name) for name in names)
    figure = go.Figure()
    if percentiles:
        figure.add_scatter(
            x=[0, 100], y=[0, 100], mode="lines", line={"color": MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip"
        )
    draw = go.Scattergl if len(images) > _WEBGL_FROM else go.Scatter
    exact = np.float32 if images["index"].max() < 2**24 else np.float64
    facts = images[["index", "score_x", "score_y"]].to_numpy(exact)
    text = [
        f"<b>{escape(str(key))}</b><br>{escape(str(name)) or 'unlabelled'}"
        for key, name in zip(images["key"], images["class_name"], strict=True)
    ]
    places = f"<br>%{{x:.0f}} and %{{y:.0f}} % of the {of} below" if percentiles else ""
    figure.add_trace(
        draw(
            x=images["x"].to_numpy(np.float32), y=images["y"].to_numpy(np.float32), mode="markers",
            customdata=facts, text=text,
            marker={"size": 6 if len(images) <= _WEBGL_FROM else 4, "color": colour,
                    "opacity": 0.7 if len(images) <= 600 else 0.45},
            selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.18}},
            hovertemplate=(
                f"%{{text}}<br>{first}: %{{customdata[1]:.2f}} nats<br>{second}: %{{customdata[2]:.2f}} nats{places}"
                "<extra></extra>"
            ),
        )
    )  # fmt: skip
    frame_figure(figure, height=_SCATTER_PX)
    figure.update_layout(dragmode="select", hoverdistance=12, margin={"t": 12})
    figure.update_layout(newselection={"line": {"color": MUTED, "width": 1, "dash": "dot"}})
    unit = f"percentile of the {of}" if percentiles else f"{score} (nats)"
    for update, name, last in ((figure.update_xaxes, first, " →"), (figure.update_yaxes, second, " →")):
        update(title_text=f"{name}: {unit}, likelier{last}", gridcolor=GRID, zeroline=False, ticks="")
    if percentiles:
        figure.update_xaxes(range=[-2.5, 102.5], tickvals=[0, 25, 50, 75, 100])
        figure.update_yaxes(range=[-2.5, 102.5], tickvals=[0, 25, 50, 75, 100])
    return figure


def correlation_matrix(names: Sequence[str], pairs: Sequence[tuple[int, int, Estimate]]) -> go.Figure:
    """Correlations of every two encoders, the interval beneath each.

    Args:
        names: Of the encoders, M.
        pairs: Two encoders by number, and their correlation.

    Returns:
        The lower triangle of the matrix: the first encoder has a column only, the last a row only.
    """
    known = {(j, i): estimate for i, j, estimate in pairs}
    labels = [_short(name) for name in names]
    rows, columns = range(1, len(names)), range(len(names) - 1)
    figure = go.Figure(
        go.Heatmap(
            z=[[known[row, column].value if column < row else np.nan for column in columns] for row in rows],
            x=list(columns), y=list(rows), zmin=-1, zmax=1, colorscale=AGREEMENT, xgap=4, ygap=4, showscale=False,
            hoverinfo="skip", hoverongaps=False,
        )
    )  # fmt: skip
    for (row, column), estimate in known.items():
        figure.add_annotation(
            x=column, y=row, text=_cell(estimate), showarrow=False, align="center",
            font={"color": "#FFFFFF", "family": FONT},
        )  # fmt: skip
    frame_figure(figure, height=60 + 58 * len(rows))
    figure.update_layout(margin={"t": 12})
    figure.update_xaxes(tickvals=list(columns), ticktext=labels[:-1], showgrid=False, zeroline=False, ticks="")
    figure.update_yaxes(
        tickvals=list(rows), ticktext=labels[1:], showgrid=False, zeroline=False, ticks="", autorange="reversed"
    )
    return figure


def _short(name: str) -> str:
    """A name that fits on an axis."""
    return escape(name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…")


def _cell(estimate: Estimate) -> str:
    """What stands in a cell: the correlation, large, and its interval beneath."""
    if np.isnan(estimate.value):
        return "–"
    interval = "" if np.isnan(estimate.low) else f"{_signed(estimate.low)} to {_signed(estimate.high)}"
    return (
        f'<span style="font-size:15px"><b>{_signed(estimate.value)}</b></span><br>'
        f'<span style="font-size:11px">{interval}</span>'
    )


def _signed(value: float) -> str:
    """Two decimals and a true minus sign."""
    shown = f"{value:.2f}"
    return shown.replace("-", "−") if float(shown) else shown.lstrip("-")

"""Figures of an image that moves along a singular vector: its score, and the path of its embedding."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from jepascore_core.plots import GRID, MOST, MUTED, faded, frame_figure

_PATH = "#A24FC8"


def movement_plot(path: pd.DataFrame, alpha: float) -> go.Figure:
    """Score and embedding movement as an image moves along a singular vector.

    Args:
        path: Columns ``alpha`` (step in normalised input units), ``movement`` (embedding distance)
            and ``score`` (nats).
        alpha: Where the slider stands.

    Returns:
        The figure, two stacked panels over alpha.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for row, (column, colour) in enumerate((("movement", _PATH), ("score", MOST)), start=1):
        figure.add_scatter(
            x=path["alpha"], y=path[column], mode="lines+markers", line={"color": colour, "width": 2},
            marker={"size": 4}, row=row, col=1, hovertemplate="α = %{x:.2f}<br>%{y:.2f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=alpha, line={"color": MUTED, "width": 1, "dash": "dot"})
    frame_figure(figure, height=300)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, exponentformat="power", nticks=5)
    figure.update_yaxes(title_text="‖Δ embedding‖", row=1)
    figure.update_yaxes(title_text="score (nats)", row=2)
    figure.update_xaxes(title_text="α, step along v (normalised input units)", row=2)
    figure.update_xaxes(showgrid=False, zeroline=False)
    return figure


def path_plot(
    cloud: NDArray[np.float64],
    path: NDArray[np.float64],
    alphas: NDArray[np.float64],
    alpha: float,
    axes: tuple[str, str],
) -> go.Figure:
    """The embedding's path in a plane, over other embeddings.

    Args:
        cloud: Other embeddings in the plane, (N, 2); N may be 0.
        path: The path in the plane, (n, 2).
        alphas: Step of each point of the path, (n,), ascending, in normalised input units.
        alpha: Where the slider stands.
        axes: Titles of the two axes.

    Returns:
        The figure; grey the cloud, purple the path with its ends named, blue where the image is, hollow where it began.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=cloud[:, 0], y=cloud[:, 1], mode="markers", marker={"size": 4, "color": faded(MUTED, 0.35)}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=path[:, 0], y=path[:, 1], customdata=alphas, mode="lines+markers", line={"color": _PATH, "width": 2},
        marker={"size": 4}, hovertemplate="α = %{customdata:.2f}<extra></extra>",
    )  # fmt: skip
    start, here = (int(np.abs(alphas - step).argmin()) for step in (0.0, alpha))
    for place, filled in ((start, False), (here, True)):
        marker = {"size": 9, "color": MOST if filled else "rgba(0,0,0,0)", "line": {"color": MOST, "width": 2}}
        figure.add_scatter(x=path[[place], 0], y=path[[place], 1], mode="markers", marker=marker, hoverinfo="skip")
    for place, before, name in ((0, 1, "−α"), (len(path) - 1, len(path) - 2, "+α")):
        onwards = path[place] - path[before]  # the name stands where the path would go on
        shift = 15 * onwards / (np.linalg.norm(onwards) or 1.0)
        figure.add_annotation(
            x=path[place, 0], y=path[place, 1], text=f"<b>{name}</b>", showarrow=False,
            xshift=shift[0], yshift=shift[1], font={"color": _PATH, "size": 12.5},
        )  # fmt: skip
    frame_figure(figure, height=300)
    figure.update_xaxes(title_text=axes[0], gridcolor=GRID, zeroline=False, nticks=5)
    figure.update_yaxes(title_text=axes[1], gridcolor=GRID, zeroline=False, nticks=5, scaleanchor="x")
    return figure

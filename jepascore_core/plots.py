"""Figures: data in, Plotly figure out. One visual language for every page.

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

LEAST, MOST = "#D9541E", "#2F6FDE"
LEVERAGE = "#F2A60C"
DATASET_COLOURS = ("#2F6FDE", "#E08A1E", "#A24FC8", "#1E9E7A", "#56B4E9", "#B8566B", "#8C7A2E", "#6B7F99")
DEMO_ORDER = ("demo:photos", "demo:digits", "demo:galaxies", "demo:histology")
GRID = "rgba(128,130,136,0.18)"
MUTED = "#85878D"
FONT = "Inter, sans-serif"
SCORE_AXIS = "JEPA-SCORE (nats), higher is likelier →"


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
            x=np.concatenate([k, k[::-1]]), y=ribbon, mode="lines", fill="toself", fillcolor="rgba(128,130,136,0.16)",
            line={"width": 0}, hoverinfo="skip", name="5–95 %",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=_log(band["median"]), mode="lines", line={"color": MUTED, "width": 1.5, "dash": "dot"},
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

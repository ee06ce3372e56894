"""Figures of eq. (4): how the estimate and the ranking settle as views are added."""

from math import log10

import pandas as pd
import plotly.graph_objects as go

from jepascore_core.plots import GRID, LEAST, MOST, MUTED, faded, frame_figure


def settling_plot(frame: pd.DataFrame) -> go.Figure:
    """Distance of the estimate over the first t views from that over all T.

    Args:
        frame: From ``views.settling``.

    Returns:
        The figure: median with its 95 % interval, and the band that holds 90 % of the images, nats over t.
    """
    figure = go.Figure()
    _band(figure, frame["t"], frame["low"], frame["high"], MUTED, 0.16)
    _band(figure, frame["t"], frame["median_low"], frame["median_high"], MOST, 0.22)
    _curve(figure, frame["t"], frame["median"], MOST, "solid", "t = %{x}<br>median %{y:.2f} nats<extra></extra>")
    _name(figure, frame["t"], frame["median"], "median", MOST)
    _name(figure, frame["t"], frame["high"], "95 % of images below", MUTED)
    figure.update_yaxes(title_text="|estimate<sub>t</sub> − estimate<sub>T</sub>| (nats)", rangemode="tozero")
    return _finish(figure, frame)


def ranking_plot(frame: pd.DataFrame) -> go.Figure:
    """Spearman correlation of rankings from t views.

    Args:
        frame: From ``views.ranking``.

    Returns:
        The figure: two curves with their 95 % intervals over t.
    """
    figure = go.Figure()
    for column, name, colour, dash in (
        ("first", "first t views against all T", MUTED, "dot"),
        ("disjoint", "two disjoint sets of t views", MOST, "solid"),
    ):
        part = frame.dropna(subset=column)
        _band(figure, part["t"], part[f"{column}_low"], part[f"{column}_high"], colour, 0.2)
        _curve(figure, part["t"], part[column], colour, dash, "t = %{x}<br>ρ = %{y:.3f}<extra>" + name + "</extra>")
    alone = frame.dropna(subset="disjoint")
    _name(figure, alone["t"], alone["disjoint_low"], "two disjoint sets of t", MOST, below=True)
    figure.add_annotation(
        x=log10(frame["t"].iloc[-1]), y=1, text="<b>first t against all T</b>", showarrow=False, xanchor="right",
        yshift=11, font={"color": MUTED, "size": 13},
    )  # fmt: skip
    lowest = frame[["first_low", "disjoint_low"]].min().min()
    figure.update_yaxes(title_text="Spearman ρ", range=[lowest - 0.1 * (1 - lowest), 1 + 0.15 * (1 - lowest)])
    return _finish(figure, frame)


def _curve(figure: go.Figure, t: pd.Series, y: pd.Series, colour: str, dash: str, hover: str) -> None:
    figure.add_scatter(
        x=t, y=y, mode="lines+markers", line={"color": colour, "width": 2, "dash": dash}, marker={"size": 6},
        hovertemplate=hover,
    )  # fmt: skip


def _band(figure: go.Figure, t: pd.Series, low: pd.Series, high: pd.Series, colour: str, opacity: float) -> None:
    figure.add_scatter(
        x=[*t, *t[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=faded(colour, opacity), line={"width": 0},
        hoverinfo="skip", mode="lines",
    )  # fmt: skip


def _name(figure: go.Figure, t: pd.Series, y: pd.Series, name: str, colour: str, *, below: bool = False) -> None:
    """Write a curve's name beside its second point, where it has left the axis."""
    place = min(1, len(t) - 1)
    figure.add_annotation(
        x=log10(t.iloc[place]), y=y.iloc[place], text=f"<b>{name}</b>", showarrow=False, xanchor="left",
        xshift=8, yshift=-10 if below else 10, font={"color": colour, "size": 13},
    )  # fmt: skip


def _finish(figure: go.Figure, frame: pd.DataFrame) -> go.Figure:
    """Axis of t by powers of two, with t = 1 marked as eq. (5)."""
    last = int(frame["t"].iloc[-1])
    ticks = [t for t in (1, 2, 4, 8, 16, 32, 64) if t < 0.8 * last or t == 1]
    figure.update_xaxes(
        type="log", title_text="t, views (logarithmic)", tickvals=[*ticks, last] if last > 1 else ticks, showgrid=False,
        range=[-0.06, log10(last) + 0.06], zeroline=False,
    )  # fmt: skip
    figure.add_vline(x=1, line={"color": LEAST, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=0, y=1, yref="paper", text="eq. (5)", showarrow=False, xanchor="left", yanchor="bottom",
        font={"color": LEAST, "size": 12.5},
    )  # fmt: skip
    frame_figure(figure, height=320)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure

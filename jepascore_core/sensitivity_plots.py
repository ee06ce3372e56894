"""Figures of the sensitivity page: methods over severity, class, share of wrong labels, and depth.

A method has one colour in all of them; JEPA-SCORE comes first and is drawn strongest. Names stand at the right ends of
the lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from jepascore_core.plots import DATASET_COLOURS, FONT, GRID, MUTED, frame_figure

_PANEL_PX = 300
_ROW_PX = 30  # of the dot plot
_NAMES_PX = 178  # for names of methods at the right
_SETS_PX = 110  # for names of datasets
_LINE_PX = 17  # that a name needs
_AROUND_PX = 88  # of a figure's height, for title and axis
_DASHES = ("solid", "dash", "dot", "dashdot")

CONTROL = MUTED


@dataclass(frozen=True, slots=True)
class Quantity:
    """What stands on an axis.

    Attributes:
        name: Column; its interval stands in ``<name>_low`` and ``<name>_high``.
        title: Of the axis.
        neutral: Value of no effect, where a line is drawn; None where there is none.
        least: How far the axis reaches at least to either side of it, so that noise does not look like an effect.
        bounds: Least and greatest value that there can be.
    """

    name: str
    title: str
    neutral: float | None
    least: float = 0.0
    bounds: tuple[float, float] = (-np.inf, np.inf)


AUROC = Quantity("auroc", "AUROC", 0.5, 0.15, (0.0, 1.0))
CHANGE = Quantity("change_sd", "mean change (SD of clean images)", 0.0, 0.25)
FELL = Quantity("fell", "share of images whose value falls", 0.5, 0.25, (0.0, 1.0))
MEAN = Quantity("mean", "mean JEPA-SCORE / rank (nats)", None)


def method_colours(names: Sequence[str], controls: Sequence[str] = ()) -> dict[str, str]:
    """A colour for each method; a control is grey.

    Args:
        names: Of the methods, in order.
        controls: Those that cannot see what is changed.

    Returns:
        Hex colour by name.
    """
    seen = [name for name in names if name not in controls]
    colours = {name: DATASET_COLOURS[place % len(DATASET_COLOURS)] for place, name in enumerate(seen)}
    return colours | dict.fromkeys(controls, CONTROL)


def dose_plot(
    findings: pd.DataFrame, titles: Mapping[str, str], quantity: Quantity, strengths: Mapping[str, Sequence[str]]
) -> go.Figure:
    """A panel for each kind of corruption: a quantity over the severity, a line for each method.

    Args:
        findings: Columns ``kind``, ``severity``, ``method``, ``n`` and those of the quantity.
        titles: Name for people by method, in the order to draw.
        quantity: What to draw; severity 0 is the clean image, where it is neutral.
        strengths: What each severity of a kind is, in words.

    Returns:
        The figure.
    """
    kinds = list(dict.fromkeys(findings["kind"]))
    figure = make_subplots(1, len(kinds), shared_yaxes=True, horizontal_spacing=0.03)
    colours = method_colours(list(titles))
    for column, kind in enumerate(kinds, start=1):
        for place, name in enumerate(titles):
            mine = findings[(findings["kind"] == kind) & (findings["method"] == name)].sort_values("severity")
            if len(mine):
                words = [f"{escape(kind)} {s}, {escape(strengths[kind][s - 1])}" for s in mine["severity"]]
                start = pd.DataFrame({"severity": [0], **{n: [quantity.neutral] for n in _columns(quantity)}})
                line = pd.concat([start, mine], ignore_index=True)
                _line(
                    figure, line, "severity", quantity, titles[name], colours[name], place,
                    ["clean image", *words], row=1, col=column,
                )  # fmt: skip
        _neutral(figure, quantity, row=1, col=column)
        figure.add_annotation(
            text=f"<b>{escape(kind)}</b>", x=0, y=1, xref=f"x{column if column > 1 else ''} domain", yref="paper",
            xanchor="left", yanchor="bottom", yshift=6, showarrow=False, font={"size": 13, "family": FONT},
        )  # fmt: skip
    last = findings[findings["kind"] == kinds[-1]]
    _frame(figure, quantity, _ends(last, "severity", titles, quantity.name), colours, titles)
    figure.update_xaxes(tickvals=[0, 1, 2, 3, 4, 5], range=[-0.25, 5.25], title_text="severity")
    return figure


def class_plot(findings: pd.DataFrame, macro: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """AUROC of each class that was left out, a dot with its interval for each method; the mean stands on top.

    Args:
        findings: Columns ``class_name``, ``method``, ``n_out``, ``auroc``, ``auroc_low``, ``auroc_high``.
        macro: Columns ``method``, ``classes`` and the same of the mean.
        titles: Name for people by method, in the order to draw.

    Returns:
        The figure; classes by the first method's AUROC.
    """
    first = findings[findings["method"] == next(iter(titles))]
    order = first.sort_values("auroc", ascending=False)["class_name"].tolist()
    order += [name for name in dict.fromkeys(findings["class_name"]) if name not in order]
    rows = {name: place + 1.3 for place, name in enumerate(order)}
    figure, colours = go.Figure(), method_colours(list(titles))
    step = 0.62 / max(len(titles) - 1, 1) if len(titles) > 1 else 0.0
    for place, name in enumerate(titles):
        mine = findings[findings["method"] == name]
        mean = macro[macro["method"] == name]
        shift = (place - (len(titles) - 1) / 2) * step
        y = [*(rows[one] + shift for one in mine["class_name"]), *([shift] * len(mean))]
        x = [*mine["auroc"], *mean["auroc"]]
        low, high = ([*mine[end], *mean[end]] for end in ("auroc_low", "auroc_high"))
        words = [f"{escape(str(c))}, {n} images" for c, n in zip(mine["class_name"], mine["n_out"], strict=True)]
        words += [f"mean of {n} classes" for n in mean["classes"]]
        figure.add_scatter(
            x=x, y=y, mode="markers", name=escape(titles[name]),
            marker={"size": 8, "color": colours[name], "symbol": ["circle"] * len(mine) + ["diamond"] * len(mean)},
            error_x={"type": "data", "symmetric": False, "thickness": 1.4, "width": 0, "color": colours[name],
                     "array": np.subtract(high, x), "arrayminus": np.subtract(x, low)},
            customdata=np.column_stack([low, high]) if x else None, text=words,
            hovertemplate=f"<b>{escape(titles[name])}</b><br>%{{text}}<br>AUROC %{{x:.3f}} (%{{customdata[0]:.3f}} to "
            "%{customdata[1]:.3f})<extra></extra>",
        )  # fmt: skip
    bottom = max(rows.values(), default=0) + 0.7
    height = max(200, round((bottom + 0.7) * max(_ROW_PX, 13 * len(titles))) + 96)
    frame_figure(figure, height=height)
    figure.add_vline(x=0.5, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.update_layout(
        showlegend=True, hovermode="closest", margin={"t": 40},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12.5}, "title": None,
                "itemclick": False, "itemdoubleclick": False},
    )  # fmt: skip
    figure.update_xaxes(
        range=[-0.03, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1], gridcolor=GRID, zeroline=False, ticks="",
        title_text="AUROC, all other classes above →",
    )  # fmt: skip
    figure.update_yaxes(
        range=[bottom, -0.6], tickvals=[0, *rows.values()], showgrid=False, zeroline=False, ticks="",
        ticktext=["<b>mean</b>", *(escape(_short(name)) for name in rows)],
    )  # fmt: skip
    return figure


def share_plot(findings: pd.DataFrame, titles: Mapping[str, str], controls: Sequence[str]) -> go.Figure:
    """AUROC of right labels over wrong ones, over the share that was shuffled.

    Args:
        findings: Columns ``share``, ``method``, ``wrong``, ``n`` and those of the AUROC.
        titles: Name for people by method, in the order to draw.
        controls: Methods that do not see labels.

    Returns:
        The figure.
    """
    figure, colours = go.Figure(), method_colours(list(titles), controls)
    for place, name in enumerate(titles):
        mine = findings[findings["method"] == name].sort_values("share")
        mine = mine.assign(percent=100 * mine["share"])
        words = [f"{p:g} % shuffled, {w:.1f} of {n} labels wrong" for p, w, n in
                 zip(mine["percent"], mine["wrong"], mine["n"], strict=True)]  # fmt: skip
        dash = "dot" if name in controls else None
        _line(figure, mine, "percent", AUROC, titles[name], colours[name], place, words, dash=dash)
    _neutral(figure, AUROC)
    ends = findings.assign(percent=100 * findings["share"])
    _frame(figure, AUROC, _ends(ends, "percent", titles, "auroc"), colours, titles, height=_PANEL_PX + 90)
    shares = sorted(100 * share for share in set(findings["share"]))
    figure.update_xaxes(tickvals=shares, title_text="labels shuffled (%)", range=[0, max(shares, default=1) * 1.04])
    return figure


def depth_plot(findings: pd.DataFrame, titles: Mapping[str, str], count: int) -> go.Figure:
    """AUROC over depth, a line for each method.

    Args:
        findings: Columns ``layer``, ``method``, ``n_in``, ``n_out`` and those of the AUROC.
        titles: Name for people by method, in the order to draw.
        count: Layers of the encoder.

    Returns:
        The figure.
    """
    figure, colours = go.Figure(), method_colours(list(titles))
    for place, name in enumerate(titles):
        mine = findings[findings["method"] == name].sort_values("layer")
        words = [f"layer {layer} of {count}" for layer in mine["layer"]]
        _line(figure, mine, "layer", AUROC, titles[name], colours[name], place, words)
    _neutral(figure, AUROC)
    _frame(figure, AUROC, _ends(findings, "layer", titles, "auroc"), colours, titles, height=_PANEL_PX + 60)
    _depth_axis(figure, count)
    return figure


def depth_means_plot(findings: pd.DataFrame, names: tuple[str, str], colours: tuple[str, str], count: int) -> go.Figure:
    """Mean JEPA-SCORE of two sets of images over depth, divided by the rank.

    Args:
        findings: Columns ``layer``, ``mean_in``, ``mean_out`` (nats for each direction).
        names: Of the two sets.
        colours: Of the two sets.
        count: Layers of the encoder.

    Returns:
        The figure.
    """
    figure = go.Figure()
    held = findings.drop_duplicates("layer").sort_values("layer")
    ends = {}
    for name, colour, column in zip(names, colours, ("mean_in", "mean_out"), strict=True):
        figure.add_scatter(
            x=held["layer"], y=held[column], mode="lines+markers", line={"color": colour, "width": 2.2},
            marker={"size": 7}, name=escape(name),
            hovertemplate=f"<b>{escape(name)}</b><br>layer %{{x}}<br>%{{y:.3f}} nats a direction<extra></extra>",
        )  # fmt: skip
        finite = held[np.isfinite(held[column])]
        if len(finite):
            ends[column] = float(finite[column].iloc[-1])
    labels = dict(zip(("mean_in", "mean_out"), names, strict=True))
    by_label = dict(zip(("mean_in", "mean_out"), colours, strict=True))
    _frame(figure, MEAN, ends, by_label, labels, height=_PANEL_PX + 60, names_px=_SETS_PX)
    _depth_axis(figure, count)
    return figure


def _depth_axis(figure: go.Figure, count: int) -> None:
    """Layers from 1 to the last, which is the encoder itself."""
    step = max(1, count // 12)
    ticks = sorted({*range(1, count + 1, step), count})
    figure.update_xaxes(
        tickvals=ticks,
        range=[0.75 if count > 1 else 0.5, count + 0.25],
        title_text="layer (the last is the encoder itself)",
    )


def _line(
    figure: go.Figure,
    rows: pd.DataFrame,
    x: str,
    quantity: Quantity,
    title: str,
    colour: str,
    place: int,
    words: Sequence[str],
    *,
    dash: str | None = None,
    **where: int,
) -> None:
    """One method's line with intervals; the first method is the strongest."""
    values, low, high = (rows[name].to_numpy(float) for name in _columns(quantity))
    figure.add_scatter(
        x=rows[x], y=values, mode="lines+markers", name=escape(title), text=list(words),
        line={"color": colour, "width": 2.8 if place == 0 else 1.7,
              "dash": dash or (_DASHES[0] if place == 0 else _DASHES[(place // len(DATASET_COLOURS)) % len(_DASHES)])},
        marker={"size": 7 if place == 0 else 5},
        error_y={"type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low,
                 "thickness": 1.2, "width": 0, "color": colour},
        customdata=np.column_stack([low, high]),
        hovertemplate=f"<b>{escape(title)}</b><br>%{{text}}<br>%{{y:.3f}} (%{{customdata[0]:.3f}} to "
        "%{customdata[1]:.3f})<extra></extra>", **where,
    )  # fmt: skip


def _neutral(figure: go.Figure, quantity: Quantity, **where: int) -> None:
    """The line of no effect."""
    if quantity.neutral is None:
        return
    figure.add_hline(y=quantity.neutral, line={"color": MUTED, "width": 1, "dash": "dot"}, **where)


def _frame(
    figure: go.Figure,
    quantity: Quantity,
    ends: Mapping[str, float],
    colours: Mapping[str, str],
    titles: Mapping[str, str],
    *,
    height: int = _PANEL_PX,
    names_px: int = _NAMES_PX,
) -> None:
    """Axes, size, and names at the right ends of the lines, none over another."""
    frame_figure(figure, height=height)
    figure.update_layout(margin={"r": names_px, "t": 30}, hovermode="closest")
    figure.update_xaxes(showgrid=False, zeroline=False, ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=False, ticks="")
    low, high = _span(figure, quantity)
    figure.update_yaxes(range=[low, high])
    figure.update_yaxes(title_text=quantity.title, selector=0)
    px = (height - _AROUND_PX) / ((high - low) or 1)
    wanted = {name: (value - low) * px for name, value in ends.items() if np.isfinite(value)}
    for name, y in _spread(wanted, height - _AROUND_PX).items():
        strong = name == next(iter(titles))
        text = escape(_short(titles[name], 26))
        figure.add_annotation(
            text=f"<b>{text}</b>" if strong else text, x=1, y=ends[name], xref="paper", yref="y", yanchor="middle",
            xanchor="left", xshift=8, yshift=round(y - wanted[name]), showarrow=False,
            font={"color": colours[name], "size": 12.5, "family": FONT},
        )  # fmt: skip


def _ends(findings: pd.DataFrame, x: str, titles: Mapping[str, str], y: str) -> dict[str, float]:
    """Where each method's line ends."""
    found = {}
    for name in titles:
        mine = findings[findings["method"] == name].sort_values(x)
        if len(mine):
            found[name] = float(mine[y].iloc[-1])
    return found


def _spread(wanted: Mapping[str, float], height: float) -> dict[str, float]:
    """Heights of names in px, as near as may be to those that they want, a line apart."""
    order = sorted(wanted, key=lambda name: wanted[name])
    placed: dict[str, float] = {}
    before = -float(_LINE_PX)
    for name in order:
        before = placed[name] = max(wanted[name], before + _LINE_PX, 0.0)
    above = height + _LINE_PX
    for name in reversed(order):
        above = placed[name] = min(placed[name], above - _LINE_PX)
    return placed


def _span(figure: go.Figure, quantity: Quantity) -> tuple[float, float]:
    """Range of an axis that holds all intervals and the line of no effect."""
    middle = quantity.neutral
    values = [] if middle is None else [middle - quantity.least, middle + quantity.least]
    for trace in figure.data:
        y = np.asarray(trace.y, float)
        ends = np.asarray(trace.customdata, float) if trace.customdata is not None else y
        values += [*y[np.isfinite(y)], *ends[np.isfinite(ends)]]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.05 * ((high - low) or 1.0)
    least, most = quantity.bounds
    return max(low - room, least - 0.02), min(high + room, most + 0.02)


def _columns(quantity: Quantity) -> tuple[str, str, str]:
    return quantity.name, f"{quantity.name}_low", f"{quantity.name}_high"


def _short(name: str, most: int = 28) -> str:
    """A name that fits beside a chart: without what stands in brackets, if need be."""
    name = name if len(name) <= most else name.partition(" (")[0]
    return name if len(name) <= most else f"{name[: most - 1]}…"

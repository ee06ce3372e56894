"""Figures of pages that help to decide: accuracy against the share of images that is kept."""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from jepascore_core.curation import PROBE_WORDS, Outcome, Trials
from jepascore_core.plots import FONT, GRID, LEAST, MOST, MUTED, frame_figure

RULE_COLOURS = {
    "top": MOST,
    "bottom": LEAST,
    "middle": "#A24FC8",
    "stratified": "#56B4E9",
    "stratified_bottom": "#C98A2B",
}
RULE_NAMES = {
    "top": "highest",
    "bottom": "lowest",
    "middle": "middle",
    "stratified": "highest per class",
    "stratified_bottom": "lowest per class",
}
_HEIGHT_PX = 400
_LINE_PX = 15  # least distance of two names
_NAMES_SHARE = 0.38  # of a panel's width that names take


def curation_plot(trials: Trials) -> go.Figure:
    """Accuracy on held-out images against the share of images that is kept, a panel for each probe.

    Random choice is a grey line with its 95 % band, all images a dotted line; a filled dot differs from random after
    correction.

    Args:
        trials: What was measured.

    Returns:
        The figure.
    """
    probes = list(dict.fromkeys(one.probe for one in trials.outcomes))
    rules = [rule for rule in RULE_COLOURS if any(one.rule == rule for one in trials.outcomes)]
    titles = [f"<b>{PROBE_WORDS[probe]}</b>" for probe in probes]
    figure = make_subplots(cols=len(probes), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    low, high = _span(trials)
    shares = sorted({one.fraction for one in trials.tested()})
    left, right = 0.0, 100 * max(shares)
    names_px = (right - left) * _NAMES_SHARE / (1 - _NAMES_SHARE)
    for column, probe in enumerate(probes, start=1):
        _add_random(figure, column, trials.of("random", probe))
        (whole,) = trials.of("all", probe)
        ends = [("all", MUTED, 100 * whole.accuracy), ("random", MUTED, 100 * trials.of("random", probe)[-1].accuracy)]
        figure.add_scatter(
            x=[left, right], y=[100 * whole.accuracy] * 2, mode="lines", row=1, col=column, name="all images",
            line={"color": MUTED, "width": 1, "dash": "dot"},
            hovertemplate=f"all {whole.n_kept:.0f} images: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
        for place, rule in enumerate(rules):
            aside = 1.2 * (place - (len(rules) - 1) / 2)  # keeps the bars apart
            _add_rule(figure, column, trials.of(rule, probe), RULE_COLOURS[rule], aside)
            ends.append((RULE_NAMES[rule], RULE_COLOURS[rule], 100 * trials.of(rule, probe)[-1].accuracy))
        _name(figure, column, ends, right, (high - low) / (_HEIGHT_PX - 100))
    frame_figure(figure, height=_HEIGHT_PX)
    figure.update_annotations(font={"family": FONT, "size": 12.5})
    figure.update_layout(margin={"t": 34}, hovermode="closest")
    figure.update_xaxes(
        title_text="images kept (%)", range=[left, right + names_px], tickvals=[100 * share for share in shares],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_yaxes(range=[low, high], gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title_text="accuracy on held-out images (%)", col=1)
    return figure


def _span(trials: Trials) -> tuple[float, float]:
    """Ends of the axis of accuracies, %."""
    ends = [100 * value for one in trials.outcomes for value in (one.low, one.high)]
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    return max(0.0, min(ends) - margin), min(100.0, max(ends) + margin) + margin


def _add_random(figure: go.Figure, column: int, outcomes: Sequence[Outcome]) -> None:
    """The band and the line of random choice."""
    x = np.array([100 * one.fraction for one in outcomes])
    low, high, mean = (np.array([100 * getattr(one, name) for one in outcomes]) for name in ("low", "high", "accuracy"))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        fillcolor="rgba(128,130,136,0.18)", line={"width": 0}, hoverinfo="skip", name="random, 95 %", row=1, col=column,
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=mean, mode="lines+markers" if len(x) == 1 else "lines", line={"color": MUTED, "width": 2}, name="random",
        row=1, col=column,
        customdata=np.stack([low, high], axis=1),
        hovertemplate="random %{x:g} %: %{y:.1f} % (%{customdata[0]:.1f} … %{customdata[1]:.1f})<extra></extra>",
    )  # fmt: skip


def _add_rule(figure: go.Figure, column: int, outcomes: Sequence[Outcome], colour: str, aside: float) -> None:
    """A rule's accuracies with the intervals of their differences from random."""
    name = escape(RULE_NAMES[outcomes[0].rule])
    figure.add_scatter(
        x=[100 * one.fraction + aside for one in outcomes], y=[100 * one.accuracy for one in outcomes],
        mode="lines+markers", row=1, col=column, name=name, line={"color": colour, "width": 2},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.2, "width": 0, "color": colour,
            "array": [100 * (one.difference_high - one.difference) for one in outcomes],
            "arrayminus": [100 * (one.difference - one.difference_low) for one in outcomes],
        },
        marker={
            "size": 8, "color": colour, "line": {"width": 1.5, "color": colour},
            "symbol": ["circle" if one.found != "undecided" else "circle-open" for one in outcomes],
        },
        customdata=[
            (100 * one.fraction, 100 * one.difference, 100 * one.difference_low, 100 * one.difference_high, one.found)
            for one in outcomes
        ],
        hovertemplate=(
            f"{name} %{{customdata[0]:g}} %: %{{y:.1f}} %<br>against random %{{customdata[1]:+.1f}} "
            "(%{customdata[2]:+.1f} … %{customdata[3]:+.1f}) points, %{customdata[4]}<extra></extra>"
        ),
    )  # fmt: skip


def _name(
    figure: go.Figure, column: int, ends: Sequence[tuple[str, str, float]], right: float, unit_per_px: float
) -> None:
    """Names beside the ends of the lines, moved apart where they would cover one another."""
    ordered = sorted(ends, key=lambda end: end[2])
    placed: list[float] = []
    for _, _, y in ordered:
        placed.append(max(y, placed[-1] + _LINE_PX * unit_per_px) if placed else y)
    shift = float(np.mean([y for _, _, y in ordered]) - np.mean(placed))  # so that they are not all above
    for (name, colour, _), y in zip(ordered, placed, strict=True):
        figure.add_annotation(
            x=right, y=y + shift, text=f"<b>{escape(name)}</b>", showarrow=False, xanchor="left", xshift=16,
            font={"color": colour, "size": 12, "family": FONT}, row=1, col=column,
        )  # fmt: skip

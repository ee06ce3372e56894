"""The figure of a map: one dot for each image, coloured by score, class or run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from jepascore_core.mapping import Points
from jepascore_core.plots import DATASET_COLOURS, GRID, LEAST, MOST, MUTED, frame_figure

SVG_DOTS = 2000  # up to here each dot is drawn as vector graphics, which need no WebGL
MOST_SVG_DOTS = 4000  # drawn where a browser has no WebGL
MOST_CLASSES = len(DATASET_COLOURS)
HEIGHT_PX = 600

_MIDDLE = "#A3A5AB"  # between orange and blue, seen on white and on dark grey alike
_OTHER = "#A3A5AB"
_TEXT_BYTES = 66  # of a dot's label, on average; with its place, colour and score that is 1 MB for 10,000 images
_STEPS = 250  # of the scale of percentiles


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """What the dots' colours say.

    Attributes:
        values: One for each image, (M,).
        scale: Colours from 0 to ``high``, as Plotly takes them.
        high: Greatest value of the scale.
        ticks: Values and words beside the colour bar; none draws no bar.
        names: Colour, name and number of images of each group, for a legend; none where there are no groups.
    """

    values: NDArray[np.uint16] = field(repr=False)
    scale: list[list[Any]]
    high: int
    ticks: tuple[tuple[int, str], ...] = ()
    names: tuple[tuple[str, str, int], ...] = ()


def by_score(points: Points, *, in_nats: bool = True) -> Colouring:
    """Orange for the least likely images to blue for the most likely, by percentile: outliers do not eat the scale.

    Args:
        points: The images.
        in_nats: Name the scale's marks by the score at that percentile too, which means something where the
            percentiles are of all images together.

    Returns:
        The colouring.
    """
    finite = points.scores[np.isfinite(points.scores)]
    marks = []
    for percent, word in ((0, "least likely"), (50, "median"), (100, "most likely")):
        score = np.percentile(finite, percent) if in_nats and len(finite) else None
        nats = "" if score is None else f"{_minus(f'{score:.1f}')} nats"
        marks.append((percent * _STEPS // 100, f"{word}<br>{nats}" if nats else word))
    values = np.round(points.percentiles * _STEPS / 100).astype(np.uint16)
    return Colouring(values, [[0.0, LEAST], [0.5, _MIDDLE], [1.0, MOST]], _STEPS, tuple(marks))


def largest_classes(points: Points) -> list[str]:
    """The classes with most images on a map, as many as there are colours, in the order of their datasets."""
    sizes = np.bincount(points.class_codes, minlength=len(points.class_names))
    largest = np.sort(np.argsort(-sizes, kind="stable")[:MOST_CLASSES])
    return [points.class_names[code] for code in largest if sizes[code] and points.class_names[code]]


def by_class(points: Points, classes: Sequence[str]) -> Colouring:
    """A colour for each of some classes, grey for all others.

    Args:
        points: The images.
        classes: The classes; the first ``MOST_CLASSES`` have a colour.

    Returns:
        The colouring.
    """
    shown = list(classes)[:MOST_CLASSES]
    codes = np.array(
        [shown.index(name) if name in shown else len(shown) for name in points.class_names], dtype=np.uint16
    )
    values = codes[points.class_codes] if len(codes) else np.zeros(len(points), np.uint16)
    return _groups(values, [*shown, "other classes" if shown else "no class"], [*DATASET_COLOURS[: len(shown)], _OTHER])


def by_run(points: Points, names: Sequence[str], colours: Sequence[str]) -> Colouring:
    """A colour for each run.

    Args:
        points: The images.
        names: Of the map's runs, in order.
        colours: Hex colour of each.

    Returns:
        The colouring.
    """
    return _groups(points.codes.astype(np.uint16), names, colours)


def labels(points: Points) -> list[str]:
    """What a pointer reads on each dot beside its score: class and key, cut where all would be too much to send."""
    found: list[str] = []
    for width in (60, 40, 24, 12, 6):
        classes = [escape(_cut(name, width)) for name in points.class_names]
        keys = (escape(_cut(key, width)) for key in points.keys)
        rows = zip(points.class_codes, keys, strict=True)
        found = ["<br>".join(filter(None, (classes[code], key))) for code, key in rows]
        together = "".join(found)  # as Plotly sends it, <, > and / take six bytes, and so do letters beyond ASCII
        if len(json.dumps(together)) + 5 * sum(map(together.count, "<>/")) <= _TEXT_BYTES * max(len(found), 100):
            break
    return found


def map_plot(
    points: Points,
    colouring: Colouring,
    *,
    shown: int | None = None,
    dot_px: int,
    webgl: bool,
    axes: tuple[str, str] | None = None,
    areas: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
    picked: Sequence[int] = (),
) -> go.Figure:
    """Draw a map. Both axes have the same scale.

    Args:
        points: The images.
        colouring: What their colours say.
        shown: Draw only the first ones; None draws all.
        dot_px: Diameter of a dot.
        webgl: Draw with WebGL; else as vector graphics, for few dots.
        axes: Titles of the axes; None where they mean nothing.
        areas: Circled already: x and y of the corners of a lasso, or of two opposite ones of a box.
        picked: Dots that are picked already, one by one.

    Returns:
        The figure, whose dots can be circled.
    """
    some = slice(shown)
    bar = {
        "orientation": "h", "thickness": 8, "len": 0.5, "x": 0, "xanchor": "left", "xpad": 30, "ypad": 0,
        "yref": "container", "y": 0.99, "yanchor": "top", "outlinewidth": 0, "ticks": "", "tickfont": {"size": 12},
        "tickvals": [value for value, _ in colouring.ticks], "ticktext": [word for _, word in colouring.ticks],
    }  # fmt: skip
    trace = (go.Scattergl if webgl else go.Scatter)(
        x=points.xy[some, 0], y=points.xy[some, 1], mode="markers", text=labels(points)[some],
        customdata=np.stack([points.scores, points.percentiles], axis=1)[some].astype(np.float32),
        hovertemplate="%{text}<br>%{customdata[0]:.2f} nats, percentile %{customdata[1]:.0f}<extra></extra>",
        marker={
            "size": dot_px, "color": colouring.values[some], "colorscale": colouring.scale, "cmin": 0,
            "cmax": colouring.high, "showscale": bool(colouring.ticks), "colorbar": bar, "opacity": 0.85,
        },
        selected={"marker": {"opacity": 0.95}}, unselected={"marker": {"opacity": 0.1}},
        selectedpoints=list(picked) or None,
    )  # fmt: skip
    figure = go.Figure(trace)
    frame_figure(figure, height=HEIGHT_PX)
    figure.update_layout(margin_t=56 if colouring.ticks else 28)
    line = {"color": MUTED, "width": 1.5, "dash": "dot"}
    figure.update_layout(
        dragmode="lasso", hovermode="closest", hoverdistance=8, newselection={"line": line},
        selections=[{**_outline(area), "line": line, "xref": "x", "yref": "y"} for area in areas],
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": MOST, "orientation": "h"},
    )  # fmt: skip
    figure.update_xaxes(zeroline=False, gridcolor=GRID, nticks=6, title_text=axes[0] if axes else None)
    figure.update_yaxes(zeroline=False, gridcolor=GRID, nticks=6, title_text=axes[1] if axes else None, scaleanchor="x")
    if axes is None:
        figure.update_xaxes(showgrid=False, showticklabels=False, ticks="")
        figure.update_yaxes(showgrid=False, showticklabels=False, ticks="")
    return figure


def _groups(values: NDArray[np.uint16], names: Sequence[str], colours: Sequence[str]) -> Colouring:
    """A colour for each group that has an image."""
    sizes = np.bincount(values, minlength=len(names))
    steps = [[edge / len(names), colour] for i, colour in enumerate(colours) for edge in (i, i + 1)]
    told = tuple((c, name, int(n)) for c, name, n in zip(colours, names, sizes, strict=True) if n)
    # each group's value lies in the middle of its step
    return Colouring((2 * values + 1).astype(np.uint16), steps, 2 * len(names), names=told)


def _outline(area: tuple[Sequence[float], Sequence[float]]) -> dict[str, Any]:
    """A circled area as Plotly draws it."""
    x, y = ([float(value) for value in axis] for axis in area)
    if len(x) == 2:
        return {"type": "rect", "x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1]}
    return {"type": "path", "path": "M" + "L".join(f"{u},{v}" for u, v in zip(x, y, strict=True)) + "Z"}


def _cut(text: str, width: int) -> str:
    """The end of a text, which tells keys apart, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"…{flat[len(flat) - width + 1 :]}" if width else ""


def _minus(number: str) -> str:
    return number.replace("-", "−")

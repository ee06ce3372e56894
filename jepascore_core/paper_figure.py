"""Figures 1, 5 and 6 of the paper for print, on white: PDF, SVG or PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jepascore_core.drawing import saved, width_mm_of
from jepascore_core.errors import RunError
from jepascore_core.files import expanded, why, written_aside
from jepascore_core.naming import printable
from jepascore_core.paper_layout import BLOCK_GAP_MM, KINDS, MM, Layout, PaperRow, layout, picture, size_in_words
from jepascore_core.plots import LEAST, MOST
from jepascore_core.text import listed, number

HEADS = {"least": ("Least likely", LEAST), "most": ("Most likely", MOST), "random": ("Random", "#6E7075")}
INK, MUTED, LINE, HOLE = "#1C1D1F", "#6E7075", "#D9D8D4", "#EFEFEB"

_LABEL_GAP_MM = 2.0
_PT = 25.4 / 72  # mm


def paper_figure(
    rows: Sequence[PaperRow],
    kind: str = "pdf",
    *,
    columns: Sequence[str] = ("least", "most"),
    width_mm: float = 180.0,
    show_scores: bool = True,
    about: str = "",
) -> bytes:
    """Draw the figure for print, on white.

    Args:
        rows: The rows; at least one.
        kind: ``pdf``, ``svg`` (both with text as text and each thumbnail at its own resolution) or ``png`` (300 dpi).
        columns: What each group of a row is: ``least``, ``most`` or ``random``.
        width_mm: Width of the figure; its height follows. 180 spans two columns of most journals, 88 one.
        show_scores: Write the score beneath each image.
        about: Description kept in the file's metadata.

    Returns:
        The file; the same rows give the same bytes.

    Raises:
        RunError: There is nothing to draw, or the kind, a column or the width is not known or out of range.
    """
    if kind not in KINDS:
        raise RunError(f"A figure can be {listed(sorted(KINDS))}, not {kind!r}.")
    place = layout(rows, columns=columns, width_mm=width_mm, show_scores=show_scores)
    return saved(
        lambda: _figure(rows, place, columns, show_scores=show_scores, smooth=kind == "png"),
        kind, title="Least and most likely images by JEPA-SCORE", about=about,
    )  # fmt: skip


def write_figure(
    rows: Sequence[PaperRow],
    path: str | Path,
    *,
    columns: Sequence[str] = ("least", "most"),
    width_mm: float = 180.0,
    show_scores: bool = True,
    about: str = "",
) -> str:
    """Write the figure to a file, whole or not at all; arguments as ``paper_figure``.

    Args:
        rows: The rows.
        path: The file; its ending decides the format; replaced if it exists.
        columns: What each group of a row is.
        width_mm: Width of the figure.
        show_scores: Write the score beneath each image.
        about: Description kept in the file's metadata.

    Returns:
        Its size and the resolution of its images, in words.

    Raises:
        RunError: The ending is unknown, the figure cannot be drawn, or the file cannot be written.
    """
    path = expanded(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise RunError(f"Cannot draw {path.name!r}: the name must end in .pdf, .svg or .png.")
    options: dict[str, Any] = {"columns": columns, "width_mm": width_mm, "show_scores": show_scores}
    data = paper_figure(rows, kind, about=about, **options)
    try:
        with written_aside(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error
    return size_in_words(rows, layout(rows, **options))


def _figure(
    rows: Sequence[PaperRow], place: Layout, columns: Sequence[str], *, show_scores: bool, smooth: bool
) -> Figure:
    """The figure: one axes in millimetres, from the upper left corner."""
    figure = Figure(figsize=(place.width * MM, place.height * MM), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for name, lefts in zip(columns, place.lefts, strict=True):
        head, colour = HEADS[name]
        if lefts:
            axes.text(lefts[0], 0.4, head, color=colour, size=7.5, weight=600, va="top")
    for row, before, top in zip(rows, [None, *rows], place.tops, strict=False):
        if before is None or before.title != row.title:
            middle = top - (BLOCK_GAP_MM / 2 + 0.2 if before else 0.7)
            axes.plot([0, place.width], [middle, middle], color=LINE, linewidth=0.4, solid_capstyle="butt")
        _draw_label(axes, row, top, place, with_title=before is None or before.title != row.title)
        for group, lefts in zip(row.groups, _places(row, place), strict=True):
            for left, image in zip(lefts, group.to_dict("records"), strict=False):
                _draw_tile(axes, left, top, place.side, image["thumbnail"], smooth=smooth)
                if show_scores and np.isfinite(image["score"]):
                    _draw_score(axes, left + place.side / 2, top + place.side, place.side, float(image["score"]))
    axes.set(xlim=(0, place.width), ylim=(place.height, 0), aspect="auto")
    return figure


def _places(row: PaperRow, place: Layout) -> Sequence[Sequence[float]]:
    """Left edges of the places of each group of a row."""
    return place.lefts if len(row.groups) == len(place.lefts) else [place.spread]


def _draw_tile(axes: Axes, left: float, top: float, side: float, jpeg: bytes | None, *, smooth: bool) -> None:
    """One thumbnail, cropped to a square, with a hair-line, so that white ones have an edge."""
    square = picture(jpeg)
    if square is not None:
        axes.imshow(
            square, extent=(left, left + side, top + side, top), aspect="auto",
            interpolation="lanczos" if smooth else "none",
        )  # fmt: skip
    face = "none" if square is not None else HOLE
    axes.add_patch(Rectangle((left, top), side, side, facecolor=face, edgecolor=LINE, linewidth=0.25, zorder=2))


def _draw_score(axes: Axes, middle: float, bottom: float, side: float, score: float) -> None:
    """The score beneath its image, smaller where the image is narrow."""
    text = number(score, 1)
    size = min(6.0, side / (0.62 * len(text) * _PT))
    axes.text(middle, bottom + 0.55, text, size=size, color=MUTED, ha="center", va="top")


def _draw_label(axes: Axes, row: PaperRow, top: float, place: Layout, *, with_title: bool) -> None:
    """Name of a class and of an encoder, in as many lines as there is room for."""
    if not place.label:
        return
    room = place.label - _LABEL_GAP_MM
    height = 7 * _PT * 1.3
    most = max(1, int((place.side + 1) / height))
    title = wrapped(row.title, room, size=7, weight=600, most=max(1, most - 1 if row.label else most))
    lines = [(line, 600, INK) for line in (title if with_title else [])]
    left = max(1, most - len(lines))
    lines += [(line, 400, MUTED) for line in wrapped(row.label, room, size=6.5, most=left)]
    for number_, (line, weight, colour) in enumerate(lines):
        size = 7 if weight == 600 else 6.5
        axes.text(0, top + number_ * height, line, size=size, weight=weight, color=colour, va="top")


def wrapped(text: str, room_mm: float, *, size: float, weight: int = 400, most: int = 2) -> list[str]:
    """Break text into lines that fit; what does not fit ends in an ellipsis.

    Args:
        text: Any text; shown in one line's worth of printable letters.
        room_mm: Width of a line.
        size: Of the type, pt.
        weight: Of the type.
        most: Lines.

    Returns:
        The lines; none for empty text.
    """
    lines: list[str] = []
    words = printable(text).split()
    while words and len(lines) < most:
        line = words.pop(0)
        while words and width_mm_of(f"{line} {words[0]}", size, weight) <= room_mm:
            line = f"{line} {words.pop(0)}"
        if width_mm_of(line, size, weight) > room_mm:  # one word that is too long
            head = _fitting(line, room_mm, size, weight)
            words.insert(0, line[len(head) :])
            line = head
        lines.append(line)
    if words:
        lines[-1] = _fitting(lines[-1] + " " + words[0], room_mm - width_mm_of("…", size, weight), size, weight) + "…"
    return lines


def _fitting(text: str, room_mm: float, size: float, weight: int) -> str:
    """The longest beginning that fits, at least one letter."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_mm_of(text[:middle], size, weight) <= room_mm else (low, middle - 1)
    return text[:low]

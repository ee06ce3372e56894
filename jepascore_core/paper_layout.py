"""Layout of Figures 1, 5 and 6 of the paper: least and most likely images of classes, a row for each encoder.

What stands where; ``paper_figure`` draws it. Nothing here waits for Matplotlib.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from jepascore_core import store
from jepascore_core.errors import RunError
from jepascore_core.naming import (
    distinct_names,
    encoder_name,
    encoder_phrase,
    is_imported,
    printable,
    public_id,
    rule_name,
)
from jepascore_core.store import Run, ScoreRule
from jepascore_core.text import listed

KINDS = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}
COLUMNS = ("least", "most", "random")
WIDTHS_MM = (40.0, 400.0)
MOST_IMAGES = 4000  # in one figure
MM = 1 / 25.4  # inches
HEAD_MM, SCORE_MM, ROW_GAP_MM, BLOCK_GAP_MM = 5.0, 2.9, 1.4, 3.2
NAMES_MM = 6.4  # two lines of type

_TILE_GAP_MM, _GROUP_GAP_MM = 0.8, 4.0


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One line of the figure.

    Attributes:
        title: Class, or dataset; consecutive rows of one title stand together, and the first tells it.
        label: What tells this row from others of the title, such as its encoder; may be empty.
        groups: One frame a column, or a single one that spreads over all columns. Each is as ``store.extremes`` returns
            it: ``thumbnail`` (JPEG or None) and ``score`` (nats, NaN where none is to be shown).
    """

    title: str
    label: str
    groups: Sequence[pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand, in mm from the left and the top.

    Attributes:
        width: Of the figure.
        height: Of the figure.
        side: Of a thumbnail.
        label: Width of the column of names.
        tops: Upper edge of each row.
        lefts: Left edge of each place of each column.
        spread: Left edge of each place of a row without columns.
    """

    width: float
    height: float
    side: float
    label: float
    tops: Sequence[float]
    lefts: Sequence[Sequence[float]]
    spread: Sequence[float]


def paper_rows(
    runs: Sequence[Run],
    classes: Sequence[str] = (),
    *,
    n: int = 6,
    rule: ScoreRule | None = None,
    random: bool = False,
) -> list[PaperRow]:
    """Rows of the figure from stored runs: classes × encoders.

    Args:
        runs: The runs, in the order of rows.
        classes: Class names, in order; none gives a row for all images of each run.
        n: Images at each end.
        rule: Convention of the score; None is the stored one.
        random: Add a row of 2 n random images for each class and dataset, without scores, as the paper does beneath.

    Returns:
        The rows; runs without a scored image of a class have none.

    Raises:
        RunError: A run cannot be read or has no score under the rule, none has one of the classes, all were imported,
            or ``n`` is below 1.
    """
    rule = rule or ScoreRule()
    if n < 1:
        raise RunError(f"The number of images at each end must be at least 1, not {n}.")
    for run in runs:
        run.check()
    held = {run.name: _classes(run, rule) for run in runs}
    known = list(dict.fromkeys(name for names in held.values() for name in names if name))
    if missing := [name for name in classes if name not in known]:
        some = f"; there are {listed(known[:12])}{' and more' if len(known) > 12 else ''}" if known else ""
        raise RunError(f"No run has a scored image of {listed(missing)}{some}.")
    several = len({run.meta["encoder"]["digest"] for run in runs}) > 1
    rows: list[PaperRow] = []
    for name in classes or (None,):
        inside = [run for run in runs if (name in held[run.name] if name is not None else held[run.name])]
        rows += _block(inside, name, n, rule, random=random, several=several)
    if rows and all(is_imported(run) for run in runs):
        raise RunError("These runs were imported without images, so that there is no figure of them.")
    return rows


def describe(runs: Sequence[Run], rule: ScoreRule) -> str:
    """A sentence for the caption of the figure: encoders, datasets and the convention.

    Args:
        runs: The runs that it shows.
        rule: Convention of the score.

    Returns:
        Plain text.
    """
    encoders = [public_id(text) for text in dict.fromkeys(encoder_phrase(run) for run in runs)]
    sets = list(dict.fromkeys(public_id(str(run.meta["dataset"]["id"])) for run in runs))
    return printable(
        f"Images with the lowest and the highest JEPA-SCORE ({rule_name(rule, runs)}, in nats; higher is likelier) of "
        f"{listed(sets)} under {listed(encoders)}."
    )


def layout(
    rows: Sequence[PaperRow],
    *,
    columns: Sequence[str] = ("least", "most"),
    width_mm: float = 180.0,
    show_scores: bool = True,
) -> Layout:
    """Where the images of a figure will stand; arguments as ``paper_figure.paper_figure``.

    Args:
        rows: The rows.
        columns: What each group of a row is.
        width_mm: Width of the figure.
        show_scores: Leave room for the scores.

    Returns:
        The places.

    Raises:
        RunError: There is nothing to draw, or a column or the width is not known or out of range.
    """
    split = [row.groups for row in rows if len(row.groups) == len(columns)]
    counts = [max((len(groups[place]) for groups in split), default=0) for place in range(len(columns))]
    if not sum(counts):
        raise RunError("There is no scored image to draw.")
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise RunError(f"A column can be {listed(COLUMNS)}, not {unknown[0]!r}.")
    if not WIDTHS_MM[0] <= width_mm <= WIDTHS_MM[1]:
        raise RunError(f"The width must lie between {WIDTHS_MM[0]:.0f} and {WIDTHS_MM[1]:.0f} mm, not {width_mm:g}.")
    if sum(len(group) for row in rows for group in row.groups) > MOST_IMAGES:
        raise RunError(f"A figure holds at most {MOST_IMAGES} images; choose fewer classes or images.")
    label = _label_mm(width_mm) if any(row.title or row.label for row in rows) else 0.0
    side = side_mm(counts, width_mm, label)
    if side < 1:
        raise RunError(f"{sum(counts)} images do not fit side by side in {width_mm:g} mm; choose fewer.")
    starts = np.cumsum([label, *(count * (side + _TILE_GAP_MM) - _TILE_GAP_MM + _GROUP_GAP_MM for count in counts)])
    lefts = [
        [start + i * (side + _TILE_GAP_MM) for i in range(count)]
        for start, count in zip(starts[:-1], counts, strict=True)
    ]
    spread = np.linspace(label, width_mm - side, sum(counts)).tolist()
    tops, y = [], HEAD_MM
    for row, before in zip(rows, [None, *rows], strict=False):
        y += 0 if before is None else ROW_GAP_MM if before.title == row.title else BLOCK_GAP_MM
        tops.append(y)
        y += max(side + (SCORE_MM if show_scores and has_scores(row) else 0), NAMES_MM if label else 0)
    return Layout(width_mm, y + 0.5, side, label, tops, lefts, spread)


def side_mm(counts: Sequence[int], width_mm: float, label_mm: float | None = None) -> float:
    """Side of a thumbnail.

    Args:
        counts: Images in each column.
        width_mm: Width of the figure.
        label_mm: Width of the column of names; None is the usual one.

    Returns:
        mm.
    """
    names = _label_mm(width_mm) if label_mm is None else label_mm
    gaps = _TILE_GAP_MM * (sum(counts) - len(counts)) + _GROUP_GAP_MM * (len(counts) - 1)
    return (width_mm - names - gaps) / sum(counts)


def size_in_words(rows: Sequence[PaperRow], place: Layout) -> str:
    """How large a figure is, and how fine its coarsest image: thumbnails have at most 160 px a side.

    Args:
        rows: The rows.
        place: Their layout.

    Returns:
        Such as ``180 × 113 mm, images of 14.4 mm with 281 dpi``.
    """
    pictures = (picture(jpeg) for row in rows for group in row.groups for jpeg in group["thumbnail"])
    pixels = min((square.shape[0] for square in pictures if square is not None), default=0)
    dpi = f" with {pixels / (place.side * MM):.0f} dpi" if pixels else ""
    return f"{place.width:.0f} × {place.height:.0f} mm, images of {place.side:.1f} mm{dpi}"


def _label_mm(width_mm: float) -> float:
    """Width of the column of names."""
    return min(26.0, max(12.0, 0.14 * width_mm))


def _block(
    runs: Sequence[Run], name: str | None, n: int, rule: ScoreRule, *, random: bool, several: bool
) -> Iterator[PaperRow]:
    """Rows of one class, or of all images: one for each run, and random ones for each dataset."""
    sets = {str(run.meta["dataset"]["id"]) for run in runs}
    names = {key: label for run in runs for key, label in distinct_names(_siblings(run, runs)).items()}
    shown: set[str] = set()
    for run in runs:
        groups = [store.extremes(run, n, which=which, class_name=name, rule=rule) for which in ("least", "most")]
        facts = [encoder_name(run)] if several else []
        facts += [names[run.name]] if name is not None and (len(sets) > 1 or not several) else []
        yield PaperRow(name or names[run.name], ", ".join(facts), groups)
        if name is None and random:
            yield _random(run, name, n, rule, names[run.name])
    for run in runs:
        if name is not None and random and str(run.meta["dataset"]["id"]) not in shown:
            shown.add(str(run.meta["dataset"]["id"]))
            yield _random(run, name, n, rule, name)


def _random(run: Run, name: str | None, n: int, rule: ScoreRule, title: str) -> PaperRow:
    """Random images, which belong to no encoder."""
    frame = store.extremes(run, 2 * n, which="random", class_name=name, rule=rule).assign(score=np.nan)
    return PaperRow(title, "Random", [frame])


def _siblings(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Runs of the same encoder."""
    return [other for other in runs if other.meta["encoder"]["digest"] == run.meta["encoder"]["digest"]]


def _classes(run: Run, rule: ScoreRule) -> list[str]:
    """Names of classes with a scored image."""
    counts = store.class_counts(run, rule=rule)
    return [str(name) for name, n in zip(counts["class_name"].fillna(""), counts["n"], strict=True) if n]


def picture(jpeg: bytes | None) -> NDArray[np.uint8] | None:
    """The middle square of a thumbnail.

    Args:
        jpeg: The thumbnail, or None.

    Returns:
        (S, S, 3), 0..255; None where there is none or it cannot be read.
    """
    if not jpeg:
        return None
    try:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def has_scores(row: PaperRow) -> bool:
    """Whether any image of a row has a score to show."""
    return any(np.isfinite(group["score"].to_numpy(float)).any() for group in row.groups)

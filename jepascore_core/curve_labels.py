"""Where the names of curves go: beside their own curve, clear of each other and, wherever there is room, of all curves.

Places are tried on a panel of the least usual size; a wider one only leaves more room. Heights are px above zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH_PX, HEIGHT_PX = 900, 200  # of a panel above its zero, at least
HALF_LINE_PX = 8  # of a name of 13 px
_COLUMN_PX = 3
_HEADROOMS_PX = (22, 44, 70, 100, 130)  # for names above the highest curve: as little as does
_LETTER_PX = 7.6  # of bold type
_LONGEST = 28  # letters
_OVERLAP, _CROSSED, _OWN, _CLOSE = 1000.0, 100.0, 30.0, 4.0  # what it costs to cover a name, another curve, one's own


Floats = NDArray[np.float64]


class Placed(NamedTuple):
    """Name of a curve and where it stands.

    Attributes:
        name: Shortened where it is long.
        colour: ``#RRGGBB``.
        x: Point of the curve that it names, in units of the axis.
        y: The same.
        side: ``above``, ``left`` or ``right`` of the point.
        lift: How far above the point, px.
    """

    name: str
    colour: str
    x: float
    y: float
    side: str
    lift: float


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve as it is drawn.

    Attributes:
        name: Its name.
        colour: ``#RRGGBB``.
        x: Ascending, units of the axis, (K,).
        y: At least 0, (K,).
    """

    name: str
    colour: str
    x: Floats
    y: Floats


class _Places(NamedTuple):
    """Places that are tried for a name, (T,) each: middle in px, point of the curve, and what each costs by itself."""

    x: Floats
    y: Floats
    column: NDArray[np.int64]
    side: NDArray[np.str_]
    lift: Floats
    cost: Floats


class _Box(NamedTuple):
    """A name that has its place: its middle, px, and half its width."""

    x: float
    y: float
    half: float


def shortened(name: str) -> str:
    """A name that fits beside a curve.

    Example:
        >>> shortened("a name that is far too long for a chart")
        'a name that is far too long…'
    """
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def half_width_px(name: str) -> float:
    """Half the width of a name, px."""
    return _LETTER_PX / 2 * len(name) + 2


def place_labels(
    lines: Sequence[Line], left: float, right: float, *, rising: bool = False
) -> tuple[list[Placed], float]:
    """Place the names of some curves.

    Args:
        lines: Curves of one panel, one at least.
        left: Where the axis begins.
        right: Where it ends.
        rising: They rise from left to right and have no peak.

    Returns:
        A label for each line, in their order, and the upper end of the axis, which leaves room for them.
    """
    top = max(float(line.y.max()) for line in lines) or 1.0
    columns = np.linspace(left, right, WIDTH_PX // _COLUMN_PX + 1)
    heights = np.stack([
        np.interp(columns, line.x, line.y, left=-top, right=-top) for line in lines
    ])  # (lines, columns)
    names = [shortened(line.name) for line in lines]
    halves = [half_width_px(name) for name in names]
    reach = {half: _reach(heights, half) for half in set(halves)}
    tried = []
    for headroom in _HEADROOMS_PX:
        px_per_y = (HEIGHT_PX - headroom) / top
        scaled = {half: (least * px_per_y, most * px_per_y) for half, (least, most) in reach.items()}
        places, cost = _place(heights * px_per_y, halves, scaled, rising)
        tried.append((cost + 0.3 * headroom, px_per_y, places))
        if cost < _CROSSED:
            break
    _, px_per_y, places = min(tried, key=lambda attempt: attempt[0])
    labels = [
        Placed(name, line.colour, float(columns[column]), max(0.0, float(own[column])), side, lift)
        for name, line, own, (column, side, lift) in zip(names, lines, heights, places, strict=True)
    ]
    return labels, HEIGHT_PX / px_per_y


def _reach(heights: Floats, half: float) -> tuple[Floats, Floats]:
    """Least and greatest height of each curve under a name that begins at a column: (lines, begins) each."""
    wide = min(heights.shape[1], 2 * int(half / _COLUMN_PX) + 2)
    windows = np.lib.stride_tricks.sliding_window_view(heights, wide, axis=1)  # (lines, begins, wide)
    return windows.min(axis=2), windows.max(axis=2)


def _place(
    heights: Floats, halves: Sequence[float], reach: Mapping[float, tuple[Floats, Floats]], rising: bool
) -> tuple[list[tuple[int, str, float]], float]:
    """Column, side and lift of each name, chosen in turn, those of low curves first; and what all of them cost."""
    chosen: dict[int, tuple[int, str, float]] = {}
    boxes: list[_Box] = []
    total = 0.0
    for which in np.argsort(heights.max(axis=1), kind="stable").tolist():
        half = halves[which]
        tried = _candidates(heights[which], half, rising)
        cost = tried.cost + _collisions(tried, half, which, reach[half], boxes)
        best = int(cost.argmin())
        total += float(cost[best])
        boxes.append(_Box(float(tried.x[best]), float(tried.y[best]), half))
        chosen[which] = int(tried.column[best]), str(tried.side[best]), float(tried.lift[best])
    return [chosen[which] for which in range(len(heights))], total


def _candidates(own: Floats, half: float, rising: bool) -> _Places:
    """Places beside one curve: above its peak and elsewhere above it, and beside its flanks."""
    found: list[tuple[int, str, float, float]] = []  # column, side, lift, cost
    peak, across = int(own.argmax()), int(half / _COLUMN_PX) + 1
    high = np.flatnonzero(own >= 0.35 * own[peak])
    for column in [] if rising else dict.fromkeys([peak, *high[:: max(1, len(high) // 16)].tolist()]):
        over = float(own[max(0, column - across) : column + across + 1].max()) - float(own[column]) + HALF_LINE_PX + 3
        away = 0.02 * _COLUMN_PX * abs(column - peak)
        lifts = range(0, HEIGHT_PX, 5) if column == peak else (0, 8)
        found += [(column, "above", over + lift, 0.15 * lift + away) for lift in lifts]
    usual = 0.5 if rising else 0.9  # share of its height at which a flank's name stands by preference
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        flank = np.flatnonzero(own >= share * own[peak])
        for up in (0.0, 8.0, 16.0):  # clear of one's own curve where that is flat
            price = 5 + 6 * abs(share - usual) + 0.15 * up
            found.append((int(flank[0]), "left", up, price))
            found.append((int(flank[0 if rising else -1]), "right", -up if rising else up, price))
    column, side, lift, costs = (np.array(values) for values in zip(*found, strict=True))
    x = column * float(_COLUMN_PX) + (half + 7) * ((side == "right").astype(float) - (side == "left"))
    y = own[column] + lift
    out = (x < half) | (x > WIDTH_PX - half) | (y > HEIGHT_PX - HALF_LINE_PX) | (y < HALF_LINE_PX + 3)
    return _Places(x, y, column, side, lift, costs + _OVERLAP * out)


def _collisions(tried: _Places, half: float, own: int, reach: tuple[Floats, Floats], boxes: Sequence[_Box]) -> Floats:
    """What it costs, place by place, to cover other names or curves, or to come close to a curve not one's own."""
    begin = np.clip(((tried.x - half) / _COLUMN_PX).astype(int), 0, reach[0].shape[1] - 1)  # (T,)
    least, most = reach[0][:, begin], reach[1][:, begin]  # a curve passes all heights between: (lines, T)
    crossed, close = (
        (least < tried.y + HALF_LINE_PX + margin) & (most > tried.y - HALF_LINE_PX - margin) for margin in (0, 5)
    )  # (lines, T)
    close[own] = False
    mine = crossed[own].copy()
    crossed[own] = False
    cost = _OWN * mine + _CROSSED * crossed.sum(axis=0) + _CLOSE * (close & ~crossed).sum(axis=0)
    for box in boxes:
        covered = (abs(tried.x - box.x) < half + box.half) & (abs(tried.y - box.y) < 2 * HALF_LINE_PX)
        cost = cost + _OVERLAP * covered
    return cost

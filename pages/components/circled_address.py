"""What is circled on the maps, in the address.

``circled=1:pca:0.1,2,…`` is a lasso on the first map, x and y of its corners in turn (two are a box); ``1:pca:7.9`` are
the dots 7 and 9.
"""

import math
import re

import numpy as np
import streamlit as st

from jepascore_core.mapping import Circled

_PARAMETER = "circled"
_MOST_CORNERS = 48  # of a lasso: an address has room for a few
_MOST_AREAS = 8
_MOST_SINGLES = 50
_NUMBER = re.compile("[0-9]{1,9}")


def coarse(chosen: Circled) -> Circled:
    """What is circled, with few corners of four digits, so that an address can say exactly the same.

    Args:
        chosen: As it was drawn.

    Returns:
        Every lasso with at most 48 of its corners, at equal steps.
    """
    areas = tuple(
        (tuple(_short(x) for x in _some(xs)), tuple(_short(y) for y in _some(ys)))
        for xs, ys in chosen.areas[:_MOST_AREAS]
    )
    return Circled(areas, chosen.singles[:_MOST_SINGLES])


def keep(place: int, kind: str, chosen: Circled) -> None:
    """Write into the address what is circled on one map, instead of what was.

    Args:
        place: Number of the map on the page.
        kind: Its projection: a circle means nothing on another one.
        chosen: What is circled, as ``coarse`` gives it.
    """
    others = [text for text in st.query_params.get_all(_PARAMETER) if not text.startswith(f"{place + 1}:")]
    corners = [
        ",".join(f"{value:.4g}" for corner in zip(xs, ys, strict=True) for value in corner) for xs, ys in chosen.areas
    ]
    singles = [".".join(map(str, chosen.singles))] if chosen.singles else []
    _write(others + [f"{place + 1}:{kind}:{text}" for text in corners + singles])


def forget(place: int, kind: str) -> None:
    """Take out of the address what is circled on one map.

    Args:
        place: Number of the map on the page.
        kind: Its projection; what is circled on another one stays.
    """
    _write([text for text in st.query_params.get_all(_PARAMETER) if not text.startswith(f"{place + 1}:{kind}:")])


def asked(place: int, kind: str) -> Circled:
    """What the address circles on one map.

    Args:
        place: Number of the map on the page.
        kind: Its projection.

    Returns:
        It, without what cannot be read.
    """
    found = [text.split(":", 2) for text in st.query_params.get_all(_PARAMETER)]
    mine = [parts[2] for parts in found if len(parts) == 3 and parts[:2] == [str(place + 1), kind]]
    areas = [area for text in mine if "," in text and (area := _area(text)) is not None]
    singles = [int(n) for text in mine if "," not in text for n in text.split(".") if _NUMBER.fullmatch(n)]
    return Circled(tuple(areas[:_MOST_AREAS]), tuple(singles[:_MOST_SINGLES]))


def _write(told: list[str]) -> None:
    if told:
        st.query_params[_PARAMETER] = told
    else:
        st.query_params.pop(_PARAMETER, None)


def _area(text: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Corners as their x and their y, two at least; None where the text is something else."""
    try:
        numbers = [float(value) for value in text.split(",")[: 2 * _MOST_CORNERS]]
    except ValueError:
        return None
    if len(numbers) < 4 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        return None
    return tuple(numbers[::2]), tuple(numbers[1::2])


def _some(corners: tuple[float, ...]) -> list[float]:
    """At most 48 corners at equal steps."""
    at = np.linspace(0, len(corners) - 1, min(len(corners), _MOST_CORNERS)).round().astype(int)
    return [corners[i] for i in at]


def _short(value: float) -> float:
    return float(f"{value:.4g}")

"""Thumbnails as the browser wants them: picture, score, rank, and what a reader of screens hears."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from pages.components import selection
from pages.components.text import count, number, ordinal

SIZES = (44, 220)  # least and largest side of a tile, px
USUAL = 104
_NAMED = {"S": 60, "M": 108, "L": 168}  # what older links say
_HERE = Path(__file__).parent


def component(name: str, script: str) -> Callable[..., Any]:
    """Register a component made of the shared script and one of its own."""
    return st.components.v2.component(
        name,
        html='<div class="root">\n</div>',
        css=(_HERE / "gallery.css").read_text("utf-8"),
        js="".join((_HERE / part).read_text("utf-8") for part in ("tiles.js", script)),
    )


def size() -> int:
    """Side of the tiles that the reader set, px; kept in the URL as ``size`` and shared by all pages of a visit."""
    text = str(st.session_state.get("tile_size") or st.query_params.get("size") or "")
    side = _NAMED.get(text) or (int(text) if text.isascii() and text.isdigit() else USUAL)
    return min(max(side, SIZES[0]), SIZES[1])


def remember_size(key: str) -> Callable[[], None]:
    """A callback that keeps the size which a component's slider was let go at."""

    def sized() -> None:
        side = getattr(st.session_state.get(key), "size", None)
        if isinstance(side, int | float):
            st.session_state["tile_size"] = st.query_params["size"] = str(int(side))

    return sized


def picked(key: str, on_pick: Callable[[str, str], None] | None) -> Callable[[], None]:
    """A callback that says which image of a component was clicked: its run and its key."""

    def clicked() -> None:
        value = getattr(st.session_state.get(key), "picked", None)
        if on_pick is not None and isinstance(value, str) and "\n" in value:
            on_pick(*selection.split(value))

    return clicked


def tile(run: str, image: dict[Any, Any], *, unit: str = "nats", total: int | None = None) -> dict[str, Any]:
    """One thumbnail.

    Args:
        run: Folder name of its run.
        image: ``key``, ``class_name``, ``score``, ``score_error``, ``thumbnail``; perhaps ``place`` and
            ``percentile``, ``badge`` in place of the score, and ``note``, told with the other facts.
        unit: Of the score.
        total: Number of images that ``place`` counts among.

    Returns:
        What the scripts read.
    """
    error, thumbnail = image.get("score_error"), image.get("thumbnail")
    bar = f" ± {number(error, 2)}" if error is not None and error == error else ""  # what was imported may have none
    score = f"{number(image['score'], 2)}{bar} {unit}"
    rank = f"rank {count(image['place'] + 1)}" if image.get("place") is not None else ""
    rank += f" of {count(total)}" if rank and total else ""
    place = f"{ordinal(image['percentile'])} percentile" if image.get("percentile") is not None else ""
    facts = [image["class_name"] or "unlabelled", score, place, rank, image.get("note", ""), image["key"]]
    return {
        "id": selection.join(run, image["key"]),
        "src": "data:image/jpeg;base64," + b64encode(thumbnail).decode() if isinstance(thumbnail, bytes) else "",
        "name": "" if isinstance(thumbnail, bytes) else image["key"].rsplit("/", 1)[-1],
        "badge": image.get("badge") or number(image["score"], 1),
        "rank": count(image["place"] + 1) if image.get("place") is not None else "",
        "alt": ", ".join(fact for fact in facts if fact),
        "tip": "\n".join(fact for fact in facts if fact),
        "chosen": selection.holds(run, image["key"]),
    }

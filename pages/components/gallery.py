"""Thumbnails with scores, in labelled rows or in a wrapping grid; a click or Enter names the image."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.components.text import number, ordinal

_HERE = Path(__file__).parent
_GALLERY = st.components.v2.component(
    "jepascore_gallery",
    html='<div class="root">\n</div>',
    css=(_HERE / "gallery.css").read_text("utf-8"),
    js=(_HERE / "gallery.js").read_text("utf-8"),
)
SIZES = {"S": (40, 60), "M": (46, 108), "L": (112, 168)}  # smallest and largest side of a tile, px
TONES = {"least": "Least likely", "most": "Most likely", "random": "Random"}


@dataclass(frozen=True)
class Row:
    """One line of a gallery: a label, and a group of images for each column.

    Attributes:
        title: Name of the line, from data or ours; shown as plain text.
        note: Muted text beneath the title.
        groups: One frame a column, as ``store.extremes`` returns it; it may also have ``badge``, shown in place of
            the score, and ``note``, told with the other facts.
        run: Folder name of the run the images belong to.
    """

    title: str
    note: str
    groups: Sequence[pd.DataFrame]
    run: str
    unit: str = field(default="nats")


def gallery(
    rows: Sequence[Row],
    *,
    key: str,
    columns: Sequence[str] = (),
    size: str = "M",
    selected: tuple[str, str] | None = None,
    name: str = "Images",
    empty: str = "No images yet.",
    card: bool = True,
    on_pick: Callable[[str, str], None] | None = None,
) -> None:
    """Draw a gallery.

    Args:
        rows: Lines to draw.
        key: Streamlit key, unique on the page.
        columns: Tones (``least``, ``most``, ``random``) of the groups; none draws one unlabelled grid.
        size: S, M or L.
        selected: (run, key) of the image to outline.
        name: Accessible name of a group without a title.
        empty: Text where there are no rows.
        card: Draw the white card around it.
        on_pick: Called with (run, key) of a clicked image, before the page runs again.
    """
    data = {
        "columns": [{"title": TONES[tone], "tone": tone if tone != "random" else "plain"} for tone in columns],
        "rows": [_line(row) for row in rows],
        "labels": any(row.title for row in rows),
        "count": max((len(group) for row in rows for group in row.groups), default=1),
        "min": SIZES[size][0],
        "max": SIZES[size][1],
        "selected": _join(*selected) if selected else "",
        "clickable": on_pick is not None,
        "name": name,
        "empty": empty,
        "card": card,
    }

    def picked() -> None:
        value = getattr(st.session_state.get(key), "picked", None)
        if on_pick is not None and isinstance(value, str) and "\n" in value:
            on_pick(*value.split("\n", 1))

    _GALLERY(key=key, data=data, on_picked_change=picked)


def _line(row: Row) -> dict[str, Any]:
    """A row as the browser wants it."""
    cells = [[_tile(row, dict(image)) for _, image in group.iterrows()] for group in row.groups]
    return {"title": row.title, "note": row.note, "cells": cells}


def _tile(row: Row, image: dict[Any, Any]) -> dict[str, str]:
    """One thumbnail: its picture, its score, and what a reader of screens hears."""
    score = f"{number(image['score'], 2)} ± {number(image['score_error'], 2)} {row.unit}"
    place = f"{ordinal(image['percentile'])} percentile" if "percentile" in image else ""
    facts = [image["class_name"] or "unlabelled", score, place, image.get("note", ""), image["key"]]
    thumbnail = image.get("thumbnail")
    return {
        "id": _join(row.run, image["key"]),
        "src": "data:image/jpeg;base64," + b64encode(thumbnail).decode() if isinstance(thumbnail, bytes) else "",
        "badge": image.get("badge") or number(image["score"], 1),
        "alt": ", ".join(fact for fact in facts if fact),
        "tip": "\n".join(fact for fact in facts if fact),
    }


def _join(run: str, key: str) -> str:
    """Id of an image on a page: a run's name never holds a line break."""
    return f"{run}\n{key}"

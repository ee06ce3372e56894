"""Thumbnails with scores in labelled rows: a click or Enter opens an image, space or a click on its mark selects it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import selection, tiles

_GALLERY = tiles.component("jepascore_gallery", "gallery.js")
TONES = {"least": "Least likely", "most": "Most likely", "random": "Random"}


@dataclass(frozen=True)
class Row:
    """One line of a gallery: a label, and a group of images for each column.

    Attributes:
        title: Name of the line, from data or ours; shown as plain text.
        note: Muted text beneath the title.
        groups: One frame a column, as ``store.extremes`` returns it; it may also have ``badge``, shown in place of
            the score, ``note``, told with the other facts, and ``run`` where images of a line are of several runs.
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
    titles: Sequence[str] = (),
    size: int | None = None,
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
        titles: What stands over the columns; none takes ``TONES``.
        size: Largest side of a tile, px; None takes what the reader set, with a slider where columns have titles.
        selected: (run, key) of the image to outline.
        name: Accessible name of a group without a title.
        empty: Text where there are no rows.
        card: Draw the white card around it.
        on_pick: Called with (run, key) of a clicked image, before the page runs again.
    """
    data = {
        "columns": [
            {"title": title, "tone": tone if tone != "random" else "plain"}
            for title, tone in zip(titles or [TONES[tone] for tone in columns], columns, strict=True)
        ],
        "rows": [_line(row) for row in rows],
        "labels": any(row.title for row in rows),
        "count": max((len(group) for row in rows for group in row.groups), default=1),
        "size": size or tiles.size(),
        "sizes": None if size else tiles.SIZES,
        "selected": selection.join(*selected) if selected else "",
        "clickable": on_pick is not None,
        "choosable": on_pick is not None,
        "name": name,
        "empty": empty,
        "card": card,
    }

    def chose() -> None:
        value = getattr(st.session_state.get(key), "chose", None)
        if isinstance(value, dict) and isinstance(value.get("ids"), list):
            ids = [str(item) for item in value["ids"] if "\n" in str(item)]
            selection.change(map(selection.split, ids), on=bool(value.get("on")))

    _GALLERY(
        key=key, data=data, on_picked_change=tiles.picked(key, on_pick), on_chose_change=chose,
        on_size_change=tiles.remember_size(key),
    )  # fmt: skip


def _line(row: Row) -> dict[str, Any]:
    """A row as the browser wants it."""
    cells = [
        [tiles.tile(image.get("run", row.run), dict(image), unit=row.unit) for _, image in group.iterrows()]
        for group in row.groups
    ]
    return {"title": row.title, "note": row.note, "cells": cells}

"""Any number of images in one scrolling grid, in an order; only those in sight are read and sent."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jepascore_core.store import Ranking, Run
from pages.components import loaders, selection, tiles

_GRID = tiles.component("jepascore_grid", "grid.js")
_FIRST = 60  # tiles sent before the browser has said how many fit
_MOST = 240


@dataclass(frozen=True)
class Listing:
    """Images of one run in an order.

    Attributes:
        run: The run.
        ranking: Its scores.
        places: Which images, in the order wanted; places of the ranking.
        name: What distinguishes the order from others, such as the filters behind it; a change starts at the top.
        class_name: Class among which ranks and percentiles are taken; None takes the run.
        descending: Likeliest first.
    """

    run: Run
    ranking: Ranking = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    name: str
    class_name: str | None = None
    descending: bool = False

    def __len__(self) -> int:
        return len(self.places)

    def keys(self, start: int, stop: int) -> list[str]:
        """Keys of some images of the order."""
        return self.ranking.keys_at(self.places[start:stop])

    def tiles(self, start: int, count: int) -> list[dict[str, Any]]:
        """Some images of the order, for the browser."""
        places = self.places[start : start + count]
        frame = self.ranking.rows(places, self.class_name)
        pictures = loaders.thumbnails(self.run, frame["index"].tolist())
        rows = frame.to_dict("records")
        total = len(self.ranking)
        if self.class_name is not None:
            among = self.ranking.places([self.class_name])
            total = len(among)
            for row in rows:
                row["place"] = int(np.searchsorted(among, row["place"]))
        return [
            tiles.tile(self.run.name, {**row, "thumbnail": pictures.get(row["index"])}, total=total) for row in rows
        ]


def grid(
    listing: Listing,
    *,
    key: str,
    name: str = "Images",
    empty: str = "No images.",
    on_pick: Callable[[str, str], None] | None = None,
) -> None:
    """Draw a listing; where it is scrolled to stays in the URL as ``at``.

    Args:
        listing: The images.
        key: Streamlit key, unique on the page.
        name: Accessible name of the grid.
        empty: Text where there are no images.
        on_pick: Called with (run, key) of a clicked image, before the page runs again.
    """
    listed = hashlib.blake2b(f"{listing.run.name}\n{listing.name}".encode(), digest_size=8).hexdigest()
    start, wanted, at = _window(key, listed, len(listing))
    data = {
        "list": listed,
        "version": f"{loaders.version(listing.run)}-{len(listing)}",
        "total": len(listing),
        "start": start,
        "at": at,
        "tiles": listing.tiles(start, wanted),
        "size": tiles.size(),
        "sizes": tiles.SIZES,
        "selected": "",
        "clickable": on_pick is not None,
        "choosable": on_pick is not None,
        "descending": listing.descending,
        "name": name,
        "empty": empty,
        "card": True,
    }

    def chose() -> None:
        value = getattr(st.session_state.get(key), "chose", None)
        if isinstance(value, dict) and value.get("list") == listed:
            low, high = (int(value[end]) for end in ("from", "to"))
            keys = listing.keys(max(low, 0), high + 1)
            selection.change(((listing.run.name, image) for image in keys), on=bool(value.get("on")))

    def moved() -> None:
        window = getattr(st.session_state.get(key), "window", None)
        if isinstance(window, dict) and isinstance(window.get("at"), int | float):
            st.query_params["at"] = str(int(window["at"]) + 1)

    _GRID(
        key=key, data=data, on_picked_change=tiles.picked(key, on_pick), on_chose_change=chose, on_window_change=moved,
        on_size_change=tiles.remember_size(key),
    )  # fmt: skip


def _window(key: str, listed: str, total: int) -> tuple[int, int, int]:
    """Which tiles to send: first, how many, and the place to scroll a new listing to."""
    window = getattr(st.session_state.get(key), "window", None)
    if isinstance(window, dict) and window.get("list") == listed:
        start, count = (int(window[name]) for name in ("start", "count"))
        return min(max(start, 0), max(total - 1, 0)), min(max(count, 1), _MOST), max(start, 0)
    text = st.query_params.get("at", "") if window is None else ""
    at = int(text) - 1 if text.isascii() and text.isdigit() and 0 < int(text) <= total else 0
    return max(0, at - _FIRST // 3), _FIRST, at

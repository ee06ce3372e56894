"""Where the score lives: the leverage of each patch, over the whole spectrum or one half of it."""

from typing import Literal

import numpy as np
import streamlit as st
from PIL import Image

from jepascore_core.pictures import leverage_picture
from pages.components import encode
from pages.components.text import count, number

SIDE = 336  # least side of a picture on a page, px
BANDS = ("All", "Large σ", "Small σ")


def draw_leverage(
    seen: encode.Look, *, key: str, in_url: bool = False, width: int | Literal["stretch"] = "stretch"
) -> None:
    """Leverage in amber over the greyed image, for a part of the spectrum that the reader chooses, and what it sums to.

    Args:
        seen: The image, taken apart.
        key: Of the choice, unique on the page.
        in_url: Keep the choice in the URL.
        width: Of the picture, px or all there is.
    """
    place = st.container(gap="xsmall")
    band = st.segmented_control(
        "Part of the spectrum", BANDS, default=BANDS[0], key=key, bind="query-params" if in_url else None,
        required=True, label_visibility="collapsed",
    )  # fmt: skip
    larger, smaller = seen.leverage
    shown = dict(zip(BANDS[1:], seen.leverage, strict=True)).get(str(band), larger + smaller)
    picture = Image.fromarray(seen.shown).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)
    with place:
        st.image(leverage_picture(np.asarray(picture), shown), width=width, alt=f"Leverage map, {band}")
        st.markdown("**Leverage map**")
    st.caption(_sums(str(band), shown, larger, smaller))


def _sums(band: str, shown: np.ndarray, larger: np.ndarray, smaller: np.ndarray) -> str:
    """What the map is and what its patches sum to."""
    total, rank = float(shown.sum()), float(larger.sum() + smaller.sum())
    share = np.sort(shown.ravel())[::-1]
    few = int(np.searchsorted(np.cumsum(share), total / 2)) + 1 if total else 0
    half = f"half of it lies in {count(few)} of {count(share.size)} patches."
    if band not in BANDS[1:]:
        return f"Where the volume comes from. The patches sum to the rank, {number(rank, 2)}; {half}"
    which = "larger" if band == BANDS[1] else "smaller"
    apart = np.abs(larger / max(larger.sum(), 1e-12) - smaller / max(smaller.sum(), 1e-12)).sum() / 2
    return (
        f"Which patches carry the {which} half of the singular values. They sum to {number(total, 2)} of the rank, "
        f"{number(rank, 2)}; {half} The maps of the two halves overlap by {number(100 - 100 * float(apart), 0)} %."
    )

"""One image beside its page: a drawer with all that is known of it. The address names the image while it is open."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from jepascore_core import store
from jepascore_core.errors import JepaScoreError
from jepascore_core.naming import is_imported
from jepascore_core.plots import spectrum_plot
from jepascore_core.store import Run, ScoreRule, is_given
from pages.components import encode, inspector_parts, loaders, pickers
from pages.components.captions import caption, chart
from pages.components.copy_link import copy_link
from pages.components.gallery import Row, gallery
from pages.components.guard import guard
from pages.components.text import count, md, number, ordinal, plural, significant

_IMAGE, _RUN, _PART = "image", "of", "part"  # parameters of the address
_DRAWN = "drawn_image"


def pick(run: str, key: str) -> None:
    """Put an image in the address; ``open_image`` shows it."""
    st.query_params.update({_IMAGE: key, _RUN: run})


def open_image(rule: ScoreRule | None = None) -> None:
    """Open the drawer for the image that the address names, if it does; call it before the live parts."""
    wanted = _named()
    st.session_state[_DRAWN] = wanted is not None
    if wanted:
        _drawer(rule or ScoreRule())


def reopen() -> None:
    """Within a live part: run the page again if an image was clicked, so that the drawer opens."""
    if _named() and not st.session_state.get(_DRAWN):
        st.rerun()


def strip(runs: Sequence[Run], *, n: int = 7) -> None:
    """Least and most likely images of some runs, one line each."""
    rule, rows = ScoreRule(), []
    for run in runs:
        groups = [loaders.extremes(run, n, which, rule) for which in ("least", "most")]
        rows.append(Row(pickers.dataset_name(run), plural(pickers.scored(run), "image"), groups, run.name))
    gallery(rows, key="strip", columns=("least", "most"), on_pick=pick)
    caption(runs, [pickers.scored(run) for run in runs], rule, "Click an image to look closer.")
    reopen()


def _named() -> tuple[str, str] | None:
    """Run and key of the image in the address."""
    key, run = st.query_params.get(_IMAGE), st.query_params.get(_RUN)
    return (run, key) if key and run else None


def _close() -> None:
    """Take the image out of the address, in one step of the browser's history."""
    st.query_params.update({_IMAGE: [], _RUN: []})  # others may not be touched: widgets own them


@st.dialog("Image", width=560, position="right", on_dismiss=_close)
def _drawer(rule: ScoreRule) -> None:
    named = _named()
    if named is None:
        st.rerun()
    with guard():
        run = store.named_run(named[0])
        row = loaders.row(run, named[1])
        rule = rule if loaders.why_not(run, rule) is None else ScoreRule()
        _steps(run, row["key"], rule)
        _picture(run, row)
        headline(run, row, score_of(run, row["key"], rule), rule)
        part = st.segmented_control(
            "Show", inspector_parts.PARTS, default=inspector_parts.PARTS[0], key=_PART, bind="query-params",
            required=True, label_visibility="collapsed",
        )  # fmt: skip
        with guard():
            if part == inspector_parts.PARTS[0]:
                spectrum(run, row, key="drawer_spectrum")
                caption([run], [pickers.scored(run)], rule)
            else:
                inspector_parts.draw(str(part), run, row, rule, pick)
        labels = {item.name: label for label, item in pickers.by_label(pickers.readable_runs()).items()}
        st.page_link(
            "pages/singular_vectors.py", label="Open in Singular vectors", icon=":material/arrow_forward:",
            query_params={"run": labels.get(run.name, ""), "key": row["key"], "score": pickers.rule_key(rule)},
        )  # fmt: skip


def _steps(run: Run, key: str, rule: ScoreRule) -> None:
    """To the next less or more likely image of the class, and the link to this one."""
    held = loaders.ranking(run, rule)
    place = held.place_of(key)
    with st.container(horizontal=True, vertical_alignment="center"):
        if place is not None:
            for name, step, arrow in (("Less likely", -1, "Left"), ("More likely", 1, "Right")):
                there = 0 <= place + step < len(held)
                other = held.key(place + step) if there else key
                st.button(
                    name, key=f"step_{step}", disabled=not there, type="tertiary", shortcut=arrow, on_click=pick,
                    args=(run.name, other),
                )  # fmt: skip
            st.markdown(f":gray[{count(place + 1)} of {count(len(held))}]")
        st.space("stretch")
        copy_link(key="copy_image", what="image")


def _picture(run: Run, row: dict[str, Any]) -> None:
    """The source image where it is at hand, else the thumbnail."""
    try:
        image = encode.source_image(run, row)
    except JepaScoreError:
        if not row.get("thumbnail"):
            st.caption(f":material/hide_image: {without_picture(run)}")
            return
        image = Image.open(BytesIO(row["thumbnail"]))
    scale = min(500 / image.width, 284 / image.height)
    side = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    with st.container(height=300, border=False, horizontal_alignment="center"):
        st.image(image.resize(side, Image.Resampling.LANCZOS), alt=f"Image {row['key']}")


def without_picture(run: Run) -> str:
    """Why there is no picture of an image; Markdown."""
    if is_imported(run):
        return f"No image: the run was imported from {md(run.meta['imported'].get('file'))}."
    return "The run holds no thumbnail of this image, and its source is not at hand."


def score_of(run: Run, key: str, rule: ScoreRule) -> float:
    """Score of one image under a convention, nats; NaN where it has none."""
    held = loaders.ranking(run, rule)
    place = held.place_of(key)
    return float("nan") if place is None else float(held.scores[place])


def headline(run: Run, row: dict[str, Any], score: float, rule: ScoreRule) -> None:
    """Score with its error, its percentile in its class and its run, and which image it is."""
    size = (
        f", {row['width']} × {row['height']} px" if row.get("width") else "" if is_imported(run) else ", size unknown"
    )
    where = places(run, row.get("class_name") or None, score, rule)
    if is_given(run):
        st.metric("Imported score", number(score, 2))
        st.markdown(where)
    else:
        draw_score(score, row.get("score_error"), where, rule)
    tags = [tag.name for tag in loaders.tags(run) if row["key"] in tag.keys]
    tagged = f", tagged {md(', '.join(tags))}" if tags else ""
    st.caption(f"{md(row['key'])}{size}{tagged}")


def draw_score(score: float, error: float | None, places: str, rule: ScoreRule) -> None:
    """A score in large figures, its rounding error, and where it stands."""
    about = f":gray[± {significant(error, 1)} nats.] " if error is not None else ""
    st.metric(f"{pickers.score_title(rule)} (nats)", number(score, 2))
    st.markdown(f"{about}{places}")


def places(run: Run, class_name: str | None, score: float, rule: ScoreRule) -> str:
    """Percentiles in words."""
    held = loaders.ranking(run, rule)
    whole = ordinal(float(held.percentiles_of(np.array([score]))[0]))
    if class_name is None:
        return f"{whole} percentile of the run."
    within = ordinal(float(held.percentiles_of(np.array([score]), class_name)[0]))
    return f"{within} percentile of {md(class_name)}, {whole} of the run."


def spectrum(run: Run, row: dict[str, Any], *, key: str) -> None:
    """Spectrum of one image over its class's median and band; a sentence where the run has none."""
    if row.get("singular_values") is None:
        reason = "The run was imported as scores, without spectra." if is_given(run) else "The run holds none."
        st.caption(f"No spectrum of this image. {reason}")
        return
    class_name = row.get("class_name") or None
    figure = spectrum_plot(
        loaders.spectrum_band(run, class_name),
        {"this image": row["singular_values"]},
        band_name=class_name or "the run",
        null_dim=int(run.meta["encoder"].get("null_dim") or 0),
    )
    chart(figure, key=key, alt="Log singular values of this image over the median of its class")
    name = md(class_name or "the run")
    st.caption(f"Blue: this image. Dotted: median of {name}, with its 5–95 % band.")

"""What is circled on a map: kept in the address, drawn into each new figure, and shown as a gallery by score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jepascore_core.mapping import Circled, Points, circled
from jepascore_core.store import Run, ScoreRule
from pages.components import circled_address, loaders, selection
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.text import count, md, number, ordinal, plural

SHOWN = 24  # images of a gallery, and as many more with each click
_TOLD = 0.05  # least share of a class that is named


def before(place: int, kind: str, token: object, drawn: object) -> tuple[Circled, int]:
    """What is circled when a map is drawn, and how often it was drawn anew for that.

    What is circled stands in the address. A figure that changes forgets what was circled on it, so that it is drawn
    into the new one; and so that the figure does not change by that, it keeps the areas that it was first drawn with.

    Args:
        place: Number of the map on the page.
        kind: Its projection.
        token: Changes when dots change their places: nothing remains circled.
        drawn: Changes when anything changes in the figure.

    Returns:
        What to draw, and a number for the figure's key.
    """
    state = st.session_state.setdefault(f"circled_{place}", {"epoch": 0, "token": token, "drawn": None, "kind": kind})
    if state["token"] != token:
        circled_address.forget(place, state["kind"])
        state.update(token=token, kind=kind, drawn=None)
    kept = circled_address.asked(place, kind)
    if state["drawn"] != drawn:
        state.update(drawn=drawn, kept=kept, first=kept, more=1, touched=False)
    elif state["kept"] != kept:  # the address has changed by itself: back, forward, or a link
        state.update(kept=kept, first=kept, more=1, touched=False, epoch=state["epoch"] + 1)
    return state["first"], state["epoch"]


def after(place: int, drawn: Mapping[str, Any], points: Points) -> Circled:
    """What is circled now.

    Args:
        place: Number of the map on the page.
        drawn: What the figure says; empty also where its dots were circled before it was drawn anew.
        points: Its dots.

    Returns:
        The areas, or the dots that were clicked.
    """
    state = st.session_state[f"circled_{place}"]
    areas = tuple((tuple(area["x"]), tuple(area["y"])) for name in ("lasso", "box") for area in drawn.get(name) or [])
    at = [point.get("point_index") for point in drawn.get("points") or []] if not areas else []
    singles = tuple(int(points.number[i]) for i in at if isinstance(i, int) and 0 <= i < len(points))
    now = circled_address.coarse(Circled(areas, singles))
    if (now or state["touched"]) and now != state["kept"]:
        state.update(kept=now, more=1)
        circled_address.keep(place, state["kind"], now)
    state["touched"] = state["touched"] or bool(now)
    return state["kept"]


def draw(
    place: int,
    runs: Sequence[Run],
    names: Sequence[str],
    points: Points,
    chosen: Circled,
    rule: ScoreRule,
    *,
    likely_first: bool,
) -> None:
    """The circled images and what they have in common; before any, those at the end of the scores that comes first.

    Args:
        place: Number of the map on the page.
        runs: Its runs, in the order of their codes.
        names: A short name of each.
        points: Its dots.
        chosen: What is circled.
        rule: Convention of the score.
        likely_first: Begin with the most likely images.
    """
    some = circled(points, chosen)
    clicked = _clicked(chosen, runs, points)
    title = "Around the clicked image" if clicked else "Circled"
    if not chosen:
        ordered = np.argsort(-points.percentiles if likely_first else points.percentiles, kind="stable")
        some, title = ordered[: -(-len(points) // 20)], f"{'Highest' if likely_first else 'Lowest'} 5 % of the map"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**:orange[{title}: {plural(len(some), 'image')}]**", width="content")
        if chosen:
            with st.container(horizontal=True, width="content"):
                st.button(
                    "Select all", key=f"select_{place}", on_click=_select, args=(runs, points, some), type="tertiary",
                    help="To tag or export them.",
                )  # fmt: skip
                st.button("Clear", key=f"clear_{place}", on_click=_clear, args=(place,), type="tertiary")
    if len(some):
        st.caption(_summary(points, some))
        most = SHOWN * int(st.session_state[f"circled_{place}"]["more"])
        gallery(
            _rows(runs, names, points, some, rule, most, likely_first=likely_first), key=f"gallery_{place}",
            name="Circled images", card=False, selected=clicked, on_pick=pick,
        )  # fmt: skip
        if most < len(some):
            st.button(
                f"More of {count(len(some))}", key=f"more_{place}", on_click=_more, args=(place,), type="tertiary"
            )
    else:
        st.caption("No image lies there.")
    if not chosen:
        st.caption("Drag a line around dots on the map to see their images.")


def _clear(place: int) -> None:
    """Circle nothing; the map is drawn anew."""
    circled_address.forget(place, st.session_state[f"circled_{place}"]["kind"])


def _select(runs: Sequence[Run], points: Points, some: NDArray[np.int64]) -> None:
    """Add the circled images to those that are selected."""
    selection.change(((runs[points.codes[i]].name, points.keys[i]) for i in some), on=True)


def _more(place: int) -> None:
    st.session_state[f"circled_{place}"]["more"] += 1


def _clicked(chosen: Circled, runs: Sequence[Run], points: Points) -> tuple[str, str] | None:
    """Run and key of the one image that was clicked."""
    if len(chosen.singles) != 1:
        return None
    at = np.flatnonzero(points.number == chosen.singles[0])
    return (runs[points.codes[at[0]]].name, points.keys[at[0]]) if len(at) else None


def _rows(
    runs: Sequence[Run],
    names: Sequence[str],
    points: Points,
    some: NDArray[np.int64],
    rule: ScoreRule,
    most: int,
    *,
    likely_first: bool,
) -> list[Row]:
    """A line of the gallery for each run that has a chosen image."""
    touched = np.unique(points.codes[some])
    share = max(6, most // len(touched))
    rows = []
    for code in touched:
        places = np.sort(points.place[some[points.codes[some] == code]])
        frame = loaders.ranking(runs[code], rule).rows((places[::-1] if likely_first else places)[:share])
        title, note = (names[code], plural(len(places), "image")) if len(runs) > 1 else ("", "")
        rows.append(Row(title, note, [loaders.with_thumbnails(runs[code], frame)], runs[code].name))
    return rows


def _summary(points: Points, some: NDArray[np.int64]) -> str:
    """Where some images stand in score, and which classes they are of."""
    median = f"Median at the {ordinal(float(np.median(points.percentiles[some])))} percentile of the score."
    sizes, whole = (
        np.bincount(codes, minlength=len(points.class_names))
        for codes in (points.class_codes[some], points.class_codes)
    )
    if not any(points.class_names):
        return median
    largest = [code for code in np.argsort(-sizes, kind="stable")[:4] if sizes[code] >= _TOLD * len(some)]
    told = [
        f"{md(points.class_names[code] or 'no class')} {_percent(sizes[code] / len(some))} "
        f"({_percent(whole[code] / len(points))} of the map)"
        for code in largest
    ]
    others = int((sizes > 0).sum()) - len(largest)
    if others:
        rest = _percent(1 - sizes[largest].sum() / len(some))
        told.append(f"{count(others)} {'other ' if told else ''}{'class' if others == 1 else 'classes'} {rest}")
    return f"{median} Classes: {', '.join(told)}."


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{number(100 * share, 0)} %"

"""The maps of the map page: dots coloured by score, class or run, what may be read off them, and what is circled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from jepascore_core import map_plots
from jepascore_core.map_plots import Colouring
from jepascore_core.mapping import Circled, Points
from jepascore_core.naming import distinct_names
from jepascore_core.store import ScoreRule
from jepascore_core.store.maps import MOST_IMAGES, RunMap
from pages.components import circled, loaders, pickers
from pages.components.captions import caption, map_chart
from pages.components.guard import card, guard
from pages.components.map_controls import Look, Panel
from pages.components.text import count, dot, md, number, plural

_WEBGL = st.components.v2.component(
    "jepascore_webgl",
    html="<span></span>\n",
    js="""
export default function (component) {
  const canvas = document.createElement("canvas")
  if (!canvas.getContext("webgl") && !component.data?.known) component.setStateValue("missing", true)
}
""",
)


def draw(wanted: Sequence[Panel], ready: Mapping[Panel, RunMap], look: Look, rule: ScoreRule) -> None:
    """The maps, and beside or beneath each the images that are circled on it."""
    if not wanted:
        st.caption("Choose a run above whose embeddings are stored.")
    elif len(wanted) == 1:
        left, right = st.columns([9, 5], gap="small")
        with guard():
            _draw_panel(0, wanted[0], ready.get(wanted[0]), look, rule, left, right)
    else:
        for place, (panel, column) in enumerate(zip(wanted, st.columns(len(wanted), gap="small"), strict=True)):
            with guard():
                _draw_panel(place, panel, ready.get(panel), look, rule, column, column)


def watch_webgl() -> None:
    """Learn from the browser whether it has WebGL; draws nothing."""
    st.html(
        "<style>.js-plotly-plot .outline-controllers { display: none }</style>"
    )  # handles on each corner of a lasso
    _WEBGL(key="webgl", data={"known": _no_webgl()}, on_missing_change=lambda: None)


def _no_webgl() -> bool:
    """Whether the browser has said that it has no WebGL."""
    return bool(getattr(st.session_state.get("webgl"), "missing", False))


def _draw_panel(
    place: int, panel: Panel, found: RunMap | None, look: Look, rule: ScoreRule, left: Any, right: Any
) -> None:
    """One map in one container, and what is circled in another."""
    found = found or loaders.run_map(panel.runs, panel.pca)
    points = loaders.map_points(panel.runs, found, rule)
    with left, card(f"map_{place}", gap="xsmall"):
        chosen = _draw_map(place, panel, found, points, look, rule)
    with right, card(f"circled_{place}", height="stretch" if left is not right else "content"):
        circled.draw(
            place, panel.runs, _names(panel), points, chosen, rule, likely_first=look.likely_first,
        )  # fmt: skip


def _draw_map(place: int, panel: Panel, found: RunMap, points: Points, look: Look, rule: ScoreRule) -> Circled:
    """The map; returns what is circled on it."""
    colouring = _colouring(panel, points, look, rule)
    st.markdown(f"**{md(panel.title)}** :gray[{_kind(found)}]")
    if colouring.names:
        legend = " \u2002 ".join(
            f"{dot(c)}\u00a0{md(_short(name))} :gray[{count(n)}]" for c, name, n in colouring.names
        )
        st.markdown(f":small[{legend}]")
    vector = _no_webgl()
    shown = min(len(points), map_plots.MOST_SVG_DOTS) if vector else len(points)
    token = (found.request, tuple(map(loaders.version, panel.runs)))
    first, epoch = circled.before(place, _projection(found), token, (token, look, rule, shown))
    figure = map_plots.map_plot(
        points, colouring, shown=shown, dot_px=look.dot_px,
        webgl=shown > map_plots.SVG_DOTS and not vector, axes=_axes(found), areas=first.areas,
        picked=np.flatnonzero(np.isin(points.number[:shown], first.singles)).tolist(),
    )  # fmt: skip
    alt = f"Map of {count(shown)} images of {panel.title}, coloured by {look.colour.lower()}"
    selection = map_chart(figure, key=f"map_{place}_{epoch}", alt=alt)
    st.caption(_honest(found))
    sizes = np.bincount(points.codes, minlength=len(panel.runs))
    caption(panel.runs, sizes.tolist(), rule, _words(panel, shown, len(points)))
    return circled.after(place, selection, points)


def _colouring(panel: Panel, points: Points, look: Look, rule: ScoreRule) -> Colouring:
    """What the colours say."""
    if look.colour == "Class":
        return map_plots.by_class(points, look.classes or map_plots.largest_classes(points))
    if look.colour == "Run":
        return map_plots.by_run(points, _names(panel), _run_colours(panel))
    return map_plots.by_score(points, in_nats=rule.convention != "corrected" or len(panel.runs) == 1)


def _run_colours(panel: Panel) -> list[str]:
    """Colours of the runs' datasets; other ones where two runs are of one dataset."""
    known = list(pickers.colours(panel.runs).values())
    free = [colour for colour in map_plots.DATASET_COLOURS if colour not in known]
    return [free.pop(0) if colour in known[:at] and free else colour for at, colour in enumerate(known)]


def _names(panel: Panel) -> list[str]:
    """Short distinct names of a panel's runs."""
    return list(distinct_names(panel.runs).values())


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _kind(found: RunMap) -> str:
    """Projection and its settings."""
    if found.share is not None:
        return f"PCA of D = {found.dim}"
    return f"UMAP of D = {found.dim}, {found.request.neighbours} neighbours, seed {found.request.seed}"


def _projection(found: RunMap) -> str:
    """Projection and its settings, in a word for the address."""
    request = found.request
    return request.projection if found.share is not None else f"{request.projection}{request.neighbours}"


def _axes(found: RunMap) -> tuple[str, str] | None:
    """Titles of the axes, where they mean something."""
    if found.share is None:
        return None
    first, second = (number(100 * share, 1) for share in found.share)
    return f"first principal direction, {first} % of the variance", f"second, {second} %"


def _honest(found: RunMap) -> str:
    """What may be read off the map, and what may not."""
    if found.share is not None:
        told = (
            f"**{number(100 * sum(found.share), 1)} % of the variance** lies in this plane; "
            "images that lie together here may lie apart along the other directions."
        )
    else:
        told = (
            "**Distances on a UMAP map are not distances in the embedding**: what lies together was close; how far "
            "groups lie apart, how large and how dense they look, says nothing."
        )
    if found.trust is None:
        return told
    return (
        f"{told} Trustworthiness **{number(found.trust, 2)}**: 1 if the ten nearest on the map are the nearest in the "
        f"embedding too, 0.5 by chance (on {plural(min(len(found.index), 2000), 'image')})."
    )


def _words(panel: Panel, shown: int, mapped: int) -> str:
    """How many images are shown of how many, and what one can do."""
    held = sum(pickers.scored(run) for run in panel.runs)
    told = []
    if mapped < held and held > MOST_IMAGES:
        told.append(
            f"Mapped are {count(mapped)} of {plural(held, 'image')}: the first of each run, a seeded sample that takes "
            "all classes in turn."
        )
    elif mapped < held:
        told.append(f"{plural(held - mapped, 'image')} without a finite embedding or score.")
    if shown < mapped:
        told.append(f"This browser has no WebGL, so that {count(shown)} dots are drawn of {count(mapped)}.")
    told.append(
        "Drag to circle dots, scroll to zoom. The buttons above the map change dragging to a box or to moving, "
        "with which a click picks one dot."
    )
    return " ".join(told)

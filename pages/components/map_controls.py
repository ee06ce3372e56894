"""Choices of the map page, which maps they ask for, and those that are still being made."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from jepascore_core import map_plots, store
from jepascore_core.allowed import read_only
from jepascore_core.jobs import maps
from jepascore_core.naming import is_imported
from jepascore_core.projection import LEAST_FOR_UMAP
from jepascore_core.store import Run
from jepascore_core.store.maps import MOST_IMAGES, MapRequest, RunMap
from pages.components import loaders, pickers
from pages.components.guard import guard
from pages.components.text import duration, listed, md, plural, public_md

PROJECTIONS = {"PCA": "pca", "UMAP": "umap"}
NEIGHBOURS = ("5", "15", "50")
COLOURS = ("Score", "Class", "Run")
ORDERS = ("Least likely first", "Most likely first")
MOST_PANELS = 2  # encoders side by side
POLL_S = 1.0
_ABOUT = (
    "The two directions along which the embeddings vary most; distances are true, seen from one side.",
    "Keeps near neighbours near, and pays for it with all other distances. Takes seconds to a minute, once.",
)


@dataclass(frozen=True)
class Look:
    """How a map is drawn and what is shown beside it.

    Attributes:
        colour: One of ``COLOURS``.
        classes: Classes that have a colour; None takes the largest.
        dot_px: Diameter of a dot.
        likely_first: Whether a gallery begins with the most likely images.
    """

    colour: str
    classes: tuple[str, ...] | None
    dot_px: int
    likely_first: bool


@dataclass(frozen=True)
class Panel:
    """The map of one encoder's runs.

    Attributes:
        title: Name of the encoder.
        runs: Its runs, by name.
        request: What the map shall be.
    """

    title: str
    runs: tuple[Run, ...]
    request: MapRequest

    @property
    def pca(self) -> MapRequest:
        """The map that is there at once."""
        return MapRequest(self.request.runs)


def tell_unknown() -> None:
    """Say which of the page's choices in the address mean nothing."""
    known = {"projection": PROJECTIONS, "neighbours": NEIGHBOURS, "colour": COLOURS, "order": ORDERS}
    pickers.tell_unknown({name: pickers.one_of(["", *values]) for name, values in known.items()})


def pick_projection() -> tuple[str, int]:
    """Choose the projection and the neighbours of UMAP; kept in the URL as ``projection`` and ``neighbours``."""
    shown = pickers.current_one("projection", list(PROJECTIONS), "PCA")
    near = pickers.current_one("neighbours", NEIGHBOURS, "15")
    with pickers.chip("Projection", shown if shown == "PCA" else f"UMAP {near}"):
        name = st.radio(
            "Projection", list(PROJECTIONS), key="projection", bind="query-params", captions=_ABOUT, width=420
        )
        neighbours = st.segmented_control(
            "Neighbours that UMAP keeps near", NEIGHBOURS, default="15", key="neighbours", bind="query-params",
            required=True, disabled=name != "UMAP",
            help="Few show fine structure, which may be chance; many show the large one.",
        )  # fmt: skip
    return PROJECTIONS.get(name or "", "pca"), int(neighbours if neighbours in NEIGHBOURS else 15)


def pick_look(runs: Sequence[Run]) -> Look:
    """Choose colours, size of the dots and order of the gallery; kept in the URL."""
    with pickers.chip("Colour", pickers.current_one("colour", COLOURS, "Score").lower()):
        chosen = st.segmented_control(
            "Colour by", COLOURS, default="Score", key="colour", bind="query-params", required=True,
            help="Colours of runs and classes are those of the other pages; scores go from least to most likely.",
        )  # fmt: skip
        colour = chosen if chosen in COLOURS else "Score"
        classes = _pick_classes(runs) if colour == "Class" else None
    with pickers.chip("Dots", f"{pickers.current_number('dot', 2, 12, 5)} px"):
        dot_px = st.slider("Diameter of a dot, px", 2, 12, 5, key="dot", bind="query-params", width=260)
    with pickers.chip("Gallery", pickers.current_one("order", ORDERS, ORDERS[0]).lower()):
        order = st.segmented_control(
            "Images that are circled", ORDERS, default=ORDERS[0], key="order", bind="query-params", required=True
        )
    return Look(colour, classes, int(dot_px), order == ORDERS[1])


def to_begin_with(runs: Sequence[Run]) -> list[Run]:
    """The newest runs that belong together, of those that can be on a map, where there are any."""
    without = _without_embeddings(runs)
    return pickers.latest_family([run for run in runs if run not in without] or list(runs))


def panels(runs: Sequence[Run], projection: str, neighbours: int) -> list[Panel]:
    """One map for each encoder of some runs; says so where there are several, or more than fit."""
    groups: dict[tuple[str, str], list[Run]] = {}
    without = _without_embeddings(runs)
    if without:
        names = listed([md(run.label) for run in without])
        verb = "was" if len(without) == 1 else "were"
        st.caption(f":material/info: {names} {verb} imported without embeddings, and cannot be on a map.")
    for run in runs:
        if run in without:
            continue
        groups.setdefault(store.encoder_of(run), []).append(run)
    found = []
    for mine in groups.values():
        mine = sorted(mine, key=lambda run: run.name)
        request = MapRequest(tuple(run.name for run in mine), projection, neighbours if projection == "umap" else 15)
        found.append(Panel(pickers.encoder_name(mine[0]), tuple(mine), request))
    if len(found) > 1:
        some = "" if len(found) <= MOST_PANELS else f" Shown are the first {MOST_PANELS} of {len(found)}."
        st.caption(
            ":material/info: Embeddings of different encoders share no space: each encoder has a map of its own." + some
        )
    return found[:MOST_PANELS]


def _without_embeddings(runs: Sequence[Run]) -> list[Run]:
    """Imported runs that have only scores or spectra."""
    return [run for run in runs if is_imported(run) and not len(loaders.embeddings(run))]


def make(wanted: Sequence[Panel]) -> dict[Panel, RunMap]:
    """Maps that take long: gives those that are there; the others begin, and the page is told when they are done."""
    ready: dict[Panel, RunMap] = {}
    under_way = []
    for panel in wanted:
        if panel.request.projection == "umap":
            with guard():
                if why := _why_not(panel):
                    st.caption(f":material/info: {why} Shown is PCA.")
                    continue
                now = maps.make(panel.request)
                if now.map is not None:
                    ready[panel] = now.map
                elif now.problem:
                    _tell_problem(panel, now.problem)
                else:
                    under_way.append(panel)
    if under_way:
        _follow(under_way)
    return ready


def _pick_classes(runs: Sequence[Run]) -> tuple[str, ...] | None:
    """Choose which classes have a colour; kept in the URL as ``classes``."""
    known = dict.fromkeys(str(name) for run in runs for name in loaders.classes(run)["class_name"] if name)
    chosen = st.multiselect(
        "Classes in colour", list(known), key="classes", bind="query-params", width=420,
        placeholder=f"The {map_plots.MOST_CLASSES} largest",
        help=f"There are {map_plots.MOST_CLASSES} colours that can be told apart; other classes are grey.",
    )  # fmt: skip
    return tuple(chosen) or None


def _why_not(panel: Panel) -> str:
    """Why a map is not even begun, as Markdown; "" where it can be."""
    if working := [md(pickers.dataset_name(run)) for run in panel.runs if run.progress().active]:
        verb = "is" if len(working) == 1 else "are"
        return f"{listed(working)} {verb} being scored; UMAP is made when that is done."
    images = sum(pickers.scored(run) for run in panel.runs)
    if images < LEAST_FOR_UMAP:
        return f"UMAP needs at least {LEAST_FOR_UMAP} images; {md(panel.title)} has {images}."
    return ""


def _tell_problem(panel: Panel, problem: str) -> None:
    """Why there is no map of the kind that was asked for."""

    def again() -> None:
        maps.forget(panel.request)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f":material/info: UMAP of {md(panel.title)}: {public_md(problem)} Shown is PCA.", width="content")
        if not read_only():
            st.button(
                "Try again", key=f"again_{panel.title}", on_click=again, type="tertiary", icon=":material/refresh:"
            )


def _follow(wanted: Sequence[Panel]) -> None:
    """Look at maps in the making, and draw the page again when one is done."""

    def cancel() -> None:
        for panel in wanted:
            maps.cancel(panel.request)
        st.session_state["projection"] = "PCA"

    @st.fragment(run_every=POLL_S)
    def body() -> None:
        with guard():
            told = []
            for panel in wanted:
                now = maps.make(panel.request)
                if now.settled or _why_not(panel):
                    st.rerun()
                images = min(MOST_IMAGES, sum(pickers.scored(run) for run in panel.runs))
                since = "waiting for another map" if now.since_s is None else f"{duration(now.since_s)} so far"
                told.append(f"{md(panel.title)} ({plural(images, 'image')}, {since})")
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(
                    f":material/hourglass_top: UMAP of {listed(told)} is being made. It takes seconds to a minute, "
                    "once; PCA is shown meanwhile.",
                    width="content",
                )
                if not read_only():
                    st.button("Cancel", key="cancel_map", on_click=cancel, type="tertiary", icon=":material/close:")

    body()

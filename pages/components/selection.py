"""The images that the reader has selected: they stay from page to page until they are cleared.

A small selection stands in the address as ``chosen``, and in every link that is copied.
"""

from collections.abc import Iterable, Mapping

import streamlit as st

PARAMETER = "chosen"
MOST_IN_ADDRESS = 40
_CHOSEN = "chosen_images"
_WRITTEN = "chosen_in_address"


def join(run: str, key: str) -> str:
    """Id of an image on a page: a run's name never holds a line break."""
    return f"{run}\n{key}"


def split(image: str) -> tuple[str, str]:
    """Run and key of what ``join`` made."""
    run, _, key = image.partition("\n")
    return run, key


def change(images: Iterable[tuple[str, str]], *, on: bool) -> None:
    """Select some images, or no longer.

    Args:
        images: (run, key) of each.
        on: Whether they are to be selected.
    """
    chosen = _chosen()
    for run, key in images:
        if on:
            chosen.setdefault(run, {})[key] = None
        else:
            chosen.get(run, {}).pop(key, None)
    for run in [run for run, keys in chosen.items() if not keys]:
        del chosen[run]
    _write()


def clear() -> None:
    """Select nothing."""
    _chosen().clear()
    _write()


def follow_address() -> None:
    """Select what a link or the browser's history asks for; call it before anything is drawn."""
    named = st.query_params.get_all(PARAMETER)
    if not named or named == st.session_state.get(_WRITTEN):
        return
    st.session_state[_WRITTEN] = named
    chosen = _chosen()
    chosen.clear()
    for image in named[:MOST_IN_ADDRESS]:
        run, _, key = image.partition("/")
        if run and key:
            chosen.setdefault(run, {})[key] = None


def address() -> list[str]:
    """The selection as the address holds it; empty for more images than an address can take."""
    images = [f"{run}/{key}" for run, keys in _chosen().items() for key in keys]
    return images if len(images) <= MOST_IN_ADDRESS else []


def holds(run: str, key: str) -> bool:
    """Whether an image is selected."""
    return key in _chosen().get(run, {})


def chosen() -> Mapping[str, list[str]]:
    """Keys of the selected images by run, in the order of selecting."""
    return {run: list(keys) for run, keys in _chosen().items()}


def _write() -> None:
    """Keep the address in step."""
    images = address()
    st.session_state[_WRITTEN] = images
    if images:
        st.query_params[PARAMETER] = images
    else:
        st.query_params.pop(PARAMETER, None)


def _chosen() -> dict[str, dict[str, None]]:
    held: dict[str, dict[str, None]] = st.session_state.setdefault(_CHOSEN, {})
    return held

"""The images that the reader has selected: they stay from page to page until they are cleared."""

from collections.abc import Iterable, Mapping

import streamlit as st

_CHOSEN = "chosen_images"


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


def clear() -> None:
    """Select nothing."""
    _chosen().clear()


def holds(run: str, key: str) -> bool:
    """Whether an image is selected."""
    return key in _chosen().get(run, {})


def chosen() -> Mapping[str, list[str]]:
    """Keys of the selected images by run, in the order of selecting."""
    return {run: list(keys) for run, keys in _chosen().items()}


def _chosen() -> dict[str, dict[str, None]]:
    held: dict[str, dict[str, None]] = st.session_state.setdefault(_CHOSEN, {})
    return held

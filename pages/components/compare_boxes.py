"""Boxes drawn in the scatter of two encoders; the URL keeps them for the scatter that they were drawn in."""

import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import streamlit as st

from pages.components.compare_choice import Choice

SCATTER = "scatter_"  # how the chart's key begins
MOST_BOXES = 8
_TURN, _BEGUN, _TOUCHED = "scatter_turn", "scatter_begun", "scatter_touched"

Box = dict[str, list[float]]  # ends along x and along y, in the units of the axes


def chart_key(choice: Choice) -> str:
    """Key of the scatter: another one when its dots change or its boxes are cleared."""
    return f"{SCATTER}{scatter_name(choice)}_{st.session_state.get(_TURN, 0)}"


def scatter_name(choice: Choice) -> str:
    """What a box in the URL belongs to: encoders, classes, axes and score."""
    parts = [*(run.name for run in choice.runs[:2]), *choice.classes, choice.percentiles, choice.in_class, choice.rule]
    return sha256(repr(parts).encode()).hexdigest()[:10]


def first_boxes(key: str) -> list[Box]:
    """The boxes that a chart begins with: those of the URL. They stay the same while it is there."""
    if key not in st.session_state:
        st.session_state[_BEGUN] = (key, _boxes_of_address(key))
        st.session_state.pop(_TOUCHED, None)
    begun, boxes = st.session_state.get(_BEGUN, ("", []))
    return boxes if begun == key else []


def boxes_of(selection: Mapping[str, Any], key: str) -> list[Box]:
    """The boxes drawn in a chart, kept in the URL as ``box``; before any, those that it began with."""
    drawn = [{axis: [float(value) for value in box[axis]] for axis in "xy"} for box in selection.get("box") or []]
    if drawn:
        st.session_state[_TOUCHED] = key
        ends = [",".join(f"{value:.6g}" for value in (*box["x"], *box["y"])) for box in drawn]
        st.query_params["box"] = ";".join([key.split("_")[1], *ends])
    elif st.session_state.get(_TOUCHED) == key:
        st.query_params.pop("box", None)
    else:
        return first_boxes(key)
    return drawn


def _boxes_of_address(key: str) -> list[Box]:
    """The boxes that the URL asks for, if it means this chart."""
    name, *texts = st.query_params.get("box", "").split(";")
    if name != key.split("_")[1]:
        return []
    found = []
    for text in texts[:MOST_BOXES]:
        try:
            left, right, low, high = (float(end) for end in text.split(","))
        except ValueError:
            continue
        if all(math.isfinite(end) for end in (left, right, low, high)):
            found.append({"x": [left, right], "y": [low, high]})
    return found


def clear() -> None:
    """Take the boxes away: another chart, and none in the URL."""
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1
    st.query_params.pop("box", None)

"""One image under every corruption, with its score: what the encoder was shown."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from jepascore_core.datasets.corruptions import STRENGTHS
from jepascore_core.outliers.rows import identities_of
from jepascore_core.sensitivity.experiments import Dose
from jepascore_core.store import Ranking, Run, ScoreRule
from pages.components import loaders
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.text import md, number

_PARAMETER = "example"
_RULE = ScoreRule()
TILE_PX = 112


def draw(run: Run, found: Mapping[Dose, Run]) -> None:
    """A line for each kind: the clean image, then each severity; another image at a click."""
    clean = loaders.ranking(run, _RULE)
    rankings = {dose: loaders.ranking(other, _RULE) for dose, other in found.items()}
    keys = _keys(clean, rankings)
    if not keys:
        return
    asked = st.query_params.get(_PARAMETER)
    key = asked if asked in keys else keys[0]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**One image at each severity** :gray[{md(key)}]")
        st.button(
            "Another image", key="another", type="tertiary", icon=":material/shuffle:", on_click=_show,
            args=(keys[(keys.index(key) + 1) % len(keys)],),
        )  # fmt: skip
    first = _tile(run, clean, key, "clean", "clean")
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in found):
        severities = [severity for one, severity in found if one == kind]
        tiles = [_tile(found[kind, s], rankings[kind, s], key, str(s), f"{kind} {s}") for s in severities]
        held = pd.concat([first, *(tile for tile in tiles if len(tile))], ignore_index=True)
        rows.append(Row(kind, _strengths(kind, severities), [held], run.name))
    gallery(
        rows, key="example_tiles", size=TILE_PX, card=False, name="One image under corruptions", on_pick=pick,
        empty="No image has been scored clean and corrupted.",
    )  # fmt: skip
    score = number(float(first["score"].iloc[0]), 2)
    st.caption(
        f"On each tile severity · JEPA-SCORE, raw, nats; clean {score}. A click opens that run’s image. The same image "
        "is corrupted alike in every run; first shown is the image of median score."
    )


def _keys(clean: Ranking, rankings: Mapping[Dose, Ranking]) -> list[str]:
    """Images that have a score in every run: first that of median clean score, then in an order that hashes decide."""
    held = clean.keys.to_pylist()  # by ascending score
    for ranking in rankings.values():
        there = set(ranking.keys.to_pylist())
        held = [key for key in held if key in there]
    if not held:
        return []
    middle = held.pop(len(held) // 2)
    hashes = identities_of("", np.array(held, dtype=object))
    return [middle, *(held[place] for place in np.argsort(hashes))]


def _tile(run: Run, ranking: Ranking, key: str, name: str, note: str) -> pd.DataFrame:
    """One image of one run, as the gallery takes it; empty where it has no score there."""
    place = ranking.place_of(key)
    if place is None:
        return pd.DataFrame()
    frame = loaders.with_thumbnails(run, ranking.rows(np.array([place])))
    badge = f"{name} · {number(float(frame['score'].iloc[0]), 1)}"
    return frame.assign(run=run.name, note=note, badge=badge)


def _strengths(kind: str, severities: Sequence[int]) -> str:
    """What the least and the greatest severity of a kind are."""
    ends = dict.fromkeys(STRENGTHS[kind][severity - 1] for severity in (severities[0], severities[-1]))
    return " to ".join(ends)


def _show(key: str) -> None:
    """Put an image in the address."""
    st.query_params[_PARAMETER] = key

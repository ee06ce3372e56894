"""One image beside its page: a drawer with its score, its place in run and class, and its spectrum."""

from collections.abc import Sequence
from io import BytesIO

import streamlit as st
from PIL import Image

from jepascore_core import store
from jepascore_core.plots import spectrum_plot
from jepascore_core.store import Run, ScoreRule
from pages.components import encode, loaders, pickers
from pages.components.captions import caption, chart
from pages.components.gallery import Row, gallery
from pages.components.guard import guard
from pages.components.leverage import draw_leverage
from pages.components.text import md, number, ordinal, plural, significant

_OPEN = "inspected"


def pick(run: str, key: str) -> None:
    """Remember that an image was clicked; ``open_image`` shows it."""
    st.session_state[_OPEN] = (run, key)


def open_image(rule: ScoreRule | None = None) -> None:
    """Open the drawer for the image that was clicked last, if one was; call it before the live parts."""
    chosen = st.session_state.pop(_OPEN, None)
    if chosen:
        run_name, key = chosen
        _drawer(run_name, key, rule or ScoreRule())


def reopen() -> None:
    """Within a live part: run the page again if an image was clicked, so that the drawer opens."""
    if _OPEN in st.session_state:
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


@st.dialog("Image", width=480, position="right")
def _drawer(run_name: str, key: str, rule: ScoreRule) -> None:
    with guard():
        run = store.open_run(run_name)
        row = loaders.row(run, key)
        left, right = st.columns([2, 3], gap="small")
        if row.get("thumbnail"):
            left.image(Image.open(BytesIO(row["thumbnail"])), width="stretch", alt=f"Thumbnail of {key}")
        with right.container(gap="xsmall"):
            headline(run, row, score_of(run, key, rule), rule)
        st.markdown("**Spectrum**")
        spectrum(run, row, key="drawer_spectrum")
        caption([run], [pickers.scored(run)], rule)
        if st.toggle("Where the score lives", key=f"where_{run.name}_{key}", help="Loads the encoder and the image."):
            with guard():
                seen = encode.look(encode.encoder_of(run), encode.source_image(run, row))
                draw_leverage(seen, key="drawer_band", width=224)
        labels = {item.name: label for label, item in pickers.by_label(pickers.readable_runs()).items()}
        st.page_link(
            "pages/singular_vectors.py", label="Open in Singular vectors", icon=":material/arrow_forward:",
            query_params={"run": labels.get(run.name, ""), "key": key, "score": pickers.rule_key(rule)},
        )  # fmt: skip


def score_of(run: Run, key: str, rule: ScoreRule) -> float:
    """Score of one image under a convention, nats."""
    frame = loaders.scores(run, rule)
    found = frame.loc[frame["key"] == key, "score"]
    return float(found.iloc[0]) if len(found) else float("nan")


def headline(run: Run, row: dict, score: float, rule: ScoreRule) -> None:
    """Score with its error, its percentile in its class and its run, and which image it is."""
    size = f"{row['width']} × {row['height']} px" if row.get("width") else "size unknown"
    draw_score(score, row.get("score_error"), places(run, row.get("class_name") or None, score, rule), rule)
    st.caption(f"{md(row['key'])}, {size}")


def draw_score(score: float, error: float | None, places: str, rule: ScoreRule) -> None:
    """A score in large figures, its rounding error, and where it stands."""
    about = f":gray[± {significant(error, 1)} nats.] " if error is not None else ""
    st.metric(f"{pickers.score_title(rule)} (nats)", number(score, 2))
    st.markdown(f"{about}{places}")


def places(run: Run, class_name: str | None, score: float, rule: ScoreRule) -> str:
    """Percentiles in words."""
    whole = ordinal(store.percentile(run, score, rule=rule))
    if class_name is None:
        return f"{whole} percentile of the run."
    within = ordinal(store.percentile(run, score, class_name=class_name, rule=rule))
    return f"{within} percentile of {md(class_name)}, {whole} of the run."


def spectrum(run: Run, row: dict, *, key: str) -> None:
    """Spectrum of one image over its class's median and band."""
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

"""One image, dropped in: its score, its place in a run, its spectrum, singular vectors and leverage."""

import streamlit as st
from PIL import Image

from jepascore_core.datasets.images import open_image
from jepascore_core.naming import is_imported
from jepascore_core.pictures import common_scale, enlarged, vector_picture
from jepascore_core.plots import spectrum_plot
from jepascore_core.store import Run, ScoreRule
from pages.components import encode, loaders, pickers
from pages.components.captions import caption, chart
from pages.components.guard import card
from pages.components.inspector import draw_score, places
from pages.components.leverage import draw_leverage
from pages.components.text import below, duration, md, significant
from pages.components.vectors import IMAGE_TYPES, MOST_UPLOAD_MB, square

VECTORS = 6
MOST_S = 120.0  # that a page waits for one image; slower encoders score it as a run


def draw() -> None:
    """The form and, once there is an image, all that one can say about it."""
    runs = [run for run in pickers.readable_runs() if not is_imported(run)]  # whose weights are not at hand
    if not runs:
        st.caption("An image is judged against a run that was scored here; score a dataset first.")
        return
    with card("drop"):
        left, middle, right = st.columns([4, 3, 2], gap="medium")
        dropped = left.file_uploader(
            "An image", type=IMAGE_TYPES, key="one_image", max_upload_size=MOST_UPLOAD_MB,
            help="It stays on this machine.",
        )  # fmt: skip
        labels = pickers.by_label(runs)
        first = list(labels.values()).index(pickers.latest_family(runs)[0])
        run = labels.get(
            middle.selectbox(
                "Compare with",
                list(labels),
                index=first,
                key="against",
                help="The run whose encoder scores the image, and among whose images it gets its percentile.",
            ),
            runs[0],
        )
        classes = [pickers.ALL_IMAGES, *pickers.classes_of([run])]
        chosen = right.selectbox("Class", classes, key="within", help="Percentile among images of this class.")
    if (takes_s := _takes_s(run)) > MOST_S:
        st.caption(
            f"An image takes this encoder about {duration(takes_s)} here, too long for a page: put it in a folder, and "
            "score that."
        )
        return
    if dropped is None:
        st.caption("Drop a picture above: it is scored with the run's encoder and set among the run's images.")
        return
    _report(run, None if chosen == pickers.ALL_IMAGES else chosen, open_image(dropped.getvalue()))


def _takes_s(run: Run) -> float:
    """Seconds that an image took when the run was scored; 0 where that is not known."""
    speed = run.progress().images_per_s
    return 1 / speed if speed else 0.0


def _report(run: Run, class_name: str | None, image: Image.Image) -> None:
    encoder = encode.encoder_of(run)
    k = min(VECTORS, encoder.spec.embedding_dim - encoder.spec.null_dim)
    seen = encode.look(encoder, image)
    values, vectors = encode.vectors(encoder, image, k, False)
    left, middle, right = st.columns([3, 3, 6], gap="small")
    with left, card("dropped", height="stretch", gap="xsmall"):
        st.image(square(image), width="stretch", alt="The dropped image")
        rule = ScoreRule()
        draw_score(seen.score, seen.error, places(run, class_name, seen.score, rule), rule)
        if int(run.meta.get("views") or 1) > 1:
            st.caption("This is eq. (5), of one view; the run’s scores are eq. (4), of several.")
    with middle, card("dropped_leverage", height="stretch", gap="xsmall"):
        draw_leverage(seen, key="dropped_band")
    with right, card("dropped_spectrum", height="stretch", gap="xsmall"):
        st.markdown("**Spectrum**")
        name = class_name or "the run"
        figure = spectrum_plot(
            loaders.spectrum_band(run, class_name), {"this image": seen.singular_values}, band_name=name,
            null_dim=encoder.spec.null_dim,
        )  # fmt: skip
        chart(figure, key="dropped_chart", alt="Log singular values of the dropped image over the run's median")
        st.caption(f"Blue: this image. Dotted: median of {md(name)}, with its 5–95 % band.")
    with card("dropped_vectors"), st.grid(6, min_column_width=96, gap="small"):
        scale = common_scale(vectors)
        for place, (vector, sigma) in enumerate(zip(vectors, values, strict=True)):
            with st.container(gap="xxsmall"):
                title = f"σ{below(place + 1)} = {significant(float(sigma))}"
                st.image(enlarged(vector_picture(vector, scale), 160), width="stretch", alt=f"Singular vector, {title}")
                st.markdown(f"**{title}**")
    caption([run], [pickers.scored(run)], ScoreRule())

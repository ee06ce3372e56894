"""Parts of the singular vectors page: which image, its facts, its vectors, and a walk along one of them."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from PIL import Image

from jepascore_core.allowed import read_only
from jepascore_core.datasets.images import open_image
from jepascore_core.errors import JepaScoreError
from jepascore_core.naming import is_imported, origin
from jepascore_core.pictures import common_scale, enlarged, vector_picture
from jepascore_core.plane import principal_plane
from jepascore_core.store import Ranking, Run, ScoreRule, is_given
from jepascore_core.walk_plots import movement_plot, path_plot
from pages.components import encode, loaders, pickers
from pages.components.captions import caption, chart
from pages.components.guard import card, guard
from pages.components.inspector import headline, score_of, spectrum, without_picture
from pages.components.leverage import SIDE, draw_leverage
from pages.components.text import below, count, md, number, public_md, significant

if TYPE_CHECKING:
    from jepascore_core.encoders.encoder import Encoder

MOST_UPLOAD_MB = 25  # one photograph
IMAGE_TYPES = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"]
LEAST_CLOUD = 3  # embeddings that span a plane
PLANES = ("Among the run’s images", "The path alone")


@dataclass(frozen=True)
class Vectors:
    """Which singular vectors to show.

    Attributes:
        k: How many.
        smallest: From the small end of the spectrum instead of the large one.
    """

    k: int
    smallest: bool


@dataclass(frozen=True)
class Ranked:
    """Where an image stands in its run.

    Attributes:
        held: All scored images, least likely first.
        place: Position of the chosen one.
    """

    held: Ranking
    place: int

    @property
    def key(self) -> str:
        """The chosen image."""
        return self.key_at(self.place)

    def key_at(self, place: int) -> str:
        """The image at a place."""
        return self.held.key(place)


@dataclass(frozen=True)
class Source:
    """The image behind a row, or one that the reader brought.

    Attributes:
        image: Upright RGB.
        brought: It was dropped in, and need not be the row's own.
    """

    image: Image.Image
    brought: bool = False


def pick_image(run: Run, rule: ScoreRule) -> Ranked:
    """Choose an image of a run by its key, kept in the URL as ``key``; an unknown key gives the likeliest image."""
    held = loaders.ranking(run, rule)
    linked = st.query_params.get("key")
    if linked is not None and linked != st.session_state.get("linked_image"):
        st.session_state["image"] = linked  # a link, or the browser's back button
    wanted = st.session_state.get("image")
    found = None if wanted is None else held.place_of(str(wanted))
    ranked = Ranked(held, len(held) - 1 if found is None else found)
    st.session_state["image"] = st.session_state["linked_image"] = st.query_params["key"] = ranked.key
    with pickers.chip("Image", pickers.shortened([ranked.key])):
        st.text_input("Image key", key="image", width=340)
        st.caption(f"Rank {count(ranked.place + 1)} of {count(len(held))}, from least likely.")
    return ranked


def step_buttons(ranked: Ranked) -> None:
    """Step to the next less or more likely image."""

    def step(by: int) -> None:
        st.session_state["image"] = ranked.key_at(ranked.place + by)

    last = ranked.place == len(ranked.held) - 1
    with st.container(horizontal=True, width="content", wrap=False):
        st.button("Less likely", icon=":material/arrow_back:", on_click=step, args=(-1,), disabled=ranked.place == 0)
        st.button(
            "More likely", icon=":material/arrow_forward:", icon_position="right", on_click=step, args=(1,),
            disabled=last,
        )  # fmt: skip


def source_or_upload(run: Run, row: dict[str, Any]) -> Source | None:
    """The row's image from its dataset; where that is not at hand, one that the reader drops in."""
    try:
        return Source(encode.source_image(run, row))
    except JepaScoreError as error:
        reason = public_md(error)
    with card("missing", gap="xsmall"):
        if is_imported(run) and not encode.may_be_loaded(run):
            held = "score is" if is_given(run) else "score and spectrum are"
            st.markdown(f"**Neither the images nor the encoder are at hand.** The {held} stored and shown below.")
            st.caption(md(origin(run)))
            return None
        st.markdown("**The source image is not at hand.** Its score and spectrum are stored and shown below.")
        st.caption(reason)
        if read_only():
            return None
        dropped = st.file_uploader(
            "Drop the image here to see its singular vectors", type=IMAGE_TYPES, key="source_upload",
            max_upload_size=MOST_UPLOAD_MB,
        )  # fmt: skip
    return Source(open_image(dropped.getvalue()), brought=True) if dropped else None


def draw_facts(run: Run, row: dict[str, Any], rule: ScoreRule, source: Source | None) -> None:
    """The image with its score, its leverage map, and its spectrum."""
    without = is_imported(run) and source is None  # nothing to lay a leverage map over
    left, *middle, right = st.columns([3, 9] if without else [3, 3, 6], gap="small")
    with left, card("image", height="stretch", gap="xsmall"):
        if source is None and not row.get("thumbnail"):
            st.caption(f":material/hide_image: {without_picture(run)}")
        else:
            st.image(_picture(row, source), width="stretch", alt=f"Image {row['key']}")
        headline(run, row, score_of(run, str(row["key"]), rule), rule)
    with right, card("spectrum", height="stretch", gap="xsmall"):
        st.markdown("**Spectrum**")
        spectrum(run, row, key="spectrum")
    for box in middle:
        with box, card("leverage", height="stretch", gap="xsmall"), guard():
            _leverage(run, source)


def pick_vectors(run: Run) -> Vectors:
    """Choose how many vectors and from which end; kept in the URL as ``k`` and ``end``."""
    rank = int(run.meta["encoder"]["embedding_dim"]) - int(run.meta["encoder"].get("null_dim") or 0)
    most = max(1, min(12, rank))  # of what was imported as scores alone, D may be unknown
    k = pickers.current_number("k", 1, most, min(6, most))
    end = pickers.current_one("end", ["Largest", "Smallest"], "Largest")
    with pickers.chip("Vectors", f"{k} {end.lower()}"):
        end = st.segmented_control(
            "Singular values", ["Largest", "Smallest"], default="Largest", key="end", bind="query-params",
            required=True, help="Changes of the image that move the embedding most, or least.",
        )  # fmt: skip
        k = st.slider(
            "How many",
            1,
            max(2, most),
            min(6, most),
            key="k",
            bind="query-params",
            width=240,
            help="Right singular vectors shown, from that end of the spectrum.",
        )
    return Vectors(min(k, most), end == "Smallest")


def draw_vectors(run: Run, source: Source, wanted: Vectors, rule: ScoreRule) -> None:
    """Right singular vectors on mid-grey, and a walk along one of them."""
    try:
        encoder = encode.encoder_of(run)
    except JepaScoreError as error:
        if not is_imported(run):
            raise
        st.caption(f":material/info: Singular vectors need the encoder. {public_md(error)}")
        return
    if is_imported(run):
        st.caption(":material/info: The run was imported; the pictures show the encoder of its name as it is here.")
    elif encoder.digest != run.meta["encoder"]["digest"]:
        st.caption(
            ":material/info: The encoder's weights differ from those of the run; the pictures show these weights."
        )
    values, vectors = encode.vectors(encoder, source.image, wanted.k, wanted.smallest)
    first = encoder.spec.embedding_dim - encoder.spec.null_dim - wanted.k if wanted.smallest else 0
    with card("vectors"):
        scale = common_scale(vectors)
        with st.grid(6, min_column_width=96, gap="small"):
            for place, (vector, sigma) in enumerate(zip(vectors, values, strict=True)):
                with st.container(gap="xxsmall"):
                    name = f"σ{below(first + place + 1)} = {significant(float(sigma))}"
                    picture = enlarged(vector_picture(vector, scale), 160)
                    st.image(picture, width="stretch", alt=f"Right singular vector, {name}")
                    st.markdown(f"**{name}**")
        st.caption("Right singular vectors vₖ in input space: zero is mid-grey, one scale for the row.")
    with card("walk"):
        _walk(run, encoder, source, wanted, vectors, first, rule)
    caption([run], [pickers.scored(run)], rule)


def _walk(
    run: Run,
    encoder: "Encoder",
    source: Source,
    wanted: Vectors,
    vectors: np.ndarray,
    first: int,
    rule: ScoreRule,
) -> None:
    """Move the image along one vector; show the image, its embedding's movement and path, and its score."""
    reach = encode.limit(encoder)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        names = [f"v{below(first + place + 1)}" for place in range(wanted.k)]
        name = st.selectbox(
            "Move along",
            names,
            key="along",
            width=130,
            help="The singular vector that is added to the image, α times.",
        )
        alpha = st.slider("α", -reach, reach, 0.0, reach / 40, key="alpha", help="Step in normalised input units.")
    which = names.index(name) if name in names else 0
    walk = encode.path(encoder, source.image, wanted.k, wanted.smallest, which, float(alpha))
    here = walk.steps.iloc[int(np.argmin(np.abs(walk.steps["alpha"] - alpha)))]
    left, middle, right = st.columns([3, 4, 4], gap="medium")
    with left, st.container(key="moved"):
        picture = enlarged(encode.moved(encoder, source.image, vectors[which], float(alpha)), SIDE)
        st.image(picture, width="stretch", alt=f"The image moved by {alpha:.2f} along {name}")
        distance, score, step = significant(here["movement"]), number(here["score"], 2), number(float(alpha), 2)
        st.markdown(f"α = {step}: the embedding moves by **{distance}**, the score becomes **{score}** nats.")
    with middle:
        chart(movement_plot(walk.steps, float(alpha)), key="walk", alt="Embedding movement and score along the vector")
        if rule != ScoreRule() or int(run.meta.get("views") or 1) > 1:
            st.caption("The score along the walk is the raw one of a single view, eq. (5).")
    with right:
        _draw_path(run, encoder, walk, float(alpha))


def _draw_path(run: Run, encoder: "Encoder", walk: encode.Walk, alpha: float) -> None:
    """The embedding's path among those of the run, in their principal plane, or in its own."""
    place = st.container(gap="xsmall")
    others = loaders.embeddings(run).astype(np.float64)
    if len(others) < LEAST_CLOUD or encoder.digest != run.meta["encoder"]["digest"]:
        others = others[:0].reshape(0, walk.embeddings.shape[1])
    elif _alone():
        others = others[:0]
    plane = principal_plane(others if len(others) else walk.embeddings)
    axes = [f"principal direction {k + 1} ({number(100 * float(plane.share[k]), 0)} %)" for k in (0, 1)]
    drawn = plane.project(walk.embeddings)
    figure = path_plot(plane.project(others), drawn, walk.steps["alpha"].to_numpy(), alpha, (axes[0], axes[1]))
    with place:
        chart(figure, key="path", alt="Path of the embedding in the plane of two principal directions")
        whose = "the run’s embeddings" if len(others) else "the path itself"
        st.caption(
            f"The embedding’s path in the first two principal directions of {whose}, which hold "
            f"{number(100 * plane.held(walk.embeddings), 0)} % of its movement. Hollow: the image; filled: at α."
        )


def _alone() -> bool:
    """Whether the reader wants the path by itself."""
    chosen = st.segmented_control(
        "Plane", PLANES, default=PLANES[0], key="plane", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen == PLANES[1]


def _leverage(run: Run, source: Source | None) -> None:
    """The leverage map, where the image is at hand."""
    if source is None:
        st.markdown("**Leverage map**")
        st.caption("Needs the source image.")
        return
    if is_imported(run) and not encode.may_be_loaded(run):
        st.markdown("**Leverage map**")
        st.caption("Needs the encoder, which is known by name only.")
        return
    draw_leverage(encode.look(encode.encoder_of(run), source.image), key="leverage", in_url=True)


def _picture(row: dict[str, Any], source: Source | None) -> Image.Image:
    """The source image if it is at hand, else the thumbnail, else a grey square."""
    if source is not None:
        return square(source.image)
    if row.get("thumbnail"):
        return square(Image.open(BytesIO(row["thumbnail"])).convert("RGB"))
    return Image.new("RGB", (SIDE, SIDE), (128, 128, 128))


def square(image: Image.Image) -> Image.Image:
    """Centre crop at a size that a page shows sharply."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)

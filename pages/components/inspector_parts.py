"""What the drawer of one image can show beside its spectrum; each part is computed when it is asked for."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from jepascore_core.errors import JepaScoreError
from jepascore_core.naming import is_imported
from jepascore_core.pictures import common_scale, enlarged, vector_picture
from jepascore_core.store import Run, ScoreRule, is_given, one_dataset
from jepascore_core.store.request import short_name
from pages.components import encode, loaders, pickers
from pages.components.gallery import Row, gallery
from pages.components.leverage import draw_leverage
from pages.components.text import below, column, count, md, number, ordinal, plural, public_md, significant

if TYPE_CHECKING:
    from PIL import Image

    from jepascore_core.encoders.encoder import Encoder

PARTS = ("Spectrum", "Patches", "Vectors", "Neighbours", "Encoders", "Origin")
NEIGHBOURS = 12
AMONG = 200_000  # images whose embeddings are compared; more would take seconds
VECTORS = 3

Pick = Callable[[str, str], None]


def draw(part: str, run: Run, row: dict[str, Any], rule: ScoreRule, on_pick: Pick) -> None:
    """Draw one part.

    Args:
        part: One of ``PARTS``, but for the spectrum.
        run: The image's run.
        row: All that is stored of the image.
        rule: Convention of the score.
        on_pick: Called with (run, key) of an image to show instead.
    """
    drawers: dict[str, Callable[[], None]] = {
        "Patches": lambda: _patches(run, row),
        "Vectors": lambda: _vectors(run, row),
        "Neighbours": lambda: _neighbours(run, row, rule, on_pick),
        "Encoders": lambda: _encoders(run, row, rule),
        "Origin": lambda: _origin(run, row),
    }
    drawers[part]()


def _patches(run: Run, row: dict[str, Any]) -> None:
    """Leverage over the image."""
    if (at_hand := _encoder_and_image(run, row, "A leverage map")) is None:
        return
    seen = encode.look(*at_hand)
    draw_leverage(seen, key="drawer_band", width=288)


def _vectors(run: Run, row: dict[str, Any]) -> None:
    """First right singular vectors, as Figure 7."""
    if (at_hand := _encoder_and_image(run, row, "Its singular vectors")) is None:
        return
    values, vectors = encode.vectors(*at_hand, VECTORS, False)
    scale = common_scale(vectors)
    for place, (box, vector, sigma) in enumerate(zip(st.columns(VECTORS), vectors, values, strict=True), start=1):
        name = f"σ{below(place)} = {significant(float(sigma))}"
        box.image(enlarged(vector_picture(vector, scale), 160), width="stretch", alt=f"Right singular vector, {name}")
        box.caption(name)
    st.caption("The changes to the image that move its embedding most, as in Figure 7: zero is mid-grey.")


def _encoder_and_image(run: Run, row: dict[str, Any], what: str) -> "tuple[Encoder, Image.Image] | None":
    """What a picture of the encoder's view needs; a calm sentence where an imported run cannot have it."""
    try:
        image = encode.source_image(run, row)  # first: it takes no time
        return encode.encoder_of(run), image
    except JepaScoreError as error:
        if not is_imported(run):
            raise
        verb = "need" if what.endswith("vectors") else "needs"
        st.caption(f"{what} {verb} the image and the encoder. {public_md(error)}")
        return None


def _neighbours(run: Run, row: dict[str, Any], rule: ScoreRule, on_pick: Pick) -> None:
    """Images with the nearest embeddings."""
    found = loaders.nearest(run, str(row["key"]), NEIGHBOURS, AMONG)
    if found.empty:
        st.caption("The run holds no embeddings to compare.")
        return
    held = loaders.ranking(run, rule)
    places = {held.key(int(place)): int(place) for place in held.places_of(found["key"].tolist())}
    shown = [key for key in found["key"] if key in places]
    frame = loaders.with_thumbnails(run, held.rows(np.array([places[key] for key in shown], dtype=np.int64)))
    near = found.set_index("key").loc[shown, "similarity"]
    frame["note"] = [f"cosine similarity {number(value, 3)}" for value in near]
    gallery(
        [Row("", "", [frame], run.name)], key="near", size=92, name="Nearest neighbours", card=False, on_pick=on_pick
    )
    same = (frame["class_name"] == (row.get("class_name") or "")).mean()
    few = f", among the first {count(AMONG)} images" if pickers.scored(run) > AMONG else ""
    st.caption(
        f"Nearest by cosine similarity of the embeddings ({number(near.max(), 2)} to {number(near.min(), 2)}{few}); "
        f"{number(100 * same, 0)} % share the class. On each image: its score."
    )


def _encoders(run: Run, row: dict[str, Any], rule: ScoreRule) -> None:
    """The same image under every other encoder that scored it."""
    others = [other for other in pickers.readable_runs() if other.name != run.name and one_dataset(run, other)]
    lines = []
    for other in [run, *others]:
        usable = rule if loaders.why_not(other, rule) is None else ScoreRule()
        held = loaders.ranking(other, usable)
        place = held.place_of(str(row["key"]))
        if place is None:
            continue
        name, here = held.class_names[held.codes_at([place])[0]], np.array([place])
        within = held.percentiles(here, name or None)
        lines.append({
            "encoder": md(other.label),
            "score": number(float(held.scores[place]), 2),
            "of its class": ordinal(float(within[0])),
            "of the run": ordinal(float(held.percentiles(here)[0])),
        })
    if len(lines) < 2:
        st.caption("No other run holds this image. Score the dataset with another encoder to compare.")
    table = pd.DataFrame(lines).apply(lambda cells: cells if cells.name == "encoder" else column(cells))
    st.table(table, border="horizontal", hide_index=True, alt="This image under every encoder")
    st.caption("Scores of different encoders share no scale; percentiles can be compared.")


def _origin(run: Run, row: dict[str, Any]) -> None:
    """Where the number comes from."""
    meta, encoder = run.meta, run.meta["encoder"]
    views = int(meta.get("views") or 1)
    if is_imported(run):
        _imported(run, row)
        return
    facts = {
        "Encoder": f"{encoder['id']}, weights {str(encoder['digest'])[:12]}",
        "Embedding": f"D = {encoder['embedding_dim']}, {encoder.get('pooling')}, null dimension {encoder['null_dim']}",
        "Precision": " to ".join(dict.fromkeys(map(str, meta.get("precisions") or [meta.get("precision")]))),
        "Views": "1, eq. (5)" if views == 1 else f"{views}, eq. (4), {meta.get('view_policy')}",
        "Dataset": _dataset(run),
        "Image": f"{row['key']}, number {row['index']}",
        "Run": run.name,
        "Scored": str(meta.get("created", ""))[:16].replace("T", " "),
        "With": ", ".join(f"{name} {version}" for name, version in (meta.get("versions") or {}).items()),
    }
    _draw_facts(facts)


def _dataset(run: Run) -> str:
    """Name and size of a run's dataset."""
    dataset = run.meta["dataset"]
    return f"{short_name(str(dataset['id']))}, {plural(int(dataset.get('size') or 0), 'image')}"


def _imported(run: Run, row: dict[str, Any]) -> None:
    """Where an imported number comes from."""
    meta, encoder, told = run.meta, run.meta["encoder"], run.meta["imported"]
    dim = int(encoder["embedding_dim"])
    columns = told.get("columns") if isinstance(told.get("columns"), dict) else {}
    given = "as given" + (", sign turned: there, higher meant outlier" if told.get("turned") else "")
    facts = {
        "Encoder": f"{encoder['id']}, weights unknown",
        "Embedding": f"D = {dim}, null dimension {encoder['null_dim']}" if dim else "unknown",
        "Score": given if is_given(run) else "eq. (5) of the singular values in the file",
        "Dataset": _dataset(run),
        "Image": f"{row['key']}, row {count(int(row['index']) + 1)} of the file",
        "File": str(told.get("file")),
        "SHA-256": str(told.get("sha256")),
        "Columns": ", ".join(f"{kind}: {name}" for kind, name in columns.items()),
        "Run": run.name,
        "Imported": str(meta.get("created", ""))[:16].replace("T", " "),
        "With": ", ".join(f"{name} {version}" for name, version in (meta.get("versions") or {}).items()),
    }
    _draw_facts(facts)


def _draw_facts(facts: Mapping[str, str]) -> None:
    frame = pd.DataFrame({"": list(facts), "value": [md(value) for value in facts.values()]})
    st.table(frame, border="horizontal", hide_index=True, hide_header=True, alt="Where this score comes from")

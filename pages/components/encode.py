"""What needs the encoder itself: one image's score, singular vectors, leverage, and its path along a vector.

torch takes seconds to import, so it is imported where it is needed: a page shows its stored results first.
"""

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import Dataset, Item, sample
from jepascore_core.errors import DatasetError, EncoderError
from jepascore_core.files import storable
from jepascore_core.naming import is_imported
from jepascore_core.store import Run

if TYPE_CHECKING:
    import torch

    from jepascore_core.encoders.encoder import Encoder

_KINDS = ("timm:", "open_clip:", "demo:", "file:")  # what an encoder's id begins with, where it can be loaded
_AT_HAND = ("demo:", "folder:", "parquet:")  # what a dataset's id begins with, where it needs no network
STEPS = 21  # points of a path
PATIENCE_S = 4.0  # longest that the scores of a path may take; beyond it only steps near the chosen one have theirs


@dataclass(frozen=True)
class Look:
    """One image through one encoder.

    Attributes:
        shown: The image as the encoder sees it, (H, W, 3) uint8.
        score: Eq. (5), nats.
        error: Rounding error of the score, nats.
        singular_values: (D,), descending.
        leverage: Maps (2, h, w) of the larger and of the smaller half of the spectrum; together they sum to the rank.
    """

    shown: NDArray[np.uint8]
    score: float
    error: float
    singular_values: NDArray[np.float64]
    leverage: NDArray[np.float64]


@dataclass(frozen=True)
class Walk:
    """An image that moves along one singular vector.

    Attributes:
        steps: Columns ``alpha`` (ascending, normalised input units), ``movement`` (embedding distance) and ``score``
            (eq. (5), nats; NaN where it was not taken).
        embeddings: (steps, D).
    """

    steps: pd.DataFrame
    embeddings: NDArray[np.float64]


def encoder_of(run: Run) -> "Encoder":
    """Load the encoder that made a run; kept in memory.

    Raises:
        EncoderError: It cannot be had; that of an imported run may be no more than a name.
    """
    meta = run.meta["encoder"]
    if not may_be_loaded(run):
        raise EncoderError(f"The run was imported, and its encoder is known by the name {meta['id']!r} only.")
    size = meta.get("input_size")
    side = int(size[-1]) if isinstance(size, list | tuple) else None
    return load(str(meta["id"]), bool(meta.get("pretrained", True)), side)


def may_be_loaded(run: Run) -> bool:
    """Whether a run's encoder has an id that can be loaded, and not only a name that an import gave it."""
    return not is_imported(run) or str(run.meta["encoder"]["id"]).startswith(_KINDS)


@st.cache_resource(max_entries=2, show_spinner="Loading the encoder…")
def load(encoder_id: str, pretrained: bool = True, input_size: int | None = None) -> "Encoder":
    """Load an encoder on the fastest device; kept in memory."""
    import torch

    from jepascore_core.encoders import load_encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_encoder(encoder_id, device=device, pretrained=pretrained, input_size=input_size)


@st.cache_resource(max_entries=4, ttl="10m", show_spinner="Looking for the source images…")
def dataset(dataset_id: str) -> Dataset:
    """Open a dataset; kept in memory."""
    return load_dataset(dataset_id)


@st.cache_data(max_entries=64, ttl="10m", show_spinner="Counting the images…")
def sample_size(dataset_id: str, per_class: int | None, limit: int | None, classes: tuple[str, ...] | None) -> int:
    """How many images a sample of a dataset at hand would hold."""
    return len(sample(dataset(dataset_id).items, per_class=per_class, limit=limit, classes=classes))


def source_image(run: Run, row: dict[str, Any]) -> Image.Image:
    """Read a row's image from its dataset; that of an imported run is found by its key, if its dataset is known here.

    Raises:
        DatasetError: The dataset does not hold this image, or no longer.
    """
    dataset_id = str(run.meta["dataset"]["id"])
    if is_imported(run):
        return _found_by_key(dataset_id, str(row["key"]))
    source = dataset(dataset_id)
    index = int(row["index"])
    if index >= len(source.items) or source.items[index].key != row["key"]:
        raise DatasetError("The dataset has changed since this run, and this image is no longer where it was.")
    return source.read(source.items[index])


def _found_by_key(dataset_id: str, key: str) -> Image.Image:
    """An image of an imported run, where the name of its dataset is one that can be opened without a network.

    Raises:
        DatasetError: It is not, or holds no such image.
    """
    if not dataset_id.startswith(_AT_HAND):
        raise DatasetError("The run was imported without its images.")
    item = _by_key(dataset_id).get(key)
    if item is None:
        raise DatasetError("The run was imported without its images, and its dataset holds none of this key.")
    return dataset(dataset_id).read(item)


@st.cache_resource(max_entries=4, ttl="10m", show_spinner=False)
def _by_key(dataset_id: str) -> dict[str, Item]:
    """Each image of a dataset by its key."""
    return {storable(item.key): item for item in dataset(dataset_id).items}


def look(encoder: "Encoder", image: Image.Image) -> Look:
    """Score an image and take its leverage maps; remembered for each image."""
    return _look(encoder.digest, _token(image), encoder, image)


def vectors(encoder: "Encoder", image: Image.Image, k: int, smallest: bool) -> tuple[NDArray, NDArray]:
    """σ (k,) and right singular vectors (k, C, H, W) at one end of the spectrum; remembered for each image."""
    return _vectors(encoder.digest, _token(image), k, smallest, encoder, image)


def path(encoder: "Encoder", image: Image.Image, k: int, smallest: bool, which: int, alpha: float) -> Walk:
    """Walk along one of the vectors that ``vectors`` gives, with a step at alpha."""
    return _path(encoder.digest, _token(image), k, smallest, which, alpha, encoder, image)


def limit(encoder: "Encoder") -> float:
    """Longest sensible step along a unit vector: an eighth of a typical normalised image's length."""
    return float(max(1, round(float(np.sqrt(np.prod(encoder.spec.input_size))) / 8)))


def moved(encoder: "Encoder", image: Image.Image, vector: NDArray[np.float32], alpha: float) -> NDArray[np.uint8]:
    """The image as the encoder sees it, moved by alpha along a unit vector; (H, W, 3) uint8."""
    import torch

    return _picture(encoder, encoder.transform(image) + alpha * torch.from_numpy(vector))


@st.cache_data(max_entries=24, show_spinner="Taking the Jacobian apart…")
def _look(digest: str, token: str, _encoder: "Encoder", _image: Image.Image) -> Look:
    from jepascore_core.jacobian import jacobian_summary, leverage_bands
    from jepascore_core.score import jepa_score, score_error

    x = _encoder.transform(_image)
    on_device, null_dim = x.to(_encoder.device), _encoder.spec.null_dim
    summary = jacobian_summary(_encoder, on_device[None], null_dim=null_dim)
    half = (_encoder.spec.embedding_dim - null_dim + 1) // 2
    halves = [slice(0, half), slice(half, None)]
    leverage = leverage_bands(_encoder, on_device, halves, null_dim=null_dim, patch_size=_patch(_encoder))
    values = summary.singular_values.cpu()
    return Look(
        shown=_picture(_encoder, x),
        score=float(jepa_score(values, null_dim=null_dim)[0]),
        error=float(score_error(values, summary.noise.cpu(), summary.noise_along.cpu(), null_dim=null_dim)[0]),
        singular_values=values[0].double().numpy(),
        leverage=leverage.cpu().numpy(),
    )


@st.cache_data(max_entries=24, show_spinner="Taking singular vectors…")
def _vectors(
    digest: str, token: str, k: int, smallest: bool, _encoder: "Encoder", _image: Image.Image
) -> tuple[NDArray, NDArray]:
    from jepascore_core.jacobian import singular_vectors

    x = _encoder.transform(_image).to(_encoder.device)
    _, sigma, found = singular_vectors(_encoder, x, k, smallest=smallest, null_dim=_encoder.spec.null_dim)
    return sigma.cpu().double().numpy(), found.cpu().float().numpy()


@st.cache_data(max_entries=64, show_spinner="Moving the image…")
def _path(
    digest: str,
    token: str,
    k: int,
    smallest: bool,
    which: int,
    alpha: float,
    _encoder: "Encoder",
    _image: Image.Image,
) -> Walk:
    import torch

    from jepascore_core.jacobian import jacobian_summary
    from jepascore_core.score import jepa_score

    _, found = vectors(_encoder, _image, k, smallest)
    reach, device, null_dim = limit(_encoder), _encoder.device, _encoder.spec.null_dim
    alphas = np.unique(np.append(np.linspace(-reach, reach, STEPS), alpha))
    x, v = _encoder.transform(_image), torch.from_numpy(found[which])
    stack = torch.stack([x + float(a) * v for a in alphas]).to(device)
    with torch.inference_mode():
        z = torch.cat([_encoder(part) for part in stack.split(8)]).double().cpu()
        movement = (z - z[int(np.abs(alphas).argmin())]).norm(dim=1).numpy()  # the middle of the path is the image
    scores = np.full(len(alphas), np.nan)
    order, start, size, spent = np.argsort(np.abs(alphas - alpha), kind="stable"), 0, 1, 0.0
    while start < len(order):  # from the chosen step outwards, twice as many each time, while there is patience
        some, began = order[start : start + size], time.perf_counter()
        values = jacobian_summary(_encoder, stack[torch.from_numpy(some)], null_dim=null_dim).singular_values.cpu()
        scores[some] = jepa_score(values, null_dim=null_dim).numpy()
        took = time.perf_counter() - began
        start, size, spent = start + size, 2 * size, spent + took
        if spent + 2 * took > PATIENCE_S:
            break
    return Walk(pd.DataFrame({"alpha": alphas, "movement": movement, "score": scores}), z.numpy())


def _token(image: Image.Image) -> str:
    """Digest of an image's pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=12, salt=str(image.size).encode()[:16]).hexdigest()


def _patch(encoder: "Encoder") -> int:
    """Side of a leverage patch in pixels: the encoder's own token, else about a twelfth of the image."""
    height, width = encoder.spec.input_size[-2:]
    own = getattr(getattr(encoder.model, "patch_embed", None), "patch_size", None)
    if isinstance(own, tuple) and own[0] == own[-1] and height % own[0] == width % own[0] == 0:
        return int(own[0])
    fitting = [p for p in range(1, height + 1) if height % p == width % p == 0 and height // p >= 12]
    return max(fitting, default=1)


def _picture(encoder: "Encoder", x: "torch.Tensor") -> NDArray[np.uint8]:
    """Undo the encoder's normalisation, found by passing black and white through its transform."""
    side = max(encoder.spec.input_size[-2:])
    black, white = (encoder.transform(Image.new("RGB", (side, side), (v, v, v))) for v in (0, 255))
    low, high = (t.mean(dim=(1, 2), keepdim=True) for t in (black, white))
    picture = ((x - low) / (high - low) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))

"""Which images a run scores, and the record of everything that decides its numbers."""

from datetime import UTC, datetime
from typing import Any

import torch

from jepascore_core.datasets.base import Dataset, Item, sample
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import DatasetError
from jepascore_core.files import storable
from jepascore_core.jacobian import path_of
from jepascore_core.runner.precision import ladder_of
from jepascore_core.score import EPS
from jepascore_core.store.parts import FORMAT_VERSION
from jepascore_core.store.request import RunRequest, absolute_id, run_name
from jepascore_core.versions import versions
from jepascore_core.view_policy import POLICY

_CPU_JACOBIAN = 1 << 27  # D·P of one batch: 0.5 GB in float32 if it were held whole
_ACCELERATOR_JACOBIAN = 1 << 31


def plan(dataset: Dataset, request: RunRequest) -> list[Item]:
    """The images of a run, in the order of scoring: any beginning is a stratified sample.

    Args:
        dataset: The images.
        request: How many of which classes.

    Returns:
        The items.

    Raises:
        DatasetError: Nothing is left, or two images have one key.
    """
    items = sample(
        dataset.items, per_class=request.per_class, limit=request.limit, seed=request.seed, classes=request.classes
    )
    keys: set[str] = set()
    for item in items:
        if storable(item.key) in keys:
            raise DatasetError(f"Two images of {dataset.id} have the key {item.key!r}.")
        keys.add(storable(item.key))
    return items


def describe(
    request: RunRequest, encoder: Encoder, dataset: Dataset, *, planned: int, device: torch.device, batch_size: int
) -> dict[str, Any]:
    """What ``run.json`` holds.

    Args:
        request: What was asked for.
        encoder: The encoder.
        dataset: The dataset.
        planned: Images in the run.
        device: Where it will be scored.
        batch_size: Images scored together.

    Returns:
        JSON; ``name`` is the run's folder name.
    """
    decisive = _decisive(request)
    return {
        "format_version": FORMAT_VERSION,
        "name": run_name(encoder.spec, encoder.digest, dataset.id, dataset.fingerprint, decisive),
        "encoder": _encoder(encoder, request.pretrained),
        "dataset": {
            "id": storable(dataset.id),
            "fingerprint": dataset.fingerprint,
            "class_names": [storable(name) for name in dataset.class_names],
            "size": len(dataset.items),
        },
        **decisive,
        "eps": EPS,
        "planned": planned,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": versions(),
        "device": str(device),
        "precisions": ladder_of(request.precision, device),
        "jacobian_path": path_of(encoder),
        "batch_size": batch_size,
        "request": {
            **request.on_one_machine().to_json(),
            "dataset_id": storable(absolute_id(dataset.id)),
            "device": "auto",
        },
    }


def default_batch_size(encoder: Encoder, device: torch.device, views: int = 1) -> int:
    """Images scored together, from the size of their Jacobians.

    One Jacobian has D·P numbers. It is never held whole, but work and memory grow with it: a batch of
    D·P ≤ 2²⁷ fills CPU cores (16 images for the demo encoder, 2 for ViT-S/14 at 224 px, 1 from ViT-B on), one
    of 2³¹ a GPU (up to 64 images).

    Args:
        encoder: The encoder.
        device: Where it will be scored.
        views: T; the views of an image are scored together.

    Returns:
        At least 1.
    """
    channels, height, width = encoder.spec.input_size
    size = encoder.spec.embedding_dim * channels * height * width * views
    budget, most = (_CPU_JACOBIAN, 16) if device.type == "cpu" else (_ACCELERATOR_JACOBIAN, 64)
    return max(1, min(budget // size, most))


def _decisive(request: RunRequest) -> dict[str, Any]:
    """Options that decide the numbers, beside the encoder and the dataset."""
    options: dict[str, Any] = {
        "sample": {
            "per_class": request.per_class,
            "limit": request.limit,
            "seed": request.seed,
            "classes": list(map(storable, request.classes)) if request.classes is not None else None,
        },
        "precision": request.precision,
        "tolerance": request.tolerance,  # nats; None: from the spread of the scores
        "views": request.views,
    }
    return options | ({"view_policy": POLICY} if request.views > 1 else {})


def _encoder(encoder: Encoder, pretrained: bool) -> dict[str, Any]:
    """What is recorded of the encoder."""
    spec = encoder.spec
    return {
        "id": storable(spec.id),
        "name": spec.name,
        "digest": encoder.digest,
        "embedding_dim": spec.embedding_dim,
        "input_size": list(spec.input_size),
        "pooling": spec.pooling,
        "null_dim": spec.null_dim,
        "licence": spec.licence,
        "paper": spec.paper,
        "family": spec.family,
        "pretrained": pretrained,
    }

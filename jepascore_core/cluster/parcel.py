"""What every worker is given: the driver loads encoder and dataset once, and Ray carries them to the nodes.

So a node needs neither a network nor a cache of weights, all workers have the same weights, and the list of a million
images is not made again for each of them. What cannot be carried is opened again by its id, and must then be the same.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import cloudpickle

from jepascore_core.allowed import DATA_ROOTS
from jepascore_core.cluster.connection import Room
from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.encoders import load_encoder
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import RunError
from jepascore_core.runner.work import Work
from jepascore_core.store.request import RunRequest


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a worker is given.

    Attributes:
        request: What was asked for.
        encoder: Pickled, or None where it is loaded again.
        dataset: Pickled, without a long list of images, or None where it is opened again.
        thumbnail: PIL -> JPEG.
        digest: Of the encoder's weights.
        fingerprint: Of the dataset.
        batch_size: Images scored together.
        first: The run's first images.
        readable: How many of those the driver could read.
        room: Where workers find room.
        staging: Folder for their parts.
        data_roots: ``JEPASCORE_DATA_ROOTS`` of the driver.
    """

    request: RunRequest
    encoder: bytes | None
    dataset: bytes | None
    thumbnail: Any
    digest: str
    fingerprint: str
    batch_size: int
    first: Sequence[Item]
    readable: int
    room: Room
    staging: Path
    data_roots: str | None


def pack(work: Work, first: Sequence[Item], room: Room, staging: Path) -> Parcel:
    """Make the parcel of a run.

    Args:
        work: All parts of the run.
        first: The run's first images.
        room: Where workers find room.
        staging: Folder for their parts.

    Returns:
        The parcel.
    """
    return Parcel(
        work.request,
        _pickled(work.encoder),
        _pickled(work.dataset.for_reading()),
        work.thumbnail,
        work.encoder.digest,
        work.dataset.fingerprint,
        work.batch_size,
        first,
        readable(work.dataset, first),
        room,
        staging,
        os.environ.get(DATA_ROOTS),
    )


def unpack(parcel: Parcel) -> Work:
    """Make the parts of a run on a worker.

    Args:
        parcel: As ``pack`` made it.

    Returns:
        The parts; its share of a CPU's memory is this worker's.

    Raises:
        EncoderError: The encoder is out of reach here.
        DatasetError: The dataset is out of reach here.
        RunError: The images are, or encoder or dataset are not the driver's.
    """
    if parcel.data_roots is not None:
        os.environ[DATA_ROOTS] = parcel.data_roots
    device = torch.device("cuda", 0) if parcel.room.device.type == "cuda" else parcel.room.device
    encoder = _encoder(parcel) if parcel.encoder is None else cloudpickle.loads(parcel.encoder)
    dataset = _dataset(parcel) if parcel.dataset is None else cloudpickle.loads(parcel.dataset)
    if readable(dataset, parcel.first) < parcel.readable:
        raise RunError("images that the driver can read are out of reach; they must lie where all nodes can read them")
    return Work(parcel.request, encoder, dataset, device, parcel.staging.parent.parent, parcel.thumbnail)


def readable(dataset: Dataset, items: Sequence[Item]) -> int:
    """How many of some images can be read here."""
    return sum(map(lambda item: _can_read(dataset, item), items))


def _can_read(dataset: Dataset, item: Item) -> bool:
    try:
        dataset.read(item)
    except Exception:
        return False
    return True


def _pickled(thing: object) -> bytes | None:
    """A thing in bytes, unless it holds what cannot leave its process, such as a lock."""
    try:
        return bytes(cloudpickle.dumps(thing))
    except (TypeError, AttributeError, pickle.PicklingError):
        return None


def _encoder(parcel: Parcel) -> Encoder:
    """Load the encoder again.

    Raises:
        RunError: It has other weights.
    """
    asked = parcel.request
    encoder = load_encoder(asked.encoder_id, device="cpu", pretrained=asked.pretrained, input_size=asked.input_size)
    if encoder.digest != parcel.digest:
        raise RunError(f"{asked.encoder_id} has other weights there than where the run was started")
    return encoder


def _dataset(parcel: Parcel) -> Dataset:
    """Open the dataset again.

    Raises:
        RunError: It has other images.
    """
    dataset = load_dataset(parcel.request.dataset_id)
    if dataset.fingerprint != parcel.fingerprint:
        raise RunError(f"{parcel.request.dataset_id} has other images there than where the run was started")
    return dataset

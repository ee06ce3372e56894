"""A real encoder and a real dataset, small enough to score in a blink."""

import hashlib
import io
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import ImageError
from jepascore_core.runner import Work
from jepascore_core.store.request import RunRequest

D, SIDE = 5, 8
torch.set_num_threads(1)  # more threads only get in each other's way on images this small


def tiny_encoder(*, null_dim: int = 0, model: nn.Module | None = None) -> Encoder:
    """A convnet with D = 5 on 8 px images; the same weights each time."""
    torch.manual_seed(0)
    if model is None:
        model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * SIDE * SIDE, D))
    spec = EncoderSpec("demo:tiny", "tiny", "test", D, (3, SIDE, SIDE), "projection", null_dim, "MIT", "none")
    return Encoder(model, spec, tiny_transform, digest="d1")


def tiny_transform(image: Image.Image) -> Tensor:
    """PIL -> (3, 8, 8) in −1..1."""
    pixels = np.asarray(image.resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


class TinyDataset(Dataset):
    """Random images in two classes; some cannot be read.

    Args:
        n: Number of images.
        bad: Indices of images that cannot be read.
        delay_s: How long a read takes; one at a time, however many threads there are.
        keys: Keys instead of ``class/number``.
        class_names: Names of the two classes.
    """

    id = "demo:blobs"

    def __init__(self, n=24, *, bad=(), delay_s=0.0, keys=None, class_names=("cat", "dog")):
        self.class_names = tuple(class_names)
        names = keys or [f"{class_names[i % 2]}/{i:04d}.png" for i in range(n)]
        self.items = [Item(i, names[i], i % 2, class_names[i % 2]) for i in range(n)]
        self.fingerprint = hashlib.sha256(repr((names, tuple(bad))).encode()).hexdigest()
        self._bad, self._delay_s, self._turn = set(bad), delay_s, threading.Lock()

    def read(self, item: Item) -> Image.Image:
        with self._turn:
            time.sleep(self._delay_s)
        if item.index in self._bad:
            raise ImageError("The file is empty.")
        pixels = np.random.default_rng(item.index).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


def tiny_work(home: Path, dataset: Dataset | None = None, encoder: Encoder | None = None, **options) -> Work:
    """All parts of a run."""
    dataset = dataset or TinyDataset(bad=(3,))
    request = RunRequest("demo:tiny", dataset.id, **{"batch_size": 4, "device": "cpu", **options})
    return Work(request, encoder or tiny_encoder(), dataset, torch.device("cpu"), home, jpeg)

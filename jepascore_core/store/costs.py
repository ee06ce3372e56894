"""What scoring costs on this machine: measured once, and kept in a small file beside the runs."""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jepascore_core.errors import in_words
from jepascore_core.files import read_json, write_json
from jepascore_core.locks import Busy
from jepascore_core.processes import HOST
from jepascore_core.store.request import RunRequest, absolute_id
from jepascore_core.versions import versions

FOLDER = ".costs"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes, as a short measurement tells.

    Attributes:
        images_per_s: Speed once it is under way: reading, decoding and scoring.
        start_s: Seconds before the first image: starting the process, loading the encoder, listing the dataset.
        device: Where it was measured.
        images: Images in the run, or None where only a download would tell.
    """

    images_per_s: float
    start_s: float
    device: str
    images: int | None = None

    @property
    def seconds(self) -> float | None:
        """Expected length of the run, s; None where the number of images is not known."""
        return None if self.images is None else self.seconds_for(self.images)

    def seconds_for(self, images: int) -> float:
        """Expected length of a run.

        Args:
            images: Images in it.

        Returns:
            Seconds.
        """
        return self.start_s + images / self.images_per_s


def cost_file(request: RunRequest, home: Path) -> Path:
    """File that keeps the cost of a request; requests that differ in their sample alone share it.

    Args:
        request: What would be scored.
        home: Where runs lie.

    Returns:
        Path of a JSON file, which need not exist.
    """
    what = (request.encoder_id, request.pretrained, request.input_size, absolute_id(request.dataset_id))
    how = (
        request.device,
        request.precision,
        request.tolerance,
        request.views,
        request.batch_size,
        request.memory_share,
    )
    text = json.dumps([what, how, HOST, versions()], sort_keys=True)
    return home / FOLDER / f"{hashlib.blake2b(text.encode(errors='surrogatepass'), digest_size=10).hexdigest()}.json"


@contextlib.contextmanager
def recorded(path: Path | None) -> Iterator[Callable[[Cost], None]]:
    """Write down what a measurement in this block gives, or why it gives nothing.

    A device that is busy is no answer, and leaves no file.

    Args:
        path: File of ``cost_file``; None keeps nothing.

    Yields:
        A function that takes the cost.
    """
    try:
        yield lambda cost: _write(path, dataclasses.asdict(cost))
    except Exception as error:
        if not isinstance(error, Busy):
            problem = in_words(error)
            _write(path, {"problem": problem[:500]})
        raise
    finally:
        if path is not None:
            path.with_suffix(".pid").unlink(missing_ok=True)


def read_cost(path: Path) -> Cost | str | None:
    """Read what ``recorded`` wrote.

    Args:
        path: File of ``cost_file``.

    Returns:
        The cost; or why it could not be measured; or None where there is no file, or a damaged one.
    """
    try:
        data = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    if isinstance(data.get("problem"), str):
        return str(data["problem"])
    speed, start_s, images = (data.get(name) for name in ("images_per_s", "start_s", "images"))
    if not isinstance(speed, float) or not isinstance(start_s, float) or not isinstance(images, int | None):
        return None
    if not (math.isfinite(speed) and speed > 0 and math.isfinite(start_s)):
        return None
    return Cost(speed, start_s, str(data.get("device", "")), images)


def _write(path: Path | None, data: dict[str, object]) -> None:
    """Write a file, where one is wanted and the disk takes it."""
    if path is not None:
        with contextlib.suppress(OSError):
            write_json(path, data, durable=False)

"""What a run is asked to be, and the name that follows from what decides its numbers."""

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jepascore_core.corrupted_id import take_apart
from jepascore_core.errors import RunError
from jepascore_core.files import expanded

if TYPE_CHECKING:  # the store imports this module, and does without torch
    from jepascore_core.encoders.spec import EncoderSpec

ENGINES = ("local", "ray")
PRECISIONS = ("auto", "float16", "tf32", "float32", "float64")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One encoder over one dataset under one set of options.

    Attributes:
        encoder_id: As ``load_encoder`` takes it.
        dataset_id: As ``load_dataset`` takes it.
        per_class: Most images of each class; None takes all.
        limit: Most images in total; None takes all.
        seed: Seed of the sample and of the views.
        classes: Class names to keep; None keeps all.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``. Not part of the run's name.
        views: T of eq. (4); 1 is eq. (5).
        pretrained: False gives random weights.
        input_size: Side of the encoder's input in pixels; None takes its own.
        precision: One of ``PRECISIONS``: the arithmetic that scoring starts with. ``auto`` is float16 on a CUDA device
            and float32 elsewhere.
        tolerance: Error bar in nats beyond which an image is scored again one precision up, to float32 at most; None
            takes 0.5 % of the run's score spread so far, at least 0.05.
        batch_size: Images scored together; None chooses. Not part of the run's name.
        memory_share: Share of the device's free memory that scoring may take, 0 to 1. Not part of the run's name.
        engine: ``local`` scores in this process, ``ray`` in workers of a Ray cluster. Not part of the run's name, nor
            are the next two.
        address: The cluster: ``auto`` for the one that this machine belongs to, ``host:port``; None starts a Ray of its
            own on this machine.
        workers: Processes that score, each with an encoder; None takes one for each GPU, else one for each node.
    """

    encoder_id: str
    dataset_id: str
    per_class: int | None = None
    limit: int | None = None
    seed: int = 0
    classes: tuple[str, ...] | None = None
    device: str = "auto"
    views: int = 1
    pretrained: bool = True
    input_size: int | None = None
    precision: str = "auto"
    tolerance: float | None = None
    batch_size: int | None = None
    memory_share: float = 0.8
    engine: str = "local"
    address: str | None = None
    workers: int | None = None

    def check(self) -> None:
        """Refuse what no run can be.

        Raises:
            RunError: A number is out of its range, or the precision or the engine is unknown.
        """
        for name in ("per_class", "limit", "views", "input_size", "batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RunError(f"{name.replace('_', '-')} must be at least 1, not {value}.")
        if self.tolerance is not None and not 0 < self.tolerance < math.inf:
            raise RunError(f"tolerance must be a positive number of nats, not {self.tolerance}.")
        if not 0 < self.memory_share <= 1:
            raise RunError(f"memory-share must lie between 0 and 1, not {self.memory_share}.")
        if self.precision not in PRECISIONS:
            raise RunError(f"The precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}.")
        self._check_engine()

    def _check_engine(self) -> None:
        """Refuse an engine that there is not, and options that it does not have.

        Raises:
            RunError: It is unknown, or does not know its options.
        """
        if self.engine not in ENGINES:
            raise RunError(f"The engine must be one of {', '.join(ENGINES)}, not {self.engine!r}.")
        if self.engine == "local" and (self.address is not None or self.workers is not None):
            raise RunError("Only --engine ray has an address and workers; --engine local scores in one process.")
        if self.address is not None and (not self.address or "://" in self.address):
            raise RunError(
                f"A Ray cluster is named auto or host:port, not {self.address!r}; start the run on one of its nodes."
            )

    def on_one_machine(self) -> "RunRequest":
        """The same run without a word of who scores it."""
        return dataclasses.replace(self, engine="local", address=None, workers=None)

    def to_json(self) -> dict[str, Any]:
        """The request as JSON keeps it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunRequest":
        """The request that ``to_json`` wrote.

        Args:
            data: What it gave; unknown names are passed over.

        Returns:
            The request.

        Raises:
            RunError: The encoder or the dataset is missing, or something is of another type than it should be.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        for name, value in values.items():
            if not _fits(name, value):
                raise RunError(f"The request's {name.replace('_', ' ')} is not what it should be.")
        if values.get("classes") is not None:
            values["classes"] = tuple(values["classes"])
        try:
            return cls(**values)
        except TypeError as error:
            raise RunError("The request names no encoder or no dataset.") from error

    def to_argv(self) -> list[str]:
        """Arguments of ``python -m jepascore_core score`` that make this request.

        Returns:
            The options that differ from their defaults; ``--name=value`` each, so that a value may begin with a dash.
        """
        argv = [f"--encoder={self.encoder_id}", f"--dataset={self.dataset_id}"]
        for option in dataclasses.fields(self)[2:]:
            value = getattr(self, option.name)
            if value == option.default:
                continue
            flag = f"--{option.name.replace('_', '-')}"
            if option.name == "classes":
                value = format_classes(value)
            argv.append("--random-weights" if option.name == "pretrained" else f"{flag}={value}")
        return argv


def _fits(name: str, value: Any) -> bool:
    """Whether a value of a request is of its type."""
    if name in ("per_class", "limit", "input_size", "batch_size", "workers"):
        return value is None or type(value) is int
    if name in ("seed", "views"):
        return type(value) is int
    if name == "classes":
        return value is None or (isinstance(value, list | tuple) and all(isinstance(text, str) for text in value))
    if name in ("tolerance", "memory_share"):
        return type(value) in (int, float) or (value is None and name == "tolerance")
    if name == "address":
        return isinstance(value, str | None)
    return isinstance(value, bool if name == "pretrained" else str)


def format_classes(classes: Sequence[str]) -> str:
    """Class names in one line, as ``--classes`` takes them: quoted where they hold a comma.

    Args:
        classes: The names.

    Returns:
        One line of CSV.

    Example:
        >>> format_classes(["tench, Tinca tinca", "church"])
        '"tench, Tinca tinca",church'
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(classes)  # quotes what holds a part of the terminator
    return line.getvalue().removesuffix("\r\n")


def split_classes(text: str | None) -> tuple[str, ...] | None:
    """Class names from one line; the inverse of ``format_classes``.

    Args:
        text: Names separated by commas; quotes protect a comma. None means all classes.

    Returns:
        The names, or None.

    Raises:
        RunError: It is no such line.

    Example:
        >>> split_classes('"tench, Tinca tinca",church')
        ('tench, Tinca tinca', 'church')
    """
    try:
        return None if text is None else tuple(next(csv.reader(io.StringIO(text, newline="")), ()))
    except csv.Error as error:
        raise RunError(f"The list of classes cannot be read: {error}.") from error


def run_name(spec: "EncoderSpec", digest: str, dataset_id: str, fingerprint: str, decisive: dict[str, Any]) -> str:
    """Folder name of a run: readable, and one name for one set of numbers.

    Args:
        spec: The encoder.
        digest: Digest of its weights.
        dataset_id: The dataset; its path, if it has one, is made absolute.
        fingerprint: Digest of its list of images.
        decisive: Options that decide the numbers; JSON.

    Returns:
        ``<encoder>-<dataset>-<10 hex digits>``.
    """
    dataset_id = absolute_id(dataset_id)
    parts = [spec.id, digest, spec.input_size, spec.null_dim, dataset_id, fingerprint, decisive]
    text = json.dumps(parts, sort_keys=True)
    digits = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    return f"{slug(spec.id)}-{slug(dataset_id)}-{digits}"


def absolute_id(dataset_id: str) -> str:
    """A dataset id that means the same from any folder.

    Args:
        dataset_id: Such as ``folder:../birds`` or ``demo:photos``.

    Returns:
        The id with its path, if it has one, made absolute.

    Example:
        >>> absolute_id("folder:/data/cats/../birds/"), absolute_id("demo:photos")
        ('folder:/data/birds', 'demo:photos')
        >>> absolute_id("corrupted:blur:3:folder:/data/cats/../birds")
        'corrupted:blur:3:folder:/data/birds'
    """
    if parts := take_apart(dataset_id):
        return dataset_id.removesuffix(parts[2]) + absolute_id(parts[2])
    kind, _, rest = dataset_id.partition(":")
    if kind not in ("folder", "parquet"):
        return dataset_id
    try:
        return f"{kind}:{os.path.realpath(expanded(rest))}"
    except ValueError:  # names that no file system takes
        return dataset_id


def short_name(identifier: str) -> str:
    """Last part of an encoder or dataset id, for people.

    Args:
        identifier: Such as ``folder:/data/birds`` or ``demo:photos``.

    Returns:
        Such as ``birds`` or ``photos``.

    Example:
        >>> short_name("folder:/data/birds/"), short_name("hf:org/set:test"), short_name("parquet:a/b.parquet")
        ('birds', 'set:test', 'b')
        >>> short_name("corrupted:blur:3:folder:/data/birds")
        'birds, blur 3'
    """
    if (parts := take_apart(identifier)) and parts[2]:
        return f"{short_name(parts[2])}, {parts[0]} {parts[1]}"
    rest = identifier.partition(":")[2] or identifier
    return re.split(r"[/\\]", rest.rstrip("/\\"))[-1].removesuffix(".parquet") or rest


def slug(identifier: str) -> str:
    """Part of a folder name that every file system takes.

    Args:
        identifier: An encoder or dataset id.

    Returns:
        At most 40 of ``a-z 0-9 . _ -``.

    Example:
        >>> slug("timm:vit_small_patch14_dinov2.lvd142m"), slug("folder:/data/Šu la/")
        ('vit_small_patch14_dinov2.lvd142m', 'u-la')
    """
    return re.sub(r"[^a-z0-9._]+", "-", short_name(identifier).lower())[:40].strip("-.") or "unnamed"

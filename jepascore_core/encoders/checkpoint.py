"""Weights files: read them without running anything they hold, fit them to a network, fingerprint them."""

import argparse
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepascore_core.encoders.messages import reason
from jepascore_core.errors import EncoderError

PREFERRED = ("state_dict_ema", "model_ema", "encoder", "teacher")
"""Which network to take where a file holds several of one shape: averaged weights, as timm does; I-JEPA's
``encoder`` rather than its ``target_encoder``, as timm does; DINO's teacher, as its authors do."""


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Fingerprint weights: names, shapes, types and bytes, in the order of their names.

    Args:
        state: Tensors by name, on any device.

    Returns:
        32 hex digits of BLAKE2b.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Read the tensors of a file that belong to one network.

    The network may sit anywhere in the file, behind any prefix (``model.``, ``module.``,
    ``backbone.``, ``visual.`` ...): the prefix under which most of ``names`` are found is taken off.

    Args:
        path: ``.safetensors``, or a PyTorch file, which is read with ``weights_only=True``.
        names: Names of the network's own state.

    Returns:
        Tensors by name without the prefix; all tensors when no prefix explains half the names.

    Raises:
        EncoderError: The file is missing, damaged, holds more than plain tensors, or several
            networks that fit equally well.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - never raises, also for names that no file system takes
        raise EncoderError(f"There is no weights file {path}.")
    with _open(path) as (keys, read):
        prefix = _prefix(path, keys, set(names))
        return {key[len(prefix) :]: read(key) for key in keys if key.startswith(prefix)}


def load_state(model: nn.Module, state: dict[str, Tensor], *, path: Path, name: str) -> None:
    """Copy weights into a network and make sure that every one of its own was among them.

    Args:
        model: The network, changed in place.
        state: Tensors by name. Heads that the network lacks are ignored.
        path: Where the weights came from, for the message.
        name: What the network is called, for the message.

    Raises:
        EncoderError: A weight is missing, has another shape, or belongs to a larger network.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise EncoderError(f"{path} does not fit {name}: it lacks {_several(missing)}.")
    for key in own.keys() & state.keys():
        if own[key].shape != state[key].shape:
            theirs, ours = tuple(state[key].shape), tuple(own[key].shape)
            raise EncoderError(f"{path} does not fit {name}: {key} has shape {theirs}, not {ours}.")
    parts = {key.partition(".")[0] for key in own}
    extra = [key for key in state if key not in own and key.partition(".")[0] in parts and _is_weight(state[key])]
    if extra:
        raise EncoderError(f"{path} does not fit {name}, which has no {_several(extra)}.")
    model.load_state_dict(state, strict=False)


@contextmanager
def _open(path: Path) -> Any:
    """Open a weights file: yields its tensor names and a function that reads one of them."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                yield list(file.keys()), file.get_tensor
        else:
            tensors = _flatten(_torch_load(path))
            yield list(tensors), tensors.__getitem__
    except EncoderError:
        raise
    except Exception as error:  # a damaged or hostile file fails in any way it likes
        raise EncoderError(f"{path} cannot be read as weights ({reason(error)}).") from error


def _torch_load(path: Path) -> Any:
    """Unpickle with torch's restricted reader, which knows tensors and plain containers only."""
    import pickle

    load: Callable[..., Any] = torch.load
    warnings.filterwarnings("ignore", message="Detected pickle protocol")  # the sentence below says more
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's trainer stores its arguments
            try:
                return load(path, map_location="cpu", weights_only=True, mmap=True)
            except (RuntimeError, ValueError):  # files older than torch 1.6 cannot be memory-mapped
                return load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{path} is refused because it holds more than plain tensors and reading it could run code; "
            f"save its state_dict() as .safetensors and name that file."
        ) from error


def _flatten(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of nested dictionaries, by their dotted path."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    if not isinstance(tree, Mapping):
        return {}
    below = (_flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items())
    return {name: tensor for tensors in below for name, tensor in tensors.items()}


def _prefix(path: Path, keys: list[str], names: set[str]) -> str:
    """Find the prefix under which most of the names stand; empty when none explains half of them."""
    votes: Counter[str] = Counter()
    for key in keys:
        starts = [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]
        votes.update(key[:start] for start in starts if key[start:] in names)
    most = max(votes.values(), default=0)
    if 2 * most < len(names):
        return ""
    best = [prefix for prefix, count in votes.items() if count == most]
    preferred = [prefix for prefix in best if prefix.partition(".")[0] in PREFERRED]
    if len(best) > 1 and len(preferred) != 1:
        held = ", ".join(repr(prefix.rstrip(".")) for prefix in best)
        raise EncoderError(f"{path} holds several networks that fit ({held}); save the one you mean on its own.")
    return (preferred or best)[0] if len(best) > 1 else best[0]


def _is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is learned rather than an index or a mask."""
    return tensor.is_floating_point()


def _several(names: list[str]) -> str:
    """Name the first of several, and how many more there are."""
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")

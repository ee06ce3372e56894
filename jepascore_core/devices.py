"""Which device a name means, and the lock that one run at a time holds."""

from pathlib import Path

import torch

from jepascore_core.errors import RunError
from jepascore_core.locks import device_lock


def resolve_device(name: str) -> torch.device:
    """The device that a name means here.

    Args:
        name: ``auto`` takes a CUDA device, else the CPU.

    Returns:
        The device, with its number where it has one.

    Raises:
        RunError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"There is no device {name!r}; use auto, cpu, cuda or cuda:1.") from error
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return torch.device("cuda", device.index or 0)
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "mps":
        raise RunError("Apple's GPU does not know float64, which the score needs; use --device cpu.")
    raise RunError(f"This machine has no device {name!r}; use --device auto or cpu.")


def lock_of(device: torch.device) -> Path:
    """Lock of a device; a GPU goes by its serial name, since ``cuda:0`` depends on which are visible.

    Args:
        device: As ``resolve_device`` gives it.

    Returns:
        Path of the lock.
    """
    name = str(device)
    if device.type == "cuda":
        name = f"cuda-{getattr(torch.cuda.get_device_properties(device), 'uuid', device.index)}"
    return device_lock(name)

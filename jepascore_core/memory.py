"""How much memory a device has to spare, and how to tell that it ran out."""

from pathlib import Path

import torch

SHARE = 0.8  # of what is free: others use the machine too

_UNKNOWN_FREE_BYTES = 4 << 30  # where the system does not say: what a small laptop can spare
_shares: dict[str, float] = {}  # what this process may take, by device


def bound_memory(device: torch.device, share: float = SHARE) -> None:
    """Keep this process within a share of the memory that is free on a device now.

    On a CUDA device PyTorch refuses to go beyond; elsewhere work is planned to stay within.

    Args:
        device: CPU or accelerator.
        share: Between 0 and 1.
    """
    _shares[str(device)] = share
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        ours = torch.cuda.memory_reserved(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, (ours + share * free) / total), device)


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors on a device may take: the share of what is free that this process keeps to.

    Args:
        device: CPU or accelerator. On Linux the CPU's figure respects the control group's limit.

    Returns:
        Bytes, at least one MiB.
    """
    share = _shares.get(str(device), SHARE)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(int(share * free) + cached, 1 << 20)
    return max(int(share * min(_available(), _control_group())), 1 << 20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that an allocation failed, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _available() -> int:
    """Bytes that Linux counts as available, else a cautious guess."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _UNKNOWN_FREE_BYTES
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), _UNKNOWN_FREE_BYTES)


def _control_group() -> int:
    """Bytes left under the control group's limit; practically infinite without one."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return 1 << 62

"""How much memory a device has to spare, and how to tell that it ran out."""

from pathlib import Path

import torch

_UNKNOWN_FREE_BYTES = 4 << 30  # where the system does not say: what a small laptop can spare


def free_bytes(device: torch.device) -> int:
    """Memory that new tensors on a device may take.

    Args:
        device: CPU or accelerator. On Linux the CPU's figure respects the control group's limit.

    Returns:
        Bytes, at least one MiB.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(free + cached, 1 << 20)
    return max(min(_available(), _control_group()), 1 << 20)


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

"""Eigenvalues of Gram matrices in float64, on the device or on the host, wherever they are found faster."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

_faster: dict[tuple[torch.device, int], Callable[[Tensor], tuple[Tensor, Tensor]]] = {}  # by device and D


def eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric positive matrices.

    Args:
        gram: (B, D, D), float64.

    Returns:
        Eigenvalues (B, D), descending and ≥ 0, NaN where a matrix is not finite; eigenvectors (B, D, D) as columns.
    """
    finite = gram.isfinite().flatten(1).all(1).view(-1, 1, 1)
    sound = torch.where(finite, gram, torch.zeros_like(gram))
    eigenvalues, eigenvectors = _method(sound)(sound)
    eigenvalues = torch.where(finite.squeeze(2), eigenvalues.clamp(min=0), torch.nan)
    return eigenvalues.flip(1), eigenvectors.flip(2)


def on_device(gram: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` where the matrices are."""
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    return eigenvalues, eigenvectors


def on_host(gram: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` on the CPU: a GPU's float64 and its many small steps may take longer."""
    eigenvalues, eigenvectors = torch.linalg.eigh(gram.cpu())
    return eigenvalues.to(gram.device), eigenvectors.to(gram.device)


def _method(gram: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The faster way for matrices of this size; on a GPU, measured at their first sight."""
    if gram.device.type == "cpu":
        return on_device
    key = gram.device, gram.shape[1]
    if key not in _faster:
        _faster[key] = min((on_host, on_device), key=lambda method: _seconds(method, gram[:4]))
    return _faster[key]


def _seconds(method: Callable[[Tensor], tuple[Tensor, Tensor]], gram: Tensor) -> float:
    """Time of a second call: the first one prepares the libraries."""
    method(gram[:1])
    start = time.perf_counter()
    method(gram)[0].cpu()  # the copy waits for the device
    return time.perf_counter() - start

"""Matrix products by the fastest kernel at hand.

PyTorch's float32 products on a CPU go through MKL, which takes the slower AVX2 kernels on AMD processors; oneDNN,
which PyTorch carries for convolutions, does not care who made the processor (`make bench` prints both rates).
"""

import torch
from torch import Tensor, nn

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """Products of all rows with all rows of a weight: ``rows @ weight.T``, without gradient.

    Args:
        rows: (n, k).
        weight: (p, k), any strides.

    Returns:
        (n, p), contiguous.
    """
    if _ONEDNN and rows.dtype == torch.float32 and rows.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
    return nn.functional.linear(rows, weight)


def add_linear_each(stack: Tensor, chosen: Tensor, weights: Tensor) -> None:
    """Add to chosen matrices of a stack their own products with a weight each, in place: X ← X + X Wᵀ.

    Args:
        stack: (N, n, k).
        chosen: Indices (T,) of distinct matrices.
        weights: (T, k, k).
    """
    if _ONEDNN and stack.dtype == torch.float32 and stack.device.type == "cpu":
        for place, weight in zip(chosen.tolist(), weights, strict=True):
            stack[place] += linear(stack[place], weight)
    else:
        rows = stack[chosen]
        stack[chosen] = rows.baddbmm(rows, weights.mT)

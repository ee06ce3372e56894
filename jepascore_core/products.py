"""Matrix products by the fastest kernel at hand, in the arithmetic that was asked for.

PyTorch's float32 products on a CPU go through MKL, which takes the slower AVX2 kernels on AMD processors; oneDNN,
which PyTorch carries for convolutions, does not care who made the processor (`make bench` prints both rates).

TF32 and float16 are arithmetics of a GPU's tensor cores: factors of 11 significant bits, sums in float32. A CPU
imitates them, more slowly than it computes in float32: what a GPU would round can be looked at without one.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = ("float16", "tf32", "float32", "float64")  # from the fastest to the most exact
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_TF32_DROPPED = 13  # bits of float32's significand
_imitates_tf32: ContextVar[bool] = ContextVar("imitates_tf32", default=False)


@contextlib.contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Compute float32 products within the block as they are, or in TF32.

    On a GPU this sets switches of the whole process: other threads' products follow them.

    Args:
        precision: One of ``PRECISIONS``; all but ``tf32`` compute float32 products exactly, which is not PyTorch's
            default for convolutions.

    Yields:
        Nothing.
    """
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32, matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_tf32 = convolution.allow_tf32 = precision == "tf32"
    matmul.allow_fp16_reduced_precision_reduction = False
    imitation = _imitates_tf32.set(precision == "tf32")
    try:
        yield
    finally:
        _imitates_tf32.reset(imitation)
        matmul.allow_tf32, convolution.allow_tf32, matmul.allow_fp16_reduced_precision_reduction = before


def linear(rows: Tensor, weight: Tensor) -> Tensor:
    """Products of all rows with all rows of a weight: ``rows @ weight.T``, without gradient.

    Args:
        rows: (n, k), float16, float32 or float64.
        weight: (p, k), any strides.

    Returns:
        (n, p), contiguous.
    """
    if rows.device.type != "cpu" or rows.dtype == torch.float64:
        return nn.functional.linear(rows, weight)
    first, second = factor(rows), factor(weight)
    if _ONEDNN:
        product = torch.ops.mkldnn._linear_pointwise(first, second, None, "none", [], "")
    else:
        product = nn.functional.linear(first, second)
    return product.to(rows.dtype)


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` for stacks of matrices.

    Args:
        left: (…, n, k), float16, float32 or float64.
        right: (…, k, p).

    Returns:
        (…, n, p).
    """
    if left.device.type != "cpu" or left.dtype == torch.float64:
        return left @ right
    return (factor(left) @ factor(right)).to(left.dtype)


def add_linear_each(stack: Tensor, chosen: Tensor, weights: Tensor) -> None:
    """Add to chosen matrices of a stack their own products with a weight each, in place: X ← X + X Wᵀ.

    Args:
        stack: (N, n, k).
        chosen: Indices (T,) of distinct matrices.
        weights: (T, k, k).
    """
    if stack.device.type == "cpu":
        for place, weight in zip(chosen.tolist(), weights, strict=True):
            stack[place] += linear(stack[place], weight)
    elif len(chosen) == len(stack):  # all of them: nothing to gather
        stack.copy_(stack.baddbmm(stack, weights.mT))
    else:
        rows = stack[chosen]
        stack[chosen] = rows.baddbmm(rows, weights.mT)


def conv_transpose2d(inputs: Tensor, weight: Tensor, *options: Any) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``.

    Args:
        inputs: (B, k, H, W), float16, float32 or float64.
        weight: (k, p / groups, h, w).
        *options: Those of PyTorch's, from ``bias`` on.

    Returns:
        (B, p, …).
    """
    if inputs.device.type != "cpu" or inputs.dtype == torch.float64:
        return nn.functional.conv_transpose2d(inputs, weight, *options)
    return nn.functional.conv_transpose2d(factor(inputs), factor(weight), *options).to(inputs.dtype)


def factor(values: Tensor) -> Tensor:
    """A factor of a product on a CPU as float32, rounded as the arithmetic at hand rounds it.

    Args:
        values: Float16 or float32.

    Returns:
        Float32; the same tensor where nothing is rounded.
    """
    values = values.float()
    if not _imitates_tf32.get():
        return values
    bits = values.contiguous().view(torch.int32)
    half_step = (1 << (_TF32_DROPPED - 1)) - 1 + ((bits >> _TF32_DROPPED) & 1)  # ties go to the even neighbour
    return ((bits + half_step) & -(1 << _TF32_DROPPED)).view(torch.float32)

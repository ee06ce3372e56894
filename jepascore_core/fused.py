"""Parts of the Vision Transformer's sweep as GPU kernels, which write no attention logits to memory.

Letters: A tokens that carry a gradient, N tokens, H heads, e values of a head, d = H·e, c cotangents.

Each function is what PyTorch's operations in ``vit.py`` do in many steps. They run where Triton compiles for the
device and agrees with PyTorch on a small problem, looked at once for each device and dtype; elsewhere those
operations do the work. With ``TRITON_INTERPRET=1`` in the environment they run on a CPU, slowly, for tests.
"""

import logging
import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_logger = logging.getLogger(__name__)
_TOKENS = 64  # in one tile
_ROWS = 64  # cotangents in one tile

if find_spec("triton") is not None:
    from jepascore_core import kernels


def usable(like: Tensor, heads: int) -> bool:
    """Whether the kernels run, and run right, for an attention on tensors of a device and dtype.

    Args:
        like: (…, d).
        heads: H.

    Returns:
        Whether to call them.
    """
    if like.dtype == torch.float64 or not (like.is_cuda or _INTERPRETED):
        return False
    return _checked(like.device, like.dtype, heads, like.shape[-1] // heads)


def attention_backward(
    wanted: Tensor, query: Tensor, value: Tensor, attention: Tensor, output: Tensor, covariance: Tensor,
    asking: Tensor, into: Tensor,
) -> None:  # fmt: skip
    """From cotangents of the heads' outputs to those of queries, keys and values.

    Args:
        wanted: dO, (A, c, H, e), contiguous.
        query: Scaled by 1/√e, (H, A, e).
        value: (H, N, e).
        attention: P, (H, A, N).
        output: O = P V, (H, A, e).
        covariance: Of values and keys, (H, A, e, e).
        asking: Indices (A,) of the tokens that carry a gradient.
        into: (N, c, 3, H, e), contiguous but for its first axis; queries of other tokens are left as they are.
    """
    active, chunk, heads, size = wanted.shape
    tokens, width, exact = len(into), max(16, _next_power_of_2(size)), _exactness()
    parts = [part.contiguous() for part in (attention, query, value, output)]
    warps = 4 if width <= 64 else 8
    kernels.keys_values[(_tiles(tokens, _TOKENS), chunk, heads)](
        wanted, *parts, into, active, tokens, chunk, heads, into.stride(0), size,
        width=width, block=_TOKENS, exact=exact, num_warps=warps, num_stages=2,
    )  # fmt: skip
    kernels.queries[(active, heads, _tiles(chunk, _ROWS))](
        wanted, covariance.contiguous(), into, asking, active, chunk, heads, into.stride(0), size,
        width=width, block=_ROWS, exact=exact, num_warps=warps,
    )  # fmt: skip


def after_norm(rows: Tensor, standardised: Tensor, factor: Tensor, target: Tensor, *, add: bool) -> None:
    """What is left of a LayerNorm's derivative for rows that have lost their mean: (y − (y·x̂) x̂ / d) · r.

    Args:
        rows: y, (N, c, d), contiguous.
        standardised: x̂, (N, d).
        factor: r, (N, 1).
        target: (N, c, d), its last axis contiguous; may be the rows themselves.
        add: Add to the target instead of overwriting it.
    """
    tokens, chunk, size = rows.shape
    width = _next_power_of_2(size)
    block = max(1, 4096 // width)
    kernels.after_norm[(tokens, _tiles(chunk, block))](
        rows, standardised.contiguous(), factor.contiguous(), target, chunk, size, target.stride(0), target.stride(1),
        width=width, block=block, add=add,
    )  # fmt: skip


def _tiles(count: int, block: int) -> int:
    """Tiles that hold some numbers."""
    return -(-count // block)


def _next_power_of_2(size: int) -> int:
    """Least power of two that is no less than a size ≥ 1."""
    return 1 << (size - 1).bit_length()


def _exactness() -> str:
    """How tensor cores take float32 factors."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


@cache
def _checked(device: torch.device, dtype: torch.dtype, heads: int, size: int) -> bool:
    """Whether the kernels compile for a device and heads of a size, and agree with PyTorch there."""
    if find_spec("triton") is None:
        return False
    try:
        error = largest_difference(device, dtype, heads=heads, size=size)
    except Exception as problem:  # whatever a compiler and a driver may say
        _logger.warning("The fused kernels do not run on %s (%s); PyTorch's operations do the work.", device, problem)
        return False
    if not error < (2e-2 if dtype == torch.float16 else 1e-2):  # TF32 may be on
        _logger.warning("The fused kernels err by %.1e on %s; PyTorch's operations do the work.", error, device)
        return False
    return True


def largest_difference(device: torch.device, dtype: torch.dtype, *, heads: int, size: int) -> float:
    """Largest difference of the kernels and PyTorch in float64 on a small problem, relative to the largest value."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    tokens, chunk = 70, 5
    asking = torch.tensor([0, *range(2, tokens)], device=device)
    count = len(asking)
    wanted, query, value = random(count, chunk, heads, size), random(heads, count, size), random(heads, tokens, size)
    attention = random(heads, count, tokens).softmax(-1)
    output, covariance = random(heads, count, size), random(heads, count, size, size)
    into = torch.zeros(tokens, chunk + 1, 3, heads, size, device=device, dtype=dtype)[:, :chunk]
    attention_backward(wanted, query, value, attention, output, covariance, asking, into)
    parts = (wanted, query, value, attention, output, covariance)
    exact = _reference(*(part.double() for part in parts), asking=asking, tokens=tokens)
    rows, x, r = random(tokens, chunk, heads * size), random(tokens, heads * size), random(tokens, 1)
    target = random(tokens, chunk + 1, heads * size)[:, 1:]
    change = rows.double() - (rows.double() @ x.double().unsqueeze(2)) * x.double().unsqueeze(1) / x.shape[1]
    sum_exact = target.double() + change * r.double().unsqueeze(2)
    after_norm(rows, x, r, target, add=True)
    pairs = [*zip(into.unbind(2), exact.unbind(2), strict=True), (target, sum_exact)]
    return max(((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in pairs)


def _reference(
    wanted: Tensor, query: Tensor, value: Tensor, attention: Tensor, output: Tensor, covariance: Tensor,
    *, asking: Tensor, tokens: int,
) -> Tensor:  # fmt: skip
    """What ``attention_backward`` should give, in a few lines."""
    into = wanted.new_zeros(tokens, wanted.shape[1], 3, *wanted.shape[2:])
    into[asking, :, 0] = torch.einsum("tche,htef->tchf", wanted, covariance)
    into[:, :, 2] = torch.einsum("hts,tche->sche", attention, wanted)
    logits = torch.einsum("tche,hse->htcs", wanted, value) - torch.einsum("tche,hte->htc", wanted, output).unsqueeze(3)
    into[:, :, 1] = torch.einsum("hts,htcs,hte->sche", attention, logits, query)
    return into

"""The Gram matrix JJᵀ of any encoder, by vector-Jacobian products batched over images and cotangents.

Row i of J is the vector-Jacobian product of the cotangent e_i. Rows of many cotangents and images are computed
together. J of the whole batch is never held: images are taken in groups whose rows fit in memory, and an image
whose D rows do not fit is taken in blocks of rows, each pair of blocks once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes, is_out_of_memory
from jepascore_core.products import arithmetic
from jepascore_core.pullback import Options, Pullback, Sweep, differences, joined, noise_of, probes

_PIXEL_SLICE = 1 << 14  # input values converted to float64 at a time
_ROWS_SHARE = 0.25  # of the free memory, for rows of J
_FAST_FLOAT64 = ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0))  # CUDA compute capabilities of data-centre chips


def sweep(encoder: nn.Module, images: Tensor, options: Options) -> Sweep:
    """Sweep over images together; halve the batch until it fits.

    Autograd computes in the precision of the forward pass, or in TF32; float16 means TF32 here.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself.
        images: (B, C, H, W), normalised.
        options: How to go about it; ``chunk_size`` counts the cotangents in one backward pass.

    Returns:
        The sweep.

    Raises:
        MemoryError: One image and one cotangent do not fit in memory.
        RuntimeError: The encoder failed.
    """
    try:
        return _sweep_together(encoder, images, options)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(images) == 1:
            raise MemoryError("One image and one cotangent do not fit in this device's memory.") from error
    middle = (len(images) + 1) // 2
    share = middle / len(images)
    halves = [(images[:middle], options.within(0, share)), (images[middle:], options.within(share, 1))]
    return joined(sweep(encoder, half, part) for half, part in halves)


def _sweep_together(encoder: nn.Module, images: Tensor, options: Options) -> Sweep:
    """The sweep over one group of images that share a forward pass."""
    forward = Pullback(encoder, images, options.chunk_size)
    dim = forward.embedding.shape[1]
    identity = torch.eye(dim, dtype=images.dtype, device=images.device)
    known = probes(dim, images)
    direct = forward.products(known)  # (R, B, P)
    block = _block_size(images, dim)
    with arithmetic("tf32" if options.rounds else "float32"):
        if block == dim:
            rows = forward.products(identity, report=options.report)
            gram, difference = inner(rows, rows), differences(direct, mixed(known, rows), options)
            noise_products = along(rows, difference)
        else:
            gram, mixtures = _by_blocks(forward, identity.split(block), known, options.within(0, 0.7))
            difference = differences(direct, mixtures, options)
            blocks = (forward.products(part) for part in identity.split(block))
            noise_products = torch.cat([along(rows, difference) for rows in blocks], 2)
            options.report(1.0)
    return Sweep(forward.embedding, gram, noise_of(difference), noise_products)


def _by_blocks(forward: Pullback, blocks: Sequence[Tensor], known: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """JJᵀ (B, D, D) from all pairs of row blocks, two held at a time, and the probes' mixtures (R, B, P)."""
    size, dim = len(blocks[0]), known.shape[1]
    gram = torch.empty(len(forward.embedding), dim, dim, dtype=torch.float64, device=known.device)
    mixtures = torch.zeros((), dtype=torch.float64, device=known.device)
    for number, first in enumerate(blocks):
        held = forward.products(first)  # (b, B, P)
        a = slice(number * size, number * size + len(first))
        for other, second in enumerate(blocks[number:], number):
            rows = held if other == number else forward.products(second)
            b = slice(other * size, other * size + len(second))
            tile = inner(rows, held)  # (B, block of b, block of a)
            gram[:, b, a] = tile
            gram[:, a, b] = tile.mT
            if number == 0:  # every row passes here once
                mixtures = mixtures + mixed(known[:, b], rows)
        options.report(1 - (1 - (number + 1) / len(blocks)) ** 2)
    return gram, mixtures


def _block_size(images: Tensor, dim: int) -> int:
    """Rows of J that may be held at a time for every image: D, or for one large image a block.

    Raises:
        MemoryError: Several images do not fit together; fewer may.
    """
    budget = _ROWS_SHARE * free_bytes(images.device)
    row_bytes = images.numel() * images.element_size()
    if dim * row_bytes <= budget:
        return dim
    if len(images) > 1:
        raise MemoryError("The rows of this many images do not fit together.")
    return max(1, int(budget / row_bytes / 2))  # two blocks are held at a time


def inner(rows: Tensor, held: Tensor) -> Tensor:
    """Inner products of two sets of rows of each image, accumulated in float64.

    Args:
        rows: (b, B, P).
        held: (a, B, P).

    Returns:
        (B, b, a), float64.
    """
    total = torch.zeros(rows.shape[1], len(rows), len(held), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[2], _PIXEL_SLICE):
        pixels = slice(start, start + _PIXEL_SLICE)
        left = rows[:, :, pixels].double().transpose(0, 1)  # (B, b, slice)
        right = left if rows is held else held[:, :, pixels].double().transpose(0, 1)
        total += left @ right.mT
    return total


def mixed(weights: Tensor, rows: Tensor) -> Tensor:
    """Mixtures Σ_i weights_ri · rows_i, accumulated in float64.

    Args:
        weights: (R, b).
        rows: (b, B, P).

    Returns:
        (R, B, P), float64.
    """
    parts = [torch.tensordot(weights.double(), part.double(), 1) for part in rows.split(_PIXEL_SLICE, 2)]
    return torch.cat(parts, 2)


def along(rows: Tensor, difference: Tensor) -> Tensor:
    """Products of rows of J (b, B, P) with what the probes differ (R, B, P): (B, R, b), float64."""
    error = difference.to(rows).transpose(0, 1)  # the size of an error needs no more digits than the rows have
    return (error @ rows.permute(1, 2, 0)).double()


def gram_dtype(device: torch.device) -> torch.dtype:
    """Float64 where a device multiplies it at half the speed of float32 or better; else float32."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) not in _FAST_FLOAT64:
        return torch.float32
    return torch.float64


def add_rows(total: Tensor, rows: Tensor) -> Tensor:
    """Add columns of J, as (D, k), to what is known of JJᵀ; begin with zeros.

    Args:
        total: (D, D): in float64 JJᵀ itself, which may be overwritten; in float32 a triangle R with RᵀR = JJᵀ, found by
            QR decomposition, which does not square what was rounded.
        rows: (D, k), in the same dtype.

    Returns:
        The new total.
    """
    if total.dtype == torch.float64:
        return total.addmm_(rows, rows.mT)
    return torch.linalg.qr(torch.cat([total, rows.mT]), mode="r").R


def gram_of(total: Tensor) -> Tensor:
    """JJᵀ (D, D), float64, from a total of ``add_rows``."""
    return total if total.dtype == torch.float64 else total.double().mT @ total.double()

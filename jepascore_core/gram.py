"""The Gram matrix JJᵀ of any encoder, by vector-Jacobian products batched over images and cotangents.

Row i of J is the vector-Jacobian product of the cotangent e_i. Rows of many cotangents and images are computed
together. J of the whole batch is never held: images are taken in groups whose rows fit in memory, and an image
whose D rows do not fit is taken in blocks of rows, each pair of blocks once.
"""

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes, is_out_of_memory
from jepascore_core.pullback import OnShare, Pullback, Sweep, Tally, joined, mixture_weights, untold

_PIXEL_SLICE = 1 << 14  # input values converted to float64 at a time
_ROWS_SHARE = 0.25  # of the free memory, for rows of J


def sweep(encoder: nn.Module, images: Tensor, chunk_size: int | None, on_share: OnShare = untold) -> Sweep:
    """Sweep over images together; halve the batch until it fits.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself.
        images: (B, C, H, W), normalised.
        chunk_size: Cotangents in one backward pass; chosen from memory when None.
        on_share: Told after each backward pass which share of the work is done.

    Returns:
        The sweep.

    Raises:
        MemoryError: One image and one cotangent do not fit in memory.
        RuntimeError: The encoder failed.
    """
    try:
        return _sweep_together(encoder, images, chunk_size, on_share)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(images) == 1:
            raise MemoryError("One image and one cotangent do not fit in this device's memory.") from error
    first, second = images.chunk(2)
    share = len(first) / len(images)
    return joined([
        sweep(encoder, first, chunk_size, lambda done: on_share(share * done)),
        sweep(encoder, second, chunk_size, lambda done: on_share(share + (1 - share) * done)),
    ])  # fmt: skip


def _sweep_together(encoder: nn.Module, images: Tensor, chunk_size: int | None, on_share: OnShare) -> Sweep:
    """The sweep over one group of images that share a forward pass."""
    forward = Pullback(encoder, images, chunk_size)
    count, dim = forward.embedding.shape
    block = _block_size(images, dim)
    identity = torch.eye(dim, dtype=images.dtype, device=images.device)
    probe = mixture_weights(dim, images)
    gram = torch.empty(count, dim, dim, dtype=torch.float64, device=images.device)
    mixture = torch.zeros(count, images[0].numel(), dtype=torch.float64, device=images.device)  # (B, P)
    tally = Tally(sum(dim - a for a in range(0, dim, block)), on_share)  # rows, some of which are computed again
    for a in range(0, dim, block):
        held = forward.products(identity[a : a + block], tally=tally)  # (block, B, P)
        for b in range(a, dim, block):
            rows = held if b == a else forward.products(identity[b : b + block], tally=tally)
            tile = inner(rows, held)  # (B, block of b, block of a)
            gram[:, b : b + block, a : a + block] = tile
            gram[:, a : a + block, b : b + block] = tile.mT
            if a == 0:  # every row passes here once
                _add_mixture(mixture, probe[b : b + block], rows)
    direct = forward.products(probe.unsqueeze(0)).squeeze(0)  # (B, P)
    # The direct product and the mixture round independently, so that their difference holds the noise twice.
    noise = (direct - mixture).norm(dim=1) / 2**0.5
    return Sweep(forward.embedding, gram, noise)


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


def _add_mixture(mixture: Tensor, weights: Tensor, rows: Tensor) -> None:
    """Add Σ_i weights_i · rows_i to the mixture (B, P), in float64, in place."""
    for start in range(0, rows.shape[2], _PIXEL_SLICE):
        pixels = slice(start, start + _PIXEL_SLICE)
        mixture[:, pixels] += torch.einsum("b,bnp->np", weights.double(), rows[:, :, pixels].double())

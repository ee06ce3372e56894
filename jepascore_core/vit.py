"""The Gram matrix JJᵀ of a Vision Transformer, one image at a time, by large matrix products.

Letters: D embedding size, N tokens, d width, m hidden width of the MLP, H heads, e = d / H, c cotangents at a time,
A tokens that carry a gradient ("active": after the last block of a class-token model, one).

All D cotangents of an image share its forward pass, so whatever depends on the image alone is done once:

1. The MLP acts on each token by itself; its Jacobian, a d × d matrix, is built once and applied to all cotangents.
2. Query path of the attention: dq_t = dO_t Cov_{s ~ P_t}(v_s, k_s), one e × e matrix for each token and head.
3. Value path: dV = Pᵀ dO, one product. Key path: dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)), a head and c cotangents at a time.
4. LayerNorm: its weight and the removal of the mean are folded into the weights that follow; what is left is a
   rank-one correction and a factor for each token.
5. JJᵀ = Σ_t G_t (W_e W_eᵀ) G_tᵀ over the patches' cotangents G_t and the weight W_e of the patch embedding: J itself
   is never formed.

The forward pass is float32 (or float64); the sweep may be TF32 or float16. Some fixed mixtures of the cotangents also
go through autograd. What they differ from the same mixtures of the results is rounding (also that of weights and
activations, which all cotangents share), or an architecture that is not what it seemed; either way it becomes the
error bar.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from jepascore_core.gram import add_rows, gram_dtype, gram_of
from jepascore_core.memory import free_bytes
from jepascore_core.products import arithmetic
from jepascore_core.pullback import (
    Misfit,
    Options,
    Pullback,
    Sweep,
    agree,
    differences,
    joined,
    noise_of,
    probes,
)
from jepascore_core.scaled import Scaled
from jepascore_core.vit_block import Weights, fold_weights, see, through_attention, through_mlp, through_norm
from jepascore_core.vit_layers import Layer, VisionTransformer

_COTANGENTS_SHARE = 0.4  # of the free memory, for the cotangents of all tokens
_BLOCK_SHARE = 0.1  # of the free memory, for what is worked on at a time
_CPU_BLOCK_BYTES = 4 << 20  # on a CPU, blocks that outgrow the caches gain nothing
_TAIL_CHUNK = 64  # cotangents at a time through pooling, final norm and projection
_CLASS_TOKEN_SHARE = 0.3  # of a block's work, where one token alone carries a gradient


def sweep(transformer: VisionTransformer, encoder: nn.Module, images: Tensor, options: Options) -> Sweep:
    """Sweep over images one by one.

    Args:
        transformer: The encoder's parts.
        encoder: Maps (B, C, H, W) to (B, D).
        images: (B, C, H, W), normalised.
        options: How to go about it; ``chunk_size`` counts the cotangents in one pass through an attention.

    Returns:
        The sweep.

    Raises:
        MemoryError: The cotangents of all tokens do not fit in memory.
        Misfit: Autograd disagrees by far more than rounding: the encoder is not what its parts look like.
    """
    dtype = torch.float16 if options.precision == "float16" else images.dtype
    weights_of: Callable[[Layer], Weights] = partial(fold_weights, dtype=dtype)
    if images.device.type != "cpu":
        weights_of = cache(weights_of)  # a CPU has time for it at each image, and no memory to spare
    count, block_bytes = len(images), _block_bytes(images.device)
    return joined(
        _sweep_image(
            transformer, encoder, image, weights_of, block_bytes, options.within(number / count, (number + 1) / count)
        )
        for number, image in enumerate(images)
    )


def _sweep_image(
    transformer: VisionTransformer,
    encoder: nn.Module,
    image: Tensor,
    weights_of: Callable[[Layer], Weights],
    block_bytes: int,
    options: Options,
) -> Sweep:
    """The sweep over one image (C, H, W)."""
    norms = [transformer.norm_pre] if transformer.norm_pre is not None else []
    watched = [*norms, *(layer.module for layer in transformer.layers)]
    graph = Pullback(encoder, image.unsqueeze(0), watch=watched)
    if [tokens.shape[:1] + tokens.shape[2:] for tokens in graph.seen] != [(1, transformer.width)] * (len(watched) + 1):
        raise Misfit  # a block was left out, came twice, or takes its tokens in another order
    *inputs, last = graph.seen
    known = probes(graph.embedding.shape[1], image)
    direct = graph.products(known)  # (R, 1, P)
    cotangents = _cotangents(graph, last, options.precision)
    embedding, tokens = graph.embedding, [entry.detach().squeeze(0) for entry in inputs]
    del graph, inputs, last
    with torch.no_grad():
        _through_blocks(transformer, tokens, cotangents, weights_of, block_bytes, options)
        if transformer.norm_pre is not None:
            cotangents.values = through_norm(cotangents.values, transformer.norm_pre, tokens.pop())
        gram, mixtures = _close(transformer.patches, cotangents, known, image.shape, block_bytes)
        difference = differences(direct, mixtures.flatten(1).unsqueeze(1), options)
        agree(difference, direct)
        noise_products = _along(transformer.patches, cotangents, difference.view(-1, *image.shape))
    options.report(1.0)
    return Sweep(embedding, gram.unsqueeze(0), noise_of(difference), noise_products.unsqueeze(0))


def _through_blocks(
    transformer: VisionTransformer,
    tokens: list[Tensor],
    cotangents: Scaled,
    weights_of: Callable[[Layer], Weights],
    block_bytes: int,
    options: Options,
) -> None:
    """Pull cotangents back through all blocks, in place; takes the blocks' inputs off the list of tokens."""
    active = cotangents.values.flatten(1).any(1).nonzero().squeeze(1)
    work = 1 + len(transformer.layers) - (1 - _CLASS_TOKEN_SHARE) * (len(active) == 1)  # both ends count as a block
    done = 0.0
    for layer in reversed(transformer.layers):
        seen, weights = see(layer, tokens.pop(), cotangents.values.dtype), weights_of(layer)
        with arithmetic(options.precision):
            through_mlp(cotangents.values, weights, seen, active, block_bytes)
            chunk_size = options.chunk_size or _fitting_chunk(cotangents.values, len(active), block_bytes)
            through_attention(cotangents.values, weights, seen, active, chunk_size)
            cotangents.balance()
        done += _CLASS_TOKEN_SHARE if len(active) == 1 else 1
        options.report(done / work)
        active = torch.arange(len(cotangents.values), device=active.device)  # keys and values reach every token


def _cotangents(graph: Pullback, last: Tensor, precision: str) -> Scaled:
    """Cotangents of the last block's output for each component of the embedding, token by token: (N, D, d)."""
    dim, (_, count, width) = graph.embedding.shape[1], last.shape
    if count * dim * width * last.element_size() > _COTANGENTS_SHARE * free_bytes(last.device):
        raise MemoryError("The cotangents of all tokens do not fit in memory.")
    dtype = torch.float16 if precision == "float16" else last.dtype
    cotangents = last.new_empty(count, dim, width, requires_grad=False, dtype=dtype)
    identity = torch.eye(dim, dtype=last.dtype, device=last.device)
    scales = []
    for start in range(0, dim, _TAIL_CHUNK):
        rows = slice(start, start + _TAIL_CHUNK)
        chunk = graph.products(identity[rows], last).view(-1, count, width).transpose(0, 1)
        scaled = Scaled.of(chunk, precision, axis=1)
        cotangents[:, rows] = scaled.values
        scales.append(scaled.scale)
    scale = None if dtype == last.dtype else torch.cat([scale for scale in scales if scale is not None])
    return Scaled(cotangents, scale, axis=1)


def _close(
    patches: nn.Conv2d, cotangents: Scaled, known: Tensor, shape: torch.Size, block_bytes: int
) -> tuple[Tensor, Tensor]:
    """JJᵀ (D, D) from the cotangents of the patches, and the probes' mixtures of J's rows (R, C, H, W), float64."""
    embed = patches.weight.flatten(1).double()  # (d, C·p·p)
    root = _root(embed)  # (d, r)
    seeing = _seeing(patches, cotangents, shape)  # (N, D, d)
    dim = seeing.shape[1]
    scale = torch.ones(dim).to(embed) if cotangents.scale is None else cotangents.scale.double()
    weights = known.double() * scale
    total = torch.zeros(dim, dim, dtype=gram_dtype(embed.device), device=embed.device)
    mixed = []
    together = max(1, 4 * block_bytes // (dim * root.shape[1] * root.element_size()))
    for part in seeing.split(together):
        mixed.append(torch.einsum("ri,nid->rnd", weights, part.double()))
        rows = (part.to(total) @ root.to(total)).transpose(0, 1).flatten(1)  # (D, T·r)
        total = add_rows(total, rows)
    pixels = (torch.cat(mixed, 1) @ embed).mT  # (R, C·p·p, N)
    mixtures = nn.functional.fold(pixels, shape[1:], patches.kernel_size, stride=patches.kernel_size)
    return gram_of(total) * torch.outer(scale, scale), mixtures


def _along(patches: nn.Conv2d, cotangents: Scaled, difference: Tensor) -> Tensor:
    """Products J e of the Jacobian with what the probes differ, (R, C, H, W): (R, D), float64."""
    pixels = nn.functional.unfold(difference, patches.kernel_size, stride=patches.kernel_size)  # (R, C·p·p, N)
    embedded = (pixels.mT @ patches.weight.flatten(1).double().mT).transpose(0, 1).float()  # (N, R, d)
    size = embedded.abs().max().clamp(min=1e-30)  # keeps float32's range
    products = torch.zeros(cotangents.values.shape[1], len(difference), dtype=torch.float64, device=embedded.device)
    seeing = _seeing(patches, cotangents, difference.shape[1:])
    for part, error in zip(seeing.split(16), (embedded / size).split(16), strict=True):
        products += (part.float() @ error.mT).sum(0)
    products *= size if cotangents.scale is None else size * cotangents.scale.unsqueeze(1)
    return products.mT


def _seeing(patches: nn.Conv2d, cotangents: Scaled, shape: torch.Size) -> Tensor:
    """Cotangents of the patches (N, D, d): class and register tokens do not see the image at the embedding."""
    height, width = (side // step for side, step in zip(shape[1:], patches.kernel_size, strict=True))
    return cotangents.values[-height * width :]


def _root(embed: Tensor) -> Tensor:
    """A matrix L (d, r) of as few columns as may be with LLᵀ = W_e W_eᵀ."""
    if embed.shape[1] <= embed.shape[0]:
        return embed
    eigenvalues, eigenvectors = torch.linalg.eigh(embed @ embed.mT)
    return eigenvectors * eigenvalues.clamp(min=0).sqrt()


def _fitting_chunk(cotangents: Tensor, active: int, block_bytes: int) -> int:
    """Cotangents whose attention logits and keys and values fit in a block."""
    count, dim, width = cotangents.shape
    bytes_each = count * max(active, width // 4) * cotangents.element_size()
    return max(1, min(dim, block_bytes // bytes_each))


def _block_bytes(device: torch.device) -> int:
    """Bytes to work on at a time on a device."""
    return _CPU_BLOCK_BYTES if device.type == "cpu" else int(_BLOCK_SHARE * free_bytes(device))

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

One fixed mixture of the cotangents also goes through autograd. What it differs from the same mixture of the results
is rounding, or an architecture that is not what it seemed; either way it becomes the error bar.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes
from jepascore_core.products import add_linear_each, linear
from jepascore_core.pullback import (
    Misfit,
    OnShare,
    Pullback,
    Sweep,
    Tally,
    agree,
    joined,
    mixture_weights,
    slope,
    untold,
)
from jepascore_core.vit_layers import Layer, VisionTransformer

_COTANGENTS_SHARE = 0.4  # of the free memory, for the cotangents of all tokens
_BLOCK_SHARE = 0.1  # of the free memory, for what is worked on at a time
_CPU_BLOCK_BYTES = 4 << 20  # on a CPU, blocks that outgrow the caches gain nothing
_TAIL_CHUNK = 64  # cotangents at a time through pooling, final norm and projection


@dataclass(frozen=True)
class _Seen:
    """What one block's backward pass needs of the image."""

    x1: Tensor  # normalised input of norm1, (N, d)
    r1: Tensor  # its 1 / standard deviation, (N, 1)
    query: Tensor  # scaled by 1 / √e, (H, N, e)
    value: Tensor  # (H, N, e)
    attention: Tensor  # P, (H, N, N)
    output: Tensor  # O = P V, (H, N, e)
    covariance: Tensor  # of values and keys under each row of P, scaled by 1 / √e, (H, N, e, e)
    x2: Tensor  # normalised input of norm2, (N, d)
    r2: Tensor  # (N, 1)
    slope: Tensor  # of the MLP's gate, (N, m)


def sweep(
    transformer: VisionTransformer,
    encoder: nn.Module,
    images: Tensor,
    chunk_size: int | None,
    on_share: OnShare = untold,
) -> Sweep:
    """Sweep over images one by one.

    Args:
        transformer: The encoder's parts.
        encoder: Maps (B, C, H, W) to (B, D).
        images: (B, C, H, W), normalised.
        chunk_size: Cotangents in one pass through an attention; chosen from memory when None.
        on_share: Told after each block of each image which share of the work is done.

    Returns:
        The sweep.

    Raises:
        MemoryError: The cotangents of all tokens do not fit in memory.
        Misfit: Autograd disagrees by far more than rounding: the encoder is not what its parts look like.
    """
    tally = Tally(len(images), on_share)
    return joined(_sweep_image(transformer, encoder, image, chunk_size, tally) for image in images)


def _sweep_image(
    transformer: VisionTransformer, encoder: nn.Module, image: Tensor, chunk_size: int | None, tally: Tally
) -> Sweep:
    """The sweep over one image (C, H, W)."""
    norms = [transformer.norm_pre] if transformer.norm_pre is not None else []
    watched = [*norms, *(layer.module for layer in transformer.layers)]
    graph = Pullback(encoder, image.unsqueeze(0), watch=watched)
    if [tokens.shape[:1] + tokens.shape[2:] for tokens in graph.seen] != [(1, transformer.width)] * (len(watched) + 1):
        raise Misfit  # a block was left out, came twice, or takes its tokens in another order
    *inputs, last = graph.seen
    probe = mixture_weights(graph.embedding.shape[1], image)
    direct = graph.products(probe.unsqueeze(0)).view(image.shape)
    cotangents = _cotangents(graph, last)  # (N, D, d)
    embedding, tokens = graph.embedding, [entry.detach().squeeze(0) for entry in inputs]
    del graph
    with torch.no_grad():
        active = cotangents.flatten(1).any(1).nonzero().squeeze(1)
        last_block = (1 + 2 * len(active) / len(cotangents)) / 3  # its share of a whole block, where few are active
        blocks = len(transformer.layers) + last_block  # all others, and the two ends, which count as one
        for layer in reversed(transformer.layers):
            seen = _see(layer, tokens.pop())
            _through_mlp(cotangents, layer, seen, active)
            _through_attention(cotangents, layer, seen, active, chunk_size)
            tally.add((last_block if layer is transformer.layers[-1] else 1) / blocks)
            active = torch.arange(len(cotangents), device=image.device)  # keys and values reach every token
        if transformer.norm_pre is not None:
            cotangents = _through_norm(cotangents, transformer.norm_pre, tokens.pop())
        gram, mixture = _close(transformer.patches, cotangents, probe, image.shape)
    noise = (direct - mixture).norm().unsqueeze(0)
    agree(noise, mixture.unsqueeze(0))
    tally.add(1 / blocks)
    return Sweep(embedding, gram.unsqueeze(0), noise / 2**0.5)


def _cotangents(graph: Pullback, last: Tensor) -> Tensor:
    """Cotangents of the last block's output for each component of the embedding, token by token: (N, D, d)."""
    dim, (_, count, width) = graph.embedding.shape[1], last.shape
    if count * dim * width * last.element_size() > _COTANGENTS_SHARE * free_bytes(last.device):
        raise MemoryError("The cotangents of all tokens do not fit in memory.")
    cotangents = last.new_empty(count, dim, width, requires_grad=False)
    identity = torch.eye(dim, dtype=last.dtype, device=last.device)
    for start in range(0, dim, _TAIL_CHUNK):
        rows = slice(start, start + _TAIL_CHUNK)
        cotangents[:, rows] = graph.products(identity[rows], last).view(-1, count, width).transpose(0, 1)
    return cotangents


def _see(layer: Layer, tokens: Tensor) -> _Seen:
    """Repeat a block's forward pass on its input tokens (N, d) and keep what its backward pass needs."""
    x1, r1 = _standardised(tokens, layer.norm1)
    projected = nn.functional.linear(layer.norm1(tokens), layer.qkv_weight, layer.qkv_bias)
    size = projected.shape[1] // 3 // layer.heads
    query, key, value = projected.view(len(tokens), 3, layer.heads, size).permute(1, 2, 0, 3).contiguous()
    query, scaled_key = query * size**-0.5, key * size**-0.5
    attention = (query @ key.mT).softmax(-1)
    output = attention @ value
    covariance = torch.stack([_covariance(*head) for head in zip(attention, value, scaled_key, output, strict=True)])
    change = layer.out(output.transpose(0, 1).flatten(1))
    middle = tokens + (change if layer.scale1 is None else change * layer.scale1)
    x2, r2 = _standardised(middle, layer.norm2)
    steepness = slope(layer.gate, layer.fc1(layer.norm2(middle)))
    return _Seen(x1, r1, query, value, attention, output, covariance, x2, r2, steepness)


def _standardised(tokens: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Tokens of mean 0 and variance 1, and the factors 1 / √(variance + ε) that made them so."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    factor = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    return centred * factor, factor


def _covariance(attention: Tensor, value: Tensor, key: Tensor, output: Tensor) -> Tensor:
    """Cov_{s ~ P_t}(v_s, k_s) of one head for each token t: (N, e, e), values first."""
    count, size = key.shape
    product = (value.unsqueeze(2) * key.unsqueeze(1)).flatten(1)  # (N, e·e)
    second_moment = linear(attention, product.mT).view(count, size, size)
    return second_moment.baddbmm_(output.unsqueeze(2), (attention @ key).unsqueeze(1), alpha=-1)


def _through_mlp(cotangents: Tensor, layer: Layer, seen: _Seen, active: Tensor) -> None:
    """Pull cotangents (N, D, d) back through y + MLP(norm2(y)), in place, where they are active."""
    up = _folded(layer.fc1.weight, layer.norm2).mT.contiguous()  # (d, m)
    down = _scaled(layer.fc2.weight, layer.scale2).repeat(1, up.shape[1] // layer.fc2.in_features)  # (d, m)
    width = len(up)
    together = max(1, _block_bytes(cotangents) // (up.numel() * up.element_size()))
    for tokens in active.split(together):
        bent = (up * seen.slope[tokens].unsqueeze(1)).flatten(0, 1)  # (T·d, m)
        maps = linear(bent, down).view(-1, width, width)  # transposed: from the MLP's output to norm2's input
        x2 = seen.x2[tokens]
        along = x2.unsqueeze(1) @ maps  # (T, 1, d)
        maps.baddbmm_(x2.unsqueeze(2), along, alpha=-1 / width).mul_(seen.r2[tokens].unsqueeze(2))
        add_linear_each(cotangents, tokens, maps)


def _through_attention(cotangents: Tensor, layer: Layer, seen: _Seen, active: Tensor, chunk_size: int | None) -> None:
    """Pull cotangents (N, D, d) back through x + attention(norm1(x)), in place."""
    count, dim, width = cotangents.shape
    weight = _folded(layer.qkv_weight, layer.norm1).mT.contiguous()  # (d, 3d)
    out = _scaled(layer.out.weight, layer.scale1).mT.contiguous()  # (d, d)
    chunk_size = chunk_size or _fitting_chunk(cotangents, len(active))
    asking = slice(None) if len(active) == count else active
    rows_of = {name: getattr(seen, name)[:, asking] for name in ("query", "attention", "output", "covariance")}
    seen = replace(seen, **rows_of)
    room = cotangents.new_zeros(count, chunk_size, 3, layer.heads, width // layer.heads)  # new room costs page faults
    for start in range(0, dim, chunk_size):
        rows = slice(start, start + chunk_size)
        given = cotangents[asking, rows]  # (A, c, d)
        wanted = linear(given.reshape(-1, width), out).view(*given.shape[:2], *room.shape[3:])  # dO
        into = room[:, : given.shape[1]]
        _to_queries_keys_values(wanted, seen, asking, into)
        change = linear(into.reshape(-1, 3 * width), weight).view(count, -1, width)
        cotangents[:, rows] += _after_norm(change, seen.x1, seen.r1)


def _to_queries_keys_values(wanted: Tensor, seen: _Seen, asking: slice | Tensor, into: Tensor) -> None:
    """From cotangents (A, c, H, e) of the heads' outputs to those of queries, keys and values (N, c, 3, H, e)."""
    active, chunk, heads, size = wanted.shape
    count = len(into)
    for head in range(heads):
        arriving = seen.attention[head].mT  # Pᵀ, (N, A)
        by_token = wanted[:, :, head].contiguous()  # (A, c, e)
        by_chunk = by_token.transpose(0, 1).reshape(-1, size)  # (c·A, e)
        into[asking, :, 0, head] = by_token @ seen.covariance[head]
        into[:, :, 2, head] = linear(arriving, by_token.view(active, -1).mT).view(count, chunk, size)
        logits = linear(seen.value[head], by_chunk)  # dO Vᵀ, transposed: (N, c·A)
        logits -= (by_token * seen.output[head].unsqueeze(1)).sum(2).mT.reshape(1, -1)
        logits = logits.view(count, chunk, -1).mul_(arriving.unsqueeze(1))  # dSᵀ
        into[:, :, 1, head] = linear(logits.flatten(0, 1), seen.query[head].mT).view(count, chunk, size)


def _through_norm(cotangents: Tensor, norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Pull cotangents (N, D, d) back through a LayerNorm of its own."""
    weighted = cotangents if norm.weight is None else cotangents * norm.weight
    return _after_norm(weighted - weighted.mean(-1, keepdim=True), *_standardised(tokens, norm))


def _after_norm(rows: Tensor, standardised: Tensor, factor: Tensor) -> Tensor:
    """What is left of a LayerNorm's derivative for rows (T, k, d) that have lost their mean, in place."""
    along = rows @ standardised.unsqueeze(2)  # (T, k, 1)
    return rows.baddbmm_(along, standardised.unsqueeze(1), alpha=-1 / rows.shape[2]).mul_(factor.unsqueeze(2))


def _folded(weight: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A linear layer's weight (k, d) with the weight of the LayerNorm before it, and without each row's mean."""
    weight = weight if norm.weight is None else weight * norm.weight
    return weight - weight.mean(1, keepdim=True)


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A linear layer's weight (d, k) with the layer scale (d,) behind it."""
    return weight if scale is None else weight * scale.unsqueeze(1)


def _close(patches: nn.Conv2d, cotangents: Tensor, probe: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """JJᵀ (D, D) from the cotangents of the first tokens, and the probe's mixture of J's rows (C, H, W), float64."""
    embed = patches.weight.flatten(1).double()  # (d, C·p·p)
    root = _root(embed)  # (d, r)
    height, width = (side // step for side, step in zip(shape[1:], patches.kernel_size, strict=True))
    cotangents = cotangents[-height * width :]  # class and register tokens do not see the image here
    dim = cotangents.shape[1]
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=embed.device)
    mixed = torch.empty(len(cotangents), len(embed), dtype=torch.float64, device=embed.device)  # (N, d)
    together = max(1, 4 * _block_bytes(cotangents) // (dim * root.shape[1] * root.element_size()))
    for start in range(0, len(cotangents), together):
        block = cotangents[start : start + together].double()  # (T, D, d)
        mixed[start : start + together] = torch.einsum("i,nid->nd", probe.double(), block)
        rows = (block @ root).transpose(0, 1).flatten(1)  # (D, T·r)
        gram.addmm_(rows, rows.mT)
    mixture = nn.functional.fold(
        (mixed @ embed).mT.unsqueeze(0), shape[1:], patches.kernel_size, stride=patches.kernel_size
    ).squeeze(0)
    return gram, mixture


def _root(embed: Tensor) -> Tensor:
    """A matrix L (d, r) of as few columns as may be with LLᵀ = W_e W_eᵀ."""
    if embed.shape[1] <= embed.shape[0]:
        return embed
    eigenvalues, eigenvectors = torch.linalg.eigh(embed @ embed.mT)
    return eigenvectors * eigenvalues.clamp(min=0).sqrt()


def _fitting_chunk(cotangents: Tensor, active: int) -> int:
    """Cotangents whose attention logits and keys and values fit in a block."""
    count, dim, width = cotangents.shape
    bytes_each = count * max(active, width // 4) * cotangents.element_size()
    return max(1, min(dim, _block_bytes(cotangents) // bytes_each))


def _block_bytes(like: Tensor) -> int:
    """Bytes to work on at a time on a tensor's device."""
    if like.device.type == "cpu":
        return _CPU_BLOCK_BYTES
    return int(_BLOCK_SHARE * free_bytes(like.device))

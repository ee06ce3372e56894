"""One block of a Vision Transformer, backwards: cotangents of its output to those of its input, in place.

Letters: N tokens, D cotangents, c of them at a time, d width, m hidden width of the MLP, H heads, e = d / H, A tokens
that carry a gradient ("active"). ``vit.py`` says what is shared by all cotangents, and why.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from jepascore_core import fused
from jepascore_core.products import add_linear_each, linear, matmul
from jepascore_core.pullback import slope
from jepascore_core.scaled import packed
from jepascore_core.vit_layers import Layer


@dataclass(frozen=True)
class Seen:
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


_ROWS_BEFORE_MAPS = 0.5  # D / d up to which the MLP is applied row by row: 4Ddm against 2d²m + 2Dd² of its maps


@dataclass(frozen=True)
class Weights:
    """One block's weights in the arithmetic of the sweep, with what surrounds them folded in.

    Attributes:
        up: W₁ with the weight of norm2 and without the mean of each row, transposed: (d, m).
        down: W₂ with s₂ behind it, once for each half of a gated MLP: (d, m).
        mlp_undo: Power of two that up and down were divided by together, a scalar.
        qkv: As up, of queries, keys and values with norm1: (d, 3d).
        out: Output projection with s₁ behind it, transposed: (d, d).
        attention_undo: Power of two that qkv and out were divided by together.
    """

    up: Tensor
    down: Tensor
    mlp_undo: Tensor
    qkv: Tensor
    out: Tensor
    attention_undo: Tensor


def fold_weights(layer: Layer, dtype: torch.dtype) -> Weights:
    """Fold what surrounds a block's linear layers into their weights.

    Args:
        layer: The block.
        dtype: That of the sweep's arithmetic; in float16 the weights are divided by powers of two.

    Returns:
        The weights.
    """
    up, up_power = packed(_folded(layer.fc1.weight, layer.norm2).mT.contiguous(), dtype)
    down, down_power = packed(_scaled(layer.fc2.weight, layer.scale2), dtype)
    qkv, qkv_power = packed(_folded(layer.qkv_weight, layer.norm1).mT.contiguous(), dtype)
    out, out_power = packed(_scaled(layer.out.weight, layer.scale1).mT.contiguous(), dtype)
    halves = up.shape[1] // layer.fc2.in_features
    return Weights(up, down.repeat(1, halves), up_power * down_power, qkv, out, qkv_power * out_power)


def see(layer: Layer, tokens: Tensor, dtype: torch.dtype) -> Seen:
    """Repeat a block's forward pass and keep what its backward pass needs.

    Args:
        layer: The block.
        tokens: Its input (N, d), in the precision of the forward pass.
        dtype: That of the sweep's arithmetic.

    Returns:
        What was seen, in that dtype.
    """
    x1, r1 = _standardised(tokens, layer.norm1)
    projected = nn.functional.linear(layer.norm1(tokens), layer.qkv_weight, layer.qkv_bias)
    size = projected.shape[1] // 3 // layer.heads
    query, key, value = projected.view(len(tokens), 3, layer.heads, size).permute(1, 2, 0, 3).contiguous()
    query, scaled_key = query * size**-0.5, key * size**-0.5
    attention = (query @ key.mT).softmax(-1)
    output = attention @ value
    parts = (attention, value, scaled_key, output)
    if tokens.device.type == "cpu":  # a head at a time fits in the caches
        covariance = torch.stack([_covariance(*head) for head in zip(*parts, strict=True)])
    else:
        covariance = _covariance(*parts)
    change = layer.out(output.transpose(0, 1).flatten(1))
    middle = tokens + (change if layer.scale1 is None else change * layer.scale1)
    x2, r2 = _standardised(middle, layer.norm2)
    steepness = slope(layer.gate, layer.fc1(layer.norm2(middle)))
    return Seen(
        x1.to(dtype), r1, query.to(dtype), value.to(dtype), attention.to(dtype), output.to(dtype), covariance.to(dtype),
        x2.to(dtype), r2, steepness.to(dtype),
    )  # fmt: skip


def through_mlp(cotangents: Tensor, weights: Weights, seen: Seen, active: Tensor, block_bytes: int) -> None:
    """Pull cotangents back through y + MLP(norm2(y)), in place.

    Args:
        cotangents: (N, D, d).
        weights: The block's.
        seen: The block's, of this image.
        active: Indices (A,) of the tokens whose cotangents are not zero.
        block_bytes: How much to work on at a time.
    """
    up, down, width = weights.up, weights.down, len(weights.up)
    factor = (seen.r2 * weights.mlp_undo).to(up.dtype)
    if cotangents.shape[1] <= _ROWS_BEFORE_MAPS * width:
        _row_by_row(cotangents, weights, seen, active, factor, block_bytes)
        return
    together = max(1, block_bytes // (up.numel() * up.element_size()))
    for tokens in active.split(together):
        slope, x2, r2 = seen.slope[tokens].unsqueeze(1), seen.x2[tokens], factor[tokens]
        if fused.usable(cotangents, len(seen.value)):
            maps = linear((down * slope).flatten(0, 1), up).view(-1, width, width)  # rows: the MLP's output
            fused.after_norm(maps, x2, r2, maps, add=False)
            maps = maps.mT
        else:
            maps = linear((up * slope).flatten(0, 1), down).view(-1, width, width)  # rows: norm2's input
            maps = _after_norm(maps.mT, x2, r2).mT
        add_linear_each(cotangents, tokens, maps)


def _row_by_row(
    cotangents: Tensor, weights: Weights, seen: Seen, active: Tensor, factor: Tensor, block_bytes: int
) -> None:
    """``through_mlp`` without a map for each token, which costs more than it saves where D is small beside d."""
    dim, hidden = cotangents.shape[1], weights.up.shape[1]
    widening = weights.down.mT.contiguous()  # (m, d)
    for tokens in active.split(max(1, block_bytes // (dim * hidden * cotangents.element_size()))):
        rows = cotangents[tokens]  # (T, D, d)
        inner = (
            linear(rows.flatten(0, 1), widening).view(len(tokens), dim, hidden).mul_(seen.slope[tokens].unsqueeze(1))
        )
        change = linear(inner.flatten(0, 1), weights.up).view(len(tokens), dim, -1)
        cotangents[tokens] = rows.add_(_after_norm(change, seen.x2[tokens], factor[tokens]))


def through_attention(cotangents: Tensor, weights: Weights, seen: Seen, active: Tensor, chunk_size: int) -> None:
    """Pull cotangents back through x + attention(norm1(x)), in place.

    Args:
        cotangents: (N, D, d).
        weights: The block's.
        seen: The block's, of this image.
        active: Indices (A,) of the tokens whose cotangents are not zero; afterwards all may be.
        chunk_size: Cotangents at a time.
    """
    count, dim, width = cotangents.shape
    asking = slice(None) if len(active) == count else active
    factor = (seen.r1 * weights.attention_undo).to(cotangents.dtype)
    rows_of = {name: getattr(seen, name)[:, asking] for name in ("query", "attention", "output", "covariance")}
    seen = replace(seen, **rows_of)
    heads, _, size = seen.value.shape
    room = cotangents.new_zeros(count, chunk_size, 3, heads, size)  # new room costs page faults
    for start in range(0, dim, chunk_size):
        rows = slice(start, start + chunk_size)
        given = cotangents[asking, rows]  # (A, c, d)
        wanted = linear(given.reshape(-1, width), weights.out).view(*given.shape[:2], heads, size)  # dO
        into = room[:, : given.shape[1]]
        if fused.usable(cotangents, heads):
            parts = (seen.query, seen.value, seen.attention, seen.output, seen.covariance)
            fused.attention_backward(wanted, *parts, active, into)
        else:
            _to_queries_keys_values(wanted, seen, asking, into)
        change = linear(into.reshape(-1, 3 * width), weights.qkv).view(count, -1, width)
        if fused.usable(cotangents, heads):
            fused.after_norm(change, seen.x1, factor, cotangents[:, rows], add=True)
        else:
            cotangents[:, rows] += _after_norm(change, seen.x1, factor)


def through_norm(cotangents: Tensor, norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Pull cotangents back through a LayerNorm of its own.

    Args:
        cotangents: (N, D, d).
        norm: The LayerNorm.
        tokens: Its input (N, d).

    Returns:
        (N, D, d).
    """
    weighted = cotangents if norm.weight is None else cotangents * norm.weight.to(cotangents.dtype)
    standardised, factor = (part.to(cotangents.dtype) for part in _standardised(tokens, norm))
    return _after_norm(weighted - weighted.mean(-1, keepdim=True), standardised, factor)


def _to_queries_keys_values(wanted: Tensor, seen: Seen, asking: slice | Tensor, into: Tensor) -> None:
    """From cotangents (A, c, H, e) of the heads' outputs to those of queries, keys and values (N, c, 3, H, e)."""
    active, chunk, heads, size = wanted.shape
    count = len(into)
    for head in range(heads):
        arriving = seen.attention[head].mT  # Pᵀ, (N, A)
        by_token = wanted[:, :, head].contiguous()  # (A, c, e)
        by_chunk = by_token.transpose(0, 1).reshape(-1, size)  # (c·A, e)
        into[asking, :, 0, head] = matmul(by_token, seen.covariance[head])
        into[:, :, 2, head] = linear(arriving, by_token.view(active, -1).mT).view(count, chunk, size)
        logits = linear(seen.value[head], by_chunk)  # dO Vᵀ, transposed: (N, c·A)
        logits -= (by_token * seen.output[head].unsqueeze(1)).sum(2).mT.reshape(1, -1)
        logits = logits.view(count, chunk, -1).mul_(arriving.unsqueeze(1))  # dSᵀ
        into[:, :, 1, head] = linear(logits.flatten(0, 1), seen.query[head].mT).view(count, chunk, size)


def _standardised(tokens: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Tokens of mean 0 and variance 1, and the factors 1 / √(variance + ε) that made them so."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    factor = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    return centred * factor, factor


def _covariance(attention: Tensor, value: Tensor, key: Tensor, output: Tensor) -> Tensor:
    """Cov_{s ~ P_t}(v_s, k_s) for each token t, of one head or of all: (…, N, e, e), values first."""
    product = (value.unsqueeze(-1) * key.unsqueeze(-2)).flatten(-2)  # (…, N, e·e)
    second_moment = linear(attention, product.mT) if product.dim() == 2 else attention @ product
    covariance = second_moment.view(*value.shape, key.shape[-1])
    return covariance.addcmul_(output.unsqueeze(-1), (attention @ key).unsqueeze(-2), value=-1)


def _after_norm(rows: Tensor, standardised: Tensor, factor: Tensor) -> Tensor:
    """What is left of a LayerNorm's derivative for rows (T, k, d) that have lost their mean, in place."""
    along = matmul(rows, standardised.unsqueeze(2))  # (T, k, 1)
    return rows.baddbmm_(along, standardised.unsqueeze(1), alpha=-1 / rows.shape[2]).mul_(factor.unsqueeze(2))


def _folded(weight: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A linear layer's weight (k, d) with the weight of the LayerNorm before it, and without each row's mean."""
    weight = weight if norm.weight is None else weight * norm.weight
    return weight - weight.mean(1, keepdim=True)


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A linear layer's weight (d, k) with the layer scale (d,) behind it."""
    return weight if scale is None else weight * scale.unsqueeze(1)

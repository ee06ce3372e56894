"""Triton kernels of the Vision Transformer's sweep; ``fused.py`` calls them and says what they compute."""

import triton
import triton.language as tl


@triton.jit
def keys_values(
    wanted, attention, query, value, output, into,
    asking, tokens, chunk, heads, into_stride, size: tl.constexpr,
    width: tl.constexpr, block: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """One tile of tokens, one cotangent, one head: dK and dV."""
    first, row, head = tl.program_id(0) * block, tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    s, t0, e = first + tl.arange(0, block), tl.arange(0, block), tl.arange(0, width)
    inside = e[None, :] < size
    here = (s[:, None] < tokens) & inside
    v = tl.load(value + (head * tokens + s[:, None]) * size + e[None, :], mask=here, other=0.0)
    keys, values = tl.zeros([block, width], tl.float32), tl.zeros([block, width], tl.float32)
    for start in range(0, asking, block):
        t = start + t0
        there = (t[:, None] < asking) & inside
        place = (t[:, None].to(tl.int64) * chunk + row) * heads * size + head * size + e[None, :]
        given = tl.load(wanted + place, mask=there, other=0.0)  # dO
        own = (head * asking + t[:, None]) * size + e[None, :]
        o = tl.load(output + own, mask=there, other=0.0)
        q = tl.load(query + own, mask=there, other=0.0)
        both = (t[:, None] < asking) & (s[None, :] < tokens)
        p = tl.load(attention + (head * asking + t[:, None]) * tokens + s[None, :], mask=both, other=0.0)
        along = tl.sum(given.to(tl.float32) * o.to(tl.float32), 1)
        values += tl.dot(tl.trans(p), given, input_precision=exact)
        logits = tl.dot(given, tl.trans(v), input_precision=exact) - along[:, None]
        logits = (p.to(tl.float32) * logits).to(p.dtype)
        keys += tl.dot(tl.trans(logits), q, input_precision=exact)
    target = into + s[:, None].to(tl.int64) * into_stride + (row * 3 * heads + head) * size + e[None, :]
    tl.store(target + heads * size, keys.to(v.dtype), mask=here)
    tl.store(target + 2 * heads * size, values.to(v.dtype), mask=here)


@triton.jit
def queries(
    wanted, covariance, into, places,
    asking, chunk, heads, into_stride, size: tl.constexpr,
    width: tl.constexpr, block: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """One token, one head, one tile of cotangents: dQ."""
    token, head, first = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2) * block
    row, e = first + tl.arange(0, block), tl.arange(0, width)
    here = (row[:, None] < chunk) & (e[None, :] < size)
    place = (token * chunk + row[:, None]) * heads * size + head * size + e[None, :]
    given = tl.load(wanted + place, mask=here, other=0.0)  # dO
    square = (e[:, None] < size) & (e[None, :] < size)
    matrix = (head * asking + token) * size * size + e[:, None] * size + e[None, :]
    c = tl.load(covariance + matrix, mask=square, other=0.0)
    result = tl.dot(given, c, input_precision=exact)
    target = into + tl.load(places + token) * into_stride + (row[:, None] * 3 * heads + head) * size + e[None, :]
    tl.store(target, result.to(given.dtype), mask=here)


@triton.jit
def after_norm(
    rows, standardised, factor, target,
    chunk, size, stride_token, stride_row,
    width: tl.constexpr, block: tl.constexpr, add: tl.constexpr,
):  # fmt: skip
    """One token, a few cotangents: what is left of a LayerNorm's derivative."""
    token, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * block
    row, e = first + tl.arange(0, block), tl.arange(0, width)
    here = (row[:, None] < chunk) & (e[None, :] < size)
    y = tl.load(rows + (token * chunk + row[:, None]) * size + e[None, :], mask=here, other=0.0).to(tl.float32)
    x = tl.load(standardised + token * size + e, mask=e < size, other=0.0).to(tl.float32)
    y = (y - (tl.sum(y * x[None, :], 1) / size)[:, None] * x[None, :]) * tl.load(factor + token).to(tl.float32)
    goal = target + token * stride_token + row[:, None] * stride_row + e[None, :]
    if add:
        y += tl.load(goal, mask=here, other=0.0).to(tl.float32)
    tl.store(goal, y.to(target.dtype.element_ty), mask=here)

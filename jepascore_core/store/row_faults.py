"""What can be wrong with a stored row, judged from the row and what ``run.json`` promises of it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.store.rule import EPS

Mask = NDArray[np.bool_]

COLUMNS = (
    "index", "key", "class_name", "jepa_score", "score_error", "singular_values", "sphere_term", "embedding", "error",
    "view_scores",
)  # fmt: skip
_ROUNDING = 1.2e-7  # of log σ where σ is kept in float32: twice what the nearest one is off
_SLACK_NATS = 1e-6


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``run.json`` promises of each row; None where it promises nothing.

    Attributes:
        dim: D.
        null_dim: Structurally null directions that the score leaves out.
        eps: Least σ that counts.
        views: T of eq. (4).
        size: Images in the dataset, above every ``index``.
        classes: Classes that the run keeps.
        spectra: Each score comes with the singular values behind it.
        computed: Scored by us, so that the embedding has D coordinates too.
    """

    dim: int | None = None
    null_dim: int | None = None
    eps: float = EPS
    views: int = 1
    size: int | None = None
    classes: frozenset[str] | None = None
    spectra: bool = True
    computed: bool = True


def expected_of(meta: dict[str, Any]) -> Expected:
    """What a run's ``run.json`` promises.

    Args:
        meta: What it holds, sound; empty where it cannot be read.

    Returns:
        The promises.
    """
    if not meta:
        return Expected()
    told, size, classes = meta.get("imported"), meta["dataset"].get("size"), meta["sample"].get("classes")
    return Expected(
        dim=meta["encoder"]["embedding_dim"],
        null_dim=meta["encoder"]["null_dim"],
        eps=float(meta.get("eps", EPS)),
        views=int(meta.get("views") or 1),
        size=size if isinstance(size, int) and 0 <= size < 1 << 63 else None,
        classes=frozenset(classes) if isinstance(classes, list) and all(isinstance(n, str) for n in classes) else None,
        spectra=not isinstance(told, dict) or told.get("score") == "spectra",
        computed=told is None,
    )


def faults(rows: pa.Table, expected: Expected) -> dict[str, Mask]:
    """Which rows are unsound, and why.

    Args:
        rows: The columns ``COLUMNS`` of B rows.
        expected: What is promised of them.

    Returns:
        By reason, which of the rows (B,); reasons that hold for none are left out.
    """
    scored = _mask(pc.is_valid(rows["jepa_score"]))
    found = {
        "no key or no number": ~_mask(pc.and_(pc.is_valid(rows["key"]), pc.is_valid(rows["index"]))),
        "neither a score nor a reason for having none": ~scored & ~_mask(pc.is_valid(rows["error"])),
        "both a score and a reason for having none": scored & _mask(pc.is_valid(rows["error"])),
        "a number or a class that is not part of the run": _unplanned(rows, expected),
        "numbers that are not finite": _not_finite(rows),
    }
    if expected.spectra:
        found |= _spectrum_faults(rows, scored, expected)
    if expected.computed and expected.dim is not None:
        lengths = _lengths(rows, "embedding")
        found["an embedding of the wrong length"] = scored & (lengths >= 0) & (lengths != expected.dim)
    return {reason: mask for reason, mask in found.items() if mask.any()}


def _spectrum_faults(rows: pa.Table, scored: Mask, expected: Expected) -> dict[str, Mask]:
    """What is wrong with the singular values of scored rows, or with the score that they give."""
    lengths = _lengths(rows, "singular_values")
    dim = expected.dim if expected.dim is not None else int(lengths.max(initial=0))
    right = scored & (lengths == dim) & (dim > 0)
    sigma = _matrix(rows, "singular_values", right, dim)  # (M, D)
    found = {"singular values of the wrong number": scored & ~right}
    finite = np.isfinite(sigma).all(1) & (sigma >= 0).all(1)
    found["singular values that are not finite, or negative"] = _within(right, ~finite)
    descending = (np.diff(sigma, axis=1) <= 0).all(1)
    found["singular values that do not descend"] = _within(right, finite & ~descending)
    if expected.null_dim is not None:
        stored = rows["jepa_score"].to_numpy()[right]
        score, views_fit = _score(rows, right, sigma, expected)
        near = np.abs(stored - score) <= _SLACK_NATS + _ROUNDING * dim + 1e-12 * np.abs(score)
        found["a score that is not that of its singular values"] = _within(right, finite & ~(near & views_fit))
    return found


def _score(
    rows: pa.Table, right: Mask, sigma: NDArray[np.float32], expected: Expected
) -> tuple[NDArray[np.float64], Mask]:
    """Score of some rows from what they hold, eq. (5) or eq. (4), and whether the plain view's is that of its σ."""
    kept = sigma[:, : sigma.shape[1] - (expected.null_dim or 0)].astype(np.float64)
    plain = np.log(np.fmax(kept, expected.eps)).sum(1)  # (M,)
    if expected.views == 1:
        return plain, np.ones(len(plain), bool)
    told = _lengths(rows, "view_scores")[right] == expected.views
    if not told.any():
        return plain, told
    views = np.full((len(plain), expected.views), np.nan)
    views[told] = _matrix(rows, "view_scores", _within(right, told), expected.views)
    combined = math.log(expected.views) - np.logaddexp.reduce(-views, axis=1)
    near = np.abs(views[:, 0] - plain) <= _SLACK_NATS + _ROUNDING * sigma.shape[1]
    return combined, told & (near | ~np.bool_(expected.computed))


def _unplanned(rows: pa.Table, expected: Expected) -> Mask:
    """Rows whose number or class lies outside of the run."""
    index = rows["index"].fill_null(0).to_numpy()
    outside = (index < 0) | (index >= (expected.size if expected.size is not None else np.iinfo(np.int64).max))
    if expected.classes is None:
        return outside
    wanted = pa.array(sorted(expected.classes), pa.string())
    return outside | ~_mask(pc.is_in(rows["class_name"].fill_null(""), value_set=wanted))


def _not_finite(rows: pa.Table) -> Mask:
    """Rows with NaN or infinity in a number, or in a list beside the singular values."""
    wrong = np.zeros(len(rows), bool)
    for name in ("jepa_score", "score_error", "sphere_term"):
        wrong |= ~_mask(pc.is_finite(rows[name]).fill_null(True))
    for name in ("embedding", "view_scores"):
        column = _array(rows, name)
        numbers = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        wrong[pc.list_parent_indices(column).to_numpy()[~np.isfinite(numbers)]] = True
    return wrong


def _lengths(rows: pa.Table, name: str) -> NDArray[np.int64]:
    """Length of each list, −1 where there is none."""
    return pc.list_value_length(rows[name]).fill_null(-1).to_numpy().astype(np.int64)


def _matrix(rows: pa.Table, name: str, which: Mask, width: int) -> NDArray[Any]:
    """Lists of one length as (M, width); a null among the numbers becomes NaN."""
    column = _array(rows, name).filter(pa.array(which))
    return pc.list_flatten(column).to_numpy(zero_copy_only=False).reshape(int(which.sum()), width)


def _within(which: Mask, some: Mask) -> Mask:
    """Of the rows ``which``, those that are ``some``, among all rows."""
    among = np.zeros(len(which), bool)
    among[which] = some
    return among


def _array(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name]
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _mask(values: pa.ChunkedArray) -> Mask:
    return values.to_numpy(zero_copy_only=False).astype(bool)

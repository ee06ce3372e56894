"""Images whose embeddings are equal, or nearly so: found before anything is chosen or measured.

Similarities are taken a block of rows at a time, so that 100,000 images need no matrix of all pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

EXACT = 1e-4  # relative distance of embeddings that differ by float32 rounding only, whichever batch they were in
FALSE_SHARE = 1e-3  # share of images of a cloud without duplicates that the default threshold may call near
LEAST_SIMILARITY = 0.9  # the default threshold never falls below
_FEWEST = 20  # distinct embeddings, below which no threshold is derived
_SAMPLED = 2048  # images whose nearest neighbours tell the threshold
_BLOCK_CELLS = 1 << 23  # similarities at once: 32 MB
_SLACK = 1e-5  # of a float32 similarity; what may pass is computed again in float64


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """Which images stand for one another.

    Attributes:
        kept: Position of the image that stands for each, itself where it has no duplicate, (N,). Of a group the image
            whose key comes first is kept. Groups are connected: a like b and b like c puts all three together.
        exact: The same for equal embeddings only, (N,).
        threshold: Cosine similarity from which two are near-duplicates; None where only equal ones were looked for.
        derived: Whether the threshold comes from these images.
        nearest: Cosine similarity of a sample of images to their nearest neighbour among distinct embeddings, (M,).
    """

    kept: Ints = field(repr=False)
    exact: Ints = field(repr=False)
    threshold: float | None
    derived: bool
    nearest: NDArray[np.float64] = field(repr=False)

    @property
    def representatives(self) -> Ints:
        """Positions of the images that are kept, ascending."""
        return np.flatnonzero(self.kept == np.arange(len(self.kept)))

    @property
    def dropped(self) -> int:
        """Images that another one stands for."""
        return len(self.kept) - len(self.representatives)

    @property
    def dropped_exact(self) -> int:
        """Those of them whose embedding equals another's."""
        return int((self.exact != np.arange(len(self.exact))).sum())

    def groups(self) -> list[Ints]:
        """Positions of the images of each group of two or more, the kept one first; the largest group first."""
        order = np.argsort(self.kept, kind="stable")
        starts = np.flatnonzero(np.diff(self.kept[order], prepend=-1))
        ends = np.append(starts[1:], len(order))
        many = np.flatnonzero(ends - starts > 1)
        groups = [order[start:end] for start, end in zip(starts[many], ends[many], strict=True)]
        whole = [np.concatenate([[self.kept[group[0]]], group[group != self.kept[group[0]]]]) for group in groups]
        return sorted(whole, key=lambda group: (-len(group), int(group[0])))


def find_duplicates(embeddings: Floats, keys: Sequence[str], *, threshold: float | None = None) -> Duplicates:
    """Group images by equal or nearly equal embeddings.

    Near means a cosine similarity of at least ``threshold``; by default that of ``near_threshold``.

    Args:
        embeddings: (N, D).
        keys: Of the images, N; decide which one of a group is kept.
        threshold: Cosine similarity, −1..1; 1 finds equal ones only.

    Returns:
        The groups. Embeddings that are not finite, and null ones, are like none but exact copies of themselves.

    Raises:
        ValueError: The numbers of embeddings and keys differ, or the threshold is no cosine.

    Example:
        >>> find_duplicates(np.float32([[1, 0], [0, 1], [1, 0]]), ["b", "c", "a"]).kept.tolist()
        [2, 1, 2]
    """
    if len(embeddings) != len(keys):
        raise ValueError(f"there are {len(embeddings)} embeddings and {len(keys)} keys")
    if threshold is not None and not -1 <= threshold <= 1:
        raise ValueError(f"a cosine similarity lies between −1 and 1, not {threshold}")
    same = _equal_rows(embeddings)
    distinct = np.flatnonzero(same == np.arange(len(same)))
    directed = distinct[_has_direction(embeddings[distinct])]
    vectors = embeddings[directed]
    units = _units(vectors)
    angles = _nearest_angles(units)
    limit = near_threshold(angles) if threshold is None else threshold
    exact, near = _linked(vectors, units, limit)
    places = np.argsort(np.argsort(np.array(keys, dtype=object), kind="stable"), kind="stable")
    return Duplicates(
        kept=_kept(same, directed, near, places),
        exact=_kept(same, directed, exact, places),
        threshold=limit,
        derived=threshold is None,
        nearest=np.cos(angles),
    )


def near_threshold(angles: NDArray[np.float64]) -> float | None:
    """Similarity from which a pair is nearer than chance explains, given how near neighbours usually are.

    Where images lie at random with a locally even density, the volume of the ball up to the nearest neighbour is
    exponentially distributed, in any dimension (Hammersley 1950), so that the logarithm of its radius is
    log E / dimension, E exponential. Its median and its upper quartile tell the scale, whatever the dimension; both
    stay where they are as long as fewer than half of the images have a duplicate. The threshold is the angle that
    only ``FALSE_SHARE`` of such a cloud falls below. An uneven density widens the scale and makes it stricter.

    Args:
        angles: Angle between images and their nearest neighbours, radians, (M,).

    Returns:
        Cosine similarity, at least ``LEAST_SIMILARITY``; None for fewer than 20 angles.
    """
    told = np.log(angles[angles > 0])
    if len(told) < _FEWEST:
        return None
    median, upper = np.quantile(told, [0.5, 0.75])
    below = math.log(math.log(2) / -math.log1p(-FALSE_SHARE)) / math.log(2)  # in steps from median to upper quartile
    return max(LEAST_SIMILARITY, math.cos(math.exp(median - below * (upper - median))))


def _equal_rows(embeddings: Floats) -> Ints:
    """Position of the first row that equals each one bit by bit, (N,)."""
    rows = np.ascontiguousarray(embeddings + np.float32(0))  # −0 becomes 0
    if not rows.size:
        return np.arange(len(rows))
    names = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    return first[inverse.ravel()].astype(np.int64)


def _has_direction(embeddings: Floats) -> NDArray[np.bool_]:
    """Which embeddings are finite and not null, (N,)."""
    return np.isfinite(embeddings).all(axis=1) & (embeddings != 0).any(axis=1)


def _units(embeddings: Floats) -> Floats:
    """Embeddings of length one, (N, D)."""
    lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    return (embeddings / lengths[:, None].astype(np.float32)).astype(np.float32)


def _nearest_angles(units: Floats) -> NDArray[np.float64]:
    """Angle of a sample of rows to their nearest other row, radians, (M,)."""
    if len(units) < 2:
        return np.zeros(0)
    some = np.random.default_rng(0).permutation(len(units))[:_SAMPLED]
    found = []
    for block in _blocks(len(some), len(units)):
        mine = some[block]
        likeness = units[mine] @ units.T  # (b, N)
        likeness[np.arange(len(mine)), mine] = -2
        found.append(_angles(units[mine], units[likeness.argmax(axis=1)]))
    return np.concatenate(found)


def _linked(vectors: Floats, units: Floats, limit: float | None) -> tuple[Ints, Ints]:
    """Connected components of equal rows, and of near ones: a number for each row, (N,) each."""
    exact, near = np.arange(len(units)), np.arange(len(units))
    floor = min(1 if limit is None else limit, 1 - EXACT**2) - _SLACK
    for block in _blocks(len(units), len(units)):
        first = block.start
        rows, columns = np.nonzero(units[block] @ units[first:].T >= floor)
        later = columns > rows
        rows, columns = rows[later] + first, columns[later] + first
        for some in _pieces(len(rows), units.shape[1]):
            a, b = rows[some], columns[some]
            equal = _relative_distance(vectors[a], vectors[b]) <= EXACT
            alike = equal if limit is None else equal | (np.cos(_angles(units[a], units[b])) >= limit)
            exact, near = _joined(exact, a[equal], b[equal]), _joined(near, a[alike], b[alike])
    return exact, near


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Blocks of rows whose similarities to all columns fit into memory."""
    step = max(1, _BLOCK_CELLS // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _pieces(pairs: int, dim: int) -> Iterator[slice]:
    """Pieces of a list of pairs whose vectors fit into memory."""
    step = max(1, _BLOCK_CELLS // (4 * dim))
    return (slice(start, start + step) for start in range(0, pairs, step))


def _angles(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Angles of pairs of units, radians; exact where they are small too, unlike the arc cosine."""
    half = np.linalg.norm(a.astype(np.float64) - b, axis=1) / 2
    return 2 * np.arcsin(np.minimum(half, 1))


def _relative_distance(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Distance of pairs by the length of the longer."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    longer = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return np.linalg.norm(a - b, axis=1) / longer


def _joined(labels: Ints, a: Ints, b: Ints) -> Ints:
    """Components after rows a and b are linked."""
    if not len(a):
        return labels
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    links = coo_matrix((np.ones(len(a), bool), (labels[a], labels[b])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)[labels]


def _kept(same: Ints, directed: Ints, components: Ints, places: Ints) -> Ints:
    """Position of the row of each group whose key comes first, (N,).

    Args:
        same: First equal row of each, (N,).
        directed: Rows that components speak of, (M,).
        components: Component of each of them, (M,).
        places: Place of each row's key in their order, (N,).
    """
    group = same.copy()
    if len(directed):
        head = np.full(int(components.max()) + 1, len(same))
        np.minimum.at(head, components, directed)
        joined = np.arange(len(same))
        joined[directed] = head[components]
        group = joined[same]
    order = np.argsort(places)  # rows by key
    _, first, inverse = np.unique(group[order], return_index=True, return_inverse=True)
    kept = np.empty(len(same), np.int64)
    kept[order] = order[first[inverse.ravel()]]
    return kept

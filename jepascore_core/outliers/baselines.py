"""Ways to judge rows by what other rows look like; each returns values where HIGHER means more in-distribution.

Every function here learns from features (N, D) of some rows and returns what it learnt. None of them knows which rows
those are: ``fitting`` does, and it is the way in, for it refuses to judge a row that a model was fitted to.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers.rows import OutlierError
from jepascore_core.text import count, number

Floats = NDArray[np.float64]
Features = NDArray[np.floating]
Classes = NDArray[np.object_]

K_MOST = 50  # neighbours; Sun et al. (2022) take 50 of CIFAR's 50,000 rows
LOF_NEIGHBOURS = 20
TREES = 100
_FLOOR = 1e-10  # of the largest variance: less is rounding of float32 embeddings
_CHUNK = 1 << 24  # numbers of a block of distances, 64 MB


@dataclass(frozen=True, slots=True)
class Model:
    """What was learnt.

    Attributes:
        judge: From features (M, D) to values (M,), higher is more in-distribution.
        notes: What was chosen, such as k; one phrase each.
        warnings: What a reader must know before trusting it; one sentence each.
    """

    judge: Callable[[Features], Floats] = field(repr=False)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def knn(z: Features, _classes: Classes, _seed: int) -> Model:
    """Minus the distance to the k-th nearest row, embeddings normalised to unit length.

    Sun, Ming, Zhu and Li, *Out-of-distribution detection with deep nearest neighbors*, 2022. k is a twentieth of the
    rows, 50 at most.
    """
    k = max(1, min(K_MOST, len(z) // 20))
    known = unit(z).astype(np.float32)

    def judge(features: Features) -> Floats:
        asked = unit(features).astype(np.float32)
        values = np.empty(len(asked))
        step = max(1, _CHUNK // len(known))
        for start in range(0, len(asked), step):
            cosines = asked[start : start + step] @ known.T  # (m, N)
            nearest = np.partition(cosines, len(known) - k, axis=1)[:, len(known) - k].astype(np.float64)
            values[start : start + step] = -np.sqrt(np.maximum(2 - 2 * nearest, 0))
        return values

    return Model(judge, (f"k = {k}",))


def mahalanobis(z: Features, classes: Classes, _seed: int) -> Model:
    """Minus the squared Mahalanobis distance to the nearest class mean, one shrunk covariance for all classes.

    Lee, Lee, Lee and Shin, *A simple unified framework for detecting out-of-distribution samples*, 2018; the
    covariance is Ledoit and Wolf's (2004). Without classes, or with one row a class, the distance to the mean of all.
    """
    means, codes, told = _class_means(z, classes)
    apart = z.astype(np.float64) - means[codes]
    if not np.any(apart):  # one row a class leaves nothing over
        means, codes = z.astype(np.float64).mean(0, keepdims=True), np.zeros(len(z), np.int64)
        apart, told = z - means[codes], "One row a class: the distance is that to the mean of all rows."
    shape = _shape(apart, len(z) - len(means))
    centres = means @ shape.whiten  # (C, D)

    def judge(features: Features) -> Floats:
        white = features.astype(np.float64) @ shape.whiten
        squares = (white**2).sum(1)[:, None] - 2 * white @ centres.T + (centres**2).sum(1)
        return -squares.min(1)

    return Model(judge, (f"{count(len(means))} class means", shape.note), (*shape.warnings, *([told] if told else [])))


def gaussian(z: Features, _classes: Classes, _seed: int) -> Model:
    """Log-density under one Gaussian with a shrunk covariance (Ledoit and Wolf 2004), nats."""
    mean = z.astype(np.float64).mean(0)
    shape = _shape(z - mean, len(z) - 1)

    def judge(features: Features) -> Floats:
        white = (features - mean) @ shape.whiten
        return -(white**2).sum(1) / 2 - shape.half_log_det - len(mean) / 2 * np.log(2 * np.pi)

    return Model(judge, (shape.note,), shape.warnings)


def class_cosine(z: Features, classes: Classes, _seed: int) -> Model:
    """Cosine to the nearest class mean; without classes, to the mean of all."""
    means, _, told = _class_means(unit(z), classes)
    directions = unit(means)
    return Model(
        lambda features: (unit(features) @ directions.T).max(1),
        (f"{count(len(means))} class means",),
        (told,) if told else (),
    )


def isolation_forest(z: Features, _classes: Classes, seed: int) -> Model:
    """Mean path length in 100 random trees: Liu, Ting and Zhou, *Isolation forest*, 2008."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=TREES, random_state=seed % (1 << 32)).fit(z.astype(np.float32))
    return Model(lambda features: forest.score_samples(features.astype(np.float32)), (f"{TREES} trees",))


def local_outlier_factor(z: Features, _classes: Classes, _seed: int) -> Model:
    """Minus the local outlier factor, the density near a row against that near its neighbours.

    Breunig, Kriegel, Ng and Sander, *LOF: identifying density-based local outliers*, 2000.
    """
    from sklearn.neighbors import LocalOutlierFactor

    k = min(LOF_NEIGHBOURS, len(z) - 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        factor = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(z.astype(np.float32))
    told = ("Some rows occur more often than there are neighbours, which makes the factor unstable.",) if caught else ()
    return Model(lambda features: factor.score_samples(features.astype(np.float32)), (f"k = {k}",), told)


def log_gaussian(log_spectra: Features, classes: Classes, seed: int) -> Model:
    """Log-density of log σ, the whole spectrum as a vector, under one shrunk Gaussian, nats."""
    return gaussian(log_spectra, classes, seed)


def class_standard(features: Features, classes: Classes, _seed: int) -> Model:
    """A score in standard deviations of the class that the embedding lies nearest to.

    Args:
        features: Score in the first column, embedding in the others, (N, 1 + D).
        classes: Class of each row; those of judged rows are not asked for.

    Raises:
        OutlierError: There are fewer than two classes.
    """
    scores, z = features[:, 0], unit(features[:, 1:])
    means, codes, _ = _class_means(z, classes)
    if len(means) < 2:
        raise OutlierError("it needs at least two classes")
    directions = unit(means)
    sizes = np.bincount(codes, minlength=len(means))
    centre = np.bincount(codes, scores, len(means)) / sizes
    residual = scores - centre[codes]
    pooled = float(np.sqrt((residual**2).sum() / max(len(scores) - len(means), 1)))
    own = np.bincount(codes, residual**2, len(means))
    few = 5  # a class of few rows leans on the spread of all
    spread = np.sqrt((own + few * pooled**2) / (sizes - 1 + few))
    if not pooled > 0:
        raise OutlierError("the scores do not vary within the classes")

    def judge(asked: Features) -> Floats:
        nearest = (unit(asked[:, 1:]) @ directions.T).argmax(1)
        return (asked[:, 0] - centre[nearest]) / spread[nearest]

    return Model(judge, (f"{count(len(means))} classes",))


def corrected(features: Features, classes: Classes, seed: int) -> Model:
    """Score plus the log-density of the embedding under a Gaussian fitted to other rows: both terms of eq. (1).

    Args:
        features: Score in the first column, embedding in the others, (N, 1 + D).
        classes: Not used.
        seed: Not used.
    """
    density = gaussian(features[:, 1:], classes, seed)
    return Model(lambda asked: asked[:, 0] + density.judge(asked[:, 1:]), density.notes, density.warnings)


def load() -> None:
    """Import what the models are made of, so that no fit is charged for it."""
    for name in ("covariance", "ensemble", "neighbors"):
        import_module(f"sklearn.{name}")


def unit(z: Features) -> Floats:
    """Rows scaled to unit length, float64; a row of zeros stays one."""
    z = z.astype(np.float64)
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A shrunk covariance Σ: z @ whiten has the identity for its covariance; half_log_det is ½ log det Σ."""

    whiten: Floats
    half_log_det: float
    note: str
    warnings: tuple[str, ...]


def _shape(apart: Floats, freedom: int) -> _Shape:
    """Ledoit and Wolf's covariance of centred rows, (N, D).

    Raises:
        OutlierError: The rows do not vary.
    """
    from sklearn.covariance import ledoit_wolf

    scale = float(np.sqrt((apart**2).mean()))
    if not scale > 0:
        raise OutlierError("the rows that it is fitted to do not vary")
    covariance, shrinkage = ledoit_wolf(apart / scale, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    floor = _FLOOR * values[-1]
    flat = int((values < floor).sum())
    values = np.maximum(values, floor)
    dim = apart.shape[1]
    told = []
    if freedom < dim:
        told.append(
            f"Fewer rows than dimensions ({count(max(freedom, 0))} free for D = {count(dim)}): the covariance exists "
            f"only because it is shrunk, by {number(100 * shrinkage, 1)} %, towards a multiple of the identity."
        )
    if flat:
        told.append(f"The embeddings do not vary in {count(flat)} of {count(dim)} directions.")
    half_log_det = float(np.log(values).sum() / 2 + dim * np.log(scale))
    return _Shape(
        vectors / np.sqrt(values) / scale, half_log_det, f"shrinkage {number(100 * shrinkage, 1)} %", tuple(told)
    )


def class_sums(z: Features, codes: NDArray[np.int64], classes: int) -> Floats:
    """Sum of the rows (N, D) of each class, (C, D).

    Args:
        z: (N, D).
        codes: Class of each row, 0..C−1, (N,).
        classes: C.
    """
    from scipy.sparse import csr_array  # takes a while to import

    member = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(classes, len(codes)))
    return np.asarray(member @ z)


def _class_means(z: Features, classes: Classes) -> tuple[Floats, NDArray[np.int64], str]:
    """Mean of each class (C, D), the class of each row (N,), and what must be said of it."""
    names, codes = np.unique(classes.astype(str), return_inverse=True)
    sums = class_sums(z, codes, len(names))
    sizes = np.bincount(codes, minlength=len(names))
    few = int((sizes < 2).sum())
    told = f"{count(few)} of {count(len(names))} classes have a single row to be fitted to." if few else ""
    return sums / sizes[:, None], codes, told

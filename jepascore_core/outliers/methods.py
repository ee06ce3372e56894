"""The methods that are compared: a table of what each needs of a row, what it learns, and whom it is due to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers import baselines, variants
from jepascore_core.outliers.baselines import Features, Model
from jepascore_core.outliers.rows import Floats, Rows

JEPA_SCORE = "jepa_score"
_VIEWS = "jepa_score_views"

Fit = Callable[[Features, NDArray[np.object_], int], Model]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to judge rows; higher values mean more in-distribution.

    Attributes:
        name: Its id, as programs read it.
        title: Its name for people.
        about: What it is and whom it is due to, in a phrase.
        needs: Which arrays of ``Rows`` it reads.
        features: What it reads of rows, (N, F); NaN where a row lacks it.
        fit: Learns from features (N, F), classes and a seed; see ``baselines``.
        fits: Whether it learns from rows at all.
        lacking: Why rows that hold the arrays cannot be judged all the same, or None.
        drop_top: Of the tail score, %; None elsewhere.
    """

    name: str
    title: str
    about: str
    needs: tuple[str, ...]
    features: Callable[[Rows], Floats] = field(repr=False)
    fit: Fit = field(repr=False)
    fits: bool = True
    lacking: Callable[[Rows], str | None] = field(repr=False, default=lambda rows: None)
    drop_top: float | None = None

    def why_not(self, rows: Rows) -> str | None:
        """Why rows cannot be judged by this method, in words that follow a colon; None where they can."""
        missing = [WORDS[name] for name in self.needs if getattr(rows, name) is None]
        if missing:
            return f"{rows.name} holds no {missing[0]}"
        return self.lacking(rows)

    @property
    def is_score(self) -> bool:
        """Whether it is a variant of JEPA-SCORE rather than a rival."""
        return self.name.startswith(JEPA_SCORE)


WORDS = {"embeddings": "embeddings", "spectra": "singular values", "sphere_terms": "sphere terms"}


def methods(*, drop_top: float = variants.DROP_TOP) -> tuple[Method, ...]:
    """Every method, those that take no time first; JEPA-SCORE is the first of all.

    Args:
        drop_top: Share of the largest σ that the tail score leaves out, %.

    Returns:
        The methods.

    Raises:
        ValueError: The share is out of its range.
    """
    variants.dropped(1, drop_top)
    return (*_scores(drop_top), *_RIVALS)


def method_named(name: str, *, drop_top: float = variants.DROP_TOP) -> Method:
    """One method.

    Args:
        name: Its id.
        drop_top: Of the tail score, %.

    Returns:
        The method.

    Raises:
        ValueError: There is none of that name.
    """
    found = {method.name: method for method in methods(drop_top=drop_top)}
    if name not in found:
        raise ValueError(f"There is no method {name!r}; there are {', '.join(found)}.")
    return found[name]


def eq5(rows: Rows) -> Floats:
    """JEPA-SCORE, eq. (5), of rows: the stored one, or for rows of several views that of the plain image, (N,)."""
    if rows.views == 1 or rows.spectra is None:
        return rows.scores
    return variants.jepa_score(rows.spectra, null_dim=rows.null_dim)


def possible(wanted: Sequence[Method], sets: Sequence[Rows]) -> tuple[list[Method], dict[str, str]]:
    """Which methods can judge all of some sets of rows.

    Args:
        wanted: The methods.
        sets: The rows.

    Returns:
        Those that can, and why not by the title of each other one; the score of several views is not missed where
        nothing was scored in several views.
    """
    several = any(rows.views > 1 for rows in sets)
    wanted = [method for method in wanted if several or method.name != _VIEWS]
    reasons = {method: next(filter(None, map(method.why_not, sets)), None) for method in wanted}
    return [method for method, why in reasons.items() if why is None], {
        method.title: why for method, why in reasons.items() if why is not None
    }


def score_method(name: str, title: str, about: str, score: Callable[[Rows], Floats], **options: object) -> Method:
    """A method that learns nothing: its value is a number of the row alone.

    Args:
        name: Its id.
        title: Its name for people.
        about: What it is.
        score: From rows to values, (N,).
        options: Other attributes of ``Method``.

    Returns:
        The method.
    """
    options = {"needs": ("spectra",), "fits": False, **options}
    return Method(name, title, about, features=lambda rows: score(rows)[:, None], fit=_as_it_is, **options)  # type: ignore[arg-type]


def band_method(low: float, high: float) -> Method:
    """Eq. (5) over one band of the spectrum, from ``low`` to ``high`` % of the σ, the largest first."""
    return score_method(
        f"jepa_score_band_{low:g}_{high:g}",
        f"JEPA-SCORE, band {low:g}–{high:g} %",
        f"Σ log σ of the {low:g} to {high:g} % of the singular values, from the largest",
        lambda rows: variants.jepa_score_band(_spectra(rows), low, high, null_dim=rows.null_dim),
    )


def tail_method(drop_top: float) -> Method:
    """Eq. (5) without the largest ``drop_top`` % of the σ."""
    return score_method(
        "jepa_score_tail",
        "JEPA-SCORE, tail",
        f"eq. (5) without the largest {drop_top:g} % of the singular values",
        lambda rows: variants.jepa_score_tail(_spectra(rows), drop_top=drop_top, null_dim=rows.null_dim),
        drop_top=drop_top,
    )


def _scores(drop_top: float) -> tuple[Method, ...]:
    """JEPA-SCORE and its variants."""
    return (
        score_method(
            JEPA_SCORE, "JEPA-SCORE", "Σ log σ up to the rank, eq. (5) of the paper", eq5, needs=(),
            lacking=lambda rows: (
                "its scores are of several views, and it holds no singular values"
                if rows.views > 1 and rows.spectra is None else None
            ),
        ),
        score_method(
            "jepa_score_listing1", "JEPA-SCORE, Listing 1", "Σ log σ over all D, clipped at 1e−6: the paper’s code",
            lambda rows: variants.jepa_score_listing1(_spectra(rows)),
        ),
        tail_method(drop_top),
        score_method(
            _VIEWS, "JEPA-SCORE, views", "eq. (4) over augmented views", lambda rows: rows.scores, needs=(),
            lacking=lambda rows: None if rows.views > 1 else f"{rows.name} was scored in one view",
        ),
        score_method(
            "jepa_score_sphere", "JEPA-SCORE, sphere", "eq. (5) of the embedding normalised to unit length, Lemma 1",
            lambda rows: variants.sphere_score(_spectra(rows), _sphere_terms(rows), _embeddings(rows)),
            needs=("spectra", "sphere_terms", "embeddings"),
            lacking=lambda rows: "the Jacobian has null directions by construction" if rows.null_dim else None,
        ),
        Method(
            "jepa_score_corrected", "JEPA-SCORE, corrected",
            "eq. (5) plus the log-density of the embedding under a fitted Gaussian: both terms of eq. (1)",
            ("embeddings",), _score_and_embedding, baselines.corrected,
        ),
        Method(
            "jepa_score_class", "JEPA-SCORE, per class",
            "eq. (5) in standard deviations of the class that the embedding lies nearest to",
            ("embeddings",), _score_and_embedding, baselines.class_standard,
            lacking=lambda rows: None,
        ),
    )  # fmt: skip


def _as_it_is(_features: Features, _classes: NDArray[np.object_], _seed: int) -> Model:
    """Nothing is learnt: the only feature is the value."""
    return Model(lambda asked: asked[:, 0].astype(np.float64))


def _embeddings(rows: Rows) -> Floats:
    assert rows.embeddings is not None  # ``why_not`` asks first
    return rows.embeddings  # type: ignore[return-value]


def _spectra(rows: Rows) -> Floats:
    assert rows.spectra is not None
    return rows.spectra  # type: ignore[return-value]


def _sphere_terms(rows: Rows) -> Floats:
    assert rows.sphere_terms is not None
    return rows.sphere_terms


def _score_and_embedding(rows: Rows) -> Floats:
    """Score in the first column, embedding in the others, (N, 1 + D)."""
    return np.column_stack([eq5(rows), _embeddings(rows)])


def _log_spectra(rows: Rows) -> Floats:
    """Log σ up to the rank, (N, D − null_dim)."""
    kept = _spectra(rows)[:, : _spectra(rows).shape[1] - rows.null_dim]
    return np.log(np.maximum(kept.astype(np.float64), variants.EPS))


_Z = ("embeddings",)
_RIVALS = (
    score_method(
        "embedding_norm", "Embedding norm", "length of the embedding",
        lambda rows: np.linalg.norm(_embeddings(rows).astype(np.float64), axis=1), needs=_Z,
    ),
    Method(
        "class_cosine", "Cosine to class mean", "cosine of the embedding to the nearest class mean", _Z, _embeddings,
        baselines.class_cosine,
    ),
    Method(
        "knn", "k-NN distance", "distance to the k-th nearest embedding on the unit sphere (Sun et al. 2022)", _Z,
        _embeddings, baselines.knn,
    ),
    Method(
        "mahalanobis", "Mahalanobis", "distance to the nearest class mean, shared shrunk covariance (Lee et al. 2018)",
        _Z, _embeddings, baselines.mahalanobis,
    ),
    Method(
        "gaussian", "Gaussian", "log-density of the embedding under one shrunk Gaussian", _Z, _embeddings,
        baselines.gaussian,
    ),
    Method(
        "spectrum_gaussian", "Gaussian of the spectrum", "log-density of log σ, as a vector, under one shrunk Gaussian",
        ("spectra",), _log_spectra, baselines.log_gaussian,
    ),
    Method(
        "isolation_forest", "Isolation forest", "path length of the embedding in random trees (Liu et al. 2008)", _Z,
        _embeddings, baselines.isolation_forest,
    ),
    Method(
        "lof", "Local outlier factor", "density near the embedding against that near its neighbours (Breunig 2000)", _Z,
        _embeddings, baselines.local_outlier_factor,
    ),
)  # fmt: skip

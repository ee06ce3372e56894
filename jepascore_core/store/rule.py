"""How a stored row becomes a score: three named scores, and the convention of the paper's code."""

from dataclasses import dataclass

import pyarrow as pa

from jepascore_core.errors import RunError
from jepascore_core.store.database import query
from jepascore_core.store.gaussian import fitted_gaussian
from jepascore_core.store.runs import Run

CONVENTIONS = ("raw", "sphere", "corrected", "listing1")
EPS = 1e-6  # Listing 1 of the paper; what the stored column was made with


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """Convention of a score.

    Attributes:
        convention: ``raw`` is eq. (5), Σ log σ up to the rank that the encoder declares. ``sphere`` is eq. (5) of the
            normalised embedding (Lemma 1). ``corrected`` adds the log-density of the embedding under a Gaussian
            fitted to the run, the other term of eq. (1). ``listing1`` sums over all D, as the paper's code does.
        eps: Least σ that counts.
    """

    convention: str = "raw"
    eps: float = EPS


def score_column(run: Run, rule: ScoreRule) -> str:
    """SQL expression of a row's score under a rule.

    The default is the stored column. Anything else is computed from the stored singular values, which
    are those of the plain image: a run of several views then answers with the score of view 0.

    Args:
        run: The run.
        rule: The convention.

    Returns:
        The expression; it holds numbers only, so that it is safe to splice. That of ``corrected`` reads a column of
        ``columns_beside``.

    Raises:
        RunError: The rule is unknown, or the run does not hold what it needs.
    """
    if rule.convention not in CONVENTIONS or not 0 < rule.eps < float("inf"):
        raise RunError(f"There is no score convention {rule.convention!r} with eps {rule.eps}.")
    if rule == ScoreRule("raw", stored_eps(run)):
        return "jepa_score"
    if why := why_not(run, rule):
        raise RunError(why)
    if rule.convention == "listing1":
        return _volume(0, rule.eps)
    one_view = int(run.meta.get("views") or 1) == 1
    null_dim = int(run.meta["encoder"]["null_dim"])
    volume = "jepa_score" if one_view and rule.eps == stored_eps(run) else _volume(null_dim, rule.eps)
    if rule.convention == "sphere":
        norm = "sqrt(nullif(list_inner_product(embedding::DOUBLE[], embedding::DOUBLE[]), 0))"
        return f"({volume} + sphere_term - (len(embedding) - 1) * ln({norm}))"
    return f"({volume} + log_density)" if rule.convention == "corrected" else volume


def columns_beside(run: Run, rule: ScoreRule) -> pa.Table | None:
    """Columns that the expression of ``score_column`` reads and the parts do not hold.

    Args:
        run: The run.
        rule: The convention.

    Returns:
        A table with ``index`` and those columns, or None where the parts hold all.

    Raises:
        RunError: They cannot be computed.
    """
    return fitted_gaussian(run).log_density if rule.convention == "corrected" else None


def why_not(run: Run, rule: ScoreRule) -> str | None:
    """Why a run has no score under a rule.

    Args:
        run: The run.
        rule: The convention.

    Returns:
        One sentence, or None where the run holds what the rule needs.
    """
    if not run.meta and rule.convention != "listing1":
        return f"{run.name} does not say its encoder's null dimension; use the stored score."
    if is_given(run):
        return (
            None
            if rule == ScoreRule("raw", stored_eps(run))
            else (
                f"{run.label} was imported as scores without singular values, from which any other score is computed."
            )
        )
    if rule.convention == "sphere":
        return _why_no_sphere(run)
    if rule.convention == "corrected":
        try:
            fitted_gaussian(run)
        except RunError as error:
            return str(error)
    return None


def is_given(run: Run) -> bool:
    """Whether a run's scores were imported as they are, without the singular values behind them.

    Args:
        run: The run.

    Returns:
        True where nothing but the stored score can be shown.
    """
    told = run.meta.get("imported")
    return isinstance(told, dict) and told.get("score") != "spectra"


def _why_no_sphere(run: Run) -> str | None:
    """Why a run has no sphere score: see ``density.sphere_score``."""
    null_dim = int(run.meta["encoder"]["null_dim"])
    if null_dim:
        return (
            f"The sphere score is not available for {run.meta['encoder']['name']}: its Jacobian vanishes in "
            f"{null_dim} direction{'s' if null_dim > 1 else ''} by construction, and a row does not hold the part of "
            "the embedding that lies there."
        )
    scored, terms, embeddings = (
        bool(len(query(run.path, f"SELECT 1 FROM rows WHERE {column} IS NOT NULL LIMIT 1")))  # ends at the first one
        for column in ("jepa_score", "sphere_term", "embedding")
    )
    if not scored or (terms and embeddings):
        return None
    return f"The sphere score is not available for {run.label}: its rows hold no embedding or no sphere term."


def stored_eps(run: Run) -> float:
    """The eps that the stored column was made with."""
    return float(run.meta.get("eps", EPS))


def _volume(null_dim: int, eps: float) -> str:
    """Σ log max(σ, eps) over all but the smallest σ, from the list that a row holds in descending order."""
    kept = f"singular_values[1 : len(singular_values) - {null_dim}]"
    return f"list_sum(list_transform({kept}, lambda s: ln(greatest(s::DOUBLE, {float(eps)!r}))))"

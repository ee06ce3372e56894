"""How stored singular values become a score."""

from dataclasses import dataclass

from jepascore_core.errors import RunError
from jepascore_core.store.runs import Run

CONVENTIONS = ("eq5", "listing1")
EPS = 1e-6  # Listing 1 of the paper; what the stored column was made with


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """Convention of a score.

    Attributes:
        convention: ``eq5`` sums log σ up to the rank that the encoder declares; ``listing1`` sums over all D.
        eps: Least σ that counts.
    """

    convention: str = "eq5"
    eps: float = EPS


def score_column(run: Run, rule: ScoreRule) -> str:
    """SQL expression of a row's score under a rule.

    The default is the stored column. Anything else is computed from the stored singular values, which
    are those of the plain image: a run of several views then answers with the score of view 0.

    Args:
        run: The run.
        rule: The convention.

    Returns:
        The expression; it holds numbers only, so that it is safe to splice.

    Raises:
        RunError: The rule is unknown, or the run does not say its null dimension.
    """
    if rule.convention not in CONVENTIONS or not 0 < rule.eps < float("inf"):
        raise RunError(f"There is no score convention {rule.convention!r} with eps {rule.eps}.")
    if rule == ScoreRule("eq5", float(run.meta.get("eps", EPS))):
        return "jepa_score"
    null_dim = 0
    if rule.convention == "eq5":
        if not run.meta:
            raise RunError(f"{run.name} does not say its encoder's null dimension; use the stored score.")
        null_dim = int(run.meta["encoder"]["null_dim"])
    kept = f"singular_values[1 : len(singular_values) - {null_dim}]"  # stored in descending order
    return f"list_sum(list_transform({kept}, lambda s: ln(greatest(s::DOUBLE, {float(rule.eps)!r}))))"

"""The three scores of an encoder of the theory lab, and how well they follow the true log-density."""

import copy
import math

import numpy as np
import torch
from scipy.stats import beta, norm, pearsonr, spearmanr
from torch import Tensor

from jepascore_core.density import corrected_score, fit_gaussian, sphere_gram
from jepascore_core.eigen import eigh
from jepascore_core.score import jepa_score
from jepascore_core.score_gradient import input_jacobian
from jepascore_core.theory.encoder import LabEncoder
from jepascore_core.theory.training import LabTraining

SCORES = ("raw", "sphere", "corrected")


def lab_scores(encoder: LabEncoder, samples: Tensor, x: Tensor) -> dict[str, Tensor]:
    """The three scores of points under an encoder of the lab.

    Args:
        encoder: Trained or not.
        samples: Its training data, (N, d): the Gaussian of the corrected score is fitted to their embeddings.
        x: Points to score, (B, d).

    Returns:
        ``raw`` (eq. 5), ``sphere`` and ``corrected``, each (B,), float64, nats.
    """
    exact = copy.deepcopy(encoder).double().eval()
    with torch.no_grad():
        gaussian = fit_gaussian(exact(samples.double()))
        jacobian, z = input_jacobian(exact, x.double())
    gram = jacobian @ jacobian.mT  # (B, D, D)
    null_dim = int(encoder.on_sphere)
    sigma = eigh(gram)[0].sqrt()
    return {
        "raw": jepa_score(sigma, null_dim=null_dim),
        "sphere": jepa_score(eigh(sphere_gram(gram, z))[0].sqrt(), null_dim=1),
        "corrected": corrected_score(sigma, z, gaussian, null_dim=null_dim),
    }


def held_out_scores(training: LabTraining) -> dict[str, Tensor]:
    """Every score of the held-out points, of the trained net and of its untrained twin.

    Args:
        training: After its ``run``.

    Returns:
        Each of ``SCORES``, the same with ``untrained_`` before it, and ``gaussian``, a baseline without a network: the
        log-density of one Gaussian fitted to the training samples. (M,) each, float64, nats.

    Raises:
        ValueError: Embeddings that do not vary at all, to which no Gaussian can be fitted.
    """
    found = {"gaussian": fit_gaussian(training.samples).log_density(training.held_out)}
    for prefix, encoder in (("", training.encoder), ("untrained_", training.untrained)):
        scores = lab_scores(encoder, training.samples, training.held_out)
        found |= {f"{prefix}{name}": score for name, score in scores.items()}
    return found


def correlations(training: LabTraining, scores: dict[str, Tensor] | None = None) -> dict[str, float]:
    """How well each score follows the true log p on held-out points, for the trained net and its untrained twin.

    Args:
        training: After its ``run``.
        scores: What ``held_out_scores`` gave, where it is at hand.

    Returns:
        ``<score>_pearson`` and ``<score>_spearman`` for each score that ``held_out_scores`` names. −1 to 1, NaN where
        a score does not vary.
    """
    truth = training.mixture.log_density(training.held_out)
    found: dict[str, float] = {}
    for name, score in (scores or held_out_scores(training)).items():
        found[f"{name}_pearson"], found[f"{name}_spearman"] = correlation(score, truth)
    return found


def ideal_projections(sphere_dim: int | None = None) -> dict[str, float]:
    """What ``projection_moments`` gives at the optimum of an objective.

    Args:
        sphere_dim: D of embeddings spread evenly over the unit sphere and taken times √D; None for Gaussian ones.

    Returns:
        The same names: 1, 0, 0 and 0 for a Gaussian, towards which the sphere goes as D grows (Lemma 1).
    """
    if sphere_dim is None:
        return {"std": 1.0, "skewness": 0.0, "excess_kurtosis": 0.0, "ks": 0.0}
    share = np.linspace(-1, 1, 20_001)  # one coordinate of the sphere: a Beta variable, stretched
    apart = beta.cdf((share + 1) / 2, (sphere_dim - 1) / 2, (sphere_dim - 1) / 2) - norm.cdf(share * sphere_dim**0.5)
    return {
        "std": 1.0,
        "skewness": 0.0,
        "excess_kurtosis": -6 / (sphere_dim + 2),
        "ks": float(np.abs(apart).max()),
    }


def correlation(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation.

    Args:
        a: (N,), N ≥ 2.
        b: (N,).

    Returns:
        Both, −1 to 1; NaN where one of the two does not vary or is not finite.
    """
    if not (a.isfinite().all() and b.isfinite().all()) or a.max() == a.min() or b.max() == b.min():
        return math.nan, math.nan
    return float(pearsonr(a.numpy(), b.numpy())[0]), float(spearmanr(a.numpy(), b.numpy())[0])

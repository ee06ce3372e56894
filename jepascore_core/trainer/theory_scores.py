"""The three scores of an encoder of the theory lab, and how well they follow the true log-density."""

import copy
import math

import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from jepascore_core.density import corrected_score, fit_gaussian, sphere_gram
from jepascore_core.eigen import eigh
from jepascore_core.score import jepa_score
from jepascore_core.score_gradient import input_jacobian
from jepascore_core.trainer.theory import LabTraining
from jepascore_core.trainer.theory_encoder import LabEncoder

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


def correlations(training: LabTraining) -> dict[str, float]:
    """How well each score follows the true log p on held-out points, for the trained net and its untrained twin.

    Args:
        training: After its ``run``.

    Returns:
        ``<score>_pearson`` and ``<score>_spearman`` for each of ``SCORES``, the same with ``untrained_`` before it, and
        for ``gaussian``, a baseline without a network: one Gaussian fitted to the training samples. −1 to 1, NaN where
        a score does not vary.
    """
    truth = training.mixture.log_density(training.held_out)
    pearson, spearman = correlation(fit_gaussian(training.samples).log_density(training.held_out), truth)
    found = {"gaussian_pearson": pearson, "gaussian_spearman": spearman}
    for prefix, encoder in (("", training.encoder), ("untrained_", training.untrained)):
        for name, score in lab_scores(encoder, training.samples, training.held_out).items():
            pearson, spearman = correlation(score, truth)
            found |= {f"{prefix}{name}_pearson": pearson, f"{prefix}{name}_spearman": spearman}
    return found


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

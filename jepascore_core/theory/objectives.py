"""Objectives of the theory lab: SIGReg and VICReg of every training here, and two that only small encoders afford.

All are functions of one signature, as in ``objectives``; ``LAB_OBJECTIVES`` names them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from jepascore_core.trainer.objectives import Objective, Terms, sigreg, vicreg

TEMPERATURES = (2.0, 8.0, 30.0)  # near and far neighbours at once: one temperature sees one scale of the density
LAB_SLICES = 64  # directions of SIGReg: enough for the few dimensions of the lab, at a quarter of the time


def moment_matching(views: Tensor, weight: float, generator: torch.Generator) -> Terms:
    """Agreement of views; mean 0 and covariance I, as whitening does it (W-MSE, arXiv:2007.06346).

    Args:
        views: Embeddings (V, B, D).
        weight: In [0, 1].
        generator: Unused; here so that objectives share one signature.

    Returns:
        The terms; the regulariser is (‖mean‖² + ‖covariance − I‖²) / D.
    """
    invariance = (views - views.mean(dim=0)).square().mean()
    mean = views.mean(dim=1, keepdim=True)  # (V, 1, D)
    centred = views - mean
    covariance = centred.mT @ centred / (views.shape[1] - 1)  # (V, D, D)
    apart = covariance - torch.eye(views.shape[2]).to(views)
    regulariser = (mean.square().sum() + apart.square().sum()) / views.shape[0] / views.shape[2]
    return Terms((1 - weight) * invariance + weight * regulariser, invariance, regulariser)


def uniformity(
    views: Tensor, weight: float, generator: torch.Generator, *, temperatures: tuple[float, ...] = TEMPERATURES
) -> Terms:
    """Agreement of views, and embeddings spread evenly over the unit sphere (Wang & Isola, arXiv:2005.10242).

    Lemma 1 of the paper made exact: on the sphere the embedding's density is constant in any dimension, not only in
    a high one.

    Args:
        views: Embeddings (V, B, D) on the unit sphere, B ≥ 2.
        weight: In [0, 1].
        generator: Unused; here so that objectives share one signature.
        temperatures: t, > 0 each; large ones look at near neighbours.

    Returns:
        The terms; the regulariser is the mean over t of log E exp(−t ‖z − z′‖²), over pairs of different images.
    """
    invariance = (views - views.mean(dim=0)).square().sum(dim=2).mean()
    squared = 2 - 2 * views @ views.mT  # (V, B, B)
    itself = torch.eye(views.shape[1], dtype=torch.bool, device=views.device)
    apart = squared.masked_fill(itself, torch.inf).flatten(1)  # (V, B²), of which B (B − 1) count
    count = math.log(views.shape[1] * (views.shape[1] - 1))
    energies = [torch.logsumexp(-t * apart, dim=1).mean() - count for t in temperatures]
    regulariser = torch.stack(energies).mean()
    return Terms((1 - weight) * invariance + weight * regulariser, invariance, regulariser)


class LabObjective(NamedTuple):
    """An objective and where its embeddings live.

    Attributes:
        terms: The objective.
        on_sphere: True: D = d + 1, normalised to the unit sphere. False: D = d.
    """

    terms: Objective | Callable[[Tensor, float, torch.Generator], Terms]
    on_sphere: bool


LAB_OBJECTIVES = {
    "uniformity": LabObjective(uniformity, on_sphere=True),
    "sigreg": LabObjective(partial(sigreg, slices=LAB_SLICES), on_sphere=False),
    "vicreg": LabObjective(vicreg, on_sphere=False),
    "moments": LabObjective(moment_matching, on_sphere=False),
}

"""What a finished experiment of the theory lab found: scores beside the truth, and Langevin samples (Figure 2)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from jepascore_core.density import fit_gaussian
from jepascore_core.langevin import EnergyTest, energy_test, langevin, uniform_in_box
from jepascore_core.score_gradient import score_and_gradient
from jepascore_core.theory.plane import Plane, plane
from jepascore_core.theory.scores import correlations, held_out_scores
from jepascore_core.theory.training import LabTraining

KEEP_EVERY = 10  # steps of a walk from one state that is drawn to the next

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabResult:
    """What a finished experiment found.

    Attributes:
        truth: True log p of the held-out points, (M,), nats.
        scores: As ``held_out_scores`` names them, (M,) each, nats.
        correlations: As ``correlations`` names them.
        plane: What Figure 2, top left, draws; None unless d = 2.
    """

    truth: Array
    scores: dict[str, Array]
    correlations: dict[str, float]
    plane: Plane | None


@dataclass(frozen=True, slots=True)
class LabWalk:
    """Langevin samples of a finished experiment in two dimensions (Figure 2, bottom).

    Attributes:
        data: Held-out points, (N, 2).
        box: Least and greatest corner, (2, 2).
        paths: States of the walk with the gradient of the ``score`` and with the ``exact`` one, (F, N, 2) each.
        every: Steps from one state to the next.
        tests: Energy distance from the data of the ``uniform`` start and of the last state of each path.
        elapsed_s: Seconds it took.
    """

    data: Array
    box: Array
    paths: dict[str, Array]
    every: int
    tests: dict[str, EnergyTest]
    elapsed_s: float


def judge(lab: LabTraining) -> LabResult:
    """Set every score of the held-out points beside their true log p.

    Args:
        lab: Trained.

    Returns:
        What was found.

    Raises:
        ValueError: Embeddings that do not vary at all, to which no Gaussian can be fitted.
    """
    scores = held_out_scores(lab)
    return LabResult(
        truth=lab.mixture.log_density(lab.held_out).numpy(),
        scores={name: score.numpy() for name, score in scores.items()},
        correlations=correlations(lab, scores),
        plane=plane(lab) if lab.config.dim == 2 else None,
    )


def walk(lab: LabTraining, *, walkers: int, steps: int, on_step: Callable[[], None] | None = None) -> LabWalk:
    """Draw samples by Langevin dynamics with the gradient of the score and, beside it, with the exact gradient.

    On the sphere the score is eq. (5) of rank 2; elsewhere the corrected one, which adds the log-density of the
    embedding under its fitted Gaussian. Gradients are taken in float32.

    Args:
        lab: Trained, d = 2.
        walkers: N, how many points walk.
        steps: Of each walk.
        on_step: Called after each step of either walk.

    Returns:
        Samples and their distances from held-out data.
    """
    started = time.monotonic()
    data = lab.held_out[:walkers]
    box = data.amin(0) - 0.5, data.amax(0) + 0.5
    start = uniform_in_box(walkers, box, torch.Generator().manual_seed(lab.config.seed + 1))
    encoder = lab.encoder.eval()
    log_density = None
    if not encoder.on_sphere:
        with torch.no_grad():
            log_density = fit_gaussian(encoder(lab.samples.float())).log_density
    null_dim = int(encoder.on_sphere)

    def learned(x: torch.Tensor) -> torch.Tensor:
        return score_and_gradient(encoder, x.float(), null_dim=null_dim, embedding_log_density=log_density)[1]

    paths = {}
    for name, gradient in (("score", learned), ("exact", lab.mixture.gradient)):

        def told(x: torch.Tensor, gradient: Callable[[torch.Tensor], torch.Tensor] = gradient) -> torch.Tensor:
            if on_step:
                on_step()
            return gradient(x)

        generator = torch.Generator().manual_seed(lab.config.seed + 2)
        paths[name] = langevin(told, start, box=box, steps=steps, keep_every=KEEP_EVERY, generator=generator)
    tests = {name: energy_test(path[-1], data) for name, path in paths.items()}
    return LabWalk(
        data=data.numpy(), box=torch.stack(box).numpy(), paths={name: path.numpy() for name, path in paths.items()},
        every=KEEP_EVERY, tests={"uniform": energy_test(start, data)} | tests, elapsed_s=time.monotonic() - started,
    )  # fmt: skip

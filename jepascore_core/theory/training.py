"""The theory lab: train a small encoder on samples of a density that is known exactly (paper, Figure 2).

Letters: N samples, M held-out points, d dimensions of the data, D of the embedding.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jepascore_core.errors import RunError
from jepascore_core.theory.encoder import FEW, LabConfig, LabEncoder
from jepascore_core.theory.objectives import LAB_OBJECTIVES
from jepascore_core.trainer.objectives import covariance_eigenvalues, projection_moments
from jepascore_core.trainer.state import learning_rate

_SAMPLE_SEED, _HELD_OUT_SEED, _STEP_SEED = 1_000_003, 2_000_003, 3_000_003  # streams of draws that must not meet


@dataclass(frozen=True, slots=True)
class LabStep:
    """One step of a training in the lab.

    Attributes:
        step: 0-based.
        loss: What is minimised.
        invariance: Its term for the agreement of views.
        regulariser: Its anti-collapse term.
        elapsed_s: Seconds since the training began.
        eigenvalues: Of the covariance of held-out embeddings, descending, 1 each at the optimum (on the sphere they
            are taken times D); None at most steps.
        projections: Moments of random projections of those embeddings, as ``projection_moments`` gives them; None at
            most steps.
    """

    step: int
    loss: float
    invariance: float
    regulariser: float
    elapsed_s: float
    eigenvalues: list[float] | None = None
    projections: dict[str, float] | None = None


class LabTraining:
    """One experiment: a mixture, samples of it, an encoder in training, and its untrained twin.

    Args:
        config: What to train.

    Attributes:
        config: What it was made from.
        mixture: The density, known exactly.
        samples: What is trained on, (N, d), float64.
        held_out: What is judged on, (M, d), float64.
        encoder: Trained by ``run``.
        untrained: The same network before its first step.

    Raises:
        RunError: The config cannot be trained.
    """

    def __init__(self, config: LabConfig) -> None:
        config.check()
        self.config = config
        self.mixture = config.mixture()
        count = min(FEW, config.samples) if config.broken == "few_samples" else config.samples
        self.samples = self.mixture.sample(count, torch.Generator().manual_seed(config.seed + _SAMPLE_SEED))
        generator = torch.Generator().manual_seed(config.seed + _HELD_OUT_SEED)
        self.held_out = self.mixture.sample(config.held_out, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoder = LabEncoder(config, self.samples)
        self.untrained = copy.deepcopy(self.encoder)

    def run(self, *, diagnose_every: int = 50) -> Iterator[LabStep]:
        """Train; stop asking to stop it.

        Args:
            diagnose_every: Diagnostics come with each so manieth step, and with the last one.

        Yields:
            What happened in each step.

        Raises:
            RunError: The loss is no longer finite.
        """
        config = self.config
        optimiser = torch.optim.Adam(self.encoder.parameters(), lr=config.lr)
        generator = torch.Generator().manual_seed(config.seed + _STEP_SEED)
        samples, started = self.samples.float(), time.monotonic()
        for step in range(config.steps):
            optimiser.param_groups[0]["lr"] = learning_rate(config, step)
            batch = samples[torch.randperm(len(samples), generator=generator)[: config.batch_size]]
            loss, invariance, regulariser = self._take_step(batch, optimiser, generator)
            if not math.isfinite(loss):
                raise self._diverged()
            told = step % diagnose_every == 0 or step == config.steps - 1
            eigenvalues, projections = self._diagnostics() if told else (None, None)
            yield LabStep(step, loss, invariance, regulariser, time.monotonic() - started, eigenvalues, projections)

    def _take_step(
        self, batch: Tensor, optimiser: torch.optim.Optimizer, generator: torch.Generator
    ) -> tuple[float, float, float]:
        """One optimiser step on two noisy views of a batch; its loss and terms."""
        config = self.config
        noise = torch.randn(2, *batch.shape, generator=generator)
        views = batch + config.noise * self.encoder.scale * noise  # (V, B, d)
        embeddings = self.encoder(views.flatten(0, 1)).view(2, len(batch), -1)
        weight = 0.0 if config.broken == "no_anticollapse" else config.weight
        terms = LAB_OBJECTIVES[config.objective].terms(embeddings, weight, generator)
        optimiser.zero_grad(set_to_none=True)
        terms.loss.backward()
        optimiser.step()
        return float(terms.loss.detach()), float(terms.invariance.detach()), float(terms.regulariser.detach())

    def _diagnostics(self) -> tuple[list[float], dict[str, float]]:
        """Covariance spectrum and random projections of the held-out embeddings; a training that diverged ends here."""
        with torch.no_grad():
            embeddings = self.encoder(self.held_out.float())
        if not embeddings.isfinite().all():
            raise self._diverged()
        if self.encoder.on_sphere:
            embeddings = embeddings * math.sqrt(self.config.embedding_dim)
        return covariance_eigenvalues(embeddings).tolist(), projection_moments(embeddings)

    def _diverged(self) -> RunError:
        """What to say of a training that left the numbers."""
        return RunError(f"The loss is no longer finite; try a lower lr than {self.config.lr:g}.")

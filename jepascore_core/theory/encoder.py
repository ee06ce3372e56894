"""What decides an experiment of the theory lab, and the small encoder that it trains."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from jepascore_core.errors import RunError
from jepascore_core.mixture import GaussianMixture, random_mixture
from jepascore_core.theory.objectives import LAB_OBJECTIVES

BREAKS = ("none", "no_anticollapse", "few_samples", "collapsed")
FEW = 32  # samples that are left when the theory is broken by too few


@dataclass(frozen=True, slots=True)
class LabConfig:
    """Everything that decides one experiment of the lab.

    Attributes:
        dim: d, dimensions of the data.
        samples: N, points to train on.
        seed: Seed of mixture, samples, weights, batches and noise.
        objective: A name of ``LAB_OBJECTIVES``; it also decides D.
        broken: One of ``BREAKS``. ``no_anticollapse`` leaves the anti-collapse term out, ``few_samples`` trains on
            ``FEW`` samples, ``collapsed`` silences half of the embedding's components.
        steps: Optimiser steps.
        batch_size: Samples a step; each is seen in two views.
        lr: Highest learning rate of Adam, after a short warm-up, before the cosine.
        weight: Share of the anti-collapse term in the loss, 0 to 1.
        noise: Standard deviation of the noise that makes a view, in standard deviations of the data.
        width: Units of each hidden layer.
        depth: Hidden layers.
        components: K of the mixture; this and the next three as ``random_mixture`` takes them.
        separation: Distance between means.
        anisotropy: Longest axis of a component over its shortest.
        scale_ratio: Scale of the widest component over that of the narrowest.
        held_out: Points, never trained on, that the scores are judged on.
    """

    dim: int = 2
    samples: int = 10_000
    seed: int = 0
    objective: str = "uniformity"
    broken: str = "none"
    steps: int = 600
    batch_size: int = 256
    lr: float = 5e-3
    weight: float = 0.5
    noise: float = 0.03
    width: int = 128
    depth: int = 4
    components: int = 5
    separation: float = 6.0
    anisotropy: float = 3.0
    scale_ratio: float = 2.0
    held_out: int = 2000

    @property
    def embedding_dim(self) -> int:
        """D: d, or d + 1 on the sphere."""
        return self.dim + LAB_OBJECTIVES[self.objective].on_sphere

    def mixture(self) -> GaussianMixture:
        """The density of the data, known exactly.

        Returns:
            The mixture, drawn from the seed.

        Raises:
            RunError: One of its settings makes no sense.
        """
        names = ("components", "separation", "anisotropy", "scale_ratio", "seed")
        try:
            return random_mixture(self.dim, **{name: getattr(self, name) for name in names})
        except ValueError as error:
            raise RunError(str(error)) from error

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            RunError: A name is unknown or a number out of its range.
        """
        if self.objective not in LAB_OBJECTIVES:
            raise RunError(f"No objective named {self.objective!r}; there are {', '.join(LAB_OBJECTIVES)}.")
        if self.broken not in BREAKS:
            raise RunError(f"The theory can be broken by {', '.join(BREAKS[1:])}, not by {self.broken!r}.")
        for name, least in (("dim", 2), ("samples", 4), ("steps", 1), ("batch_size", 4), ("held_out", 4), ("depth", 1)):
            if getattr(self, name) < least:
                raise RunError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not (self.lr > 0 and self.noise >= 0 and 0 <= self.weight <= 1):
            raise RunError(
                f"lr must be above 0, noise at least 0 and weight in 0..1, not {self.lr}, {self.noise}, {self.weight}."
            )


class LabEncoder(nn.Module):
    """MLP of GELU layers beside a linear skip, on data brought to mean 0 and mean variance 1.

    Args:
        config: Sizes, where the embedding lives, and whether half of it is silenced.
        samples: Training data (N, d), whose mean and scale are kept.
    """

    shift: Tensor
    scale: Tensor
    heard: Tensor

    def __init__(self, config: LabConfig, samples: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", samples.mean(dim=0).float())
        self.register_buffer("scale", samples.var(dim=0).mean().sqrt().float())
        size = config.embedding_dim
        self.on_sphere = LAB_OBJECTIVES[config.objective].on_sphere
        silent = size // 2 if config.broken == "collapsed" else 0
        self.register_buffer("heard", (torch.arange(size) < size - silent).float())
        widths = [config.dim, *[config.width] * config.depth]
        layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.GELU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(config.width, size))
        self.skip = nn.Linear(config.dim, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed points.

        Args:
            x: (B, d), in the units of the data.

        Returns:
            (B, D), of length 1 on the sphere.
        """
        standard = (x - self.shift) / self.scale
        z = (self.skip(standard) + self.mlp(standard)) * self.heard
        return nn.functional.normalize(z, dim=1) if self.on_sphere else z

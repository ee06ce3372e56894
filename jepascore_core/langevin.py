"""Samples from a density whose gradient is known, and how far two samples lie apart (paper, Figure 2 bottom).

Letters: N and M points, d dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def langevin(
    gradient: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    box: tuple[Tensor, Tensor],
    steps: int = 300,
    step_size: float = 0.05,
    clip: float = 20.0,
    keep_every: int = 1,
    generator: torch.Generator,
) -> Tensor:
    """Unadjusted Langevin dynamics x ← x + h ∇log p(x) + √(2h) ξ, ξ standard normal, reflected at a box.

    Args:
        gradient: ∇ log p, (N, d) -> (N, d).
        start: First state, (N, d), float64, within the box.
        box: Least and greatest corner, (d,) each. A learned density means nothing far from its data, and need not
            fall off there.
        steps: How many, ≥ 1.
        step_size: h, > 0, in squared units of x; the default suits clusters of standard deviation about 1.
        clip: Longest gradient that is followed; longer ones are cut to it.
        keep_every: Keep every so manieth state, ≥ 1.
        generator: CPU generator of ξ.

    Returns:
        The start and every state kept, (1 + steps // keep_every, N, d), float64. With ``keep_every=steps`` the last
        entry is the last state.

    Raises:
        ValueError: A number is out of its range, or the start lies outside of the box.
    """
    low, high = box
    if min(steps, keep_every) < 1 or not (step_size > 0 and clip > 0):
        raise ValueError(f"Numbers must be positive, not {steps=}, {keep_every=}, {step_size=}, {clip=}.")
    if not ((start >= low) & (start <= high)).all():
        raise ValueError("Langevin sampling must start within its box.")
    state, path = start.double(), [start.double()]
    for step in range(1, steps + 1):
        noise = torch.randn(state.shape, generator=generator, dtype=torch.float64)
        drift = step_size * _clipped(gradient(state).double(), clip)
        state = _reflected(state + drift + math.sqrt(2 * step_size) * noise, low, high)
        if step % keep_every == 0:
            path.append(state)
    return torch.stack(path)


def uniform_in_box(n: int, box: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """Points spread evenly over a box: where Langevin sampling starts, and what it must beat.

    Args:
        n: How many.
        box: Least and greatest corner, (d,) each.
        generator: CPU generator.

    Returns:
        (n, d), float64.
    """
    low, high = box
    return low + (high - low) * torch.rand(n, len(low), generator=generator, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class EnergyTest:
    """Energy distance of two samples beside what it would be if both came from one distribution.

    Attributes:
        distance: 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ ≥ 0, in units of x.
        null_mean: Its mean when the points are shuffled between the samples.
        null_95: 95 % of the shuffles lie below.
        p_value: Share of shuffles that lie at least as far apart, the samples themselves counted among them.
    """

    distance: float
    null_mean: float
    null_95: float
    p_value: float


def energy_test(x: Tensor, y: Tensor, *, permutations: int = 200, seed: int = 0) -> EnergyTest:
    """Energy distance of two samples and its permutation null (Székely & Rizzo, 2013).

    Args:
        x: (N, d), N ≥ 1.
        y: (M, d), M ≥ 1.
        permutations: Shuffles that make the null, ≥ 1.
        seed: Seed of the shuffles.

    Returns:
        The distance and its null.

    Raises:
        ValueError: A sample is empty, dimensions differ, or there is no permutation.

    Example:
        >>> energy_test(torch.zeros(4, 1), torch.ones(4, 1)).distance
        2.0
    """
    if permutations < 1 or x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not len(x) * len(y):
        shapes = f"{tuple(x.shape)}, {tuple(y.shape)}"
        raise ValueError(f"Two samples (N, d) and (M, d) and a permutation are needed, not {shapes}, {permutations}.")
    pooled = torch.cat([x.double(), y.double()])
    between = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    signs = torch.cat([torch.full((len(x),), 1 / len(x)), torch.full((len(y),), -1 / len(y))]).double()
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.stack([signs[torch.randperm(len(signs), generator=generator)] for _ in range(permutations)])
    null = -((shuffled @ between) * shuffled).sum(1)  # (permutations,): the distance is −sᵀ D s
    distance = float(-(signs @ between @ signs))
    p_value = (1 + int((null >= distance).sum())) / (1 + permutations)
    return EnergyTest(distance, float(null.mean()), float(null.quantile(0.95)), p_value)


def _clipped(gradient: Tensor, longest: float) -> Tensor:
    """Gradients (N, d), none longer than ``longest``."""
    length = gradient.norm(dim=1, keepdim=True)
    return gradient * (longest / length.clamp(min=longest))


def _reflected(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Points folded back at the sides of the box, as often as needed."""
    side = high - low
    phase = (x - low).remainder(2 * side)
    return low + torch.minimum(phase, 2 * side - phase)

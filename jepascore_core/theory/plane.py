"""What Figure 2, top left, draws of an experiment in two dimensions: densities, Tissot's ellipses, the warped grid.

Letters: n grid points along an axis, E ellipses, T points of an outline, D dimensions of the embedding.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepascore_core.score_gradient import input_jacobian
from jepascore_core.theory.encoder import LabEncoder
from jepascore_core.theory.scores import SCORES, lab_scores
from jepascore_core.theory.training import LabTraining

Array = NDArray[np.float64]

GRID_POINTS = 72  # n: finer than a pixel of a panel needs, and scored in about a second
LINES = 13  # cells of the warped grid, each way; an ellipse stands in the middle of each where the data are dense
DENSE_NATS = 5.0  # ellipses stand where log p is at most this far below its maximum
SHOWN = 500  # points of the held-out data that a panel shows
_FLATTEST = 30.0  # ratio of an ellipse's axes beyond which the shorter one alone decides the circles' size
_CHUNK = 2048  # points scored together: bounds the memory of the Jacobians


@dataclass(frozen=True, slots=True)
class Plane:
    """An experiment in two dimensions, as arrays that can be drawn.

    Attributes:
        axes: Grid along each axis, (2, n), in units of the data; a square around the held-out points.
        log_density: True log p at [y, x], (n, n), nats.
        scores: Each of ``SCORES`` on the same grid, (n, n), nats.
        points: Some held-out points, (N, 2).
        ellipses: Outlines around lattice points, (E, T, 2): sets that the encoder's Jacobian maps onto circles.
        radius: Of those circles, in units of the embedding.
        warped: Lines of a regular grid as the encoder places them; (L, 2) each, broken by NaN where they jump.
        circles: The ellipses' outlines as the encoder places them, (L, 2) each, broken by NaN.
        embedded: The points as the encoder places them, (N, 2).
        on_sphere: Whether these three are Lambert's azimuthal projection of the unit sphere, a disc of radius 2.
    """

    axes: Array
    log_density: Array
    scores: dict[str, Array]
    points: Array
    ellipses: Array
    radius: float
    warped: list[Array]
    circles: list[Array]
    embedded: Array
    on_sphere: bool


def plane(training: LabTraining) -> Plane:
    """Draw up an experiment in two dimensions.

    Args:
        training: After its ``run``; d = 2.

    Returns:
        Its arrays.

    Raises:
        ValueError: d is not 2.
    """
    if training.config.dim != 2:
        raise ValueError(f"A plane has two dimensions, not {training.config.dim}.")
    encoder = copy.deepcopy(training.encoder).double().eval()
    axes = _square(training.held_out)
    grid = torch.cartesian_prod(axes[1], axes[0]).flip(1)  # (n², 2), as (x, y), y slowest
    truth = training.mixture.log_density(grid)
    parts = [lab_scores(training.encoder, training.samples, part) for part in grid.split(_CHUNK)]
    scores = {name: _on_grid(torch.cat([part[name] for part in parts])) for name in SCORES}
    centres = _lattice(axes, LINES)
    near = training.mixture.log_density(centres) > truth.max() - DENSE_NATS
    spacing = float(axes[0, -1] - axes[0, 0]) / LINES
    ellipses, radius = tissot(encoder, centres[near], spacing)
    points = training.held_out[:SHOWN]
    lines = [_embed(encoder, line) for line in _grid_lines(axes)]
    circles = [_embed(encoder, outline) for outline in ellipses]
    embedded = _embed(encoder, points)
    if encoder.on_sphere:
        centre = _away_from(_embed(encoder, centres[near]))
        lines, circles = ([broken(lambert(part, centre)) for part in parts] for parts in (lines, circles))
        embedded = lambert(embedded, centre)
    return Plane(
        axes.numpy(), _on_grid(truth), scores, points.numpy(), ellipses.numpy(), radius,
        [part.numpy() for part in lines], [part.numpy() for part in circles], embedded.numpy(), encoder.on_sphere,
    )  # fmt: skip


def tissot(encoder: LabEncoder, centres: Tensor, spacing: float, *, points: int = 33) -> tuple[Tensor, float]:
    """Small ellipses that an encoder's Jacobian maps onto circles of one size: small where it expands.

    Args:
        encoder: In the dtype of the centres, from 2 to D ≥ 2 dimensions.
        centres: (E, 2).
        spacing: Distance of neighbouring centres; the circles' radius is chosen so that the median ellipse fills about
            half of it, and half-axes are cut at 0.8 of it: where the encoder hardly expands, they have no end.
        points: T, the first one being the last one too.

    Returns:
        Outlines (E, T, 2), and the radius in units of the embedding, 0 without an ellipse.
    """
    if not len(centres):
        return torch.empty(0, points, 2, dtype=centres.dtype), 0.0
    with torch.no_grad():
        jacobian, _ = input_jacobian(encoder, centres)
    _, sigma, axes = torch.linalg.svd(jacobian, full_matrices=False)  # σ (E, 2); rows of axes (E, 2, 2) are v
    sigma = sigma.clamp(min=1e-30)
    told = torch.maximum(sigma, sigma[:, :1] / _FLATTEST)  # what a collapsed direction says of size is nothing
    typical = float((1 / told).prod(1).sqrt().median())
    radius = _one_digit(spacing / 3.5 / typical)
    half = (radius / sigma).clamp(max=0.8 * spacing)
    angle = torch.linspace(0, 2 * math.pi, points, dtype=centres.dtype)
    around = torch.stack([angle.cos(), angle.sin()], dim=1)  # (T, 2)
    return centres.unsqueeze(1) + (around * half.unsqueeze(1)) @ axes, radius


def lambert(points: Tensor, centre: Tensor) -> Tensor:
    """Lambert's azimuthal equal-area projection of the unit sphere onto a disc of radius 2.

    Args:
        points: Unit vectors (B, 3).
        centre: Direction that is mapped to the origin, (3,); a zero vector stands for the third axis.

    Returns:
        (B, 2); the direction opposite to the centre becomes the rim.
    """
    pole = torch.tensor([0.0, 0.0, 1.0]).to(points)
    if float(centre.norm()) > 1e-9:
        pole = centre.to(points) / centre.norm()
    first = torch.linalg.cross(pole, torch.eye(3).to(points)[int(pole.abs().argmin())])
    first = first / first.norm()
    frame = torch.stack([first, torch.linalg.cross(pole, first)], dim=1)  # (3, 2)
    height = (points @ pole).clamp(min=-1 + 1e-12)
    return (points @ frame) * (2 / (1 + height)).sqrt().unsqueeze(1)


def broken(line: Tensor, *, longest: float = 0.5) -> Tensor:
    """A line with a gap wherever it jumps, as lines do that cross the rim of a map.

    Args:
        line: (L, 2).
        longest: Longest step that is drawn.

    Returns:
        (L + gaps, 2), a row of NaN in each gap.
    """
    jumps = (line.diff(dim=0).norm(dim=1) > longest).nonzero().squeeze(1) + 1
    parts = torch.tensor_split(line, jumps.tolist())
    gap = torch.full((1, 2), math.nan).to(line)
    return torch.cat([piece for part in parts for piece in (part, gap)][:-1])


def _away_from(directions: Tensor, candidates: int = 600) -> Tensor:
    """Centre of a map on whose rim none of these directions lies, (3,): opposite to the widest gap between them."""
    k = torch.arange(candidates, dtype=directions.dtype) + 0.5
    height, turn = 1 - 2 * k / candidates, k * math.pi * (3 - math.sqrt(5))  # a Fibonacci lattice
    across = (1 - height.square()).sqrt()
    spread = torch.stack([across * turn.cos(), across * turn.sin(), height], dim=1)
    return -spread[int((spread @ directions.T).amax(dim=1).argmin())]


def _square(points: Tensor) -> Tensor:
    """The grid along both axes of a square around some points, (2, n)."""
    low, high = points.amin(0), points.amax(0)
    half = float((high - low).max()) / 2 * 1.06
    steps = torch.linspace(-half, half, GRID_POINTS, dtype=torch.float64)
    return (low + high).unsqueeze(1) / 2 + steps


def _lattice(axes: Tensor, cells: int) -> Tensor:
    """Middles of the cells of a regular grid over the square, (cells², 2)."""
    share = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    sides = axes[:, :1] + (axes[:, -1:] - axes[:, :1]) * share
    return torch.cartesian_prod(sides[0], sides[1])


def _grid_lines(axes: Tensor, points: int = 301) -> list[Tensor]:
    """Lines of a regular grid over the square, (points, 2) each: first those of one x, then those of one y."""
    share = torch.linspace(0, 1, LINES + 1, dtype=torch.float64)
    along = torch.linspace(0, 1, points, dtype=torch.float64)
    low, side = axes[:, 0], axes[:, -1] - axes[:, 0]
    upright = [torch.stack([s.expand(points), along], dim=1) for s in share]
    return [low + side * line for line in (*upright, *(line.flip(1) for line in upright))]


def _embed(encoder: LabEncoder, points: Tensor) -> Tensor:
    """(B, 2) -> (B, D)."""
    with torch.no_grad():
        return encoder(points)


def _on_grid(values: Tensor) -> Array:
    """(n²,) -> (n, n)."""
    return values.view(GRID_POINTS, GRID_POINTS).numpy()


def _one_digit(value: float) -> float:
    """A positive number rounded to one significant digit."""
    return float(f"{value:.0e}")

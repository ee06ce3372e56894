"""Score images in the fastest arithmetic that is exact enough, and again in the next one where it is not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from jepascore_core.encoders.encoder import Encoder
from jepascore_core.jacobian import JacobianSummary, jacobian_summary
from jepascore_core.products import PRECISIONS
from jepascore_core.score import EPS, jepa_score, score_error

CALIBRATION_IMAGES = 4
LEAST_TOLERANCE = 0.05  # nats
SPREAD_SHARE = 0.005  # of the standard deviation of the run's scores
_LADDER = PRECISIONS[:3]
_FIRST_SPREAD = 128  # images, before which the spread is not known well enough


class Summarise(Protocol):
    """``jacobian_summary`` or what stands for it."""

    def __call__(
        self,
        encoder: Any,
        images: Tensor,
        *,
        null_dim: int,
        precision: str,
        on_share: Callable[[float], None] | None,
    ) -> JacobianSummary:
        """What one sweep tells of images (B, C, H, W)."""


@dataclass(frozen=True)
class Scored:
    """Scores of images, on the CPU.

    Attributes:
        scores: JEPA-SCORE by eq. (5), (B,), float64, nats.
        errors: Its error bar, (B,), float64, nats; infinite where the score is not finite.
        singular_values: (B, D), float64.
        sphere_term: (B,), float64.
        embedding: (B, D), float32.
    """

    scores: Tensor
    errors: Tensor
    singular_values: Tensor
    sphere_term: Tensor
    embedding: Tensor

    def replaced(self, chosen: Tensor, better: Self) -> Self:
        """The same with chosen images (B,), bool, taken from another."""
        for entry in fields(self):
            getattr(self, entry.name)[chosen] = getattr(better, entry.name)
        return self


@dataclass
class Ladder:
    """Scores images precision by precision until the error bar is within a tolerance.

    Attributes:
        encoder: On its device, in the precision of the forward pass.
        precisions: From the fastest to the most exact one that is tried; of ``PRECISIONS``.
        summarise: What computes the Jacobian's singular values.
        eps: Least σ that counts.
        on_share: See ``jacobian_summary``.
        rescored: Images that went up a step so far.
    """

    encoder: Encoder
    precisions: tuple[str, ...] = ("float32",)
    summarise: Summarise = jacobian_summary
    eps: float = EPS
    on_share: Callable[[float], None] | None = None
    rescored: int = 0
    _missed: dict[str, float] = field(default_factory=dict)

    def __call__(self, images: Tensor, tolerances: Tensor) -> Scored:
        """Score images.

        Args:
            images: (B, C, H, W), normalised, on the encoder's device.
            tolerances: Error bars (B,), nats, beyond which an image is scored again one precision up.

        Returns:
            What the last precision that was needed gave for each image.
        """
        scored = self._score(images, self.precisions[0])
        for precision in self.precisions[1:]:
            again = ~(scored.errors <= tolerances)
            if not again.any():
                break
            self.rescored += int(again.sum())
            scored = scored.replaced(again, self._score(images[again.to(images.device)], precision))
        return scored

    def calibrate(self, images: Tensor, tolerances: Tensor) -> None:
        """Widen the bars of the faster precisions by what they miss on a few images.

        A sweep's measurements know the size of an error that all its rows share, not that it moves σ one way. A
        precision that misses more than the tolerance is given up.

        Args:
            images: (B, C, H, W), B ≥ 1.
            tolerances: As above, (B,); images beyond them go up a step anyway, and do not count.
        """
        exact = self._score(images, self.precisions[-1])
        for precision in self.precisions[:-1]:
            self._missed.pop(precision, None)
            rough = self._score(images, precision)
            counted = rough.errors <= tolerances
            if counted.any():
                difference = (rough.scores - exact.scores)[counted]
                self._missed[precision] = 2 * difference.square().mean().sqrt().item()
        useless = [name for name, missed in self._missed.items() if missed > tolerances.max()]
        self.precisions = tuple(name for name in self.precisions if name not in useless)

    def _score(self, images: Tensor, precision: str) -> Scored:
        """Scores in one precision."""
        null_dim = self.encoder.spec.null_dim
        summary = self.summarise(self.encoder, images, null_dim=null_dim, precision=precision, on_share=self.on_share)
        sigma, noise, along = (part.cpu() for part in (summary.singular_values, summary.noise, summary.noise_along))
        measured = score_error(sigma, noise, along, null_dim=null_dim)
        return Scored(
            scores=jepa_score(sigma, eps=self.eps, null_dim=null_dim),
            errors=measured.hypot(torch.tensor(self._missed.get(precision, 0.0), dtype=torch.float64)),
            singular_values=sigma,
            sphere_term=summary.sphere_term.cpu(),
            embedding=summary.embedding.float().cpu(),
        )


@dataclass
class Tolerance:
    """How large a score's error may be before the image is scored again.

    By default half a percent of the standard deviation of the scores of at least the first quarter of the images
    before this one, and 0.05 nats at least. Counted in powers of two, so that a run which was interrupted asks the same
    of each image as one that was not.

    Attributes:
        fixed: Tolerance in nats, or None for the default.
        positions: Place of each image in the run, by key.
    """

    fixed: float | None = None
    positions: Mapping[str, int] = field(default_factory=dict)
    _scores: dict[int, float] = field(default_factory=dict)
    _known: dict[int, float] = field(default_factory=dict)

    def learn(self, scores: Mapping[str, float]) -> None:
        """Remember finite scores by key."""
        self._scores |= {self.positions[key]: score for key, score in scores.items() if key in self.positions}

    def of(self, key: str) -> float:
        """Tolerance for an image, nats."""
        if self.fixed is not None:
            return self.fixed
        place = self.positions.get(key, 0)
        if place < _FIRST_SPREAD:
            return LEAST_TOLERANCE
        return max(LEAST_TOLERANCE, self.by_spread(1 << (place.bit_length() - 2)))  # a quarter to half of those before

    def by_spread(self, first: int) -> float:
        """Tolerance that follows from the scores of a run's first images, nats.

        Args:
            first: How many they are; a power of two.

        Returns:
            Half a percent of their standard deviation, 0 where fewer than two have a score.
        """
        if first not in self._known:
            values = torch.tensor([s for number, s in self._scores.items() if number < first], dtype=torch.float64)
            self._known[first] = SPREAD_SHARE * values.std().item() if len(values) > 1 else 0.0
        return self._known[first]


def ladder_of(precision: str, device: torch.device) -> tuple[str, ...]:
    """The precisions that a request allows on a device, from the fastest on.

    Args:
        precision: ``auto`` or one of ``PRECISIONS``.
        device: Where images are scored.

    Returns:
        ``auto`` climbs from float16 over TF32 to float32 on a CUDA device and is float32 elsewhere; a named one climbs
        from there to float32; float64 is by itself.
    """
    if precision == "auto":
        return _LADDER if device.type == "cuda" else ("float32",)
    return _LADDER[_LADDER.index(precision) :] if precision in _LADDER else (precision,)

"""Float16 numbers kept near 1 by powers of two, which change no digit.

Float16 knows magnitudes from 6e-8 to 65,504. A sweep is linear in each cotangent: divide one by a power of two on the
way, and multiply its row of the Jacobian at the end.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass
class Scaled:
    """Cotangents, each divided by a power of two of its own where they are float16.

    Attributes:
        values: In the dtype of the arithmetic.
        scale: What the cotangents were divided by, (k,), float32; None where they are as they are.
        axis: Which axis of the values counts the cotangents.
    """

    values: Tensor
    scale: Tensor | None
    axis: int

    @classmethod
    def of(cls, rows: Tensor, precision: str, axis: int) -> Self:
        """Take cotangents into the arithmetic of a precision.

        Args:
            rows: Any shape; float32 or float64.
            precision: One of ``PRECISIONS``.
            axis: Which axis counts the cotangents.

        Returns:
            The cotangents, of the same tensor where nothing is rounded.
        """
        if precision != "float16":
            return cls(rows, None, axis)
        scale = power_above(torch.linalg.vector_norm(rows, torch.inf, _others(rows, axis)))
        return cls((rows / _along(scale, rows, axis)).half(), scale, axis)

    def balance(self, undo: Tensor | float = 1.0) -> None:
        """Bring each cotangent's largest value back to between ½ and 1, in place.

        Args:
            undo: What the values, all of them, have been divided by meanwhile; a scalar.
        """
        if self.scale is None:
            return
        top = torch.linalg.vector_norm(self.values, torch.inf, _others(self.values, self.axis)).float()
        power = power_above(top).clamp(min=2.0**-14)  # its inverse must be a float16 too; the rest comes next time
        self.values.mul_(_along(1 / power, self.values, self.axis).half())
        self.scale = self.scale * power * undo

    def restored(self) -> Tensor:
        """The cotangents as they are, float32 where they were float16."""
        if self.scale is None:
            return self.values
        return self.values.float() * _along(self.scale, self.values, self.axis)


def packed(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A weight in the dtype of the arithmetic, and the power of two (a scalar) that it was divided by for float16."""
    if dtype != torch.float16:
        return weight, weight.new_ones(())
    power = power_above(weight.abs().max())
    return (weight / power).half(), power


def power_above(sizes: Tensor) -> Tensor:
    """The least powers of two that are no less than some sizes ≥ 0, float32; 1 for 0."""
    return torch.exp2(torch.where(sizes > 0, sizes.float().log2().ceil(), 0.0))


def _others(rows: Tensor, axis: int) -> tuple[int, ...]:
    """All axes but one."""
    return tuple(other for other in range(rows.dim()) if other != axis)


def _along(scale: Tensor, rows: Tensor, axis: int) -> Tensor:
    """A scale (k,) in a shape that multiplies rows along an axis."""
    return scale.view([-1 if place == axis else 1 for place in range(rows.dim())])

"""What a grid of experiments in the theory lab is asked to run, as a job and its command line tell it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from jepascore_core.errors import RunError

MOST_EXPERIMENTS = 500


@dataclass(frozen=True, slots=True)
class TheoryRequest:
    """Options of the command ``theory``.

    Attributes:
        dims: Each d, dimensions of the data.
        samples: Each number of training samples.
        seeds: How many seeds, ≥ 1.
        objective: A name of ``LAB_OBJECTIVES``.
        broken: A name of ``BREAKS``.
        scale_ratio: Scale of the mixture's widest component over that of the narrowest, ≥ 1.
        steps: Optimiser steps.
    """

    dims: tuple[int, ...] = (2, 8, 32)
    samples: tuple[int, ...] = (1000, 10_000)
    seeds: int = 3
    objective: str = "uniformity"
    broken: str = "none"
    scale_ratio: float = 2.0
    steps: int = 600

    @property
    def experiments(self) -> int:
        """How many trainings it asks for."""
        return len(set(self.dims)) * len(set(self.samples)) * max(0, self.seeds)

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            RunError: There is nothing to run, far too much, or a training that cannot be.
        """
        from jepascore_core.theory.grid import grid  # brings torch, which whoever only lists jobs need not wait for

        if self.experiments > MOST_EXPERIMENTS:
            raise RunError(f"A grid runs at most {MOST_EXPERIMENTS} experiments, not {self.experiments}.")
        grid(
            self.dims, self.samples, self.seeds, objective=self.objective, broken=self.broken,
            scale_ratio=self.scale_ratio, steps=self.steps,
        )  # fmt: skip

    def to_argv(self) -> list[str]:
        """The same as words of a command line.

        Returns:
            Options of ``python -m jepascore_core theory``.
        """
        return [
            f"--dims={','.join(map(str, self.dims))}", f"--samples={','.join(map(str, self.samples))}",
            f"--seeds={self.seeds}", f"--objective={self.objective}", f"--break={self.broken}",
            f"--scale-ratio={self.scale_ratio}", f"--steps={self.steps}",
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The same as JSON knows it.

        Returns:
            One entry for each attribute.
        """
        return dataclasses.asdict(self) | {"dims": list(self.dims), "samples": list(self.samples)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TheoryRequest":
        """What ``to_json`` wrote.

        Args:
            data: Its entries.

        Returns:
            The request.

        Raises:
            RunError: They are not those of a request.
        """
        try:
            return cls(**{**data, "dims": tuple(map(int, data["dims"])), "samples": tuple(map(int, data["samples"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise RunError("The job does not say which grid it ran.") from error

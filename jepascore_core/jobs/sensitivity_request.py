"""What an experiment of the sensitivity page is asked to score, as a job and its command line tell it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from jepascore_core.errors import RunError

EXPERIMENTS = ("corruptions", "layers")  # those that need runs of their own


@dataclass(frozen=True, slots=True)
class SensitivityRequest:
    """Options of the command ``sensitivity --run``.

    Attributes:
        run: Name of the run whose images are scored again.
        experiment: One of ``EXPERIMENTS``.
        out: For layers, name of the run of other images; "" for corruptions.
        kinds: Kinds of corruption.
        severities: Severities of corruption.
        per_class: Most images of each class; None takes as many as the run.
        limit: Most images in all; likewise.
    """

    run: str
    experiment: str
    out: str = ""
    kinds: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    per_class: int | None = None
    limit: int | None = None

    def to_argv(self) -> list[str]:
        """The same as words of a command line.

        Returns:
            Arguments of ``python -m jepascore_core sensitivity``.
        """
        options = {
            "out": self.out, "kinds": ",".join(self.kinds), "severities": ",".join(map(str, self.severities)),
            "per-class": self.per_class or "", "limit": self.limit or "",
        }  # fmt: skip
        given = [f"--{name}={value}" for name, value in options.items() if value]
        return [self.run, "--run", f"--experiment={self.experiment}", *given]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON knows it.

        Returns:
            One entry for each attribute.
        """
        return dataclasses.asdict(self) | {"kinds": list(self.kinds), "severities": list(self.severities)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SensitivityRequest":
        """What ``to_json`` wrote.

        Args:
            data: Its entries.

        Returns:
            The request.

        Raises:
            RunError: They are not those of a request.
        """
        try:
            kinds, severities = tuple(map(str, data["kinds"])), tuple(map(int, data["severities"]))
            return cls(**{**data, "kinds": kinds, "severities": severities})
        except (KeyError, TypeError, ValueError) as error:
            raise RunError("The job does not say which experiment it scored.") from error

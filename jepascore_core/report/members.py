"""The runs of a report, with what every part of it needs: a name, a colour, and the scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jepascore_core import store
from jepascore_core.corrupted_id import innermost
from jepascore_core.naming import distinct_names, input_side
from jepascore_core.plots import dataset_colours
from jepascore_core.store import Run, ScoreRule


@dataclass(frozen=True)
class Member:
    """One run of a report.

    Attributes:
        run: The run.
        name: What it is called among the runs of its encoder.
        colour: Of its dataset, hex.
        rule: Convention of the score.
        scores: Its finite scores, as ``store.scores`` gives them.
    """

    run: Run
    name: str
    colour: str
    rule: ScoreRule
    scores: pd.DataFrame = field(repr=False)

    @property
    def values(self) -> NDArray[np.float64]:
        """The scores (N,), nats."""
        return self.scores["score"].to_numpy(np.float64)

    @property
    def folders(self) -> list[str]:
        """Folders of this machine that a text of the run may name, which are nobody else's business."""
        _, _, source = innermost(str(self.run.meta["dataset"]["id"])).partition(":")
        return [str(self.run.path.parent), str(Path.home()), *([source] if Path(source).is_absolute() else [])]


def families(runs: Sequence[Run], rule: ScoreRule) -> list[list[Member]]:
    """Runs by encoder: those that the same weights scored at the same input size.

    Args:
        runs: Runs that can be read.
        rule: Convention of the score.

    Returns:
        The families, in the order of their first runs.

    Raises:
        RunError: A run has no score under the rule.
    """
    colours = _colours(runs)
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.meta["encoder"]["digest"], input_side(run)), []).append(run)
    return [
        [Member(run, names[run.name], colours[run.name], rule, _finite(run, rule)) for run in family]
        for family in found.values()
        for names in [distinct_names(family)]
    ]


def _finite(run: Run, rule: ScoreRule) -> pd.DataFrame:
    """Scores that are numbers."""
    frame = store.scores(run, rule=rule)
    return frame[np.isfinite(frame["score"].to_numpy(float))]


def _colours(runs: Sequence[Run]) -> dict[str, str]:
    """Colour of each run's dataset: the one that it has on every page, where all runs beside it count."""
    homes = {run.path.parent for run in runs}
    beside = [run for home in homes for run in store.list_runs(home) if run.problem is None]
    known = dataset_colours([str(run.meta["dataset"]["id"]) for run in [*beside, *runs]])
    return {run.name: known[str(run.meta["dataset"]["id"])] for run in runs}

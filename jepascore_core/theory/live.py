"""Experiments of the theory lab that somebody watches: done one at a time, and kept on a short shelf.

A training that nobody looks at any more is given up.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from jepascore_core.errors import JepaScoreError, RunError
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.found import LabResult, LabWalk
from jepascore_core.theory.training import LabStep
from jepascore_core.theory.worker import Worker

_LOG = logging.getLogger("jepascore")
MOST_KEPT = 12
PATIENCE_S = 20.0  # a watcher who was not seen for so long is gone; a browser slows down tabs in the background
WALKERS, WALK_STEPS = 500, 300
_ENDED = ("done", "failed", "abandoned")


@dataclass
class Work:
    """Something that a thread does while people watch.

    Attributes:
        state: ``waiting`` (for another's turn), ``working``, or one of done, failed, abandoned.
        done: Steps behind it.
        message: Why it failed, or "".
    """

    state: str = "waiting"
    done: int = 0
    message: str = ""

    @property
    def active(self) -> bool:
        """Whether something will still change."""
        return self.state not in _ENDED


@dataclass
class Experiment:
    """One experiment, its training and, once asked for, its Langevin samples.

    Attributes:
        config: What decides it.
        training: The work of training and judging; ``done`` counts optimiser steps.
        history: Each step so far.
        result: What was found, once training is done.
        sampling: The work of sampling; None before it was asked for. ``done`` counts steps of both walks.
        walk: The samples, once sampling is done.
        lab: The encoder and its data as bytes for the worker, once training is done.
    """

    config: LabConfig
    training: Work = field(default_factory=Work)
    history: list[LabStep] = field(default_factory=list)
    result: LabResult | None = None
    sampling: Work | None = None
    walk: LabWalk | None = None
    lab: bytes | None = None
    watchers: dict[str, float] = field(default_factory=dict)

    @property
    def diagnosed(self) -> LabStep | None:
        """The newest step that carries diagnostics."""
        return next((step for step in reversed(self.history) if step.eigenvalues is not None), None)

    @property
    def watched(self) -> bool:
        """Whether anybody still looks."""
        return any(time.monotonic() - seen < PATIENCE_S for seen in list(self.watchers.values()))


class Shelf:
    """The experiments that a server remembers, for all who look at it.

    Args:
        most: How many are kept; the one that was looked at longest ago makes room.
        worker: What trains; a new one unless shelves share it.
    """

    def __init__(self, most: int = MOST_KEPT, worker: Worker | None = None) -> None:
        self._most = most
        self._worker = worker or Worker()
        self._kept: dict[LabConfig, Experiment] = {}  # longest ago first
        self._guard = threading.Lock()

    def watch(self, config: LabConfig, watcher: str) -> Experiment:
        """Look at an experiment; the first look starts it, and so does one at an abandoned experiment.

        Args:
            config: What to train.
            watcher: Who looks; looking at one experiment is to look away from all others.

        Returns:
            The experiment, in whatever state it is.

        Raises:
            RunError: The config cannot be trained.
        """
        config.check()
        with self._guard:
            for other in self._kept.values():
                other.watchers.pop(watcher, None)
            found = self._kept.pop(config, None)
            if found is None or found.training.state == "abandoned":
                found = Experiment(config)
                found.watchers[watcher] = time.monotonic()
                self._begin(found, found.training, self._train)
            self._kept[config] = found
            found.watchers[watcher] = time.monotonic()
            idle = [key for key, kept in self._kept.items() if not kept.watched and key != config]
            for key in idle[: max(0, len(self._kept) - self._most)]:
                del self._kept[key]
        return found

    def forget(self, config: LabConfig) -> None:
        """Take an experiment off the shelf, so that the next look begins it anew.

        Args:
            config: Which one.
        """
        with self._guard:
            self._kept.pop(config, None)

    def sample(self, experiment: Experiment) -> None:
        """Begin Langevin sampling, unless it is done or under way.

        Args:
            experiment: A finished one with d = 2.

        Raises:
            RunError: It is not finished, or not in two dimensions.
        """
        if experiment.lab is None or experiment.config.dim != 2:
            raise RunError("Langevin samples are drawn of a finished experiment in two dimensions.")
        with self._guard:
            if experiment.sampling is None or experiment.sampling.state in ("abandoned", "failed"):
                experiment.sampling = Work()
                self._begin(experiment, experiment.sampling, self._sample)

    def _begin(self, experiment: Experiment, work: Work, task: Callable[[Experiment, Work], None]) -> None:
        """Do a task in a thread that ends with the server."""
        threading.Thread(target=self._do, args=(experiment, work, task), daemon=True, name="theory-lab").start()

    def _do(self, experiment: Experiment, work: Work, task: Callable[[Experiment, Work], None]) -> None:
        """Wait for the turn, do the task, and write down how it ended."""
        try:
            with self._worker.turn:
                _check_watched(experiment)
                work.state = "working"
                task(experiment, work)
            work.state = "done"
        except _Abandoned:
            work.state = "abandoned"
        except JepaScoreError as error:
            work.message, work.state = str(error), "failed"
        except Exception:
            _LOG.exception("an experiment failed")
            work.message, work.state = "The experiment failed; the server's log says why.", "failed"

    def _train(self, experiment: Experiment, work: Work) -> None:
        """Train and judge."""
        with closing(self._worker.ask("train", experiment.config)) as told:
            for word, value in told:
                if word == "step":
                    experiment.history.append(value)
                    work.done = value.step + 1
                elif word == "result":
                    experiment.lab = value[1]
                    experiment.result = value[0]  # last: whoever sees it may ask for samples
                _check_watched(experiment)

    def _sample(self, experiment: Experiment, work: Work) -> None:
        """Walk with the gradient of the score and with the exact one."""
        with closing(self._worker.ask("walk", experiment.lab, WALKERS, WALK_STEPS)) as told:
            for word, value in told:
                if word == "step":
                    work.done += 1
                elif word == "walk":
                    experiment.walk = value
                _check_watched(experiment)


class _Abandoned(Exception):
    """Nobody looks any more."""


def _check_watched(experiment: Experiment) -> None:
    """End the work of an experiment at which nobody looks."""
    if not experiment.watched:
        raise _Abandoned

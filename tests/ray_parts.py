"""Runs on a Ray cluster of a few processes: the parts of them that tests and the campaign of kills share."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from jepascore_core.processes import stop_on_signals
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store.runs import Run
from tests.tiny import TinyDataset, tiny_work

N, BAD = 96, (7, 31)


class SentDataset(TinyDataset):
    """A ``TinyDataset`` that can be sent to another process.

    Args:
        delay_s: How long a read takes.
        n: Number of images.
        bad: Indices of images that cannot be read.
    """

    def __init__(self, delay_s: float = 0.0, n: int = N, bad: tuple[int, ...] = BAD) -> None:
        super().__init__(n, bad=bad, delay_s=delay_s)
        self._made_of = (delay_s, n, bad)

    def __reduce__(self) -> Any:
        return SentDataset, self._made_of


def score_local(home: Path, delay_s: float = 0.0, hooks: Hooks | None = None) -> Run:
    """The run, by the local engine."""
    return score_work(tiny_work(home, SentDataset(delay_s)), hooks or Hooks(threading.Event()))


def score_ray(
    home: Path, delay_s: float = 0.0, hooks: Hooks | None = None, *, address: str | None = None, workers: int = 2
) -> Run:
    """The same run, by Ray."""
    from jepascore_core.cluster.driver import on_ray  # with Ray, which the campaign does without where it is not

    work = tiny_work(home, SentDataset(delay_s), engine="ray", address=address, workers=workers)
    with on_ray(work.request) as (_, score_left):
        return score_work(work, hooks or Hooks(threading.Event()), score_left)


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes of one core each, beside a head without any; a dead one is noticed within seconds."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quickly = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quickly}
    running = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            running.add_node(num_cpus=1)
        yield running
    finally:
        running.shutdown()


def workers_at_work(address: str) -> list[psutil.Process]:
    """Processes of a cluster on this machine in which a worker of ours is at work."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            raylet = process.parent()
            if not line.startswith("ray::") or "MapBatches(Worker)" not in line or raylet is None:
                continue
            if any(address in word for word in raylet.cmdline()):  # a raylet without one is another cluster's
                found.append(process)
    return found


def main(engine: str, home: str, delay_s: str, address: str, environment: dict[str, str] | None = None) -> None:
    """A driver of its own: ``python -m tests.ray_parts ray RUNS 0.02 ADDRESS``; "" for a Ray of its own."""
    os.environ.update(environment or {})
    from jepascore_core.cluster import rounds

    rounds._PATIENCE_S, rounds._LOOK_S = 2.0, 0.5
    with stop_on_signals() as stop:
        hooks = Hooks(stop, on_stage=lambda stage: print(stage, flush=True))
        if engine == "ray":
            run = score_ray(Path(home), float(delay_s), hooks, address=address or None)
        else:
            run = score_local(Path(home), float(delay_s), hooks)
    print(run.progress().state, flush=True)
    sys.stdout.flush()
    os._exit(0)  # no thread of Ray may hold it up


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One execution of Ray Data: blocks go to workers, and what they say of them comes back."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data

from jepascore_core.cluster.connection import Room
from jepascore_core.cluster.worker import STOP, Worker
from jepascore_core.errors import RunError

_POLL_S = 0.2
_LOOK_S = 3.0  # how often lost nodes are looked for
_PATIENCE_S = 20.0  # without a word after a node was lost; three of the longest silences when that is more
_CANCEL_S = 10.0  # that workers have to write what they have scored
_BEGINNING_S = 3.0  # and before the first of them has said a word
_AHEAD = 2  # blocks of a worker: one in work, one at hand


class Round:
    """Deals out blocks once. Ray restarts a worker that died and repeats its blocks; a lost node ends the round.

    Args:
        room: Where workers find room.
        parcel: Reference to what they need.
        file: Holds the blocks.
        blocks: Where each begins, and its length.
    """

    def __init__(self, room: Room, parcel: Any, file: Path, blocks: Sequence[tuple[int, int]]) -> None:
        self._workers = room.workers
        self._said: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
        rows = [
            {"number": number, "file": str(file), "offset": offset, "length": length}
            for number, (offset, length) in enumerate(blocks)
        ]
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        gpu = room.device.type == "cuda"
        # a block of Ray Data is one of ours, so that each comes back as soon as it is done; Ray starts a worker that
        # died again, and its block, without end: the worker counts
        self._data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=([parcel],),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=room.workers, max_tasks_in_flight_per_actor=_AHEAD),
            num_gpus=1 if gpu else None,
            num_cpus=None if gpu else room.cpus,
        )
        self._nodes = _alive()
        self._thread = threading.Thread(target=self._listen, name="ray results", daemon=True)
        self._thread.start()

    def results(self, stop: threading.Event, staging: Path) -> Iterator[dict[str, Any]]:
        """What workers say of their blocks, as they are done.

        Args:
            stop: Set to cancel: workers finish their batch and write it, and nothing is dealt out any more.
            staging: Where workers look for the word.

        Yields:
            What ``Worker`` returns for each block.

        Raises:
            RunError: Ray itself failed.
        """
        heard = looked = time.monotonic()
        longest = 0.0
        cancelled = 0.0
        ended: set[str] = set()
        while True:
            with contextlib.suppress(queue.Empty):
                said = self._said.get(timeout=_POLL_S)
                if said is None:
                    return
                if isinstance(said, BaseException):
                    raise RunError(f"Ray ended the work ({_line(said)}); what is stored stays.") from said
                longest, heard = max(longest, time.monotonic() - heard), time.monotonic()
                if said["stopped"]:
                    ended.add(said["worker"])
                yield said
            now = time.monotonic()
            if stop.is_set():
                cancelled = cancelled or now
                with contextlib.suppress(OSError):
                    (staging / STOP).touch()
                if now - cancelled > (_CANCEL_S if longest else _BEGINNING_S) or len(ended) >= self._workers:
                    return
            elif now - looked > _LOOK_S:
                looked = now
                if not self._nodes <= _alive() and now - heard > max(_PATIENCE_S, 3 * longest):
                    return

    def close(self) -> None:
        """End it, and the workers with it."""
        executor = getattr(self._data, "_current_executor", None)
        if executor is not None:
            executor.shutdown(force=True)
        self._thread.join(10)

    def _listen(self) -> None:
        """Hear Ray out, in a thread: it waits for each result without a look at anything else."""
        try:
            for batch in self._data.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                self._said.put(cast(pa.Table, batch).to_pylist()[0])
            self._said.put(None)
        except BaseException as error:
            self._said.put(error)


def _line(error: BaseException) -> str:
    """The last line of what Ray says, which is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def _alive() -> set[str]:
    """Nodes that are there."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

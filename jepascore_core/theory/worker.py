"""The process that trains for the theory lab's page: one core, one experiment at a time, gone when its server is.

A thread of the server would not do: each of a training's many small operations takes Python's lock, for which it would
wait behind every page that is being drawn, and they behind it. Messages are pickles over the two pipes of the process,
which nobody else can write to.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jepascore_core.errors import JepaScoreError, RunError

IDLE_S = 600.0  # without an experiment for so long, the process ends; the next one starts another
DIAGNOSE_EVERY = 25


class Worker:
    """The server's side: starts the process when there is something to do, and passes on what it says.

    Attributes:
        turn: To be held while asking: one experiment at a time.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def ask(self, task: str, *arguments: Any) -> Generator[tuple[str, Any], None, None]:
        """Have something done. Closing the iterator stops it.

        Args:
            task: ``train`` (config) or ``walk`` (lab, walkers, steps).
            *arguments: Of the task; they are pickled.

        Yields:
            A word and what belongs to it, as ``serve`` sends them, up to ``done``.

        Raises:
            RunError: The task failed, or the process ended or could not be started.
        """
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        ended = False
        self._asked += 1
        try:
            _send(process.stdin, (self._asked, task, *arguments))
            while True:
                word, value = pickle.load(process.stdout)
                ended = word in ("done", "failed")
                if word == "failed":
                    raise RunError(value)
                yield word, value
                if ended:
                    return
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.close()
            raise RunError("The process of this experiment ended without a word.") from error
        finally:
            if not ended and self._process is process:
                self._stop(process)

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, started if there is none."""
        if self._process is None or self._process.poll() is not None:
            package = str(Path(__file__).resolve().parents[2])
            paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "jepascore_core.theory.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
                )
            except OSError as error:
                raise RunError(f"The process of an experiment cannot be started ({error.strerror}).") from error
        return self._process

    def _stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Have the process give up what it does, and pass over what it still says of that."""
        assert process.stdin is not None and process.stdout is not None
        try:
            _send(process.stdin, (self._asked, "stop"))
            while pickle.load(process.stdout)[0] not in ("done", "failed"):
                pass
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()


def serve(asked: BinaryIO, told: BinaryIO) -> None:
    """The process's side: do tasks until nobody asks any more.

    Sends ``step`` (a ``LabStep``, or None for a step of a walk), ``result`` (``LabResult``, and the training as bytes),
    ``walk`` (``LabWalk``), and last ``done`` or ``failed`` with a sentence.

    Args:
        asked: Pickled tasks, each with its number; ``stop`` carries that of the task that it ends.
        told: For pickled words.
    """
    import torch

    torch.set_num_threads(1)
    tasks: queue.Queue[tuple[Any, ...]] = queue.Queue()
    stopped: set[int] = set()
    threading.Thread(target=_listen, args=(asked, tasks, stopped), daemon=True).start()
    while True:
        try:
            number, task, *arguments = tasks.get(timeout=IDLE_S)
        except queue.Empty:
            return
        try:
            for word, value in (_train if task == "train" else _walk)(*arguments):
                _send(told, (word, value))
                if number in stopped:
                    break
            _send(told, ("done", None))
        except (JepaScoreError, ValueError) as error:
            _send(told, ("failed", str(error)))
        except Exception as error:
            import traceback

            traceback.print_exc()  # to the server's log
            _send(told, ("failed", f"The experiment failed ({type(error).__name__}); the server's log says why."))


def _listen(asked: BinaryIO, tasks: "queue.Queue[tuple[Any, ...]]", stopped: set[int]) -> None:
    """Take in tasks and the word to stop; end with the server."""
    while True:
        try:
            task = pickle.load(asked)
        except Exception:
            os._exit(0)
        if task[1] == "stop":
            stopped.add(task[0])
        else:
            tasks.put(task)


def _train(config: Any) -> Iterator[tuple[str, Any]]:
    """Train, then judge."""
    from jepascore_core.theory.found import judge
    from jepascore_core.theory.training import LabTraining

    lab = LabTraining(config)
    for step in lab.run(diagnose_every=DIAGNOSE_EVERY):
        yield "step", step
    yield "result", (judge(lab), pickle.dumps(lab))


def _walk(lab: bytes, walkers: int, steps: int) -> Iterator[tuple[str, Any]]:
    """Draw Langevin samples in a thread, so that each of its steps can be told."""
    from jepascore_core.theory.found import walk

    told: queue.Queue[tuple[str, Any]] = queue.Queue()
    gone = threading.Event()

    def tick() -> None:
        if gone.is_set():
            raise RunError("Nobody waits for these samples any more.")
        told.put(("step", None))

    def work() -> None:
        try:
            told.put(("walk", walk(pickle.loads(lab), walkers=walkers, steps=steps, on_step=tick)))
        except Exception as error:
            told.put(("error", error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            word, value = told.get()
            if word == "error":
                raise value
            yield word, value
            if word == "walk":
                return
    finally:
        gone.set()
        thread.join()


def _send(pipe: Any, message: tuple[Any, ...]) -> None:
    """Pickle a message into a pipe."""
    pickle.dump(message, pipe)
    pipe.flush()


if __name__ == "__main__":
    from jepascore_core.processes import die_first

    die_first()  # nobody typed this command
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the messages
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, private)

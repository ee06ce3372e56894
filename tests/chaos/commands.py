"""The real command line in a process of its own: forked from one that has imported torch, or started afresh."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.forked import context, print_to

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 120.0

Before = Callable[[], None]  # what is done to a process before its command; a function that can be pickled


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; negative for the signal that ended it.
        out: What it printed.
        err: What it said.
        seconds: How long it took.
        memory_mb: Most memory; None where it was killed.
    """

    code: int
    out: str
    err: str
    seconds: float
    memory_mb: float | None

    def done(self) -> "Ended":
        """Itself; fails unless it succeeded."""
        assert self.code == 0, f"exit code {self.code}: {self.err[-600:]}"
        return self

    def refused(self, *words: str) -> str:
        """The one sentence that it said; fails unless it failed calmly, with each of some words in the sentence."""
        assert self.code == 1, f"exit code {self.code}: {self.err[-600:]}"
        return self.sentence(*words)

    def sentence(self, *words: str) -> str:
        """The last line that it said; fails if that is no sentence, or if there was a traceback."""
        assert "Traceback" not in self.err, self.err[-1500:]
        return self.last_words(*words)

    def last_words(self, *words: str) -> str:
        """The last line that it said, whatever was before; fails if that is no sentence."""
        said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.err).replace("\r", "\n").strip()
        last = said.rpartition("\n")[2].strip()
        assert last[:1].isalnum() and last[-1:] in ".)?", f"no sentence: {last!r}"
        for word in words:
            assert re.search(word, last), f"{word!r} is not in {last!r}"
        return last


class Command:
    """A command at work.

    Args:
        arguments: What comes behind ``python -m jepascore_core``.
        log: Its output goes to ``<log>.out`` and ``<log>.err``.
        before: What is done to the process first: a limit set, a clock set back.
    """

    def __init__(self, arguments: Sequence[object], log: Path, before: Sequence[Before] = ()) -> None:
        self._began = time.monotonic()
        self._log = log
        for path in self._files():
            path.unlink(missing_ok=True)
        words = [str(argument) for argument in arguments]
        self._process = context.Process(target=_run, args=(words, self._files(), dict(os.environ), tuple(before)))
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._process.is_alive()

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.is_alive():
            os.kill(self._process.pid, number)

    def wait(self) -> Ended:
        """Wait for its end; fails where it hangs, and ends it."""
        self._process.join(PATIENCE_S)
        hangs = self._process.is_alive()
        if hangs:
            self._process.kill()
            self._process.join()
        out, err, memory = (path.read_text(errors="replace") if path.exists() else "" for path in self._files())
        seconds = time.monotonic() - self._began
        assert not hangs, f"a command still runs after {PATIENCE_S:g} s: {err[-600:]}"
        return Ended(self._process.exitcode, out, err, seconds, float(memory) if memory else None)

    def _files(self) -> list[Path]:
        return [self._log.with_name(f"{self._log.name}.{kind}") for kind in ("out", "err", "memory")]


class FreshCommand:
    """As ``Command``, with a Python of its own, whose start may be killed too.

    Args:
        arguments: What comes behind ``python -m jepascore_core``.
        log: Its output goes to ``<log>.out`` and ``<log>.err``.
    """

    def __init__(self, arguments: Sequence[object], log: Path) -> None:
        self._began = time.monotonic()
        self._paths = [log.with_name(f"{log.name}.{kind}") for kind in ("out", "err")]
        words = [sys.executable, "-m", "jepascore_core", *map(str, arguments)]
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self._process = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        os.kill(self._process.pid, number)  # nobody waits for it meanwhile: its id stays its own

    def wait(self) -> Ended:
        """Wait for its end; ends it where it hangs."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := os.wait4(self._process.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.01)
        _, status, usage = found
        self._process.returncode = os.waitstatus_to_exitcode(status)
        out, err = (path.read_text(errors="replace") for path in self._paths)
        return Ended(self._process.returncode, out, err, time.monotonic() - self._began, usage.ru_maxrss / 1024)


def _run(arguments: list[str], files: list[Path], environment: dict[str, str], before: Sequence[Before]) -> None:
    """Run a command; in the other process."""
    os.environ.update(environment | {"COLUMNS": "200", "NO_COLOR": "1"})
    print_to(*files[:2])
    sys.argv = ["jepascore_core", *arguments]
    memory = os.open(files[2], os.O_WRONLY | os.O_CREAT, 0o644)  # now: later we may be nobody
    from jepascore_core.__main__ import main

    try:
        for prepare in before:
            prepare()
        main()
    finally:
        os.write(memory, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).encode())

"""Processes that start in milliseconds: forked from a server that has imported the heavy modules and used none."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
_WAIT_S = 240

context = multiprocessing.get_context("forkserver")
# one server serves all tests of a process, so that all of them name what it shall import; the first vmap imports sympy
context.set_forkserver_preload([
    "sympy",
    "torch",
    "timm",
    "duckdb",
    "pandas",
    "jepascore_core.__main__",
    "jepascore_core.runner",
    "tests.forked",
])


def command_line(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m jepascore_core`` in a process of its own.

    Args:
        arguments: What follows on the command line.

    Returns:
        Its exit code and what it wrote.

    Raises:
        TimeoutExpired: It does not end.
    """
    words = ["jepascore_core", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = context.Process(target=_command_line, args=(words, environment, out, err))
        process.start()
        process.join(_WAIT_S)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(words, _WAIT_S)
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def print_to(out: Path, err: Path) -> None:
    """Send what this process prints to files, also what libraries print past Python."""
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        stream.flush()
        with path.open("ab") as sink:
            os.dup2(sink.fileno(), stream.fileno())


def _command_line(words: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    """The child: its standard streams are files, as a shell's redirection makes them."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    print_to(out, err)
    sys.argv = words
    from jepascore_core.__main__ import main

    main()

"""What the campaigns share: a home of their own, and a trial that is timed and judged."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.outcome import Outcome


@contextmanager
def home_at(work: Path) -> Iterator[None]:
    """Locks and runs lie in a folder of the campaign: nobody's own runs are waited for, or touched."""
    before = os.environ.get("JEPASCORE_HOME")
    work.mkdir(parents=True, exist_ok=True)
    os.environ["JEPASCORE_HOME"] = str(work.absolute() / "home")
    try:
        yield
    finally:
        if before is None:
            del os.environ["JEPASCORE_HOME"]
        else:
            os.environ["JEPASCORE_HOME"] = before


def tried(
    campaign: str, trial: str, function: Callable[..., str | tuple[str, float | None]], *arguments: object
) -> Outcome:
    """Do one trial.

    Args:
        campaign: See ``Outcome``.
        trial: See ``Outcome``.
        function: Does it; gives the words, perhaps with most memory in MB; raises where a promise is broken.
        arguments: Its arguments.

    Returns:
        What it came to.
    """
    began = time.monotonic()
    try:
        found = function(*arguments)
        words, memory_mb = found if isinstance(found, tuple) else (found, None)
        return Outcome(campaign, trial, True, words, time.monotonic() - began, memory_mb)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        return Outcome(campaign, trial, False, words, time.monotonic() - began)

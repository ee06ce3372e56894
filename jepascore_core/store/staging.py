"""Parts that other processes have written and that only the holder of a run's lock takes in.

A worker of a cluster writes into a folder of its own within the run's, which readers pass over. The one who holds the
run's lock renames what it was told of into the run, so that one process decides which rows a run has. Whoever takes the
lock next does away with the folder first: a worker that outlived its driver then has nowhere to write to.
"""

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from jepascore_core.files import sync

PREFIX = ".staged-"


def make_staging(folder: Path) -> Path:
    """Make a folder for parts that are not the run's yet.

    Args:
        folder: The run's folder; the caller holds its lock.

    Returns:
        The new folder; no other has its name.

    Raises:
        OSError: It cannot be made.
    """
    staging = folder / f"{PREFIX}{uuid.uuid4().hex[:12]}"
    staging.mkdir()
    return staging


def take_in(staged: Path, folder: Path, number: int) -> Path:
    """Make a staged part one of the run's: whole or not at all.

    Args:
        staged: The part; gone afterwards.
        folder: The run's folder; the caller holds its lock.
        number: Its place in the order of writing.

    Returns:
        The part's path.

    Raises:
        OSError: It is not there, or the folder cannot be written.
    """
    part = folder / f"part-{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
    staged.rename(part)
    sync(folder)
    return part


def remove_staging(folder: Path) -> None:
    """Do away with every staging folder, and with whatever may still be written into it.

    Args:
        folder: The run's folder; the caller holds its lock.
    """
    with contextlib.suppress(OSError):
        for name in [entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]:
            # a worker may be writing: renamed first, the folder is out of reach for it, and then empties for good
            gone = folder / f"{PREFIX}gone-{uuid.uuid4().hex[:8]}"
            with contextlib.suppress(OSError):
                (folder / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

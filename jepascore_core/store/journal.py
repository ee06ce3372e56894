"""Which parts of a run another part has taken the place of, while their files are still there.

Compaction writes one large part and removes the small ones that it holds. In between both are in the folder; the
journal says so, in one small file that is replaced as a whole. Readers take the large part once it is there and the
small ones before, so that the large part's rename is the one instant at which the change happens.
"""

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from jepascore_core.files import write_json

FILE_NAME = "compaction.json"
_PART = re.compile(r"part-\d+[-\w]*\.parquet")


@dataclass(frozen=True, slots=True)
class Journal:
    """What the journal says.

    Attributes:
        part: Name of the part that holds the rows of others, there or about to come; "" when all is done.
        supersedes: Names of the others.
    """

    part: str = ""
    supersedes: frozenset[str] = frozenset()


def is_part(name: str) -> bool:
    """Whether a file's name is that of a part."""
    return _PART.fullmatch(name) is not None


def read_bytes(folder: Path) -> bytes:
    """The journal as it is; two equal answers mean that it was not replaced in between.

    Args:
        folder: The run's folder.

    Returns:
        Bytes; none where there is no journal, or it cannot be read.
    """
    try:
        return (folder / FILE_NAME).read_bytes()
    except OSError:
        return b""


def parse(data: bytes) -> Journal | None:
    """What the journal says.

    Args:
        data: As ``read_bytes`` gave it.

    Returns:
        The journal, an empty one for no bytes; None where it holds anything else.
    """
    if not data:
        return Journal()
    try:
        told = json.loads(data)
        part, others = told["part"], told["supersedes"]
        sound = isinstance(part, str) and isinstance(others, list) and all(isinstance(name, str) for name in others)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # a name of anything but a part would lead out of the folder
    if not sound or part in others or not all(map(is_part, [*([part] if part else []), *others])):
        return None
    return Journal(part, frozenset(others))


def write(folder: Path, journal: Journal) -> None:
    """Replace the journal; each has a token of its own, so that no two are equal.

    Args:
        folder: The run's folder; the caller holds its lock.
        journal: What it shall say. An empty one stays in the folder, where it tells readers who were in the midst of
            listing the parts that these have changed.
    """
    told = {"part": journal.part, "supersedes": sorted(journal.supersedes), "token": uuid.uuid4().hex}
    write_json(folder / FILE_NAME, told)

"""Tag files: ``tags/<digest of the name>.json`` in a run's folder, one tag each.

A file that is not what it should be is damaged: those who list pass over it, those who write leave it alone.
"""

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jepascore_core.allowed import owner_only
from jepascore_core.errors import RunError
from jepascore_core.files import read_json, remove_temporary_files, storable, why, write_json
from jepascore_core.locks import hold_briefly

FOLDER = "tags"
LONGEST_NAME = 80  # characters


@dataclass(frozen=True, slots=True)
class Tag:
    """A named set of a run's images.

    Attributes:
        name: Any text; shown as plain text.
        keys: The images, sorted, none twice. The run need not hold them (yet).
        created: When, ISO 8601, UTC.
    """

    name: str
    keys: tuple[str, ...]
    created: str


def tag_name(text: str) -> str:
    """Make a text a tag's name: one form for texts that look alike, without blanks around it.

    Args:
        text: Any text.

    Returns:
        The name, in Unicode's form NFC.

    Raises:
        RunError: It is blank or has more than 80 characters.

    Example:
        >>> tag_name(" cafe\u0301 ")
        'café'
    """
    name = unicodedata.normalize("NFC", storable(text)).strip()
    if not name:
        raise RunError("A tag needs a name.")
    if len(name) > LONGEST_NAME:
        raise RunError(f"A tag's name has at most {LONGEST_NAME} characters, not {len(name)}.")
    return name


@contextlib.contextmanager
def writing(run_folder: Path) -> Iterator[Path]:
    """Open the folder of tags, made when absent, for one who writes at a time.

    Args:
        run_folder: The run's folder.

    Yields:
        The folder of tags.

    Raises:
        RunError: It cannot be written, another has been writing for long, or this is a read-only dashboard.
    """
    owner_only("change tags")
    folder = run_folder / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        with hold_briefly(folder / ".lock"):
            remove_temporary_files(folder)
            yield folder
    except OSError as error:
        raise RunError(f"Cannot write in {folder} ({why(error)}).") from error


def tag_files(run_folder: Path) -> list[Path]:
    """Every tag file of a run, whole or damaged.

    Args:
        run_folder: The run's folder.

    Returns:
        Their paths, by name.
    """
    folder = run_folder / FOLDER
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(".json")]


def find(folder: Path, name: str) -> Tag | None:
    """Read a tag by name.

    Args:
        folder: The folder of tags.
        name: As ``tag_name`` gives it.

    Returns:
        The tag, or None.

    Raises:
        RunError: Its file is damaged.
    """
    try:
        return read(path_of(folder, name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"The tag {name!r} cannot be used: {error} Move the file out of {folder}.") from error


def path_of(folder: Path, name: str) -> Path:
    """Where a tag is kept: names are any text, and no file system takes all of them.

    Args:
        folder: The folder of tags.
        name: As ``tag_name`` gives it.

    Returns:
        The file, which need not exist.
    """
    return folder / f"{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}.json"


def read(path: Path) -> Tag:
    """Read a tag file.

    Args:
        path: The file.

    Returns:
        The tag.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged; the message says how.
    """
    data = read_json(path)
    name, keys, created = (data.get(part) for part in ("name", "keys", "created"))
    if not isinstance(name, str) or not isinstance(created, str) or not isinstance(keys, list):
        raise ValueError(f"{path.name} is not a tag.")
    if not all(isinstance(key, str) for key in keys):
        raise ValueError(f"{path.name} holds a key that is no text.")
    name = storable(name)
    if path_of(path.parent, name) != path:
        raise ValueError(f"{path.name} belongs to no tag {name!r}.")
    return Tag(name, tuple(sorted(set(map(storable, keys)))), created)


def write(folder: Path, name: str, keys: Iterable[str], created: str) -> None:
    """Write a tag in one step.

    Args:
        folder: The folder of tags, within ``writing``.
        name: As ``tag_name`` gives it.
        keys: The images, none twice.
        created: When, ISO 8601.
    """
    write_json(path_of(folder, name), {"name": name, "created": created, "keys": sorted(keys)})

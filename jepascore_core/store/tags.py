"""Tags: named sets of a run's images, kept beside its parts, so that they travel with the folder."""

import contextlib
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from jepascore_core.errors import RunError
from jepascore_core.files import storable
from jepascore_core.store.runs import Run, open_run
from jepascore_core.store.tag_files import FOLDER, Tag, find, path_of, read, tag_files, tag_name, write, writing


def list_tags(run: Run) -> list[Tag]:
    """Every tag of a run; a damaged file is passed over.

    Args:
        run: The run.

    Returns:
        The tags, by name.
    """
    found = []
    for path in tag_files(run.path):
        with contextlib.suppress(ValueError, FileNotFoundError):
            found.append(read(path))
    return sorted(found, key=lambda tag: (tag.name.casefold(), tag.name))


def tagged(run: Run, name: str) -> list[str]:
    """The images of a tag.

    Args:
        run: The run.
        name: The tag.

    Returns:
        Their keys, sorted; empty where there is no such tag.

    Raises:
        RunError: The name is none, or the tag's file is damaged.
    """
    tag = find(run.path / FOLDER, tag_name(name))
    return list(tag.keys) if tag else []


def tags_by_key(run: Run) -> dict[str, list[str]]:
    """Names of the tags of each tagged image.

    Args:
        run: The run.

    Returns:
        Names in the order of ``list_tags``, by key.
    """
    names: dict[str, list[str]] = {}
    for tag in list_tags(run):
        for key in tag.keys:
            names.setdefault(key, []).append(tag.name)
    return names


def damaged_tags(run: Run) -> dict[str, str]:
    """Tag files that cannot be read.

    Args:
        run: The run.

    Returns:
        What is wrong with each, in one sentence, by file name.
    """
    damaged = {}
    for path in tag_files(run.path):
        try:
            read(path)
        except FileNotFoundError:
            continue
        except ValueError as error:
            damaged[path.name] = str(error)
    return damaged


def tags_version(run: Run) -> str:
    """What changes when a tag of a run changes, for caches.

    Args:
        run: The run.

    Returns:
        A digest of the files' names, sizes and times.
    """
    stamps = []
    for path in tag_files(run.path):
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps.append((path.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return hashlib.blake2b(repr(stamps).encode(), digest_size=8).hexdigest()


def add_tag(run: Run, name: str, keys: Iterable[str] = ()) -> int:
    """Give images of a run a tag, which is made when absent. What others add meanwhile is kept.

    Args:
        run: The run.
        name: The tag.
        keys: The images.

    Returns:
        How many of them did not have it.

    Raises:
        RunError: The name is none, the tag's file is damaged, or the run's folder cannot be written.
    """
    name = tag_name(name)
    with writing(run.path) as folder:
        return _unite(folder, find(folder, name), name, keys, _now())


def remove_from_tag(run: Run, name: str, keys: Iterable[str]) -> int:
    """Take a tag from images; a tag that no image has left stays, empty.

    Args:
        run: The run.
        name: The tag.
        keys: The images.

    Returns:
        How many of them had it.

    Raises:
        RunError: As ``add_tag``.
    """
    name = tag_name(name)
    with writing(run.path) as folder:
        tag = find(folder, name)
        kept = set(tag.keys).difference(map(storable, keys)) if tag else set()
        if tag is None or len(kept) == len(tag.keys):
            return 0
        write(folder, name, kept, tag.created)
        return len(tag.keys) - len(kept)


def rename_tag(run: Run, name: str, new_name: str) -> None:
    """Give a tag another name.

    Args:
        run: The run.
        name: The tag.
        new_name: Its new name, which no tag may have.

    Raises:
        RunError: There is no such tag, the new name is taken, or as ``add_tag``.
    """
    name, new_name = tag_name(name), tag_name(new_name)
    with writing(run.path) as folder:
        tag = find(folder, name)
        if tag is None:
            raise RunError(f"{run.name} has no tag {name!r}.")
        if name == new_name:
            return
        if find(folder, new_name) is not None:
            raise RunError(f"{run.name} has a tag {new_name!r} already.")
        write(folder, new_name, tag.keys, tag.created)
        path_of(folder, name).unlink()


def delete_tag(run: Run, name: str) -> int:
    """Delete a tag; its images stay.

    Args:
        run: The run.
        name: The tag.

    Returns:
        How many images had it; 0 also where there is no such tag.

    Raises:
        RunError: As ``add_tag``.
    """
    name = tag_name(name)
    with writing(run.path) as folder:
        tag = find(folder, name)
        if tag is None:
            return 0
        path_of(folder, name).unlink()
        return len(tag.keys)


def merge_tags(run: Run, other: Run | str | Path) -> int:
    """Add the tags of another run of the same images, such as a copy of the folder: union by name.

    Args:
        run: Gains the tags.
        other: A run, or its folder; left as it is. Its damaged files are passed over.

    Returns:
        How often an image of ``run`` gained a tag.

    Raises:
        RunError: There is no such run, it is one of other images, or as ``add_tag``.
    """
    other = other if isinstance(other, Run) else open_run(other)
    ours, theirs = (str(each.meta.get("dataset", {}).get("fingerprint", "")) for each in (run, other))
    if ours and theirs and ours != theirs:
        raise RunError(f"{run.name} and {other.name} are runs of different images; their tags cannot be merged.")
    with writing(run.path) as folder:
        found = [(find(folder, tag.name), tag) for tag in list_tags(other)]  # refuses damage before it writes
        return sum(
            _unite(folder, mine, tag.name, tag.keys, min(tag.created, mine.created if mine else tag.created))
            for mine, tag in found
        )


def _unite(folder: Path, tag: Tag | None, name: str, keys: Iterable[str], created: str) -> int:
    """Write a tag with more images, if that changes it; count the new ones."""
    before = set(tag.keys) if tag else set()
    after = before.union(map(storable, keys))
    if tag is None or len(after) > len(before):
        write(folder, name, after, min(created, tag.created) if tag else created)
    return len(after) - len(before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""Which images are packed, one at a time, each with what is known of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepascore_core import store
from jepascore_core.errors import JepaScoreError, RunError
from jepascore_core.files import storable
from jepascore_core.packs.originals import Row, Source
from jepascore_core.store import Run, ScoreRule
from jepascore_core.store.exports import Selection, stream
from jepascore_core.store.key_lines import read_keys

FACTS = (
    *("run", "key", "index", "label", "class_name", "width", "height", "jepa_score", "score_error", "convention"),
    *("tags", "encoder", "dataset"),
)
_COLUMNS = ("index", "key", "label", "class_name", "width", "height", "jepa_score", "score_error", "error")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to pack.

    Attributes:
        data: Its file.
        suffix: What the file's name should end in.
        facts: What a list says of it, by ``FACTS``: label is -1 for none, width and height are those of the original
            in px, score and error are in nats or None, tags are names, encoder and dataset are ids.
    """

    data: bytes
    suffix: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Missing:
    """An image that cannot be packed.

    Attributes:
        run: Name of its run.
        key: The image.
        reason: Why, in one sentence.
    """

    run: str
    key: str
    reason: str


def pictures(selection: Selection, source: Source, rule: ScoreRule, *, thumbnails: bool) -> Iterator[Picture | Missing]:
    """The images of a selection, run by run, by index.

    Args:
        selection: The images of each run; None means all.
        source: Gives an image's file.
        rule: Convention of the score.
        thumbnails: Whether the source reads the column ``thumbnail``.

    Yields:
        Each image, or why it cannot be had.
    """
    columns = [*_COLUMNS, *(["thumbnail"] if thumbnails else [])]
    for run, keys in selection.items():
        left, tags = set(keys or ()), store.tags_by_key(run)
        for batch in stream(run, columns, keys=keys, rule=rule):
            for row in batch.to_pylist():
                left.discard(row["key"])
                try:
                    data, suffix = source(run, row)
                except Exception as error:  # datasets read through libraries that raise what they like
                    known = isinstance(error, JepaScoreError)
                    reason = str(error) if known else f"The image cannot be read ({type(error).__name__})."
                    yield Missing(storable(run.name), row["key"], reason)
                    continue
                yield Picture(data, suffix, _facts(run, row, rule, tags.get(row["key"], [])))
        for key in sorted(left):
            yield Missing(storable(run.name), key, "The run holds no such image.")


def count(selection: Selection) -> int:
    """How many images a selection holds.

    Args:
        selection: The images of each run; None means all.

    Returns:
        Their number, those without a score included.
    """
    total = 0
    for run, keys in selection.items():
        held = store.counts(run)
        total += held["done"] + held["failed"] if keys is None else len(set(keys))
    return total


def select(runs: Sequence[Run], *, tag: str | None = None, key_file: Path | None = None) -> dict[Run, list[str] | None]:
    """Choose images of runs by a tag, by a list of keys, by both, or all.

    Args:
        runs: The runs.
        tag: Keep the images that have it.
        key_file: Keep the images of this list, as ``read_keys`` reads it; a line without a run counts for each run that
            holds the image.

    Returns:
        The keys of each run that is left; None means all.

    Raises:
        RunError: No run has the tag, or the list cannot be read or names no image of these runs.
    """
    chosen: dict[Run, list[str] | None] = dict.fromkeys(runs)
    if tag is not None:
        chosen = {run: store.tagged(run, tag) for run in runs}
        if not any(chosen.values()):
            known = dict.fromkeys(each.name for run in runs for each in store.list_tags(run))
            there = f"there are {', '.join(map(repr, list(known)[:8]))}" if known else "there are no tags"
            raise RunError(f"No image has the tag {tag!r}; {there}.")
    if key_file is not None:
        for run, listed in _listed(runs, key_file).items():
            keys = chosen[run]
            chosen[run] = sorted(listed if keys is None else listed.intersection(keys))
        if not any(chosen.values()):
            raise RunError(f"{key_file} names none of the images.")
    return {run: keys for run, keys in chosen.items() if keys is None or keys}


def _listed(runs: Sequence[Run], key_file: Path) -> dict[Run, set[str]]:
    """The images of each run that a list names; where no run holds one, the first is said to lack it."""
    lines = read_keys(key_file)
    bare = sorted({key for name, key in lines if name is None})
    listed = {run: {key for name, key in lines if name == run.name} for run in runs}
    for run in runs:
        for batch in stream(run, ["key"], keys=bare):
            listed[run].update(batch.column("key").to_pylist())
    if any(listed.values()):
        listed[runs[0]].update(set(bare).difference(*listed.values()))
    return listed


def _facts(run: Run, row: Row, rule: ScoreRule, tags: list[str]) -> dict[str, Any]:
    """What a list says of an image."""
    meta = run.meta or {"encoder": {"id": ""}, "dataset": {"id": ""}}
    known = row | {
        "run": storable(run.name),
        "label": -1 if row["label"] is None else row["label"],
        "class_name": row["class_name"] or "",
        "jepa_score": _finite(row["jepa_score"]),
        "score_error": _finite(row["score_error"]),
        "convention": rule.convention,
        "tags": tags,
        "encoder": storable(str(meta["encoder"]["id"])),
        "dataset": storable(str(meta["dataset"]["id"])),
    }
    return {name: known[name] for name in FACTS}


def _finite(value: float | None) -> float | None:
    """A number that JSON knows, or None."""
    return value if value is not None and -float("inf") < value < float("inf") else None

"""Strips of thumbnails: the least and the most likely images of a run, and of some of its classes."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepascore_core import store
from jepascore_core.naming import without_folders
from jepascore_core.report.members import Member
from jepascore_core.text import number, ordinal, plural

CLASSES = 3  # of a run, where none are asked for
IMAGE_BYTES = 3_400_000  # of all thumbnails of a report, as base64: the file stays below 5 MB
_THUMBNAIL_BYTES = 64_000  # ours are a tenth of that; more came from somebody else
_USUAL_BYTES = 9_000  # of a thumbnail as base64, when very many runs must share the room


@dataclass(frozen=True)
class Tile:
    """One thumbnail: its picture as base64 JPEG (empty where there is none), its score, and what it shows in words."""

    picture: str
    score: float
    alt: str


@dataclass(frozen=True)
class Strip:
    """Least and most likely images of a class or of a run."""

    title: str
    note: str
    least: Sequence[Tile]
    most: Sequence[Tile]

    @property
    def size(self) -> int:
        """Characters that its pictures take."""
        return sum(len(tile.picture) for tile in (*self.least, *self.most))


def strips(members: Sequence[Member], classes: Sequence[str] | None, n: int) -> tuple[list[list[Strip]], bool]:
    """Extremes of each run, then of some of its classes, as many as a file of reasonable size holds.

    Args:
        members: The runs.
        classes: The classes; None takes the largest few of each run.
        n: Images at each end; fewer where there are very many runs.

    Returns:
        Strips of each run, that of all its images first, none for a run without a score; and whether any was left out.
    """
    n = max(1, min(n, IMAGE_BYTES // (len(members) * 2 * _USUAL_BYTES)))
    wanted = [[_strip(member, None, n)] if len(member.scores) else [] for member in members]
    left = IMAGE_BYTES - sum(strip.size for whole in wanted for strip in whole)
    chosen = [_classes(member, classes) for member in members]
    kept = True
    for place in range(max(map(len, chosen))):  # the first class of every run before the second of any
        for found, member, names in zip(wanted, members, chosen, strict=True):
            if place < len(names):
                strip = _strip(member, names[place], n)
                kept = kept and strip.size <= left
                if strip.size <= left:
                    left -= strip.size
                    found.append(strip)
    return wanted, not kept


def _classes(member: Member, classes: Sequence[str] | None) -> list[str]:
    """Which classes of a run to show; of a run with one class, none, since they are all its images."""
    sizes = member.scores["class_name"].fillna("").value_counts(sort=False)
    sizes = sizes[sizes.index != ""].sort_values(ascending=False, kind="stable")
    if classes is not None:
        return [name for name in classes if name in sizes.index]
    return [str(name) for name in sizes.index[:CLASSES]] if len(sizes) > 1 else []


def _strip(member: Member, class_name: str | None, n: int) -> Strip:
    """Extremes of one class, or of all images."""
    inside = member.scores if class_name is None else member.scores[member.scores["class_name"] == class_name]
    ends = [_tiles(member, class_name, end, n) for end in ("least", "most")]
    note = f"{plural(len(inside), 'image')}, median {number(float(inside['score'].median()), 1)} nats"
    return Strip(class_name or f"All of {member.name}", note, *ends)


def _tiles(member: Member, class_name: str | None, end: str, n: int) -> list[Tile]:
    """Images at one end."""
    found = store.extremes(member.run, n, which=end, class_name=class_name, rule=member.rule).to_dict("records")
    return [_tile(image, member.folders) for image in found if np.isfinite(image["score"])]


def _tile(image: Mapping[Any, Any], folders: Sequence[str]) -> Tile:
    """One thumbnail."""
    jpeg = image["thumbnail"] or b""
    fits = jpeg.startswith(b"\xff\xd8") and len(jpeg) <= _THUMBNAIL_BYTES
    kind = image["class_name"] if isinstance(image["class_name"], str) and image["class_name"] else "unlabelled"
    place, key = f"{ordinal(image['percentile'])} percentile", without_folders(str(image["key"]), folders)
    score = float(image["score"])
    return Tile(b64encode(jpeg).decode() if fits else "", score, f"{kind}, {number(score)} nats, {place}, {key}")

"""Encoder ids: take them apart, complete them, and suggest names close to an unknown one."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from jepascore_core.encoders.presets import PRESETS, find_spec
from jepascore_core.errors import EncoderError

SCHEMES = ("timm", "open_clip", "demo", "file")


@dataclass(frozen=True, slots=True)
class EncoderId:
    """An encoder id taken apart.

    Attributes:
        scheme: ``timm``, ``open_clip``, ``demo`` or ``file``.
        name: What follows the colon: a canonical name, or the path of a file.
        architecture: For a file that does not say what it holds, the id after ``@``.
    """

    scheme: str
    name: str
    architecture: "EncoderId | None" = None

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}" + (f"@{self.architecture}" if self.architecture else "")


def parse(encoder_id: str) -> EncoderId:
    """Take an id apart and make sure that it is known.

    Args:
        encoder_id: ``scheme:name``, or a bare name that only one library can mean.

    Returns:
        Its parts; a timm name is completed with the default tag.

    Raises:
        EncoderError: Nothing has that name; says the three closest.
    """
    text = encoder_id.strip()
    scheme, colon, name = text.partition(":")
    if scheme == "file" and name:
        return _parse_file(name)
    if find_spec(text):
        return EncoderId(scheme, name)
    if not colon:
        scheme, name = _guess_scheme(text), text
    canonical = _canonical(scheme, name)
    if canonical is None:
        raise EncoderError(_unknown(text))
    return EncoderId(scheme, canonical)


def closest(encoder_id: str, n: int = 3) -> list[str]:
    """Find the known ids that look most like a given one.

    Args:
        encoder_id: What somebody typed.
        n: How many to find.

    Returns:
        Full ids, the closest first, presets before others that are as close.
    """
    import open_clip
    import timm

    scheme, typed = encoder_id.partition(":")[0], _without_scheme(encoder_id)
    known = [spec.id for spec in PRESETS]
    known += [f"timm:{name}" for name in timm.list_pretrained()]
    known += [f"open_clip:{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]
    likeness = {known_id: _likeness(typed, known_id.partition(":")[2]) for known_id in known}
    for spec in PRESETS:  # people also type the name that they know from a paper or another hub
        likeness[spec.id] = max(likeness[spec.id], _likeness(typed, spec.name))
    return sorted(likeness, key=lambda known_id: (not known_id.startswith(f"{scheme}:"), -likeness[known_id]))[:n]


def _without_scheme(text: str) -> str:
    """Name after the colon of a known scheme."""
    scheme, _, name = text.partition(":")
    return name if scheme in SCHEMES else text


def _likeness(typed: str, name: str) -> float:
    """How much two names have in common: order of letters and digits, plus share of the typed words, 0 to 2."""
    words, known = _words(typed), _words(name)
    matcher = difflib.SequenceMatcher(a="".join(words), b="".join(known), autojunk=False)
    share = len(set(words) & set(known)) / max(len(set(words)), 1)
    return share + (matcher.ratio() if matcher.real_quick_ratio() > 0.3 else 0.0)


def _words(text: str) -> list[str]:
    """Runs of letters and runs of digits, in lower case."""
    return re.findall(r"[a-z]+|[0-9]+", text.lower())


def _parse_file(name: str) -> EncoderId:
    """Split ``path@encoder id``; a path may hold an @ itself."""
    path, at, architecture = name.rpartition("@")
    if not at or Path(name).expanduser().is_file():
        return EncoderId("file", name)
    inner = parse(architecture)
    if inner.scheme not in ("timm", "open_clip"):
        raise EncoderError(f"What follows @ in file:{name} must be a timm or open_clip encoder, not {architecture}.")
    return EncoderId("file", path, inner)


def _guess_scheme(name: str) -> str:
    """Library that a bare name belongs to: presets first, then open_clip by its slash, else timm."""
    for spec in PRESETS:
        scheme, _, bare = spec.id.partition(":")
        if bare == name:
            return scheme
    return "open_clip" if "/" in name else "timm"


def _canonical(scheme: str, name: str) -> str | None:
    """Full name in its library, or None when unknown."""
    if scheme == "timm":
        from jepascore_core.encoders import timm_models

        return timm_models.canonical_name(name)
    if scheme == "open_clip":
        from jepascore_core.encoders import clip_models

        return clip_models.canonical_name(name)
    return name if find_spec(f"{scheme}:{name}") else None


def _unknown(text: str) -> str:
    """One sentence for an unknown id."""
    if Path(text).expanduser().is_file():
        return f"{text} is a file: name it file:{text}@<encoder id>, or file:{text} if our own trainer wrote it."
    return f"There is no encoder {text!r}; the closest names are {', '.join(closest(text))}."

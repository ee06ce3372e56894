"""Encoder ids: take them apart, complete them, and suggest names close to an unknown one."""

import difflib
import hashlib
import os
import re
from dataclasses import dataclass, replace

from jepascore_core.allowed import may_reach
from jepascore_core.encoders.presets import PRESETS, find_spec
from jepascore_core.errors import EncoderError
from jepascore_core.files import expanded

SCHEMES = ("timm", "open_clip", "demo", "file")

_LAYER = re.compile(r"(.+)@layer([0-9]{1,4})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class EncoderId:
    """An encoder id taken apart.

    Attributes:
        scheme: ``timm``, ``open_clip``, ``demo`` or ``file``.
        name: What follows the colon: a canonical name, or the path of a file.
        architecture: For a file that does not say what it holds, the id after ``@``.
        layer: Number of the layer behind which the encoder is cut off, or None for all of it.
    """

    scheme: str
    name: str
    architecture: "EncoderId | None" = None
    layer: int | None = None

    def __str__(self) -> str:
        whole = f"{self.scheme}:{self.name}" + (f"@{self.architecture}" if self.architecture else "")
        return whole if self.layer is None else with_layer(whole, self.layer)


def with_layer(encoder_id: str, layer: int | None) -> str:
    """Id of an encoder that is cut off behind one of its layers.

    No name of timm or open_clip holds an ``@``, and no scheme is called ``layer…``.

    Args:
        encoder_id: The whole encoder.
        layer: Number of the layer, from 1; None leaves the encoder whole.

    Returns:
        The id.

    Example:
        >>> with_layer("demo:jepa-tiny", 2)
        'demo:jepa-tiny@layer2'
    """
    return encoder_id if layer is None else f"{encoder_id}@layer{layer}"


def split_layer(encoder_id: str) -> tuple[str, int | None]:
    """The whole encoder's id, and the layer behind which an id cuts it off; the inverse of ``with_layer``.

    Args:
        encoder_id: Any encoder id.

    Returns:
        The id of the whole encoder, and the number of the layer or None.

    Example:
        >>> split_layer("file:w.safetensors@timm:vit_tiny_patch16_224@layer3")
        ('file:w.safetensors@timm:vit_tiny_patch16_224', 3)
    """
    found = _LAYER.fullmatch(encoder_id)
    return (found[1], int(found[2])) if found else (encoder_id, None)


def layer_digest(whole: str, layer: int, pooling: str) -> str:
    """Digest of an encoder that is cut off behind one of its layers.

    Args:
        whole: Digest of the whole encoder's weights.
        layer: Number of the layer.
        pooling: How the layer's features are pooled.

    Returns:
        Hex digest.
    """
    return hashlib.blake2b(f"{whole} layer {layer} {pooling}".encode(), digest_size=16).hexdigest()


def parse(encoder_id: str) -> EncoderId:
    """Take an id apart and make sure that it is known.

    Args:
        encoder_id: ``scheme:name``, or a bare name that only one library can mean; with ``@layer<l>`` behind it, the
            encoder cut off behind layer l.

    Returns:
        Its parts; a timm name is completed with the default tag.

    Raises:
        EncoderError: Nothing has that name, with the three closest; or it names two layers.
    """
    text = encoder_id.strip()
    whole, layer = split_layer(text)
    if layer is not None and not _is_file(text):
        identity = parse(whole)
        if identity.layer is not None:
            raise EncoderError(f"{text} names two layers.")
        return replace(identity, layer=layer)
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


def _is_file(text: str) -> bool:
    """Whether an id names a file as it stands, whose name ends as that of a layer."""
    return text.startswith("file:") and _leads_to_a_file(text.removeprefix("file:"))


def _leads_to_a_file(text: str) -> bool:
    """Whether a text is the path of a file that may be read."""
    return may_reach(text) and os.path.isfile(expanded(text))  # noqa: PTH113 - never raises


def _parse_file(name: str) -> EncoderId:
    """Split ``path@encoder id``; a path may hold an @ itself."""
    path, at, architecture = name.rpartition("@")
    if not at or _leads_to_a_file(name):
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
    if _leads_to_a_file(text):
        return f"{text} is a file: name it file:{text}@<encoder id>, or file:{text} if our own trainer wrote it."
    return f"There is no encoder {text!r}; the closest names are {', '.join(closest(text))}."

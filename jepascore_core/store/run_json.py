"""What ``run.json`` may hold: whoever wrote it, pages and commands count on the types of what they read there."""

import math
from collections.abc import Callable
from typing import Any

from jepascore_core.files import storable

_MOST = 2**53  # beyond that, counts are no longer exact as floats


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= 2**63


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _size(value: Any) -> bool:
    return _count(value) or (isinstance(value, list) and bool(value) and all(map(_count, value)))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MOST and math.isfinite(value)


def _names(value: Any) -> bool:
    return isinstance(value, dict)


# section (or "" for none), name, what it must be
_REQUIRED: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("encoder", "id", _text),
    ("encoder", "name", _text),
    ("encoder", "digest", _text),
    ("encoder", "embedding_dim", _count),
    ("encoder", "null_dim", _count),
    ("dataset", "id", _text),
    ("dataset", "class_names", _texts),
    ("sample", "seed", _whole),
)
# what may be absent or null
_OPTIONAL: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("encoder", "input_size", _size),
    ("dataset", "size", _count),
    ("sample", "per_class", _count),
    ("sample", "limit", _count),
    ("sample", "classes", _texts),
    ("", "views", _count),
    ("", "eps", _number),
    ("", "tolerance", _number),
    ("", "precision", _text),
    ("", "precisions", _texts),
    ("", "device", _text),
    ("", "versions", _names),
    ("", "request", _names),
    ("", "imported", _names),
)


def what_is_missing(meta: dict[str, Any]) -> str | None:
    """What a ``run.json`` lacks, or has in the wrong shape.

    Args:
        meta: What it holds.

    Returns:
        Such as ``its encoder's name``, which the file "does not say"; None where all is there.
    """
    for section, name, sound in _REQUIRED:
        values = meta.get(section)
        if not isinstance(values, dict) or not sound(values.get(name)):
            return f"its {section}'s {name.replace('_', ' ')}"
    if not _count(meta.get("planned")):
        return "how many images were planned"
    for section, name, sound in _OPTIONAL:
        values = meta[section] if section else meta
        if values.get(name) is not None and not sound(values[name]):
            return f"{f'its {section}' if section else 'the run'}'s {name.replace('_', ' ')} in a way that can be read"
    return None


def stored(value: Any) -> Any:
    """JSON whose texts all can be stored and shown, as ``files.storable`` makes them.

    Args:
        value: Any JSON.

    Returns:
        The same, but for texts that are not Unicode.
    """
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [stored(entry) for entry in value]
    if isinstance(value, dict):
        return {storable(name): stored(entry) for name, entry in value.items()}
    return value

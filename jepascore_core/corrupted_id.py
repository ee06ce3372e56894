"""Ids of corrupted datasets, ``corrupted:<kind>:<severity>:<id of another dataset>``, taken apart and put together.

A corrupted dataset may itself be corrupted: what stands first is done last. Nothing is checked here but the shape of
the text; ``datasets.corrupted`` says what is unknown.
"""

import re

PREFIX = "corrupted:"

_SHAPE = re.compile(r"corrupted:([^:]*):([^:]*):(.*)", re.DOTALL)


def corrupted_id(kind: str, severity: int, dataset_id: str) -> str:
    """Id of a dataset whose images are corrupted.

    Args:
        kind: Such as ``blur``.
        severity: 1 to 5.
        dataset_id: The dataset to corrupt.

    Returns:
        The id.

    Example:
        >>> corrupted_id("blur", 3, "demo:photos")
        'corrupted:blur:3:demo:photos'
    """
    return f"{PREFIX}{kind}:{severity}:{dataset_id}"


def take_apart(dataset_id: str) -> tuple[str, str, str] | None:
    """Kind, severity and inner id of a corrupted dataset's id.

    Args:
        dataset_id: Any dataset id.

    Returns:
        The three as text, unchecked; None for an id of any other shape.

    Example:
        >>> take_apart("corrupted:blur:3:hf:org/set:test")
        ('blur', '3', 'hf:org/set:test')
    """
    found = _SHAPE.fullmatch(dataset_id)
    return (found[1], found[2], found[3]) if found else None


def innermost(dataset_id: str) -> str:
    """The dataset that an id corrupts, however often.

    Args:
        dataset_id: Any dataset id.

    Returns:
        The clean dataset's id; the id itself when it corrupts nothing.

    Example:
        >>> innermost("corrupted:jpeg:2:corrupted:blur:3:demo:photos"), innermost("demo:photos")
        ('demo:photos', 'demo:photos')
    """
    while parts := take_apart(dataset_id):
        dataset_id = parts[2]
    return dataset_id

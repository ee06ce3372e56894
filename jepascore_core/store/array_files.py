"""Arrays kept on disk so that the next process need not make them again; a file that is damaged is as if it were not.

A file's name says what its arrays were made from; it is never changed, only forgotten.
"""

import contextlib
import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepascore_core.files import written_aside

ENDING = ".npz"


def array_file(folder: Path, made_from: Any) -> Path:
    """The file of some arrays.

    Args:
        folder: Where they are kept.
        made_from: What they were made from, and how: texts, numbers, and lists of them.

    Returns:
        Its path; it need not exist.
    """
    text = json.dumps(made_from, sort_keys=True)
    return folder / f"{blake2b(text.encode(errors='surrogatepass'), digest_size=10).hexdigest()}{ENDING}"


def write_arrays(path: Path, arrays: Mapping[str, NDArray], *, most: int) -> bool:
    """Keep some arrays.

    Args:
        path: The file; its folder is made.
        arrays: By name; none of them of objects.
        most: Files to keep in the folder; the oldest beyond are forgotten.

    Returns:
        Whether it could be written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        with written_aside(path, durable=False) as aside, aside.open("wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        by_age = sorted(path.parent.glob(f"*{ENDING}"), key=lambda kept: kept.stat().st_mtime_ns)
        for old in by_age[:-most]:
            old.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def read_arrays(path: Path) -> dict[str, NDArray] | None:
    """Kept arrays, whose checksums are right.

    Args:
        path: The file.

    Returns:
        By name; None where there is no such file, or it is damaged.
    """
    with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as kept:  # damage shows in many ways
        return {name: kept[name] for name in kept.files}
    return None

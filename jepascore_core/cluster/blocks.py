"""Cut what is left of a run into blocks, and lay them where every worker can read its own."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from jepascore_core.datasets.base import Item

Placed = tuple[int, Item]  # place in the run, and the image

MOST_ROWS = 1024  # 15 MB in a worker at D = 1280
DEADLY = 3  # workers that died on one block: then it is left out of the round
_MOST_BLOCKS = 20_000


def cut(count: int, *, batch_size: int, workers: int, shrunk: int = 0) -> list[int]:
    """Sizes of the blocks: small ones first, so that pages fill, and enough of them that all workers end together.

    A block has as many batches as a batch has images. A batch is the larger the cheaper the encoder, so that a block
    takes seconds to minutes whatever the encoder, and no more than that is lost with a worker.

    Args:
        count: Images that are left.
        batch_size: Images scored together.
        workers: Processes that score.
        shrunk: How often the blocks were too much for a worker; each time a quarter is left.

    Returns:
        Images of each block, in order.

    Example:
        >>> cut(100, batch_size=4, workers=2)
        [4, 4, 13, 13, 13, 13, 13, 13, 13, 1]
    """
    usual = min(batch_size * batch_size, MOST_ROWS, max(batch_size, -(-count // (4 * workers))))
    usual = max(1, usual >> (2 * shrunk), count // _MOST_BLOCKS)
    sizes: list[int] = []
    while count:
        size = min(batch_size if len(sizes) < workers else usual, usual, count)
        sizes.append(size)
        count -= size
    return sizes


def write_blocks(path: Path, left: Sequence[Placed], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Write blocks of images, a line each.

    Args:
        path: The file.
        left: Places and images.
        sizes: Images of each block.

    Returns:
        Where each line begins, and its length, bytes.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    places, start, offset = [], 0, 0
    with path.open("wb") as file:
        for size in sizes:
            rows = [
                (place, item.index, item.key, item.label, item.class_name) for place, item in left[start : start + size]
            ]
            line = json.dumps(rows).encode() + b"\n"  # ASCII: keys may hold what UTF-8 does not
            file.write(line)
            places.append((offset, len(line)))
            start, offset = start + size, offset + len(line)
    return places


def read_block(path: Path, offset: int, length: int) -> Iterator[Placed]:
    """Read one block, without the others.

    Args:
        path: File of ``write_blocks``.
        offset: Where it begins.
        length: Its length.

    Yields:
        Places and images.

    Raises:
        OSError: The file is gone.
        ValueError: The file is not whole.
    """
    with path.open("rb") as file:
        file.seek(offset)
        rows = json.loads(file.read(length))
    for place, *item in rows:
        yield place, Item(*item)

"""What is read from a file, remembered while the file stays."""

import os
from pathlib import Path

import pytest

from jepascore_core.files import remembered


def test_a_file_that_stays_is_read_once(tmp_path: Path) -> None:
    path, read = tmp_path / "a", list[Path]()

    def reader(path: Path) -> str:
        read.append(path)
        return path.read_text()

    path.write_text("old")
    assert remembered(path, reader) == remembered(path, reader) == "old"
    assert len(read) == 2  # just written, it may change again within a tick of the clock
    os.utime(path, ns=(1, 10**18))
    assert [remembered(path, reader) for _ in range(3)] == ["old"] * 3
    assert len(read) == 3
    other = tmp_path / "b"
    other.write_text("new")
    os.utime(other, ns=(1, 10**18))
    other.replace(path)  # as old and as long
    assert remembered(path, reader) == "new"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        remembered(path, reader)

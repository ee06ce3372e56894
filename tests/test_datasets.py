"""Datasets on real files: folders with hostile names, Parquet, idx, torchvision trees, and a hub on this machine."""

import gzip
import http.server
import io
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jepascore_core.datasets import DATASETS, KINDS, SYNONYMS, expand, load_dataset, row_groups
from jepascore_core.datasets.base import UNLABELLED, Dataset, Item, sample
from jepascore_core.datasets.demo import DEMO_NAMES
from jepascore_core.datasets.rows import Rows, encode_labels
from jepascore_core.datasets.vision import VISION_SETS
from jepascore_core.errors import DatasetError, DatasetGone, ImageError
from tests.test_images import mutations


def image_bytes(level: int = 0, name: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (level % 256, 0, 255)).save(out, name)
    return out.getvalue()


def write_images(root: Path, names: list[str]) -> None:
    for level, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(level))


def keys(dataset: Dataset) -> list[str]:
    return [item.key for item in dataset.items]


def check(dataset: Dataset) -> None:
    """What must hold of every dataset."""
    assert [item.index for item in dataset.items] == list(range(len(dataset.items)))
    assert len(set(keys(dataset))) == len(dataset.items) > 0
    assert len(set(dataset.class_names)) == len(dataset.class_names)
    assert len(dataset.fingerprint) >= 16
    int(dataset.fingerprint, 16)
    for item in list(dataset.items)[:50]:
        item.key.encode()
        if item.label == UNLABELLED:
            assert item.class_name == ""
        else:
            assert dataset.class_names[item.label] == item.class_name
    image = dataset.read(dataset.items[0])
    assert image.mode == "RGB"


# Folders


def test_one_sub_folder_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, ["dog/1.PNG", "dog/deep/er/2.JpEg", "cat/3.png", "loose.webp"])
    for name in ("notes.txt", "cat/.hidden.png", "cat/._3.png", "dog/noending", "png", "cat/list.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.png").write_bytes(image_bytes())
    dataset = load_dataset(f"folder:{tmp_path}")
    check(dataset)
    assert keys(dataset) == ["cat/3.png", "dog/1.PNG", "dog/deep/er/2.JpEg", "loose.webp"]
    assert dataset.class_names == ("cat", "dog")
    assert [item.label for item in dataset.items] == [0, 1, 1, UNLABELLED]
    assert dataset.skipped == 6
    assert dataset.read(dataset.items[1]).getpixel((0, 0)) == (0, 0, 255)
    assert load_dataset(str(tmp_path)).fingerprint == dataset.fingerprint
    assert dataset.file_of(dataset.items[2]) == (tmp_path / "dog/deep/er/2.JpEg").read_bytes()
    (tmp_path / "cat/3.png").unlink()
    with pytest.raises(ImageError, match="The file is gone"):
        dataset.file_of(dataset.items[0])


def test_the_fingerprint_follows_names_and_sizes(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.png", "a/2.png"])
    before = load_dataset(f"folder:{tmp_path}").fingerprint
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    assert load_dataset(f"folder:{tmp_path}").fingerprint == before
    (tmp_path / "a" / "2.png").write_bytes(image_bytes(2, size=(60, 60)))
    larger = load_dataset(f"folder:{tmp_path}").fingerprint
    (tmp_path / "a" / "2.png").rename(tmp_path / "a" / "3.png")
    renamed = load_dataset(f"folder:{tmp_path}").fingerprint
    assert len({before, larger, renamed}) == 3


HOSTILE = [
    b"new\nline.png",
    b"tab\tbell\x07.png",
    b"quote'\".png",
    b"<script>alert(1)<!--.png",
    b"[star]*?.png",
    b"not utf-8 \xff\xfe.png",
    b"\\udcff\\udcfe.png",  # the text of an escape, beside the bytes that escape to it
    b"\xff\xfe.png",
    b"back\\slash.png",
    b"-rf.png",
    b"=cmd|' _C calc'!A0.png",
    "right\u202egnp.png".encode(),
    "käse 猫 🐈.png".encode(),
    b"n" * 250 + b".png",
    b" .png",
    b"%2e%2e%2f.png",
]


def test_hostile_names_are_safe_keys(tmp_path: Path) -> None:
    for folder in (b"class\n<b>\xff", b"plain"):
        directory = tmp_path / os.fsdecode(folder)
        directory.mkdir()
        for level, name in enumerate(HOSTILE):
            (directory / os.fsdecode(name)).write_bytes(image_bytes(level))
    dataset = load_dataset(f"folder:{tmp_path}")
    check(dataset)
    assert len(dataset.items) == 2 * len(HOSTILE)
    assert dataset.class_names == ("class\\x0a<b>\\udcff", "plain")
    for item in dataset.items:
        assert len(item.key.splitlines()) == 1
        assert json.loads(json.dumps(item.key)) == item.key
    levels = Counter(dataset.read(item).getpixel((0, 0))[0] for item in dataset.items)
    assert levels == dict.fromkeys(range(len(HOSTILE)), 2), "a key led to another file"


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_images(root, ["real/1.png", "real/sub/2.png"])
    write_images(tmp_path, ["elsewhere/3.png", "outside.png"])
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "real" / "file.png").symlink_to(tmp_path / "outside.png")
    for name, target in {
        "real/self": root / "real",
        "real/sub/up": root,
        "top": root,
        "parent": tmp_path,
        "real/broken.png": tmp_path / "nowhere.png",
        "real/snake.png": root / "real" / "snake.png",
    }.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "real" / "pipe.png")
    dataset = load_dataset(f"folder:{root}")
    check(dataset)
    assert keys(dataset) == ["linked/3.png", "real/1.png", "real/file.png", "real/sub/2.png"]
    assert dataset.skipped == 3


def test_a_bomb_of_links_ends(tmp_path: Path) -> None:
    """Twenty folders, each with two links to the next: a million paths, twenty folders."""
    for level in range(20):
        (tmp_path / "c" / f"d{level}").mkdir(parents=True)
        if level:
            for name in ("x", "y"):
                (tmp_path / "c" / f"d{level - 1}" / name).symlink_to(tmp_path / "c" / f"d{level}")
    write_images(tmp_path, ["c/d19/1.png"])
    started = time.monotonic()
    assert len(load_dataset(f"folder:{tmp_path}").items) == 1
    assert time.monotonic() - started < 5


def test_folders_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    write_images(tmp_path, ["c/1.png"])
    here = os.open(tmp_path / "c", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    dataset = load_dataset(f"folder:{tmp_path}")
    assert keys(dataset) == ["c/1.png"]
    assert dataset.skipped == 1


def test_damaged_files_are_errors_of_their_own(tmp_path: Path) -> None:
    write_images(tmp_path, ["good.png", "gone.png"])
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(image_bytes()[:40])
    dataset = load_dataset(f"folder:{tmp_path}")
    (tmp_path / "gone.png").unlink()
    outcome = {}
    for item in dataset.items:
        try:
            dataset.read(item)
        except ImageError as error:
            outcome[item.key] = str(error)
    assert outcome.keys() == {"gone.png", "zero.png", "text.jpg", "cut.png"}
    assert outcome["gone.png"] == "The file is gone."


def test_a_folder_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("x")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.parquet").write_bytes(b"x")
    for path, reason in {
        tmp_path / "missing": "There is no folder",
        tmp_path / "docs" / "a.txt": "is a file, not a folder",
        tmp_path / "empty": "holds no images.$",
        tmp_path / "docs": "holds no images, only 1 other files.$",
        tmp_path / "table": "name it parquet:",
    }.items():
        with pytest.raises(DatasetError, match=reason):
            load_dataset(f"folder:{path}")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_dataset("folder:nul\0l")


def test_no_permission(tmp_path: Path) -> None:
    write_images(tmp_path, ["set/secret/1.png", "set/open/2.png"])
    closed = tmp_path / "set" / "secret"
    closed.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may read everything; become nobody, who may not even come this far
            os.seteuid(65534)
        with pytest.raises(DatasetError, match="No permission to read the folder"):
            load_dataset(f"folder:{tmp_path / 'set'}")
    finally:
        os.seteuid(user)
        closed.chmod(stat.S_IRWXU)


def test_threads_read_a_folder(tmp_path: Path) -> None:
    write_images(tmp_path, [f"c{n % 3}/{n}.png" for n in range(60)])
    dataset = load_dataset(f"folder:{tmp_path}")
    with ThreadPoolExecutor(8) as pool:
        together = [image.tobytes() for image in pool.map(dataset.read, dataset.items)]
    assert together == [dataset.read(item).tobytes() for item in dataset.items]


# MNIST idx


def write_idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_idx_files_with_and_without_labels(tmp_path: Path) -> None:
    pixels = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pixels)
    write_idx(tmp_path / "t10k-labels.idx1-ubyte", np.array([3, 0, 3, 7, 0]))
    write_idx(tmp_path / "train-images.idx3-ubyte", pixels[:2] + 100)
    dataset = load_dataset(f"folder:{tmp_path}")
    check(dataset)
    assert keys(dataset) == [*(f"t10k/{row:05d}" for row in range(5)), "train/00000", "train/00001"]
    assert dataset.class_names == ("0", "3", "7")
    assert [item.class_name for item in dataset.items] == ["3", "0", "3", "7", "0", "", ""]
    assert np.array_equal(np.asarray(dataset.read(dataset.items[5]))[:, :, 1], pixels[0] + 100)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (b"", None, "header is not"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 4, 4) + b"\0" * 31, None, "holds 31 of 32 bytes"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31), None, "header names"),
        (b"\0\0\x0d\x03" + struct.pack(">3I", 2, 4, 4) + b"\0" * 128, None, "header is not"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 3, 0, 4), None, "without pixels"),
        (b"\x1f\x8bnot gzip", None, "header is not"),
        (
            b"\0\0\x08\x03" + struct.pack(">3I", 1, 2, 2) + b"\0" * 4,
            b"\0\0\x08\x01\0\0\0\x02\0\0",
            "2 labels for 1 images",
        ),
    ],
)
def test_damaged_idx_files(tmp_path: Path, images: bytes, labels: bytes | None, reason: str) -> None:
    (tmp_path / "x-images-idx3-ubyte").write_bytes(images)
    if labels:
        (tmp_path / "x-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DatasetError, match=reason):
        load_dataset(f"folder:{tmp_path}")


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "x-images-idx3-ubyte.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 255, (50, 8, 8)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(f"folder:{tmp_path}")


# Parquet


def parquet_table(count: int, labels: pa.Array | None = None, *, metadata: dict[str, str] | None = None) -> pa.Table:
    cells = [{"bytes": image_bytes(row), "path": f"{row}.png"} for row in range(count)]
    columns = {"image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labels is not None:
        columns["label"] = labels
    return pa.table(columns).replace_schema_metadata(metadata)


HF_METADATA = {
    "huggingface": json.dumps({
        "info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}}
    })
}


@pytest.mark.parametrize(
    ("labels", "metadata", "class_names", "expected"),
    [
        (pa.array([1, 0, 1, None]), HF_METADATA, ("ant", "bee"), ["bee", "ant", "bee", ""]),
        (pa.array([1, 0, 9, -1]), HF_METADATA, ("ant", "bee"), ["bee", "ant", "", ""]),
        (pa.array([1, 0, 1, 2]), {"classes": "ant,bee,cat"}, ("ant", "bee", "cat"), ["bee", "ant", "bee", "cat"]),
        (pa.array([1, 0, 1, 1]), {"classes": "a, b|c, d"}, ("a, b", "c, d"), ["c, d", "a, b", "c, d", "c, d"]),
        (pa.array([1, 0, 1, 1]), {"classes": '["a", "a"]'}, ("a", "a (2)"), ["a (2)", "a", "a (2)", "a (2)"]),
        (pa.array([1, 0, 1, 1]), {"huggingface": "not json {"}, ("0", "1"), ["1", "0", "1", "1"]),
        (pa.array([30, -1, 7, 30], pa.int8()), None, ("7", "30"), ["30", "", "7", "30"]),
        (pa.array(["z", "a", "", None]), None, ("a", "z"), ["z", "a", "", ""]),
        (pa.array(["z", "a\n", "z", "z"]).dictionary_encode(), None, ("a\\x0a", "z"), ["z", "a\\x0a", "z", "z"]),
        (pa.array([True, False, None, True]), None, ("0", "1"), ["1", "0", "", "1"]),
        (pa.array([[1], [2], [], None]), None, (), ["", "", "", ""]),
        (None, None, (), ["", "", "", ""]),
    ],
)
def test_parquet_labels(
    tmp_path: Path, labels: pa.Array, metadata: dict, class_names: tuple[str, ...], expected: list[str]
) -> None:
    pq.write_table(parquet_table(4, labels, metadata=metadata), tmp_path / "t.parquet")
    dataset = load_dataset(f"parquet:{tmp_path / 't.parquet'}")
    check(dataset)
    assert dataset.class_names == class_names
    assert [item.class_name for item in dataset.items] == expected
    assert keys(dataset) == [f"t/{row:05d}" for row in range(4)]


def test_a_folder_of_parquet_files_in_row_groups(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(parquet_table(7, pa.array([0] * 7)), tmp_path / "data" / "train-0.parquet", row_group_size=3)
    pq.write_table(parquet_table(0, pa.array([], pa.int64())), tmp_path / "data" / "train-1.parquet")
    pq.write_table(parquet_table(5, pa.array([1] * 5)), tmp_path / "data" / "train-2.PARQUET", row_group_size=2)
    (tmp_path / "README.md").write_text("about")
    dataset = load_dataset(f"parquet:{tmp_path}")
    check(dataset)
    assert len(dataset.items) == 12
    assert dataset.items[8].key == "data/train-2/00001"
    assert [dataset.read(item).getpixel((0, 0))[0] for item in dataset.items] == [*range(7), *range(5)]
    assert load_dataset(str(tmp_path / "data")).id == f"parquet:{tmp_path / 'data'}"


@pytest.mark.parametrize("spill_bytes", [1, 2_000, 1 << 26])
def test_parquet_cells_in_any_order_from_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spill_bytes: int
) -> None:
    """Row groups that stay in memory, that push each other out, and that go through a temporary file."""
    monkeypatch.setattr(row_groups, "SPILL_BYTES", spill_bytes)
    monkeypatch.setattr(row_groups, "CACHE_BYTES", 2_500)
    pq.write_table(parquet_table(200), tmp_path / "t.parquet", row_group_size=9)
    dataset = load_dataset(str(tmp_path / "t.parquet"))
    order = list(np.random.default_rng(0).permutation(200))
    with ThreadPoolExecutor(8) as pool:
        levels = list(pool.map(lambda row: dataset.read(dataset.items[row]).getpixel((0, 0))[0], order))
    assert levels == order


def test_memory_stays_bounded_in_one_large_row_group(tmp_path: Path) -> None:
    """A file that is one row group of 160 MB is read within 120 MB."""
    path = tmp_path / "t.parquet"
    schema = pa.schema([("image", pa.binary())])
    noise = np.random.default_rng(0).bytes(2_000_000)
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        cells = pa.array([image_bytes(row) + noise for row in range(80)], pa.binary())
        writer.write_table(pa.table({"image": cells}), row_group_size=1_000)
    assert pq.ParquetFile(path).num_row_groups == 1
    script = """
import resource, sys
from jepascore_core.datasets import load_dataset
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = load_dataset(sys.argv[1])
for row in (60, 3, 79):
    assert dataset.read(dataset.items[row]).getpixel((0, 0))[0] == row
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""
    del cells, noise
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120


def test_plain_bytes_and_other_names(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary()):
        table = pa.table({"id": [1, 2], "jpg": pa.array([image_bytes(5), None], kind), "cls": [0, 1]})
        pq.write_table(table, tmp_path / "t.parquet")
        dataset = load_dataset(f"parquet:{tmp_path}")
        check(dataset)
        assert dataset.class_names == ("0", "1")
        assert dataset.file_of(dataset.items[0]) == image_bytes(5)
        with pytest.raises(ImageError, match="no image bytes"):
            dataset.read(dataset.items[1])


def test_a_path_in_a_table_opens_no_file(tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(image_bytes())
    cells = [{"bytes": None, "path": str(tmp_path / "private.png")}, None]
    table = pa.table({"image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    pq.write_table(table, tmp_path / "t.parquet")
    dataset = load_dataset(f"parquet:{tmp_path / 't.parquet'}")
    for item in dataset.items:
        with pytest.raises(ImageError, match="no image bytes"):
            dataset.read(item)


def test_parquet_that_cannot_be_opened(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    pq.write_table(parquet_table(20, pa.array([0] * 20)), good)
    data = good.read_bytes()

    def message(dataset_id: str) -> str:
        with pytest.raises(DatasetError) as caught:
            load_dataset(dataset_id)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "There is no file or folder" in message(f"parquet:{tmp_path / 'missing.parquet'}")
    for name, content in {"cut": data[: len(data) // 2], "zero": b"", "text": b"hello", "tail": data[:-3]}.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
        assert "is not a whole Parquet file" in message(f"parquet:{tmp_path / name}.parquet")
    (tmp_path / "empty").mkdir()
    assert "holds no .parquet files" in message(f"parquet:{tmp_path / 'empty'}")
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "text.parquet")
    assert "no column of image bytes; its columns are 'text', 'n'" in message(f"parquet:{tmp_path / 'text.parquet'}")
    pq.write_table(parquet_table(0), tmp_path / "none.parquet")
    assert "holds no rows" in message(f"parquet:{tmp_path / 'none.parquet'}")
    (tmp_path / "two").mkdir()
    for name, classes in {"a": "x,y", "b": "p,q"}.items():
        table = parquet_table(2, pa.array([0, 1]), metadata={"classes": classes})
        pq.write_table(table, tmp_path / "two" / f"{name}.parquet")
    assert "do not have the same classes" in message(f"parquet:{tmp_path / 'two'}")


def test_a_damaged_row_group_costs_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(parquet_table(40, pa.array([0] * 40)), path, row_group_size=10, use_dictionary=False)
    chunk = pq.read_metadata(path).row_group(2).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    dataset = load_dataset(f"parquet:{path}")
    failed = []
    for item in dataset.items:
        try:
            dataset.read(item)
        except ImageError as error:
            assert "Row group 2 of t.parquet is damaged" in str(error)
            failed.append(item.index)
    assert failed == list(range(20, 30))


def test_mutated_parquet_is_read_or_named(tmp_path: Path) -> None:
    """Damaged anywhere, a file is refused or costs some of its rows; nothing else, and never much memory."""
    path = tmp_path / "t.parquet"
    pq.write_table(parquet_table(12, pa.array([0] * 12), metadata=HF_METADATA), path, row_group_size=4)
    refused = damaged = 0
    for data in [mutant for seed in range(6) for mutant in mutations(path.read_bytes(), seed)]:
        path.write_bytes(data)
        try:
            dataset = load_dataset(f"parquet:{path}")
        except DatasetError:
            refused += 1
            continue
        for item in dataset.items:
            try:
                assert dataset.read(item).mode == "RGB"
            except ImageError:
                damaged += 1
    assert refused
    assert damaged


def test_a_parquet_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(parquet_table(40), path, row_group_size=10)
    dataset = load_dataset(f"parquet:{path}")
    assert dataset.read(dataset.items[0])
    path.unlink()
    assert dataset.read(dataset.items[1])  # its row group is in memory
    with pytest.raises(DatasetGone, match="cannot be reached any more"):
        dataset.read(dataset.items[15])


# Rows, labels, samples


def test_rows_are_a_sequence() -> None:
    rows = Rows([("a", 2), ("b", 0), ("c", 3)], np.array([0, 1, -1, 1, 0], np.int32), ("x", "y"))
    listed = list(rows)
    assert [item.key for item in listed] == ["a/00000", "a/00001", "c/00000", "c/00001", "c/00002"]
    assert rows[-1] == listed[4]
    assert rows[1:3] == listed[1:3]
    assert listed[2] == Item(2, "c/00000", UNLABELLED, "")
    with pytest.raises(IndexError):
        rows[5]


@given(st.lists(st.none() | st.integers(-3, 40), max_size=30))
def test_numbers_become_labels(values: list[int | None]) -> None:
    labels, names = encode_labels(pa.chunked_array([pa.array(values, pa.int64())]))
    assert [names[label] if label >= 0 else None for label in labels] == [
        str(value) if value is not None and value >= 0 else None for value in values
    ]
    assert list(map(int, names)) == sorted(set(map(int, names)))


def draw_items(counts: list[int]) -> list[Item]:
    pairs = [(f"class {label}", row) for label, count in enumerate(counts) for row in range(count)]
    return [Item(index, f"{name}/{row}", int(name[6:]), name) for index, (name, row) in enumerate(pairs)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any), st.integers(1, 12), st.integers(0, 99))
def test_samples_are_nested_stratified_and_reproducible(counts: list[int], per_class: int, seed: int) -> None:
    items = draw_items(counts)
    chosen = sample(items, per_class=per_class, seed=seed)
    assert Counter(item.label for item in chosen) == {
        label: min(count, per_class) for label, count in enumerate(counts) if count
    }
    assert chosen == sample(list(items), per_class=per_class, seed=seed)
    assert set(chosen) <= set(sample(items, per_class=per_class + 1, seed=seed))
    assert len(set(chosen)) == len(chosen)
    for limit in range(1, len(chosen) + 1):
        beginning = sample(items, per_class=per_class, seed=seed, limit=limit)
        assert beginning == chosen[:limit]
        taken = Counter(item.label for item in beginning)
        for label, count in enumerate(counts):  # no class waits while another gets two more
            assert taken[label] >= min(count, per_class, max(taken.values()) - 1)


@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.data())
def test_a_choice_of_classes_leaves_the_others_order_alone(counts: list[int], data: st.DataObject) -> None:
    items = draw_items(counts)
    names = [f"class {label}" for label in range(len(counts))]
    kept = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    chosen = sample(items, classes=kept, seed=3)
    assert [item for item in sample(items, seed=3) if item.class_name in kept] == chosen


def test_another_seed_is_another_sample() -> None:
    items = draw_items([50])
    assert sample(items, limit=10, seed=0) != sample(items, limit=10, seed=1)
    with pytest.raises(DatasetError, match="No class named 'dragon'"):
        sample(items, classes=["dragon"])
    with pytest.raises(DatasetError, match="at least 1"):
        sample(items, per_class=0)


# Ids


def test_the_table_is_complete() -> None:
    ids = [entry.id for entry in DATASETS]
    assert len(set(ids)) == len(ids)
    assert {f"demo:{name}" for name in DEMO_NAMES} <= set(ids)
    assert {"imagenet-1k", "imagenet-a", "imagenet-r", "mnist", "galaxy10", "cifar10", "textures"} <= set(ids)
    for entry in (*DATASETS, *KINDS):
        assert all((entry.id, entry.target, entry.name, entry.description, entry.licence, entry.needs)), entry
        assert entry.description.endswith(".")
        assert len(entry.description) < 130
    for name in (*ids, *SYNONYMS):
        kind, _, rest = expand(name).partition(":")
        assert kind in ("demo", "hf", "torchvision")
        if kind == "torchvision":
            assert rest.partition(":")[0] in VISION_SETS


@pytest.mark.parametrize(
    ("dataset_id", "close"),
    [
        ("imagenet", {"imagenet-1k", "imagenet-a", "imagenet-r"}),
        ("minst", {"mnist"}),
        ("demo/photos", {"demo:photos"}),
        ("cifar-10", {"cifar10"}),
    ],
)
def test_an_unknown_id_names_the_three_closest(dataset_id: str, close: set[str]) -> None:
    with pytest.raises(DatasetError, match="There is no dataset or path") as caught:
        load_dataset(dataset_id)
    offered = str(caught.value).partition("the closest are ")[2].rstrip(".").split(", ")
    assert len(offered) == 3
    assert close <= set(offered)


@pytest.mark.parametrize(
    "dataset_id",
    [
        "",
        "folder:",
        "hf:",
        "folder:~no one/x",
        "~no one",
        "hf:nope",
        "hf:../x",
        "hf:a/b:../..",
        "a\0b",
        "x" * 9000,
        "\udcff",
    ],
)
def test_strange_ids_are_one_sentence(dataset_id: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(dataset_id)
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


def test_importing_datasets_is_light() -> None:
    heavy = ("torch", "torchvision", "datasets", "pyarrow", "skimage", "streamlit")
    script = f"import sys, jepascore_core.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# torchvision


def test_torchvision_files_that_are_already_here(private_home: None) -> None:
    """MNIST and DTD as torchvision lays them out on disk; no network is needed."""
    data = Path(os.environ["JEPASCORE_HOME"]) / "data"
    raw = data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(4 * 28 * 28).reshape(4, 28, 28) % 256
    for part in ("t10k", "train"):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array([7, 2, 1, 0]))
    mnist = load_dataset("torchvision:MNIST")
    check(mnist)
    assert mnist.id == "torchvision:MNIST:test"
    assert [item.label for item in mnist.items] == [7, 2, 1, 0]
    assert mnist.class_names[7] == "7 - seven"
    assert keys(mnist)[0] == "test/00000"
    assert np.array_equal(np.asarray(mnist.read(mnist.items[2]))[:, :, 0], pixels[2])

    write_images(data / "dtd" / "dtd", ["images/banded/banded_1.png", "images/wavy/wavy_1.png"])
    labels = data / "dtd" / "dtd" / "labels"
    labels.mkdir()
    for split in ("train", "val", "test"):
        (labels / f"{split}1.txt").write_text("banded/banded_1.png\nwavy/wavy_1.png\n")
    assert load_dataset("torchvision:MNIST", download=False).fingerprint == mnist.fingerprint
    assert mnist.file_of(mnist.items[0]) is None
    with pytest.raises(DatasetError, match=r"^KMNIST is not on this machine; scoring images of it downloads it\.$"):
        load_dataset("torchvision:KMNIST", download=False)
    textures = load_dataset("dtd")
    check(textures)
    assert textures.id == "torchvision:DTD:test"
    assert textures.class_names == ("banded", "wavy")
    (data / "dtd" / "dtd" / "images" / "wavy" / "wavy_1.png").write_bytes(b"")
    with pytest.raises(ImageError, match="torchvision cannot read this image"):
        textures.read(textures.items[1])


def test_torchvision_names_and_splits() -> None:
    with pytest.raises(DatasetError, match="the closest are MNIST"):
        load_dataset("torchvision:Mnist")
    with pytest.raises(DatasetError, match="has no split 'dev'; it has test, train"):
        load_dataset("torchvision:CIFAR10:dev")


# The Hugging Face hub, played by a server on this machine


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as reading one repository takes."""

    files: dict[str, bytes]
    asked: list[str]
    commit = "c0ffee" + "0" * 34

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path == "/":
            self.answer(200)
        elif "/owner/gated" in path:
            self.answer(401, X_Error_Code="GatedRepo")
        elif "/owner/pets" not in path:
            self.answer(401, X_Error_Code="RepoNotFound")
        elif "/resolve/" in path:
            self.file(path.partition("/resolve/")[2].partition("/")[2])
        elif "/tree/" in path:
            self.entries([path.partition("/tree/")[2].partition("/")[2]])
        elif "/paths-info/" in path:
            self.entries(parse_qs(body)["paths"])
        else:
            about = {"id": "owner/pets", "sha": self.commit, "siblings": [{"rfilename": name} for name in self.files]}
            self.answer(200, json.dumps(about).encode(), Content_Type="application/json")

    do_GET = do_POST = do_HEAD

    def file(self, name: str) -> None:
        if name not in self.files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=self.commit)
        return self.answer(200, self.files[name], ETag=f'"{name.replace("/", "-")}"', X_Repo_Commit=self.commit)

    def entries(self, folders: list[str]) -> None:
        found = [{"type": "directory", "path": "data", "size": 0, "oid": "d"}] if folders == [""] else []
        found += [
            {"type": "file", "path": name, "size": len(data), "oid": name}
            for name, data in self.files.items()
            if name.rpartition("/")[0] in folders or name in folders
        ]
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """Address of a hub with one repository of two splits, and the list of what was asked of it."""
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    files = {}
    for split, count in (("train", 30), ("test", 4)):
        card += f"  - split: {split}\n    path: data/{split}-*\n"
        labels = pa.array([row % 2 for row in range(count)])
        table = parquet_table(count, labels, metadata=HF_METADATA)
        if split == "test":  # one damaged image, and one that points at a file of this machine
            cells = table["image"].to_pylist()
            cells[2] = {"bytes": b"damaged", "path": "2.png"}
            cells[3] = {"bytes": None, "path": "/etc/hostname.png"}
            table = table.set_column(0, "image", pa.array(cells, table["image"].type))
        out = io.BytesIO()
        pq.write_table(table, out)
        files[f"data/{split}-0.parquet"] = out.getvalue()
    files["README.md"] = f"{card}---\n".encode()
    handler = type("Handler", (Hub,), {"files": files, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
        server.shutdown()


CLIENT = """
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from jepascore_core.datasets import load_dataset
from jepascore_core.errors import DatasetError, DatasetGone, ImageError
for dataset_id in sys.argv[1:]:
    started, report = time.monotonic(), {}
    try:
        dataset = load_dataset(dataset_id, download="NO_DOWNLOAD" not in os.environ)
        report = {"id": dataset.id, "fingerprint": dataset.fingerprint, "rows": []}
        def read(item):
            try:
                return [item.key, item.class_name, dataset.read(item).getpixel((0, 0))[0]]
            except ImageError as error:
                return [item.key, item.class_name, str(error)]
        with ThreadPoolExecutor(4) as pool:
            report["rows"] = list(pool.map(read, dataset.items))
        report["file"] = dataset.file_of(dataset.items[0]).hex()
    except DatasetError as error:
        report = {"error": str(error)}
    print(json.dumps(report | {"elapsed_s": time.monotonic() - started}))
"""


def ask_hub(address: str, home: Path, *dataset_ids: str, **more: str) -> list[dict]:
    """Load datasets in a process of its own, since Hugging Face reads its settings when it is imported."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": address, **more}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *dataset_ids], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hub_online_then_offline(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    address, asked = hub
    online = ask_hub(
        address,
        tmp_path,
        "hf:owner/pets",
        "hf:owner/pets:dev",
        "hf:owner/gated",
        "hf:owner/lost",
        "hf:owner/pets/big:test",
    )
    assert online[0]["id"] == "hf:owner/pets:test"
    assert online[0]["rows"] == [
        ["test/00000", "ant", 0],
        ["test/00001", "bee", 1],
        ["test/00002", "ant", "Not an image that can be read."],
        ["test/00003", "bee", "The row holds no image bytes."],
    ]
    assert online[0]["file"].startswith("89504e47")  # PNG, as it is stored
    assert not [path for path in asked if "train-0" in path], "a split that nobody asked for was downloaded"
    errors = [report["error"] for report in online[1:]]
    assert errors[0] == "owner/pets has no split 'dev'; it has train, test."
    assert errors[1].startswith("owner/gated is gated: accept its terms at https://huggingface.co/datasets/owner/gated")
    assert "hf auth login" in errors[1]
    assert "has no public dataset owner/lost" in errors[2]
    assert "'big' not found" in errors[3]

    nobody = "http://127.0.0.1:9"  # the discard port: nothing listens there
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        offline = ask_hub(nobody, tmp_path, "hf:owner/pets:test", "hf:owner/pets", "hf:owner/pets:train", **more)
        for report in offline[:2]:
            assert {**report, "elapsed_s": 0} == {**online[0], "elapsed_s": 0}
        assert "cannot be reached" in offline[2]["error"]
        assert "owner/pets (train) is not on this machine yet" in offline[2]["error"]
        assert ("HF_HUB_OFFLINE is set" in offline[2]["error"]) == bool(more)

    before = len(asked)
    here, absent = ask_hub(address, tmp_path, "hf:owner/pets:test", "hf:owner/pets:train", NO_DOWNLOAD="1")
    assert here["rows"] == online[0]["rows"] and len(asked) == before
    assert absent["error"] == "owner/pets (train) is not on this machine; scoring images of it downloads it."


@pytest.mark.parametrize("name", ["imagenet-1k", "textures"])
def test_no_network_is_said_at_once(tmp_path: Path, name: str) -> None:
    """A name server that knows nobody, as on a machine without network."""
    no_network = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    (report,) = ask_hub("https://hub.invalid", tmp_path, name, JEPASCORE_HOME=str(tmp_path), no_proxy="", **no_network)
    assert "go online once" in report["error"]
    assert report["error"].count(". ") == 0
    assert report["elapsed_s"] < 30  # most of it importing torchvision


# The research images, where they are


def test_shared_imagenet10(shared_data: Path) -> None:
    started = time.monotonic()
    dataset = load_dataset(f"folder:{shared_data / 'imagenet10'}")
    assert time.monotonic() - started < 5
    check(dataset)
    assert len(dataset.items) == 3700
    assert Counter(item.class_name for item in dataset.items)["church"] == 1000
    assert len(dataset.class_names) == 10
    for item in sample(dataset.items, per_class=2):
        assert dataset.read(item).size == (224, 224)


def test_shared_mnist_galaxy_and_textures(shared_data: Path) -> None:
    mnist = load_dataset(str(shared_data / "mnist"))
    check(mnist)
    assert len(mnist.items) == 10_000
    assert mnist.items[0].key == "t10k/00000"
    assert [item.class_name for item in mnist.items[:5]] == ["7", "2", "1", "0", "4"]
    galaxy = load_dataset(str(shared_data / "galaxy"))
    check(galaxy)
    assert galaxy.class_names == ("non_spiral", "spiral")
    assert galaxy.read(galaxy.items[0]).size == (424, 424)
    textures = load_dataset(str(shared_data / "textures"))
    check(textures)
    assert len(textures.items) == 200


def test_shared_parquet(shared_data: Path) -> None:
    cifar = load_dataset(str(shared_data / "cifar10_test_4000.parquet"))
    check(cifar)
    assert cifar.class_names[:3] == ("airplane", "automobile", "bird")
    assert cifar.read(cifar.items[3999]).size == (32, 32)
    tiny = load_dataset(str(shared_data / "tiny_imagenet_train_24000.parquet"))
    check(tiny)
    assert len(tiny.items) == 24_000
    assert tiny.class_names[0] == "n01443537 goldfish"
    assert all(tiny.read(item).size == (64, 64) for item in sample(tiny.items, limit=300))

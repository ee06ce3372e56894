"""What leaves a run: tables, zips of images, and datasets that other libraries open."""

import csv
import io
import json
import os
import random
import shutil
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jepascore_core import packs, store
from jepascore_core.datasets import load_dataset
from jepascore_core.errors import RunError
from jepascore_core.files import write_json
from jepascore_core.locks import Cancelled
from jepascore_core.packs import chosen, layouts, names
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import Run, ScoreRule, parts
from jepascore_core.store.key_lines import key_line, parse_key_line, read_keys
from tests.tiny import TinyDataset, tiny_work

PICTURES = {
    "test/one.jpg": "JPEG",  # a class that Hugging Face takes for a split
    "test/two.png": "PNG",
    "train/=cmd.bmp": "BMP",
    "train/CON.webp": "WEBP",
    "a\\..\\..\\b.gif": "GIF",
    "loose.jpg": "JPEG",
}


def save(path: Path, kind: str, level: int, size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder and the images of its first run: real files, one of them damaged. The second run has drawn ones."""
    root = tmp_path_factory.mktemp("made")
    for level, (name, kind) in enumerate(PICTURES.items()):
        save(root / "images" / name, kind, level)
    (root / "images" / "train" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(root / "home"))
        (root / "runs").mkdir()
        for dataset in (load_dataset(f"folder:{root / 'images'}"), TinyDataset(6)):
            score_work(tiny_work(root / "runs", dataset), Hooks(threading.Event()))
    return root


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> list[Run]:
    """Copies of both runs, that of the files first."""
    copied = [
        store.open_run(shutil.copytree(path, tmp_path / "runs" / path.name)) for path in (made / "runs").iterdir()
    ]
    return sorted(copied, key=lambda run: run.meta["dataset"]["id"], reverse=True)


@pytest.fixture
def files(runs: list[Run]) -> Run:
    """The run of six files and a damaged one."""
    return runs[0]


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def manifest(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(members(path)["manifest.csv"].decode(), newline="")))


def moved(run: Run, dataset_id: str) -> Run:
    """The run, as if its dataset were another."""
    write_json(run.path / "run.json", run.meta | {"request": run.meta["request"] | {"dataset_id": dataset_id}})
    return store.open_run(run.path)


# Images


def test_a_zip_holds_the_files_as_they_are(files: Run, made: Path, tmp_path: Path) -> None:
    store.add_tag(files, 'odd, "b"', ["loose.jpg"])
    packed = packs.pack({files: None}, "zip-images", tmp_path / "x.zip")
    assert (packed.images, packed.missing) == (6, 1)
    held, rows = members(packed.path), manifest(packed.path)
    assert set(held) == {row["file"] for row in rows} | {"manifest.csv", "missing.txt"}
    scored = store.scores(files).set_index("key")
    for row in rows:
        key = row["key"].removeprefix("'")
        source = made / "images" / key.replace("\\\\", "\\")
        if source.suffix == ".bmp":  # which browsers show, and other programs may not
            assert row["file"].endswith(".png")
            assert np.array_equal(Image.open(io.BytesIO(held[row["file"]])), Image.open(source))
        else:
            assert held[row["file"]] == source.read_bytes() and row["file"].endswith(source.suffix)
        assert float(row["jepa_score"]) == scored.loc[key, "score"] and row["convention"] == "raw"
        assert row["run"] == files.name and row["encoder"] == "demo:tiny"
        assert json.loads(row["tags"]) == (['odd, "b"'] if key == "loose.jpg" else [])
    assert held["missing.txt"].decode().startswith(f"{files.name}\ttrain/broken.jpg\tThe image is damaged")


def test_names_in_a_zip_are_harmless(files: Run, tmp_path: Path) -> None:
    held = members(packs.pack({files: None}, "zip-images", tmp_path / "x.zip").path)
    inside = ("unlabelled/000001-b.gif", "unlabelled/000002-loose.jpg", "test/000003-one.jpg", "test/000004-two.png")
    inside += ("train/000005-_cmd.png", "train/000006-_CON.webp")
    assert set(held) == {f"{files.name}/{name}" for name in inside} | {"manifest.csv", "missing.txt"}
    folded = [name.casefold() for name in held]
    assert len(set(folded)) == len(folded)
    for name in held:
        path = PurePosixPath(name)
        assert not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
        assert not any(part.startswith(".") or part.endswith((".", " ")) for part in path.parts)


@given(text=st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_becomes_a_file_name(text: str) -> None:
    for name in (names.safe_name(text), names.stem_of(text)):
        assert 0 < len(name) <= 48 and len(name.encode()) <= 200
        assert name[0] not in ". -" and name[-1] not in ". "
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t') and name.isprintable()
        assert name.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


def test_thumbnails_of_several_runs_need_no_dataset(runs: list[Run], tmp_path: Path) -> None:
    selection = {run: list(store.extremes(run, 3)["key"]) for run in runs}
    packed = packs.pack(selection, "zip-thumbnails", tmp_path / "x.zip")
    held, rows = members(packed.path), manifest(packed.path)
    assert (packed.images, packed.missing, len(rows), "missing.txt" in held) == (6, 0, 6, False)
    for run in runs:
        mine = {row["key"].removeprefix("'"): row for row in rows if row["run"] == run.name}
        assert set(mine) == set(selection[run])
        for key, row in mine.items():
            assert held[row["file"]] == store.row(run, key)["thumbnail"]


def test_what_cannot_be_had_is_listed_and_counted(runs: list[Run], made: Path, tmp_path: Path) -> None:
    images = shutil.copytree(made / "images", tmp_path / "images")
    (images / "test" / "one.jpg").unlink()
    near = moved(runs[0], f"folder:{images}")
    packed = packs.pack(
        {near: ["test/one.jpg", "test/two.png", "nope"], runs[1]: None}, "zip-images", tmp_path / "x.zip"
    )
    assert (packed.images, packed.missing) == (1, 8)
    lines = [line.split("\t") for line in members(packed.path)["missing.txt"].decode().splitlines()]
    reasons = {(run, key): reason for run, key, reason in lines}
    assert reasons[near.name, "test/one.jpg"] == "The dataset no longer holds this image."
    assert reasons[near.name, "nope"] == "The run holds no such image."
    assert "blobs" in reasons[runs[1].name, "cat/0000.png"] and len(reasons) == 8


def test_nothing_at_hand_is_one_sentence(files: Run, tmp_path: Path) -> None:
    for gone, words in ((f"folder:{tmp_path / 'gone'}", "gone"), ("hf:owner/absent:test", "not on this machine")):
        with pytest.raises(RunError, match=rf"^No image can be exported: .*{words}"):
            packs.pack({moved(files, gone): None}, "zip-images", tmp_path / "x.zip")
    with pytest.raises(RunError, match=r"^No image can be exported: none is chosen\.$"):
        packs.pack({files: []}, "zip-thumbnails", tmp_path / "x.zip")
    (files.path / "run.json").unlink()
    with pytest.raises(RunError, match="run\\.json is missing"):
        packs.pack({store.open_run(files.path): ["loose.jpg"]}, "zip-images", tmp_path / "x.zip")
    assert packs.pack({store.open_run(files.path): ["loose.jpg"]}, "zip-thumbnails", tmp_path / "y.zip").images == 1
    assert not list(tmp_path.glob("*x.zip*"))


def test_a_folder_that_has_grown_still_gives_the_right_files(files: Run, made: Path, tmp_path: Path) -> None:
    images = shutil.copytree(made / "images", tmp_path / "images")
    save(images / "aardvark.png", "PNG", 99)  # every index moves by one
    packed = packs.pack({moved(files, f"folder:{images}"): ["test/one.jpg"]}, "zip-images", tmp_path / "x.zip")
    (row,) = manifest(packed.path)
    assert members(packed.path)[row["file"]] == (images / "test" / "one.jpg").read_bytes()


def test_rows_of_a_table_that_has_changed_are_refused(tmp_path: Path) -> None:
    """A row number names another image once the table is another."""
    table = tmp_path / "t.parquet"
    for levels in (range(4), range(4, 9)):
        cells = []
        for level in levels:
            save(tmp_path / "x.png", "PNG", level)
            cells.append((tmp_path / "x.png").read_bytes())
        before = table.read_bytes() if table.exists() else b""
        pq.write_table(parts.pa.table({"image": cells, "label": [0] * len(cells)}), table)
        if not before:
            (tmp_path / "runs").mkdir()
            run = score_work(tiny_work(tmp_path / "runs", load_dataset(f"parquet:{table}")), Hooks(threading.Event()))
            packed = packs.pack({run: ["t/00002"]}, "zip-images", tmp_path / "x.zip")
            assert members(packed.path)[manifest(packed.path)[0]["file"]] == cells[2]
    with pytest.raises(RunError, match="has changed since this run"):
        packs.pack({run: ["t/00002"]}, "zip-images", tmp_path / "x.zip")


def test_a_thumbnail_that_is_no_picture_does_not_leave(files: Run, tmp_path: Path) -> None:
    for path in parts.part_files(files.path):
        table = pq.read_table(path)
        place = table.schema.get_field_index("thumbnail")
        column = parts.pa.array([b"<script>alert(1)</script>"] * len(table), parts.pa.binary())
        pq.write_table(table.set_column(place, parts.SCHEMA.field(place), column), path)
    with pytest.raises(RunError, match="no thumbnail"):
        packs.pack({files: ["loose.jpg"]}, "zip-thumbnails", tmp_path / "x.zip")


def test_any_error_of_a_library_is_a_reason(files: Run, tmp_path: Path) -> None:
    dataset = load_dataset(files.meta["dataset"]["id"])

    def explode(item: object) -> bytes:
        raise ZeroDivisionError("<traceback>")

    dataset.file_of = explode
    opened: list[str] = []
    with pytest.raises(RunError, match=r"cannot be read \(ZeroDivisionError\)"):
        packs.pack(
            {files: None}, "zip-images", tmp_path / "x.zip", open_dataset=lambda name: opened.append(name) or dataset
        )
    assert opened == [files.meta["dataset"]["id"]], "the dataset was opened more than once"


def test_the_other_scores_are_exported_too(files: Run, tmp_path: Path) -> None:
    rule = ScoreRule("corrected")
    expected = store.scores(files, rule=rule).set_index("key")["score"]
    for row in manifest(packs.pack({files: None}, "zip-thumbnails", tmp_path / "x.zip", rule=rule).path):
        assert float(row["jepa_score"]) == expected[row["key"].removeprefix("'")] and row["convention"] == "corrected"


def test_a_spreadsheet_runs_no_formula_of_a_manifest(files: Run, tmp_path: Path) -> None:
    write_json(files.path / "run.json", files.meta | {"dataset": files.meta["dataset"] | {"id": "=cmd|' /C calc'!A0"}})
    rows = manifest(packs.pack({store.open_run(files.path): None}, "zip-thumbnails", tmp_path / "x.zip").path)
    assert all(row["dataset"].startswith("'=cmd") for row in rows)
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


# Whole or absent, in bounded memory


def test_a_pack_is_whole_or_absent(files: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.zip").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for kind, name in (("zip-thumbnails", "x.zip"), ("huggingface", "new")):
        with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left on device"):
            patch.setattr(layouts, "_join", full)
            packs.pack({files: None}, kind, tmp_path / name)
    assert (tmp_path / "x.zip").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "x.zip"]
    with pytest.raises(RunError, match="Cannot write"):
        packs.pack({files: None}, "zip-thumbnails", tmp_path / "no" / "such" / "x.zip")


def test_a_folder_that_holds_something_is_not_replaced(files: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="exists already"):
        packs.pack({files: ["loose.jpg"]}, "fiftyone", tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"
    assert packs.pack({files: ["loose.jpg"]}, "fiftyone", tmp_path / "empty").path.joinpath("samples.json").is_file()


def test_progress_is_told_and_stopping_leaves_nothing(files: Run, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    packs.pack({files: None}, "zip-images", tmp_path / "x.zip", on_progress=lambda *now: told.append(now))
    assert told == [(done, 7) for done in range(1, 8)]
    stop = threading.Event()
    with pytest.raises(Cancelled):
        packs.pack({files: None}, "zip-images", tmp_path / "y.zip", on_progress=lambda *_: stop.set(), stop=stop)
    assert not list(tmp_path.glob("*y.zip*"))


def test_temporary_files_go_after_an_hour(files: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = packs.pack({files: None}, "csv")
    assert first.path.name == "jepascore.csv" and first.path.parent.stat().st_mode & 0o077 == 0
    second = packs.pack({files: None}, "zip-thumbnails")
    assert first.path.exists() and second.path.exists()
    for path in (first.path, first.path.parent):
        os.utime(path, (time.time() - 4000,) * 2)
    os.utime(second.path.parent, (0, 0))  # an old folder whose file is still being written
    with pytest.raises(RunError):
        packs.pack({files: []}, "zip-thumbnails")
    assert not first.path.exists() and second.path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", second.path.parent.name}


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    facts = dict.fromkeys(chosen.FACTS, "x") | {"tags": []}
    found = (chosen.Picture(b"\xff\xd8\xff" + random.randbytes(1 << 20), ".jpg", facts) for _ in range(60))
    tracemalloc.start()
    for name in ("x.zip", "x"):
        assert packs._fill(tmp_path / name, layouts.ImageFolder(), found) == (60, 0)
        found = (chosen.Picture(b"\xff\xd8\xff" + random.randbytes(1 << 20), ".jpg", facts) for _ in range(60))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


# Hugging Face and FiftyOne


@pytest.mark.parametrize("name", ["unpacked", "x.zip"])
def test_hugging_face_reads_images_labels_and_scores(runs: list[Run], name: str, tmp_path: Path) -> None:
    import datasets

    files = runs[0]
    store.add_tag(files, "odd", ["train/CON.webp"])
    packed = packs.pack({files: None}, "huggingface", tmp_path / name)
    assert (packed.images, packed.missing) == (6, 1)
    where = {"data_dir": str(packed.path)} if packed.path.is_dir() else {"data_files": str(packed.path)}
    loaded = datasets.load_dataset("imagefolder", cache_dir=str(tmp_path / "cache"), **where)
    assert list(loaded) == ["train"] and len(loaded["train"]) == 6
    rows = {row["key"]: row for row in loaded["train"]}
    scored = store.scores(files).set_index("key")
    source = load_dataset(files.meta["dataset"]["id"])
    for item in source.items:
        if item.key in scored.index:
            row, expected = rows[item.key], scored.loc[item.key]
            assert np.array_equal(np.asarray(row["image"].convert("RGB")), np.asarray(source.read(item)))
            assert (row["label"], row["class_name"]) == (item.label, item.class_name)
            assert (row["jepa_score"], row["score_error"]) == (expected["score"], expected["score_error"])
            assert (row["run"], row["encoder"], row["dataset"]) == (files.name, "demo:tiny", source.id)
            assert row["tags"] == (["odd"] if item.key == "train/CON.webp" else [])


def test_the_first_rows_show_every_columns_type() -> None:
    """Hugging Face takes the types from the first ten megabytes."""
    layout = layouts.ImageFolder()
    plain = dict.fromkeys(chosen.FACTS, "x") | {"tags": [], "jepa_score": None, "score_error": 0.5}
    rows = [plain, plain, plain | {"tags": ["a"]}, plain | {"jepa_score": 1.0}, plain | {"tags": ["b"]}]
    notes = [layout.note(f"images/{number}.jpg", facts) for number, facts in enumerate(rows)]
    first = [json.loads(line)["file_name"] for line in layout._first]
    assert first == ["images/0.jpg", "images/2.jpg", "images/3.jpg"]
    assert [json.loads(line)["file_name"] for line in notes if line] == ["images/1.jpg", "images/4.jpg"]


def test_fiftyone_files_describe_themselves(runs: list[Run], tmp_path: Path) -> None:
    store.add_tag(runs[0], "odd", ["loose.jpg"])
    packed = packs.pack({run: None for run in runs}, "fiftyone", tmp_path / "f.zip")
    held = members(packed.path)
    samples = json.loads(held["samples.json"])["samples"]
    assert len(samples) == packed.images == 6 and {s["filepath"] for s in samples} <= set(held)
    described = {field["name"]: field for field in json.loads(held["metadata.json"])["sample_fields"]}
    assert all({"id" if name == "_id" else name for name in sample} <= set(described) for sample in samples)
    assert len({sample["_id"]["$oid"] for sample in samples}) == 6
    (loose,) = (sample for sample in samples if sample["key"] == "loose.jpg")
    assert loose["tags"] == ["odd"] and loose["ground_truth"] is None and loose["label"] == -1
    assert {s["ground_truth"]["label"] for s in samples if s["ground_truth"]} == {"test", "train"}


def test_fiftyone_imports_scores_labels_tags_and_runs(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    fiftyone = pytest.importorskip("fiftyone", reason="fiftyone is not installed: pip install fiftyone")
    files = runs[0]
    store.add_tag(files, "odd", ["loose.jpg", "test/two.png"])
    packed = packs.pack({run: None for run in runs}, "fiftyone", tmp_path / "pack", rule=ScoreRule("listing1"))
    try:
        dataset = fiftyone.Dataset.from_dir(
            dataset_dir=str(packed.path), dataset_type=fiftyone.types.FiftyOneDataset, progress=False
        )
    except fiftyone.core.config.FiftyOneConfigError as error:
        pytest.skip(f"FiftyOne has no database here: {str(error)[:120]}")
    try:
        scored = store.scores(files, rule=ScoreRule("listing1")).set_index("key")
        held = {sample.key: sample for sample in dataset}
        assert len(held) == 6 and dataset.distinct("run") == [files.name]
        assert dataset.count_sample_tags() == {"odd": 2}
        assert dataset.count_values("ground_truth.label") == {"test": 2, "train": 2, None: 2}
        for key, sample in held.items():
            assert sample.jepa_score == scored.loc[key, "score"] and sample.convention == "listing1"
            assert sample.source == files.meta["dataset"]["id"] and sample.encoder == "demo:tiny"
            assert Image.open(sample.filepath).size == (30, 20)
        assert dataset.sort_by("jepa_score").first().key == scored["score"].idxmin()
    finally:
        dataset.delete()


# Tables and lists


def test_tables_of_several_runs_name_the_run(runs: list[Run], tmp_path: Path) -> None:
    selection = {runs[0]: ["loose.jpg", "nope"], runs[1]: None}
    packed = packs.pack(selection, "csv", tmp_path / "x.csv")
    table = pd.read_csv(packed.path)
    assert packed.images == len(table) == 7 and table.columns[0] == "run"
    assert list(table["run"]) == [runs[0].name] + [runs[1].name] * 6
    packs.pack(selection, "parquet", tmp_path / "x.parquet")
    held = pd.read_parquet(tmp_path / "x.parquet")
    assert list(held.columns) == ["run", *parts.SCHEMA.names] and list(held["key"]) == list(table["key"])
    np.testing.assert_array_equal(held["jepa_score"], table["jepa_score"])
    packs.pack({runs[1]: None}, "csv", tmp_path / "one.csv")
    assert "run" not in pd.read_csv(tmp_path / "one.csv")


def test_a_list_of_keys_is_read_back(runs: list[Run], tmp_path: Path) -> None:
    packs.pack({run: None for run in runs}, "txt", tmp_path / "x.txt")
    lines = read_keys(tmp_path / "x.txt")
    expected = {(run.name, key) for run in runs for key in store.scores(run)["key"]}
    assert set(lines) == expected and len(lines) == 12
    back = packs.select(runs, key_file=tmp_path / "x.txt")
    assert {(run.name, key) for run, keys in back.items() for key in keys or ()} == expected


@given(key=st.text(), run=st.none() | st.text(min_size=1))
@settings(max_examples=200, deadline=None)
def test_any_key_survives_a_list(key: str, run: str | None) -> None:
    line = key_line(key, run)
    assert line.count("\n") == 1 and line.endswith("\n") and "\r" not in line
    assert parse_key_line(line) == (run, key)


def test_images_are_chosen_by_tag_list_or_both(runs: list[Run], tmp_path: Path) -> None:
    store.add_tag(runs[0], "odd", ["loose.jpg", "test/one.jpg"])
    assert packs.select(runs) == dict.fromkeys(runs)
    assert packs.select(runs, tag="odd") == {runs[0]: ["loose.jpg", "test/one.jpg"]}
    (tmp_path / "k.txt").write_text("\ufeffloose.jpg\n\ncat/0000.png\r\n", encoding="utf-8")
    assert packs.select(runs, key_file=tmp_path / "k.txt") == {runs[0]: ["loose.jpg"], runs[1]: ["cat/0000.png"]}
    assert packs.select(runs, tag="odd", key_file=tmp_path / "k.txt") == {runs[0]: ["loose.jpg"]}
    with pytest.raises(RunError, match=r"^No image has the tag 'even'; there are 'odd'\.$"):
        packs.select(runs, tag="even")
    (tmp_path / "k.txt").write_text("nobody\nknows\n")
    with pytest.raises(RunError, match="names none of the images"):
        packs.select(runs, tag="odd", key_file=tmp_path / "k.txt")
    for harm in (b"\xff\xfe", None):
        (tmp_path / "k.txt").write_bytes(harm) if harm else (tmp_path / "k.txt").unlink()
        with pytest.raises(RunError, match=r"k\.txt"):
            packs.select(runs, key_file=tmp_path / "k.txt")


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("xlsx", "x.csv", "There is no export 'xlsx'; there are csv,"),
        ("csv", "x.zip", "must end in .csv"),
        ("zip-images", "x", "must end in .zip"),
        (None, "x.xlsx", "must end in one of .csv, .parquet, .txt, .zip"),
        (None, "x", "must end in one of"),
    ],
)
def test_a_kind_that_does_not_go_with_the_name(kind: str | None, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=words):
        packs.kind_of(kind, tmp_path / name)


def test_the_ending_decides_where_nothing_is_said() -> None:
    found = [packs.kind_of(None, Path(name)).name for name in ("a.csv", "a.PARQUET", "a.txt", "a.zip")]
    assert found == ["csv", "parquet", "txt", "zip-images"]
    assert all(kind.name == name and kind.title and kind.mime for name, kind in packs.KINDS.items())

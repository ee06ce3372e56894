"""Files of ours whose values are not what they should be: each is refused, or passed over, in words."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from jepascore_core import jobs, load_dataset, load_encoder, store
from jepascore_core.encoders.load import WEIGHTS
from jepascore_core.errors import DatasetError, EncoderError, ImportedFileError, RunError
from jepascore_core.files import write_json
from jepascore_core.importing import ImportRequest, import_file
from jepascore_core.store.key_lines import read_keys
from jepascore_core.store.progress import read_progress
from jepascore_core.store.request import absolute_id
from jepascore_core.store.run_json import stored, what_is_missing
from jepascore_core.theory import grid
from pages.components.text import md
from tests.runs_made import made_run


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    return made_run(tmp_path / "runs", None, None, np.arange(4.0))


def changed(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The same JSON with one value replaced."""
    copy = json.loads(json.dumps(data))
    *sections, name = path.split(".")
    inner = copy
    for section in sections:
        inner = inner[section]
    inner[name] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("views", "many", "the run's views"),
        ("views", 10**400, "the run's views"),
        ("eps", [1], "the run's eps"),
        ("precisions", 5, "the run's precisions"),
        ("versions", "all", "the run's versions"),
        ("imported", True, "the run's imported"),
        ("planned", -3, "how many images"),
        ("planned", True, "how many images"),
        ("encoder.embedding_dim", -1, "encoder's embedding dim"),
        ("encoder.input_size", ["a"], "encoder's input size"),
        ("dataset.class_names", ["a", None], "dataset's class names"),
        ("dataset.size", "9", "dataset's size"),
        ("sample.classes", [3], "sample's classes"),
    ],
)
def test_a_run_whose_json_has_values_of_other_types_says_which(
    run: store.Run, path: str, value: Any, words: str
) -> None:
    write_json(run.path / "run.json", changed(run.meta, path, value))
    again = store.open_run(run.path)
    assert again.problem is not None
    assert words in again.problem
    with pytest.raises(RunError, match="cannot be shown"):
        again.check()


def test_what_may_be_absent_may_be_null(run: store.Run) -> None:
    for path in (
        "views",
        "eps",
        "tolerance",
        "precisions",
        "versions",
        "request",
        "encoder.input_size",
        "dataset.size",
    ):
        assert what_is_missing(changed(run.meta, path, None)) is None, path


def test_texts_of_a_run_can_be_shown(run: store.Run) -> None:
    (run.path / "run.json").write_text(json.dumps(changed(run.meta, "encoder.name", "a\ud800")))
    assert store.open_run(run.path).label.encode().startswith(rb"a\ud800")
    assert stored({"\ud800": ["\udfff", 1, None]}) == {"\\ud800": ["\\udfff", 1, None]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_id", None), ("dataset_id", 3), ("per_class", "5"), ("limit", 2.5), ("seed", None), ("views", True),
        ("classes", 5), ("classes", [1]), ("pretrained", "no"), ("tolerance", "x"), ("memory_share", None),
        ("input_size", "8"), ("precision", []), ("device", {}),
    ],
)  # fmt: skip
def test_a_request_of_other_types_is_refused(name: str, value: Any) -> None:
    whole = {"encoder_id": "demo:jepa-tiny", "dataset_id": "demo:photos", "classes": ["a"]}
    assert store.RunRequest.from_json(whole).classes == ("a",)
    with pytest.raises(RunError, match=name.replace("_", " ")):
        store.RunRequest.from_json(whole | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("planned", 10**400),
        ("done", True),
        ("eta_s", math.nan),
        ("images_per_s", math.inf),
        ("stages", {"read_s": "x"}),
    ],
)
def test_progress_that_cannot_be_reckoned_with_is_damaged(run: store.Run, name: str, value: Any) -> None:
    whole = json.loads((run.path / "progress.json").read_text())
    (run.path / "progress.json").write_text(json.dumps(whole | {name: value}))
    with pytest.raises(ValueError, match="does not hold a run's progress"):
        read_progress(run.path)
    assert store.open_run(run.path).progress().done == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("argv", 5),
        ("runs", [None]),
        ("request", [1]),
        ("done", None),
        ("planned", -1),
        ("eta_s", math.nan),
        ("state", []),
    ],
)
def test_a_job_of_other_types_is_passed_over(tmp_path: Path, name: str, value: Any) -> None:
    job = {"kind": "score", "argv": ["score"], "pid": 4_000_000, "state": "failed", "message": "no\ud800"}
    path = tmp_path / ".jobs" / "a.json"
    path.parent.mkdir()
    path.write_text(json.dumps(job))
    assert [known.message for known in jobs.list_jobs(tmp_path)] == ["no\\ud800"]
    path.write_text(json.dumps(job | {name: value}))
    assert not jobs.list_jobs(tmp_path)


def test_a_record_of_the_lab_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    record = {
        "dim": 2, "samples": 9, "seed": 0, "objective": "sigreg", "broken": "none", "pearson": 0.5, "spearman": None,
        "elapsed_s": 1.0, "config": {}, "recipe": grid.RECIPE,
    }  # fmt: skip
    path = tmp_path / "theory" / "a.json"
    path.parent.mkdir()
    write_json(path, record)
    assert grid.summary(grid.all_kept(tmp_path))[0]["mean"] == 0.5
    for name, value in {"pearson": "0.5", "spearman": 7, "dim": None, "objective": [], "elapsed_s": "1"}.items():
        write_json(path, record | {name: value})
        assert not grid.all_kept(tmp_path), name


@pytest.mark.parametrize(
    ("section", "path", "value"),
    [
        ("config", "embedding_dim", 10**9), ("config", "channels", "ab"), ("config", "channels", [24] * 1000),
        ("preprocess", "input_size", 10**6), ("preprocess", "mean", [0.5]), ("preprocess", "std", [0, 0, 0]),
        ("preprocess", "std", [math.nan, 1, 1]), ("spec", "embedding_dim", "16"), ("spec", "name", None),
        ("spec", "input_size", [3, -48, 48]), ("spec", "null_dim", True),
    ],
)  # fmt: skip
def test_weights_that_claim_what_cannot_be_are_refused(tmp_path: Path, section: str, path: str, value: Any) -> None:
    source, target = WEIGHTS / "jepa-tiny.safetensors", tmp_path / "net.safetensors"
    with safe_open(source, framework="pt") as file:
        about = dict(file.metadata())
    about[section] = json.dumps(changed(json.loads(about[section]), path, value))
    save_file(load_file(source), target, metadata=about)
    with pytest.raises(EncoderError, match=r"what cannot be"):
        load_encoder(f"file:{target}")


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    images = pa.array([b"x"], pa.binary())
    pq.write_table(pa.Table.from_arrays([images, images], names=["image", "image"]), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="two columns of one name"):
        load_dataset(f"parquet:{tmp_path / 'a.parquet'}")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~a\0b", "\ud800", "~\ud800", "\udcff", "~nobody-of-this-name/x"])
def test_names_that_no_file_system_takes_are_refused(name: str, tmp_path: Path) -> None:
    for encoder in (name, f"file:{name}", f"file:{name}@timm:vit_tiny_patch16_224"):
        with pytest.raises(EncoderError, match="There is no"):
            load_encoder(encoder)
    for dataset in (f"parquet:{name}", f"folder:{name}", name):
        with pytest.raises(DatasetError):
            load_dataset(dataset)
    with pytest.raises(ImportedFileError):
        import_file(ImportRequest(tmp_path / f"{name}.csv", "mine", "theirs"))
    with pytest.raises(RunError):
        store.open_run(name, tmp_path)
    with pytest.raises(RunError):
        read_keys(Path(name))
    assert absolute_id(absolute_id(f"folder:{name}")) == absolute_id(f"folder:{name}")
    md(name).encode()


def test_a_list_of_classes_beyond_bounds_is_refused() -> None:
    usual = csv.field_size_limit(1000)
    try:
        with pytest.raises(RunError, match="list of classes"):
            store.split_classes("x" * 2000)
    finally:
        csv.field_size_limit(usual)

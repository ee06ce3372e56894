"""Make large runs for ``benchmarks.ui``: real thumbnails, plausible spectra, 1,000 classes, several encoders.

    python -m benchmarks.ui_runs --home FOLDER --rows 1000000 --encoders 3

The images are crops of the demo's photographs, galaxies and digits. The scores of an image under two encoders
correlate at 0.6; each class has its own mean. Nothing here is a measurement of an encoder.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import sample
from jepascore_core.files import write_json
from jepascore_core.store.part_writer import write_table
from jepascore_core.store.parts import SCHEMA
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE

CLASSES = 1000
DIM = 32
PART = 4096
SHARED = 0.6  # correlation of the scores of two encoders
_PHOTOS = 600


def thumbnails() -> list[bytes]:
    """JPEGs as a run stores them, 112 px: crops of the demo's images."""
    jpegs = []
    for name in ("photos", "galaxies", "digits"):
        dataset = load_dataset(f"demo:{name}")
        for item in sample(dataset.items, limit=_PHOTOS // 3):
            buffer = io.BytesIO()
            dataset.read(item).convert("RGB").resize((112, 112), Image.Resampling.LANCZOS).save(
                buffer, "JPEG", quality=85
            )
            jpegs.append(buffer.getvalue())
    return jpegs


def make_run(home: Path, rows: int, encoder: int, jpegs: list[bytes], part_rows: int = PART) -> Path:
    """Write one run of many rows, unless it is there.

    Args:
        home: Folder that holds ``runs``.
        rows: Number of images.
        encoder: Which of the encoders.
        jpegs: Thumbnails to use.
        part_rows: Rows of a part.

    Returns:
        The run's folder.
    """
    folder = home / "runs" / f"synthetic-{encoder}-set-{rows}"
    if (folder / PROGRESS_FILE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", _meta(folder.name, rows, encoder))
    names = np.array([f"class {number:04d}" for number in range(CLASSES)])
    for number, start in enumerate(range(0, rows, part_rows), start=1):
        index = np.arange(start, min(start + part_rows, rows))
        write_table(folder, number, _table(index, encoder, names, jpegs))
    progress = {"state": "done", "done": rows, "failed": 0, "planned": rows, "heartbeat": time.time(), "message": ""}
    write_json(folder / PROGRESS_FILE, progress)
    return folder


def _table(index: NDArray[np.int64], encoder: int, names: NDArray[np.str_], jpegs: list[bytes]) -> pa.Table:
    """Rows of one part; the same for an index whatever the number of rows."""
    n = len(index)
    image, own = np.random.default_rng([7, index[0]]), np.random.default_rng([8, encoder, index[0]])
    label = (index * 7919) % len(names)
    shared = image.normal(size=n)
    z = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own.normal(size=n)  # (n,)
    level = (3 * np.sin(label * 1.7 + encoder) + 5 * z) / DIM
    decay = 1.5 - 0.08 * np.arange(DIM)  # log σ_k of a typical image
    logs = -np.sort(-(decay + level[:, None] + 0.05 * own.normal(size=(n, DIM))), axis=1)
    spectrum = np.exp(logs).astype(np.float32)
    centre = np.random.default_rng([9, encoder]).normal(size=(len(names), DIM))
    embedding = (0.8 * centre[label] + 0.6 * image.normal(size=(n, DIM))).astype(np.float32)
    columns = {
        "index": index,
        "key": [f"{names[c]}/{i:08d}.jpg" for c, i in zip(label, index, strict=True)],
        "label": label.astype(np.int32),
        "class_name": names[label],
        "width": np.full(n, 500, np.int32),
        "height": np.full(n, 375, np.int32),
        "jepa_score": np.log(spectrum.astype(np.float64)).sum(axis=1),
        "score_error": np.full(n, 0.01),
        "singular_values": list(spectrum),
        "sphere_term": own.normal(size=n),
        "embedding": list(embedding),
        "thumbnail": [jpegs[i] for i in image.integers(len(jpegs), size=n)],
        "error": pa.nulls(n, pa.string()),
        "view_scores": pa.nulls(n, SCHEMA.field("view_scores").type),
    }
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA)


def _meta(name: str, rows: int, encoder: int) -> dict[str, object]:
    """What ``run.json`` of such a run says."""
    ids = {"encoder_id": f"file:synthetic-{encoder}.safetensors", "dataset_id": f"folder:/synthetic/set-{rows}"}
    return {
        "format_version": 1,
        "name": name,
        "encoder": {
            "id": ids["encoder_id"], "name": f"synthetic {encoder}", "digest": f"{encoder:032x}",
            "embedding_dim": DIM, "input_size": [3, 224, 224], "pooling": "none", "null_dim": 0, "licence": "none",
            "paper": "none", "family": "synthetic", "pretrained": True,
        },
        "dataset": {
            "id": ids["dataset_id"], "fingerprint": f"{rows:032x}",
            "class_names": [f"class {number:04d}" for number in range(CLASSES)], "size": rows,
        },
        "sample": {"per_class": None, "limit": None, "seed": 0, "classes": None},
        "precision": "float32", "precisions": ["float32"], "tolerance": None, "views": 1, "eps": 1e-6,
        "planned": rows, "created": f"2026-01-0{1 + encoder}T00:00:00+00:00", "versions": {}, "device": "none",
        "jacobian_path": "none", "batch_size": 1,
        "request": ids,
    }  # fmt: skip


def main() -> None:
    """Make the runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, required=True, help="JEPASCORE_HOME of the runs")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000], help="images of each run")
    parser.add_argument("--encoders", type=int, default=3, help="how many encoders score them")
    options = parser.parse_args()
    jpegs = thumbnails()
    for rows in options.rows:
        for encoder in range(options.encoders):
            print(json.dumps({"run": str(make_run(options.home, rows, encoder, jpegs)), "rows": rows}), flush=True)


if __name__ == "__main__":
    main()

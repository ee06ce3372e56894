"""Runs whose rows a test makes up: embeddings, labels and scores with known answers."""

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from jepascore_core import store
from jepascore_core.files import write_json
from jepascore_core.store.part_writer import write_table
from jepascore_core.store.parts import SCHEMA
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE


def made_run(
    runs: Path,
    embeddings: np.ndarray | None,
    labels: np.ndarray | None,
    scores: np.ndarray,
    *,
    seed: int = 0,
    encoder: str = "tiny",
    class_names: tuple[str, ...] = (),
) -> store.Run:
    """Write a finished run.

    Args:
        runs: Folder of runs.
        embeddings: (N, D), or None for rows without.
        labels: (N,), or None for images without.
        scores: Nats, (N,).
        seed: Part of the run's name and dataset: another seed, other images.
        encoder: Name of the encoder; runs of one name are of one encoder.
        class_names: Of the labels.
    """
    n, d = len(scores), 3 if embeddings is None else embeddings.shape[1]
    names = class_names or tuple(f"class {code}" for code in range(1 + int(0 if labels is None else labels.max())))
    folder = runs / f"{encoder}-set{seed}-{seed:010d}"
    folder.mkdir(parents=True)
    meta = {
        "format_version": 1, "name": folder.name, "precision": "float32", "precisions": ["float32"], "views": 1,
        "encoder": {
            "id": f"demo:{encoder}", "name": encoder, "digest": encoder, "embedding_dim": d, "input_size": [3, 8, 8],
            "pooling": "none", "null_dim": 0, "licence": "none", "paper": "none", "family": "test", "pretrained": True,
        },
        "dataset": {"id": f"demo:set{seed}", "fingerprint": str(seed), "class_names": list(names), "size": n},
        "sample": {"per_class": None, "limit": None, "seed": 0, "classes": None}, "tolerance": None, "eps": 1e-6,
        "planned": n, "created": f"2026-01-01T00:00:{seed:02d}+00:00", "versions": {}, "device": "cpu",
        "jacobian_path": "none", "batch_size": 1, "request": {"encoder_id": f"demo:{encoder}", "dataset_id": "demo:x"},
    }  # fmt: skip
    write_json(folder / "run.json", meta)
    codes = np.zeros(n, int) if labels is None else labels
    columns = {
        "index": np.arange(n),
        "key": [f"{names[code] if labels is not None else 'all'}/{i:05d}.png" for i, code in enumerate(codes)],
        "label": pa.nulls(n) if labels is None else codes,
        "class_name": pa.nulls(n) if labels is None else [names[code] for code in codes],
        "width": np.full(n, 8),
        "height": np.full(n, 8),
        "jepa_score": scores,
        "score_error": np.full(n, 0.01),
        "singular_values": [np.full(d, np.exp(score / d)) for score in scores],
        "sphere_term": np.zeros(n),
        "embedding": pa.nulls(n) if embeddings is None else list(embeddings),
        "thumbnail": [_jpeg(i) for i in range(n)],
        "error": pa.nulls(n),
        "view_scores": pa.nulls(n),
    }
    arrays = {name: pa.array(columns[name]).cast(SCHEMA.field(name).type) for name in SCHEMA.names}
    write_table(folder, 1, pa.table(arrays, schema=SCHEMA))
    write_json(
        folder / PROGRESS_FILE,
        {"state": "done", "done": n, "failed": 0, "planned": n, "heartbeat": time.time(), "message": ""},
    )
    return store.open_run(folder)


def _jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (37 * number % 256, 59 * number % 256, 83 * number % 256)).save(buffer, "JPEG")
    return buffer.getvalue()

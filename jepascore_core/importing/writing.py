"""Write results as a run's folder: made aside, then renamed, so that it is whole or absent."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from jepascore_core.allowed import owner_only
from jepascore_core.errors import RunError
from jepascore_core.files import why, write_json
from jepascore_core.importing.judging import Results
from jepascore_core.importing.request import ImportRequest
from jepascore_core.locks import hold
from jepascore_core.naming import printable
from jepascore_core.store.part_writer import write_part
from jepascore_core.store.parts import FORMAT_VERSION, SCHEMA, Row, count_rows
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE
from jepascore_core.store.progress import Progress
from jepascore_core.store.request import run_name
from jepascore_core.store.rule import EPS
from jepascore_core.store.run_folder import make_folder, prepare
from jepascore_core.store.runs import FILE_NAME, Run, read_run
from jepascore_core.versions import own_version, versions

_PIECE = 4_096  # rows of a part
_ASIDE = ".importing-"
_FORGOTTEN_S = 86_400.0  # after a day, a folder made aside belongs to an import that was killed
_COMPUTED = ("torch", "numpy")  # what scored the spectra
_MOST_NAMED = 50  # columns that run.json names as passed over


def name_of(request: ImportRequest, sha256: str, *, from_spectra: bool) -> str:
    """Folder name of the run that a file makes.

    Args:
        request: What was asked for.
        sha256: Of the file's bytes.
        from_spectra: It has singular values; the direction then decides nothing.

    Returns:
        One name for one file under the same names and options.
    """
    decisive = {
        "imported": sha256,
        "turned": request.direction == "out" and not from_spectra,
        "score_column": request.score_column,
        "log": request.log,
    }
    spec = request.spec
    plain = spec if ":" in spec.id else dataclasses.replace(spec, id=spec.id.replace("/", "-"))  # a name, not a path
    return run_name(plain, "imported", request.dataset_id, "", decisive)


def existing(request: ImportRequest, sha256: str, home: Path) -> Run | None:
    """The run that a file was imported as before.

    Args:
        request: What was asked for.
        sha256: Of the file's bytes.
        home: Where runs lie.

    Returns:
        The run if it is whole, else None.
    """
    for from_spectra in (False, True):
        run = read_run(home / name_of(request, sha256, from_spectra=from_spectra))
        told = run.meta.get("imported") if run.problem is None and run.warning is None else None
        # given scores of one direction and spectra share a name only where nothing was turned
        matches = isinstance(told, dict) and (from_spectra is False or told.get("score") == "spectra")
        if matches and sum(count_rows(run.path)) == run.planned:
            return run
    return None


def write(results: Results, sha256: str, home: Path) -> Run:
    """Write a run, or what is missing of it.

    Args:
        results: Its rows.
        sha256: Of the file's bytes.
        home: Where runs lie.

    Returns:
        The run.

    Raises:
        RunError: The folder cannot be written, or this is a read-only dashboard.
    """
    owner_only("import results")
    folder = home / name_of(results.request, sha256, from_spectra=results.from_spectra)
    meta = _meta(results, sha256) | {"name": folder.name}
    try:
        _sweep(home)
        if not folder.exists() and _make(results, meta, folder):
            return read_run(folder)
        make_folder(folder)
        with hold(folder / ".lock", waiting=lambda _: None):
            _fill(results, folder, prepare(folder, meta))
    except OSError as error:
        raise RunError(f"Cannot write in {home} ({why(error)}).") from error
    return read_run(folder)


def _make(results: Results, meta: dict[str, Any], folder: Path) -> bool:
    """Make the folder aside and rename it; False where another import was faster."""
    aside = folder.with_name(f"{_ASIDE}{uuid.uuid4().hex}")
    aside.mkdir()
    try:
        write_json(aside / FILE_NAME, meta)
        _fill(results, aside, {})
        os.rename(aside, folder)  # noqa: PTH104 - never replaces a folder that holds something
        return True
    except OSError:
        if folder.exists():
            return False
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove what imports left that were killed long ago."""
    for path in home.glob(f"{_ASIDE}*"):
        if path.is_dir() and not path.is_symlink() and time.time() - path.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(path, ignore_errors=True)


def _fill(results: Results, folder: Path, stored: dict[str, float | None]) -> None:
    """Write the rows that are not stored, and that the run is done."""
    number = len(list(folder.glob("part-*")))
    for part in _parts(results):
        left = [row for row in part if row["key"] not in stored]
        if left:
            number += 1
            write_part(folder, number, left)
    failed = len(results.errors)
    done = results.table.size - failed
    progress = Progress("done", done, failed, results.table.size, heartbeat=time.time())
    write_json(folder / PROGRESS_FILE, dataclasses.asdict(progress))


def _parts(results: Results) -> Iterator[list[Row]]:
    """Rows as a run has them, some thousand at a time."""
    table = results.table
    for low in range(0, table.size, _PIECE):
        high = min(low + _PIECE, table.size)
        spectra = results.spectra(low, high)
        embeddings = None if table.embeddings is None else np.asarray(table.embeddings[low:high], np.float32)
        yield [
            _row(results, place)
            | ({} if place in results.errors or spectra is None else {"singular_values": spectra[place - low]})
            | ({} if place in results.errors or embeddings is None else _embedding(embeddings[place - low]))
            for place in range(low, high)
        ]


def _row(results: Results, place: int) -> Row:
    """One row without its lists."""
    label = int(results.labels[place])
    row = dict.fromkeys(SCHEMA.names) | {
        "index": place,
        "key": results.keys[place],
        "label": label,
        "class_name": results.class_names[label] if label >= 0 else "",
        "error": results.errors.get(place),
    }
    if place in results.errors:
        return row
    extras = results.table.extras
    row |= {name: _number(extras[name][place]) for name in ("score_error", "sphere_term") if name in extras}
    if results.views > 1:
        row["view_scores"] = np.asarray(extras["view_scores"][place], np.float64)
    return row | {"jepa_score": float(results.scores[place])}


def _embedding(values: np.ndarray) -> Row:
    return {"embedding": values} if np.isfinite(values).all() else {}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _meta(results: Results, sha256: str) -> dict[str, Any]:
    """What ``run.json`` holds."""
    request, table, spec = results.request, results.table, results.request.spec
    return {
        "format_version": FORMAT_VERSION,
        "encoder": {
            "id": spec.id,
            "name": spec.name,
            "digest": _digest(results),
            "embedding_dim": table.dim or spec.embedding_dim,
            "input_size": list(spec.input_size) if any(spec.input_size) else None,
            "pooling": spec.pooling,
            "null_dim": spec.null_dim,
            "licence": spec.licence,
            "paper": spec.paper,
            "family": spec.family,
            "pretrained": True,
        },
        "dataset": {
            "id": request.dataset_id,
            "fingerprint": "",  # the images are not at hand: runs of one name are matched by their keys
            "class_names": list(results.class_names),
            "size": table.size,
        },
        "sample": {"per_class": None, "limit": None, "seed": 0, "classes": None},
        "precision": "imported",
        "tolerance": None,
        "views": results.views,
        "eps": EPS,
        "planned": table.size,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": {"jepascore-explorer": own_version()} | {k: v for k, v in versions().items() if k in _COMPUTED},
        "device": "unknown",
        "imported": {
            "file": printable(request.file_name or request.path.name),
            "bytes": request.path.stat().st_size,
            "sha256": sha256,
            "columns": dict(table.found),
            "ignored": list(table.ignored)[:_MOST_NAMED],
            "score": "spectra" if results.from_spectra else "given",
            "direction": request.direction,
            "turned": results.turned,
            "log": request.log,
            "version": own_version(),
            "keys": "numbered" if table.keys is None else "given",
            "given_differs_nats": results.differs,
        },
    }


def _digest(results: Results) -> str:
    """What stands for the unknown weights: runs with one digest share a scale."""
    made = ["spectra", results.null_dim, results.views] if results.from_spectra else ["given", results.turned]
    text = json.dumps([results.request.spec.id, *made])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

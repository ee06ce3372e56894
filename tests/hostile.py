"""A home whose every name is an attack, for the tests that look at every page of it."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core import jobs, processes, store
from jepascore_core.files import write_json
from jepascore_core.store.parts import part_files
from tests.runs_made import made_run

EVIL = (
    "<img src=x onerror=hacked()> [a](javascript:hacked()) $x^2$ :material/bug_report: :red[r]",
    "</script><script>hacked()</script> ![i](https://evil.invalid/x.png) <!-- c -->",
    "**b** `c` <a href='javascript:hacked()'>l</a> :cat: {{7*7}} ${x}",
)
CALM = "<svg onload=hacked()> $y$ [l](javascript:hacked()) :blue[b]"  # fits a file name: no slash


def hostile_home(home: Path) -> Path:
    """Write runs of three classes with hostile names, keys, metadata, tags, messages, and one damaged folder.

    Args:
        home: Where; its path, which no page may show, is in every id and message.

    Returns:
        The runs folder.
    """
    runs, rng = home / "runs", np.random.default_rng(0)
    labels = np.arange(45) % 3
    first = 2 * np.eye(3, 5)[labels] + rng.normal(size=(45, 5))
    for number, (encoder, dataset, shift) in enumerate([(0, "", 0), (0, " two", 1), (1, "", 0), (0, "blur", 0.4)]):
        embeddings = first + shift * rng.normal(size=(45, 5))
        run = made_run(runs, embeddings, labels, rng.normal(size=45) - shift, seed=number, class_names=EVIL)
        _rename(run, home, encoder, dataset)
    for run in store.list_runs(runs):
        store.add_tag(run, CALM, [f"{EVIL[0]}/00000.png"])
    (runs / f"broken {CALM}").mkdir()
    (runs / f"broken {CALM}" / "run.json").write_text('{"format_version": 1,')
    folder = runs / ".jobs"
    folder.mkdir()
    request = {"encoder_id": f"file:{home}/{CALM}.safetensors", "dataset_id": f"folder:{home}/{CALM}"}
    for state in ("failed", "cancelled"):
        job = jobs.Job(folder / f"{state}.json", "score", ["x"], state=state, host=processes.HOST, request=request)
        job = dataclasses.replace(job, message=f"Cannot read {home}/secret/{EVIL[0]}.", started="2026-01-01T00:00:00")
        write_json(job.path, {name: value for name, value in dataclasses.asdict(job).items() if name != "path"})
    return runs


def _rename(run: store.Run, home: Path, encoder: int, dataset: str) -> None:
    """Make a run hostile: its folder, its metadata, its messages, a row that failed."""
    meta = json.loads((run.path / "run.json").read_text())
    blurred = "corrupted:blur:3:" if dataset == "blur" else ""
    source = f"folder:{home}/{CALM}{'' if blurred else dataset}"
    weights = f"file:{home}/net{encoder} {CALM}.safetensors"
    meta["encoder"] |= {
        "id": weights, "name": f"net{encoder} {EVIL[encoder]}", "digest": f"{encoder}" * 8, "pooling": EVIL[0],
        "licence": EVIL[1], "paper": EVIL[2], "family": EVIL[0],
    }  # fmt: skip
    meta["dataset"] |= {"id": blurred + source, "fingerprint": source}
    meta |= {"device": EVIL[0], "versions": {EVIL[1]: EVIL[2]}, "jacobian_path": EVIL[0]}
    meta["request"] = {"encoder_id": weights, "dataset_id": blurred + source}
    path = run.path.with_name(f"{run.name} {CALM}")
    os.rename(run.path, path)  # noqa: PTH104
    write_json(path / "run.json", meta | {"name": path.name})
    for part in part_files(path):
        table = pq.read_table(part)
        reasons = [f"Cannot decode {home}/secret/{EVIL[1]}" if row == 44 else None for row in range(len(table))]
        place = table.schema.get_field_index("error")
        table = table.set_column(place, table.schema.field(place), pa.array(reasons, table.schema.field(place).type))
        scores = [*table["jepa_score"].to_pylist()[:44], None]
        place = table.schema.get_field_index("jepa_score")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(scores, pa.float64())), part)

"""The Ray engine beside the local one: ``python -m benchmarks.cluster``.

All score the same photographs, in turn, with all cores in one process or one worker, or half of them in each of two.
The rate is the run's own mean speed, from the first image to the last; what a run takes beside that is told by itself:
the start of Ray, and of its workers. Loading encoder and dataset in the driver is not counted.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.runner import write_photographs
from benchmarks.speed import RESULTS, environment
from jepascore_core import load_dataset
from jepascore_core.cluster.driver import on_ray
from jepascore_core.datasets.images import thumbnail
from jepascore_core.devices import resolve_device
from jepascore_core.encoders import load_encoder
from jepascore_core.runner import Hooks, Work, score_work
from jepascore_core.store.request import RunRequest

DEFAULT = (("demo:jepa-tiny", 2048), ("timm:vit_small_patch14_dinov2.lvd142m", 4))


def run_once(request: RunRequest) -> dict[str, float]:
    """Rate of a run under way, images per second, and seconds of the whole of it, the start of Ray included."""
    with tempfile.TemporaryDirectory() as home:
        encoder = load_encoder(request.encoder_id, pretrained=request.pretrained)
        dataset = load_dataset(request.dataset_id)
        work = Work(request, encoder, dataset, resolve_device("cpu"), Path(home), thumbnail)
        hooks = Hooks(threading.Event())
        began = time.perf_counter()
        if request.engine == "ray":
            with on_ray(request) as (_, score_left):
                run = score_work(work, hooks, score_left)
        else:
            run = score_work(work, hooks)
        whole_s = time.perf_counter() - began
        progress = run.progress()
    if progress.done != len(dataset.items) or not progress.images_per_s:
        raise RuntimeError(f"Only {progress.done} of {len(dataset.items)} photographs were scored.")
    return {"images_per_s": progress.images_per_s, "whole_s": whole_s}


def measure(encoder_id: str, count: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of one encoder: the local engine, Ray with one worker and with two."""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), count)
        local = RunRequest(encoder_id, f"folder:{folder}", device="cpu", pretrained=encoder_id.startswith("demo:"))
        given = {
            "local": local,
            "Ray, 1 worker": replace(local, engine="ray", workers=1),
            "Ray, 2 workers": replace(local, engine="ray", workers=2),
        }
        rounds = [{name: run_once(request) for name, request in given.items()} for _ in range(repeats)]
    return [
        {
            "encoder": encoder_id, "images": count, "rounds": repeats, "engine": name,
            "images_per_s": statistics.median(one[name]["images_per_s"] for one in rounds),
            "of_local": statistics.median(one[name]["images_per_s"] / one["local"]["images_per_s"] for one in rounds),
            "start_s": statistics.median(
                one[name]["whole_s"] - count / one[name]["images_per_s"] for one in rounds
            ),
        }
        for name in given
    ]  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder | engine | images/s | of the local engine | seconds beside the scoring |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['encoder']} | {row['engine']} | {row['images_per_s']:.3g} | {row['of_local']:.0%}"
            f" | {row['start_s']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=[f"{name}={count}" for name, count in DEFAULT])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "cluster.json")
    options = parser.parse_args()
    chosen = [(name, int(count)) for name, _, count in (entry.rpartition("=") for entry in options.encoders)]
    rows = [row for name, count in chosen for row in measure(name, count, options.repeats)]
    print(table(rows))
    options.out.write_text(json.dumps({"environment": environment("cpu"), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

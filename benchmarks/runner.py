"""The whole runner, decode to Parquet, beside the engine alone: ``python -m benchmarks.runner``.

Both score the same photographs, in turn, in one process: the engine from tensors that lie ready, the runner from
JPEG files. Loading the encoder and listing the folder are not counted.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks.speed import RESULTS, environment, load
from jepascore_core import load_dataset
from jepascore_core.datasets.images import thumbnail
from jepascore_core.devices import resolve_device
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.runner import Hooks, Work, score_work
from jepascore_core.runner.precision import Ladder, ladder_of
from jepascore_core.store.request import RunRequest

DEFAULT = (("demo:jepa-tiny", 512), ("timm:vit_small_patch14_dinov2.lvd142m", 2))
SIDES = (500, 375)  # px, as most of ImageNet's photographs


def write_photographs(folder: Path, count: int) -> None:
    """JPEG files of ImageNet's usual size, cut out of scikit-image's photographs."""
    sources = [Image.fromarray(take()) for take in (data.astronaut, data.coffee, data.chelsea)]
    dice = np.random.default_rng(0)
    for number in range(count):
        source = sources[number % len(sources)]
        share = dice.uniform(0.5, 0.9)
        width, height = int(share * source.width), int(share * source.height)
        left, top = int(dice.integers(source.width - width)), int(dice.integers(source.height - height))
        picture = source.crop((left, top, left + width, top + height)).resize(SIDES)
        picture.save(folder / f"{number:05d}.jpg", quality=90)


def engine_rate(encoder: Encoder, images: torch.Tensor, work: Work) -> float:
    """Images per second of the engine alone, in the run's batches and precision."""
    ladder = Ladder(encoder, ladder_of(work.request.precision, work.device))
    start = time.perf_counter()
    for batch in images.split(work.batch_size):
        ladder(batch.to(encoder.device), torch.full((len(batch),), torch.inf))
    return len(images) / (time.perf_counter() - start)


def runner_rate(work: Work, scoring: list[float]) -> float:
    """Images per second of the runner, from the moment that it has the device to the last part on the disk.

    Args:
        work: The run.
        scoring: Takes the share of the loop's time that went into scoring, by the run's own clock.
    """
    began: dict[str, float] = {}

    def stage(name: object) -> None:
        began[str(name)] = time.perf_counter()

    with tempfile.TemporaryDirectory() as home:
        run = score_work(Work(**{**_fields(work), "home": Path(home)}), Hooks(threading.Event(), on_stage=stage))
        elapsed = time.perf_counter() - began["scoring"]
        progress = run.progress()
        done = progress.done
    if done != len(work.dataset.items):
        raise RuntimeError(f"Only {done} of {len(work.dataset.items)} photographs were scored.")
    scoring.append(progress.stages["score_s"] / sum(progress.stages.values()))
    return done / elapsed


def _fields(work: Work) -> dict[str, Any]:
    """A work's parts by name."""
    return {name: getattr(work, name) for name in work.__slots__}


def measure(encoder_id: str, count: int, device: str, repeats: int) -> dict[str, Any]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), count)
        dataset = load_dataset(f"folder:{folder}")
        encoder = load(encoder_id, device)
        request = RunRequest(encoder_id, dataset.id, device=device, pretrained=encoder_id.startswith("demo:"))
        work = Work(request, encoder, dataset, resolve_device(device), Path(folder), thumbnail)
        ready = torch.stack([encoder.transform(dataset.read(item)) for item in dataset.items[: min(count, 512)]])
        scoring: list[float] = []
        methods: dict[str, Callable[[], float]] = {
            "engine": partial(engine_rate, encoder, ready, work),
            "runner": partial(runner_rate, work, scoring),
        }
        engine_rate(encoder, ready[:1], work)  # warm
        rounds = [{name: method() for name, method in methods.items()} for _ in range(repeats)]
    rates = {name: statistics.median(one[name] for one in rounds) for name in methods}
    share = statistics.median(one["runner"] / one["engine"] for one in rounds)
    return {
        "encoder": encoder_id, "images": count, "rounds": repeats, "batch_size": work.batch_size,
        "engine_images_per_s": rates["engine"], "runner_images_per_s": rates["runner"], "share": share,
        "scoring_share": statistics.median(scoring),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder | images | engine alone, images/s | whole run, images/s | share | of the run's time, scoring |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['encoder']} | {row['images']:,} | {row['engine_images_per_s']:.3g}"
            f" | {row['runner_images_per_s']:.3g} | {row['share']:.0%} | {row['scoring_share']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=[f"{name}={count}" for name, count in DEFAULT])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="JSON file; default results/runner_<device>.json")
    options = parser.parse_args()
    chosen = [(name, int(count)) for name, _, count in (entry.rpartition("=") for entry in options.encoders)]
    rows = [measure(name, count, options.device, options.repeats) for name, count in chosen]
    print(table(rows))
    out = options.out or RESULTS / f"runner_{options.device.split(':')[0]}.json"
    out.write_text(json.dumps({"environment": environment(options.device), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What a lower precision costs in exactness, on real architectures and real photographs.

``python -m benchmarks.precision`` scores photographs in float32, TF32 and float16 (a CPU imitates the last two) and
sets the difference to float64 beside the error bar. Calibration is left out: the bar is that of each image alone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_architectures import ENCODERS, load
from benchmarks.speed import RESULTS, environment
from jepascore_core import load_dataset
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.jacobian import jacobian_summary
from jepascore_core.score import jepa_score, score_error

PRECISIONS = ("float32", "tf32", "float16")


def compare(encoder: Encoder, images: torch.Tensor) -> list[dict[str, Any]]:
    """One row for each precision."""
    null_dim = encoder.spec.null_dim
    exact = jacobian_summary(encoder.double(), images.double(), null_dim=null_dim).singular_values
    size = exact.square().mean(1).sqrt()
    scores = jepa_score(exact, null_dim=null_dim)
    encoder.float()
    rows = []
    for precision in PRECISIONS:
        start = time.perf_counter()
        found = jacobian_summary(encoder, images, null_dim=null_dim, precision=precision)
        elapsed = time.perf_counter() - start
        error = (jepa_score(found.singular_values, null_dim=null_dim) - scores).abs()
        bar = score_error(found.singular_values, found.noise, found.noise_along, null_dim=null_dim)
        rows.append({
            "encoder": encoder.spec.id,
            "embedding_dim": encoder.spec.embedding_dim,
            "precision": precision,
            "images": len(images),
            "largest_error": error.max().item(),
            "errors": error.tolist(),
            "bars": bar.tolist(),
            "noise_over_rms_sigma": (found.noise / size).mean().item(),
            "smallest_counted_sigma_over_rms": (exact[:, -1 - null_dim] / size).min().item(),
            "seconds": elapsed,
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder, random weights | precision | largest error, nats | error bars, nats | noise / RMS σ |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = min(row["bars"]), max(row["bars"])
        lines.append(
            f"| {row['encoder']} | {row['precision']} | {row['largest_error']:.1e} | {low:.1e}–{high:.1e}"
            f" | {row['noise_over_rms_sigma']:.1e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--dataset", default="demo:photos")
    parser.add_argument("--out", type=Path, default=None, help="JSON file; default results/precision_<device>.json")
    options = parser.parse_args()
    dataset, rows = load_dataset(options.dataset), []
    for encoder_id in options.encoders:
        encoder = load(encoder_id, options.device)
        items = dataset.items[:: len(dataset.items) // options.images][: options.images]
        images = torch.stack([encoder.transform(dataset.read(item)) for item in items]).to(options.device)
        rows += compare(encoder, images)
    print(table(rows))
    out = options.out or RESULTS / f"precision_{options.device.split(':')[0]}.json"
    out.write_text(json.dumps({"environment": environment(options.device), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

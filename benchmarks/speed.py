"""Exact singular values, ours beside the alternatives: ``make bench`` or ``python -m benchmarks.speed``.

Methods alternate within one run on the same images, after a warm-up, so that a machine whose speed drifts
treats them alike. Peak memory is measured in a fresh process for each method. Each line of the table comes
from the JSON that is written beside it.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods import METHODS
from jepascore_core import load_encoder
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.jacobian import jacobian_listing1

RESULTS = Path(__file__).parent / "results"
# (encoder, images): small enough that the default table takes a few minutes on two cores
DEFAULT = (("demo:jepa-tiny", 32), ("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", 2))
BASELINE = "Listing 1, one by one"


def load(encoder_id: str, device: str) -> Encoder:
    """The encoder, with random weights where its own would have to be downloaded."""
    return load_encoder(encoder_id, device=device, pretrained=encoder_id.startswith("demo:"))


def random_images(encoder: Encoder, count: int) -> torch.Tensor:
    """Normalised noise images (count, C, H, W) on the encoder's device; speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *encoder.spec.input_size, generator=generator).to(encoder.device)


def seconds(method: str, encoder: Encoder, images: torch.Tensor) -> float:
    """Wall-clock time of one call, in seconds."""
    start = time.perf_counter()
    METHODS[method](encoder, images).cpu()  # the copy waits for the device
    return time.perf_counter() - start


def alternate(encoder: Encoder, images: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    """Seconds of every method, warm, in turn."""
    for method in METHODS:
        seconds(method, encoder, images)
    rounds = [{method: seconds(method, encoder, images) for method in METHODS} for _ in range(repeats)]
    return {method: [one[method] for one in rounds] for method in METHODS}


def largest_error(method: str, encoder: Encoder, images: torch.Tensor) -> float:
    """Largest |Δ log σ| against Listing 1 in float64, over the σ that are no rounding noise."""
    exact = torch.linalg.svdvals(jacobian_listing1(encoder.double(), images.double()))
    actual = METHODS[method](encoder.float(), images.float()).double()
    rank = exact.shape[1] - encoder.spec.null_dim
    return (actual / exact)[:, :rank].log().abs().max().item()


def peak_bytes(method: str, encoder_id: str, count: int, device: str) -> int:
    """Peak memory of one call beyond what the loaded encoder takes, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed", "--peak", method, "--encoders", f"{encoder_id}={count}"]
    done = subprocess.run([*command, "--device", device], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def print_peak(method: str, encoder_id: str, count: int, device: str) -> None:
    """Child of ``peak_bytes``: run one method once and print what it took."""
    encoder = load(encoder_id, device)
    images = random_images(encoder, count)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        METHODS[method](encoder, images)
        print(torch.cuda.max_memory_allocated() - before)
    else:
        before = resident_peak()
        METHODS[method](encoder, images)
        print(resident_peak() - before)


def resident_peak() -> int:
    """Most bytes that this process has had in memory so far.

    Raises:
        FileNotFoundError: The system has no ``/proc`` (it is not Linux).
    """
    # getrusage would start from the parent's peak: Linux keeps that one across fork and exec
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024  # written in KiB


def measure(encoder_id: str, count: int, device: str, repeats: int) -> list[dict[str, Any]]:
    """One row for each method."""
    encoder = load(encoder_id, device)
    images = random_images(encoder, count)
    times = alternate(encoder, images, repeats)
    rows = []
    for method, taken in times.items():
        ratios = [base / own for base, own in zip(times[BASELINE], taken, strict=True)]
        rows.append({
            "encoder": encoder_id,
            "images": count,
            "method": method,
            "images_per_s": statistics.median(count / own for own in taken),
            "images_per_s_range": [count / max(taken), count / min(taken)],
            "ratio_to_listing1": statistics.median(ratios),
            "peak_bytes": peak_bytes(method, encoder_id, count, device),
            "largest_log_sigma_error": largest_error(method, encoder, images[:1]),
        })
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder | method | images/s (least–most) | × Listing 1 | peak memory | largest Δ log σ |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["images_per_s_range"]
        lines.append(
            f"| {row['encoder']} | {row['method']} | {row['images_per_s']:.3g} ({low:.3g}–{high:.3g})"
            f" | {row['ratio_to_listing1']:.2f} | {row['peak_bytes'] / 2**20:,.0f} MiB"
            f" | {row['largest_log_sigma_error']:.1e} |"
        )
    return "\n".join(lines)


def environment(device: str) -> dict[str, Any]:
    """What a reader must know to repeat the numbers."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    versions = {package: version(package) for package in ("torch", "timm")}
    return {"device": device, "device_name": name, "threads": torch.get_num_threads(), "versions": versions}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", default=[f"{name}={count}" for name, count in DEFAULT])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON file; default results/speed_<device>.json")
    parser.add_argument("--peak", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "There is a performance drop")  # torch.func takes fused attention row by row
    chosen = [(name, int(count)) for name, _, count in (entry.rpartition("=") for entry in options.encoders)]
    if options.peak:
        print_peak(options.peak, *chosen[0], options.device)
        return
    rows = [row for name, count in chosen for row in measure(name, count, options.device, options.repeats)]
    print(table(rows))
    out = options.out or RESULTS / f"speed_{options.device.split(':')[0]}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"environment": environment(options.device), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Exact singular values, ours beside the alternatives: ``make bench`` or ``python -m benchmarks.speed``.

Methods alternate within one run on the same images, after a warm-up, so that a machine whose speed drifts
treats them alike. Peak memory is measured in a fresh process for each method. Each line of the table comes
from the JSON that is written beside it.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.methods import ARITHMETIC, METHODS, listing1_batched
from jepascore_core import load_encoder
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.jacobian import singular_values
from jepascore_core.products import arithmetic, linear
from jepascore_core.vit_layers import find_transformer

RESULTS = Path(__file__).parent / "results"
# encoder = images for ours : images for the others, 0 for Listing 1 alone; half an hour on two cores
ON_CPU = (
    "demo:jepa-tiny=32:32",
    "timm:vit_small_patch14_dinov2.lvd142m=1:1",
    "timm:vit_base_patch14_dinov2.lvd142m=1:0",
)
ON_GPU = (
    "demo:jepa-tiny=512:64",
    "timm:vit_small_patch14_dinov2.lvd142m=64:1",
    "timm:vit_base_patch14_dinov2.lvd142m=16:1",
    "timm:vit_large_patch14_dinov2.lvd142m=4:1",
    "timm:vit_huge_patch14_gap_224.in1k_ijepa=2:1",
)
LONG_S = 60.0
BASELINE = "Listing 1, one by one"


def load(encoder_id: str, device: str) -> Encoder:
    """The encoder, with random weights where its own would have to be downloaded."""
    return load_encoder(encoder_id, device=device, pretrained=encoder_id.startswith("demo:"))


def random_images(encoder: Encoder, count: int) -> torch.Tensor:
    """Normalised noise images (count, C, H, W) on the encoder's device; speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *encoder.spec.input_size, generator=generator).to(encoder.device)


def timed(method: str, encoder: Encoder, images: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Wall-clock seconds an image in one call, and the first image's singular values (1, D)."""
    start = time.perf_counter()
    sigma = METHODS[method](encoder, images).cpu()  # the copy waits for the device
    return (time.perf_counter() - start) / len(images), sigma[:1]


def alternate(
    encoder: Encoder, given: dict[str, torch.Tensor], repeats: int
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """Seconds an image of every method on its images, warm, in turn, and its first image's singular values.

    Rounds that take long need no warm-up, and are repeated at most twice.
    """
    rounds = [{method: timed(method, encoder, images) for method, images in given.items()}]
    found = {method: sigma for method, (_, sigma) in rounds[0].items()}
    if sum(len(images) * rounds[0][method][0] for method, images in given.items()) < LONG_S:
        rounds.clear()
    else:
        repeats = min(repeats, 2)
    while len(rounds) < repeats:
        rounds.append({method: timed(method, encoder, images) for method, images in given.items()})
    return {method: [one[method][0] for one in rounds] for method in given}, found


def largest_error(actual: torch.Tensor, exact: torch.Tensor, null_dim: int) -> float:
    """Largest |Δ log σ| over the σ that are no rounding noise."""
    return (actual.double() / exact)[:, : exact.shape[1] - null_dim].log().abs().max().item()


def floor_flop(encoder: Encoder) -> float:
    """Least floating-point operations an image, counted: D backward passes through what all cotangents cannot share.

    For a Vision Transformer each block's MLP is one matrix for each token, built once and applied to all cotangents.
    """
    dim, size = encoder.spec.embedding_dim, encoder.spec.input_size
    transformer = find_transformer(encoder)
    if transformer is None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.zeros(1, *size, device=encoder.device))
        return float(dim * counter.get_total_flops())
    tokens = size[1] * size[2] // math.prod(transformer.patches.kernel_size) + 1
    width, total = transformer.layers[0].fc2.out_features, 0
    for number, layer in enumerate(reversed(transformer.layers)):
        active = 1 if number == 0 and encoder.spec.pooling in ("class token", "projection") else tokens
        maps = layer.fc1.out_features * width**2 + dim * width**2
        attention = dim * width * (active * width + 3 * tokens * active)  # out, then values and keys
        total += active * maps + attention + dim * width**2 * (2 * tokens + active)  # then keys, values, queries
    return 2.0 * total


def ceiling(device: str) -> dict[str, float]:
    """Measured rates of a large matrix product, FLOP/s: of PyTorch's float32, of the fastest float32, and of others."""
    side = 8192 if device.startswith("cuda") else 2048
    factors = torch.randn(2, side, side, device=device)
    rates = {"torch": product_rate(torch.matmul, factors)}
    rates["float32"] = max(rates["torch"], product_rate(linear, factors))
    if device.startswith("cuda"):
        with arithmetic("tf32"):
            rates["tf32"] = product_rate(torch.matmul, factors)
        rates["float16"] = product_rate(torch.matmul, factors.half())
    return rates


def product_rate(product: Callable[..., torch.Tensor], factors: torch.Tensor) -> float:
    """Rate of a product of two square matrices (2, n, n), FLOP/s, the best of a few."""
    taken = []
    for _ in range(8):
        start = time.perf_counter()
        product(*factors)[0, 0].item()
        taken.append(time.perf_counter() - start)
    return 2 * factors.shape[1] ** 3 / min(taken)


def peak_bytes(method: str, encoder_id: str, count: int, device: str) -> int:
    """Peak memory of one call beyond what the loaded encoder takes, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed", "--once", method, "--encoders", f"{encoder_id}={count}"]
    done = subprocess.run([*command, "--device", device], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def print_once(method: str, encoder_id: str, count: int, device: str, out: Path | None) -> None:
    """Run one method once, cold, and print what it took: peak memory beyond the loaded encoder, and seconds."""
    encoder = load(encoder_id, device)
    images = random_images(encoder, count)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    peak = torch.cuda.max_memory_allocated if on_gpu else resident_peak
    before, start = peak(), time.perf_counter()
    METHODS[method](encoder, images)
    after, elapsed = peak(), time.perf_counter() - start
    taken = {"seconds": elapsed, "peak_bytes": after - before, "peak_with_encoder_bytes": after}
    print(json.dumps(taken))
    if out:
        row = {"encoder": encoder_id, "method": method, "images": count, **taken}
        out.write_text(json.dumps({"environment": environment(device), "rows": [row]}, indent=2) + "\n")


def resident_peak() -> int:
    """Most bytes that this process has had in memory so far.

    Raises:
        FileNotFoundError: The system has no ``/proc`` (it is not Linux).
    """
    # getrusage would start from the parent's peak: Linux keeps that one across fork and exec
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024  # written in KiB


def measure(
    encoder_id: str, counts: dict[str, int], device: str, repeats: int, rates: dict[str, float]
) -> list[dict[str, Any]]:
    """One row for each method, of as many images as each is given."""
    encoder = load(encoder_id, device)
    images = random_images(encoder, max(counts.values()))
    times, found = alternate(encoder, {method: images[:count] for method, count in counts.items()}, repeats)
    base = times.get(BASELINE)
    exact = exact_values(encoder, images[:1], quickly=base[0] > LONG_S) if base else None
    flop = floor_flop(encoder.float())
    rows = []
    for method, taken in times.items():
        ratios = [first / own for first, own in zip(base or (), taken, strict=bool(base))]
        images_per_s = statistics.median(1 / own for own in taken)
        rows.append({
            "encoder": encoder_id,
            "images": counts[method],
            "rounds": len(taken),
            "method": method,
            "images_per_s": images_per_s,
            "images_per_s_range": [1 / max(taken), 1 / min(taken)],
            "ratio_to_listing1": statistics.median(ratios) if ratios else None,
            "share_of_ceiling": images_per_s * flop / rates[ARITHMETIC.get(method, "float32")],
            "peak_bytes": peak_bytes(method, encoder_id, counts[method], device),
            "largest_log_sigma_error": (
                None if exact is None else largest_error(found[method], exact, encoder.spec.null_dim)
            ),
        })
    return rows


def exact_values(encoder: Encoder, images: torch.Tensor, *, quickly: bool) -> torch.Tensor:
    """Listing 1 in float64, (B, D); quickly: our own in float64, which the tests hold against it."""
    method = singular_values if quickly else listing1_batched
    exact = method(encoder.double(), images.double()).cpu()
    encoder.float()
    return exact


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder | method | images/s (least–most) | × Listing 1 | of ceiling | peak memory | largest Δ log σ |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["images_per_s_range"]
        ratio, error = (row[name] for name in ("ratio_to_listing1", "largest_log_sigma_error"))
        lines.append(
            f"| {row['encoder']} | {row['method']} | {row['images_per_s']:.3g} ({low:.3g}–{high:.3g})"
            f" | {'–' if ratio is None else f'{ratio:.2f}'} | {row['share_of_ceiling']:.0%}"
            f" | {row['peak_bytes'] / 2**20:,.0f} MiB | {'–' if error is None else f'{error:.1e}'} |"
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
    parser.add_argument("--encoders", nargs="+", help="id=images for ours:images for the others, 0 for Listing 1 alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="Listing 1 is one, unless --alone")
    parser.add_argument("--alone", action="store_true", help="without Listing 1, where it would take hours")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON file; default results/speed_<device>.json")
    parser.add_argument("--once", choices=METHODS, help="one call of one method in this process: seconds, peak memory")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "There is a performance drop")  # torch.func takes fused attention row by row
    on_gpu = options.device.startswith("cuda")
    chosen = [entry.rpartition("=")[::2] for entry in options.encoders or (ON_GPU if on_gpu else ON_CPU)]
    if options.once:
        print_once(options.once, chosen[0][0], int(chosen[0][1]), options.device, options.out)
        return
    usual = [method for method in METHODS if on_gpu or method not in ARITHMETIC]  # a CPU only imitates the others
    methods = list(dict.fromkeys([*([] if options.alone else [BASELINE]), *(options.methods or usual)]))
    rates = ceiling(options.device)
    rows = []
    for name, given in chosen:
        ours, _, others = given.partition(":")
        counts = {method: int(ours if method.startswith("ours") else others or ours) for method in methods}
        if others == "0":
            counts = {BASELINE: 1} | {method: int(ours) for method in ARITHMETIC | {"ours": ""} if method in counts}
        rows += measure(name, counts, options.device, options.repeats, rates)
    print(table(rows))
    print("Ceiling, GFLOP/s: " + ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in rates.items()))
    out = options.out or RESULTS / f"speed_{options.device.split(':')[0]}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(
        json.dumps({"environment": environment(options.device) | {"flop_per_s": rates}, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()

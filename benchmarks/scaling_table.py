"""What ImageNet-1k would take on 1, 8 and 64 GPUs, for each preset: ``python -m benchmarks.scaling_table``.

Arithmetic, no measurement: operations are counted from each architecture (without allocating it), bytes from a part
that is written, and the GPU's rate is an assumption that the command line can change.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks.runner import write_photographs
from benchmarks.speed import RESULTS, floor_flop
from jepascore_core import load_dataset, load_encoder
from jepascore_core.cluster.blocks import cut
from jepascore_core.datasets.images import thumbnail
from jepascore_core.encoders import clip_models, timm_models
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.presets import PRESETS
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.runner.planning import default_batch_size
from jepascore_core.runner.reading import reader
from jepascore_core.store.part_writer import write_part
from jepascore_core.store.parts import SCHEMA

IMAGES = 1_281_167  # training images of ImageNet-1k
IMAGE_BYTES = 110_000  # of one of them on average: 138 GB of JPEG in all
GPUS = (1, 8, 64)
FLOP_PER_S = 500e12  # of large float16 matrix products on one GPU, assumed: half of an H100's nominal 989e12
SHARE = 0.5  # of that rate which the sweep reaches, assumed: between ViT-S and ViT-B on a CPU (benchmarks.speed)
_ROWS = 512
_READ = 60


def on_meta(spec: EncoderSpec) -> Encoder:
    """A published encoder's architecture, without its weights."""
    scheme, _, name = spec.id.partition(":")
    with torch.device("meta"):
        if scheme == "timm":
            fixed = timm_models._config(name).fixed_input_size
            model = timm_models._create(timm_models._arguments(name, spec, fixed, declared=True))
        else:
            model = clip_models._create(name.partition("/")[0], None)
    return Encoder(model, spec, lambda image: torch.empty(0), "")


def row_bytes(dim: int) -> float:
    """Bytes of a row of D singular values and as many numbers of embedding, with a thumbnail, in a part."""
    dice = np.random.default_rng(0)
    picture = thumbnail(Image.fromarray(data.coffee()).resize((500, 375)))
    rows = [
        dict.fromkeys(SCHEMA.names)
        | {"index": number, "key": f"n01440764/n01440764_{number:05d}.JPEG", "label": 0, "class_name": "n01440764"}
        | {"width": 500, "height": 375, "jepa_score": float(number), "score_error": 0.01, "sphere_term": 1.0}
        | {"singular_values": np.sort(dice.lognormal(size=dim))[::-1], "embedding": dice.normal(size=dim)}
        | {"thumbnail": picture}
        for number in range(_ROWS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        return write_part(Path(folder), 1, rows).stat().st_size / _ROWS


def reading_s() -> float:
    """Seconds of one CPU core for an image of ImageNet's usual size: decode, resize for the encoder, thumbnail."""
    encoder = load_encoder("timm:vit_small_patch14_dinov2.lvd142m", pretrained=False)
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), _READ)
        dataset = load_dataset(f"folder:{folder}")
        read = reader(dataset, encoder.transform, thumbnail)
        read(dataset.items[0])
        start = time.process_time()
        for item in dataset.items:
            read(item)
        return (time.process_time() - start) / _READ


def reckon(spec: EncoderSpec, flop_per_s: float) -> dict[str, Any]:
    """One row."""
    encoder = on_meta(spec)
    flop = floor_flop(encoder)
    rate = flop_per_s / flop
    batch = default_batch_size(encoder, torch.device("cuda"))
    block = max(cut(IMAGES, batch_size=batch, workers=GPUS[-1]))
    return {
        "encoder": spec.id, "name": spec.name, "parameters": sum(p.numel() for p in encoder.parameters()),
        "flop": flop, "images_per_s": rate, "hours": [IMAGES / rate / count / 3600 for count in GPUS],
        "stored_bytes": row_bytes(spec.embedding_dim) * IMAGES, "read_bytes_per_s": [rate * count * IMAGE_BYTES
        for count in GPUS], "batch_size": batch, "block": block, "block_s": block / rate,
        "parts": len(cut(IMAGES, batch_size=batch, workers=GPUS[-1])),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| encoder | TFLOP an image | images/s, one GPU | hours on 1 | 8 | 64 GPUs | stored | read by 64 | block |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        hours = " | ".join(_hours(value) for value in row["hours"])
        lines.append(
            f"| {row['name']} | {row['flop'] / 1e12:.3g} | {row['images_per_s']:.3g} | {hours}"
            f" | {row['stored_bytes'] / 1e9:.0f} GB | {row['read_bytes_per_s'][-1] / 1e6:,.0f} MB/s"
            f" | {row['block']:,} images, {row['block_s']:.0f} s |"
        )
    return "\n".join(lines)


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> None:
    """Reckon, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flop-per-s", type=float, default=FLOP_PER_S, help="of large matrix products on one GPU")
    parser.add_argument("--share", type=float, default=SHARE, help="of that rate which the sweep reaches")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    options = parser.parse_args()
    chosen = [spec for spec in PRESETS if not spec.id.startswith("demo:")]
    rows = [reckon(spec, options.flop_per_s * options.share) for spec in chosen]
    print(table(rows))
    core_s = reading_s()
    print(f"Reading an image takes a core of this machine {1000 * core_s:.1f} ms.")
    assumed = {"images": IMAGES, "image_bytes": IMAGE_BYTES, "flop_per_s": options.flop_per_s, "share": options.share}
    assumed["reading_s"] = core_s  # measured here
    options.out.write_text(json.dumps({"assumed": assumed, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Our singular values beside Listing 1 on real architectures and real photographs.

``python -m benchmarks.real_architectures`` takes real photographs through DINOv2 ViT-S/14, MetaCLIP ViT-B/32 and an
I-JEPA-shaped ViT with random weights, and writes the largest difference in log σ to ``results/``. Listing 1 runs in
float32 as published; it is the slow part (minutes on two cores).
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from benchmarks.speed import RESULTS, environment
from jepascore_core import load_dataset, load_encoder
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.jacobian import jacobian_listing1, jacobian_summary
from jepascore_core.score import jepa_score, score_error

ENCODERS = ("timm:vit_small_patch14_dinov2.lvd142m", "open_clip:ViT-B-32-quickgelu/metaclip_400m", "I-JEPA-shaped")


def ijepa_shaped(like: Encoder) -> Encoder:
    """I-JEPA's shape at ViT-S size: 16 × 16 tokens, no class token, mean of tokens after the final norm."""
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=224, patch_size=14, embed_dim=192, depth=12, num_heads=3, num_classes=0,
        class_token=False, global_pool="avg", fc_norm=False, norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    spec = EncoderSpec("I-JEPA-shaped", "I-JEPA-shaped ViT", "I-JEPA", 192, (3, 224, 224), "mean", 1, "none", "none")
    return Encoder(model, spec, like.transform, "random")


def load(encoder_id: str, device: str) -> Encoder:
    """The encoder with random weights."""
    if encoder_id == "I-JEPA-shaped":
        return ijepa_shaped(load_encoder(ENCODERS[0], pretrained=False)).to(device)
    return load_encoder(encoder_id, device=device, pretrained=False)


def compare(encoder: Encoder, images: torch.Tensor) -> dict[str, Any]:
    """Ours and Listing 1 on the same images."""
    null_dim = encoder.spec.null_dim
    start = time.perf_counter()
    ours = jacobian_summary(encoder, images, null_dim=null_dim)
    middle = time.perf_counter()
    listing1 = torch.cat([torch.linalg.svdvals(jacobian_listing1(encoder, image)) for image in images.split(1)])
    end = time.perf_counter()
    rank = ours.singular_values.shape[1] - null_dim
    sigma = ours.singular_values[:, :rank]
    difference = (sigma / listing1[:, :rank].double()).log().abs().max().item()
    scores = [jepa_score(values, null_dim=null_dim) for values in (ours.singular_values, listing1)]
    return {
        "encoder": encoder.spec.id,
        "images": len(images),
        "embedding_dim": encoder.spec.embedding_dim,
        "null_dim": null_dim,
        "scores": scores[0].tolist(),
        "largest_log_sigma_difference": difference,
        "largest_score_difference": (scores[0] - scores[1]).abs().max().item(),
        "score_error": score_error(ours.singular_values, ours.noise, ours.noise_along, null_dim=null_dim).tolist(),
        "smallest_counted_sigma_over_noise": (sigma[:, -1] / ours.noise).min().item(),
        "largest_null_sigma_over_noise": (
            (ours.singular_values[:, rank] / ours.noise).max().item() if null_dim else None
        ),
        "ours_s": middle - start,
        "listing1_s": end - middle,
    }


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="demo:photos", help="dataset id of the photographs")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "real_architectures.json")
    options = parser.parse_args()
    dataset = load_dataset(options.dataset)
    step = len(dataset.items) // options.images
    photographs = [dataset.read(item) for item in dataset.items[::step][: options.images]]
    rows = []
    for encoder_id in options.encoders:
        encoder = load(encoder_id, options.device)
        images = torch.stack([encoder.transform(photograph) for photograph in photographs]).to(options.device)
        rows.append(compare(encoder, images))
        print(json.dumps(rows[-1]), flush=True)
    options.out.parent.mkdir(exist_ok=True)
    document = {"environment": environment(options.device), "dataset": Path(options.dataset).name, "rows": rows}
    options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

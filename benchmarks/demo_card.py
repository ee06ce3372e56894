"""Every number and figure of the demo encoder's model card, from the files that are shipped.

    python -m benchmarks.demo_card --work /tmp/demo-card

judges the shipped encoder and its untrained twin, and trains the other seeds and the VICReg
comparison into the folder ``--work`` unless they are there (about five minutes each on two CPU
cores). It writes ``benchmarks/results/demo_encoder.json``, the figures beside the card, and the
tables between the card's ``numbers`` marks. Held-out regions are used here and nowhere in training.
"""

import argparse
import json
import platform
import re
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import demo_figures as figures
from jepascore_core.datasets.demo import DEMO_NAMES, demo_dataset
from jepascore_core.datasets.demo_photos import PHOTOS, source_image, training_boxes
from jepascore_core.encoders.small import load_small, read_metadata, small_transform
from jepascore_core.jacobian import jacobian_summary, listing1_scores, singular_values
from jepascore_core.score import jepa_score
from jepascore_core.separation import separation
from jepascore_core.trainer import TrainConfig, train
from jepascore_core.trainer.data import embed, training_images
from jepascore_core.trainer.objectives import SLICES, covariance_eigenvalues, projection_moments

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "jepascore_core" / "weights"
CARD = WEIGHTS / "jepa-tiny.md"
SHIPPED, UNTRAINED = "seed 0 (shipped)", "untrained"
OTHERS = {
    "seed 1": TrainConfig(seed=1),
    "seed 2": TrainConfig(seed=2),
    "VICReg": TrainConfig(objective="vicreg"),
}
FRESH_PER_PHOTO, FRESH_SEED = 40, 1000  # crops of the training region that no training step has used
OTHER_SETS = DEMO_NAMES[1:]


def pixels(images: list[Image.Image], path: Path) -> Tensor:
    """Images as the encoder of a file takes them, (N, 3, S, S)."""
    transform = small_transform(read_metadata(path)["preprocess"])
    return torch.stack([transform(image) for image in images])


def scores(path: Path, inputs: Tensor) -> tuple[np.ndarray, Tensor]:
    """JEPA-SCORE (N,) in nats and embeddings (N, D) of normalised inputs."""
    encoder = load_small(path).requires_grad_(False)
    parts = [jacobian_summary(encoder, batch) for batch in inputs.split(64)]
    values = jepa_score(torch.cat([part.singular_values for part in parts]))
    return values.numpy(), torch.cat([part.embedding for part in parts])


def judge(path: Path, sets: dict[str, list[Image.Image]], training: Tensor) -> tuple[dict, dict[str, np.ndarray]]:
    """Everything the card says of one encoder file, and its scores by set."""
    found = {name: scores(path, pixels(images, path)) for name, images in sets.items()}
    by_set = {name: values for name, (values, _) in found.items()}
    embedded = embed(load_small(path), training, training.shape[-1] * 3 // 4)
    numbers = {
        "eigenvalues_training": rounded(covariance_eigenvalues(embedded)),
        "eigenvalues_held_out": rounded(covariance_eigenvalues(found["photos"][1])),
        "projections_training": {key: round(value, 4) for key, value in projection_moments(embedded).items()},
        "score_quantiles_5_50_95": {
            name: rounded(np.quantile(value, [0.05, 0.5, 0.95]), 2) for name, value in by_set.items()
        },
        "auroc_held_out": {name: compared(by_set["photos"], by_set[name]) for name in OTHER_SETS},
        "auroc_fresh": {name: compared(by_set["fresh"], by_set[name]) for name in OTHER_SETS},
    }
    return numbers, by_set


def compared(reference: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """AUROC of the reference above the other set, with its 95 % interval."""
    result = separation(reference, other)
    return {"auroc": round(result.auroc, 3), "low": round(result.low, 3), "high": round(result.high, 3)}


def controls(path: Path, sets: dict[str, list[Image.Image]], by_set: dict[str, np.ndarray]) -> dict:
    """What plain image statistics do, and what the score does when they alone are changed."""
    values = {name: (pixels(images, path) * 0.25 + 0.5).clamp(0, 1) for name, images in sets.items()}  # back to [0, 1]
    brightness = {name: x.mean(dim=(1, 2, 3)).numpy() for name, x in values.items()}
    variation = {name: total_variation(x).numpy() for name, x in values.items()}
    dark = float(np.median(brightness["galaxies"]) / np.median(brightness["photos"]))
    changed = {
        f"photos darkened to {dark:.2f}": values["photos"] * dark,
        "photos darkened to 0.50": values["photos"] * 0.5,
        "digits inverted": 1 - values["digits"],
        "galaxies inverted": 1 - values["galaxies"],
    }
    return {
        "auroc_brightness": {name: compared(brightness["photos"], brightness[name]) for name in OTHER_SETS},
        "auroc_total_variation": {name: compared(variation["photos"], variation[name]) for name in OTHER_SETS},
        "spearman_within_photos": {
            "brightness": round(spearman(by_set["photos"], brightness["photos"]), 2),
            "total variation": round(spearman(by_set["photos"], variation["photos"]), 2),
        },
        "changed": {name: changed_scores(path, x, by_set["photos"]) for name, x in changed.items()},
    }


def changed_scores(path: Path, values: Tensor, photos: np.ndarray) -> dict[str, float]:
    """Median score of changed images, and AUROC of the unchanged photographs above them."""
    score, _ = scores(path, (values - 0.5) / 0.25)
    return {"median": round(float(np.median(score)), 2), "auroc_photos_above": compared(photos, score)["auroc"]}


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring values; (N, 3, H, W) -> (N,)."""
    return x.diff(dim=2).abs().mean(dim=(1, 2, 3)) + x.diff(dim=3).abs().mean(dim=(1, 2, 3))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two samples without ties."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def throughput(path: Path, images: list[Image.Image]) -> dict[str, float]:
    """Images a second, fastest of three, decoding not counted."""
    encoder, inputs = load_small(path).requires_grad_(False), pixels(images[:128], path)

    def per_second(work: Tensor, score: object, batch: int) -> float:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            for part in work.split(batch):
                score(encoder, part)  # type: ignore[operator]
            seconds.append(time.perf_counter() - started)
        return round(len(work) / min(seconds), 1)

    return {
        "listing1_one_image": per_second(inputs[:32], listing1_scores, 1),
        "listing1_batch_16": per_second(inputs, listing1_scores, 16),
        "singular_values_batch_64": per_second(inputs, singular_values, 64),
        "threads": torch.get_num_threads(),
    }


def fresh_crops() -> list[Image.Image]:
    """Crops of the training two thirds, drawn with another seed than the training's."""
    return [
        source_image(photo.source).crop(box)
        for photo in PHOTOS
        for box in training_boxes(photo, FRESH_PER_PHOTO, FRESH_SEED)
    ]


def rounded(values: Tensor | np.ndarray, digits: int = 4) -> list[float]:
    """Plain numbers for JSON."""
    return [round(float(value), digits) for value in values]


def tables(numbers: dict) -> str:
    """The card's tables in Markdown."""
    lines = [
        "| encoder | photos vs digits | vs galaxies | vs histology | fresh crops | eigenvalues, training | held-out |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in numbers["encoders"].items():
        held_out = " | ".join(
            "{auroc:.2f} ({low:.2f}–{high:.2f})".format(**row["auroc_held_out"][key]) for key in OTHER_SETS
        )
        fresh = ", ".join(f"{row['auroc_fresh'][key]['auroc']:.2f}" for key in OTHER_SETS)
        ranges = " | ".join(
            f"{min(row[key]):.2g} to {max(row[key]):.2g}" for key in ("eigenvalues_training", "eigenvalues_held_out")
        )
        lines.append(f"| {name} | {held_out} | {fresh} | {ranges} |")
    quantiles = numbers["encoders"][SHIPPED]["score_quantiles_5_50_95"]
    lines += [
        "",
        "Score of the shipped encoder in nats:",
        "",
        "| set | images | 5 % | median | 95 % |",
        "|---|---|---|---|---|",
    ]
    for name in (*DEMO_NAMES, "fresh"):
        low, middle, high = quantiles[name]
        lines.append(f"| {name} | {numbers['images'][name]} | {low:.1f} | {middle:.1f} | {high:.1f} |")
    control = numbers["controls"]
    lines += [
        "",
        "Controls:",
        "",
        "| statistic alone, AUROC of photos above | digits | galaxies | histology |",
        "|---|---|---|---|",
    ]
    for key, title in (("auroc_brightness", "mean brightness"), ("auroc_total_variation", "total variation")):
        lines.append(f"| {title} | " + " | ".join(f"{control[key][name]['auroc']:.2f}" for name in OTHER_SETS) + " |")
    lines += ["", "| changed images | median score | AUROC of unchanged photos above them |", "|---|---|---|"]
    for name, row in control["changed"].items():
        lines.append(f"| {name} | {row['median']:.1f} | {row['auroc_photos_above']:.2f} |")
    within = control["spearman_within_photos"]
    lines += [
        "",
        f"Within the held-out photographs the score's rank correlation with brightness is {within['brightness']:.2f}, "
        f"with total variation {within['total variation']:.2f}.",
        "",
        "Speed on {threads} busy CPU threads, images a second: Listing 1 one image at a time {listing1_one_image:.0f}, "
        "in batches of 16 {listing1_batch_16:.0f}, `singular_values` {singular_values_batch_64:.0f}.".format(
            **numbers["images_per_s"]
        ),
    ]
    return "\n".join(lines).replace(" -", " −")


def draw(work: Path, numbers: dict, by_set: dict[str, dict[str, np.ndarray]], training: Tensor) -> None:
    """All figures of the card."""
    record = {name: json.loads((work / f"{slug(name)}.training.json").read_text()) for name in ("seed 1", "seed 2")}
    shipped = json.loads((WEIGHTS / "jepa-tiny.training.json").read_text())
    figures.loss_figure(WEIGHTS / "jepa-tiny-loss.png", {"seed 0": shipped, **record})
    embedded = embed(load_small(WEIGHTS / "jepa-tiny.safetensors"), training, training.shape[-1] * 3 // 4)
    directions = torch.randn(embedded.shape[1], SLICES, generator=torch.Generator().manual_seed(0))
    projected = embedded @ (directions / directions.norm(dim=0))
    standard = ((projected - projected.mean(0)) / projected.std(0)).numpy()
    eigenvalues = {name: row["eigenvalues_training"] for name, row in numbers["encoders"].items()}
    names = [SHIPPED, "seed 1", "seed 2", "VICReg", UNTRAINED]
    figures.embedding_figure(
        WEIGHTS / "jepa-tiny-embedding.png",
        {name.replace("seed 0 (shipped)", "SIGReg"): eigenvalues[name] for name in names},
        standard,
    )
    shown = {
        title: {key: by_set[name][key] for key in DEMO_NAMES}
        for title, name in (("trained", SHIPPED), ("untrained", UNTRAINED))
    }
    figures.scores_figure(WEIGHTS / "jepa-tiny-scores.png", shown)
    photos = demo_dataset("photos")
    values = by_set[SHIPPED]["photos"]
    order = [int(i) for i in values.argsort()]
    chosen = order[:10] + order[:-11:-1]
    crops = [photos.read(photos.items[i]) for i in chosen]
    captions = [f"{values[i]:.1f}" for i in chosen]
    figures.extremes_figure(WEIGHTS / "jepa-tiny-extremes.png", crops[:10], crops[10:], captions)


def slug(name: str) -> str:
    """File name of a comparison encoder."""
    return name.lower().replace(" ", "-")


def main() -> None:
    """Judge the shipped encoder and its comparisons, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the comparison encoders; made when absent")
    work = parser.parse_args().work
    for name, config in OTHERS.items():
        path = work / f"{slug(name)}.safetensors"
        if not path.exists():
            print(f"training {name}", flush=True)
            train(config, out=path)
    paths = {SHIPPED: WEIGHTS / "jepa-tiny.safetensors"}
    paths |= {name: work / f"{slug(name)}.safetensors" for name in OTHERS}
    paths |= {UNTRAINED: WEIGHTS / "jepa-tiny-untrained.safetensors"}
    sets = {name: [demo_dataset(name).read(item) for item in demo_dataset(name).items] for name in DEMO_NAMES}
    sets["fresh"] = fresh_crops()
    training = training_images("demo:photos", input_size=48, limit=10_000, seed=0)
    judged = {name: judge(path, sets, training) for name, path in paths.items()}
    by_set = {name: scored for name, (_, scored) in judged.items()}
    numbers = {
        "encoders": {name: found for name, (found, _) in judged.items()},
        "images": {name: len(images) for name, images in sets.items()},
        "controls": controls(paths[SHIPPED], sets, by_set[SHIPPED]),
        "images_per_s": throughput(paths[SHIPPED], sets["photos"]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": platform.machine(),
    }
    results = ROOT / "benchmarks" / "results" / "demo_encoder.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(numbers, indent=1) + "\n")
    draw(work, numbers, by_set, training)
    marks = re.compile(r"(?<=<!-- numbers -->\n).*?(?=<!-- end of numbers -->)", re.DOTALL)
    if CARD.exists():
        CARD.write_text(
            marks.sub(lambda _: f"\n{tables(numbers)}\n\n", CARD.read_text(encoding="utf-8")), encoding="utf-8"
        )
    print(tables(numbers))


if __name__ == "__main__":
    main()

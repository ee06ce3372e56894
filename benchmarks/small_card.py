"""Train ``demo:jepa-small`` and its VICReg twin on Tiny-ImageNet, and make every number of their model card.

    python -m benchmarks.small_card --images tiny-imagenet.parquet --work FOLDER [--sets cifar10=parquet:… …]

trains what is not yet in ``--work`` (hours on two CPU cores; stopped, the same command resumes), judges both encoders
and the untrained network on classes that no training step has seen and on other sets of images, and writes
``benchmarks/results/jepa_small.json``, the figures beside the card and the tables between the card's marks.
``--probe`` runs the short trainings that chose the settings instead, and writes ``jepa_small_probes.json`` and their
table. The file of images has columns ``image`` (bytes) and ``label``; 64 px.
"""

import argparse
import json
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from benchmarks import demo_figures as figures
from benchmarks.demo_card import ROOT, WEIGHTS, compared, rounded, total_variation
from jepascore_core import load_dataset
from jepascore_core.datasets.base import Dataset, Item, sample
from jepascore_core.effective_rank import effective_rank
from jepascore_core.encoders.small import load_small, small_transform
from jepascore_core.jacobian import jacobian_summary
from jepascore_core.score import jepa_score
from jepascore_core.trainer import StepRecord, TrainConfig, train
from jepascore_core.trainer.data import split_classes
from jepascore_core.trainer.objectives import SLICES, covariance_eigenvalues, projection_moments

RESULTS = ROOT / "benchmarks" / "results"
CARD = WEIGHTS / "jepa-small.md"
TRAINED, TWIN, UNTRAINED = "jepa-small", "jepa-small-vicreg", "jepa-small-untrained"
NEIGHBOURS = 10
AT_ONCE = 32  # images; more take gigabytes
MOST = 250  # images of each set that are scored, classes in turn
DEMO_SETS = {name: f"demo:{name}" for name in ("digits", "galaxies", "histology")}

SETTINGS = TrainConfig(
    steps=3600, batch_size=128, lr=2e-3, weight=0.02, embedding_dim=32, input_size=64, limit=24_000, hold_out_every=10,
    network="vit", min_area=0.4, jitter=0.3, weight_decay=0.05, whiten_head=True,
    precision="bfloat16",
)  # fmt: skip
PROBE = {"steps": 200}
PROBES: dict[str, dict[str, Any]] = {
    "as chosen": {},
    "weight 0.1": {"weight": 0.1},
    "weight 0.3": {"weight": 0.3},
    "lr 1e-3": {"lr": 1e-3},
    "mild views": {"min_area": 0.6, "jitter": 0.15},
    "four local views": {"local_views": 4},
    "D = 64": {"embedding_dim": 64},
    "VICReg": {"objective": "vicreg", "weight": 0.5},
}

CONFIGS = {TRAINED: SETTINGS, TWIN: replace(SETTINGS, **PROBES["VICReg"], steps=2400)}


class Judged:
    """Held-out classes of the training's dataset, as images and labels.

    Args:
        dataset: The whole dataset.
        hold_out_every: As the training took it.
    """

    def __init__(self, dataset: Dataset, hold_out_every: int) -> None:
        names = split_classes(dataset, hold_out_every)[1]
        self.items: list[Item] = sample(dataset.items, classes=names)  # classes in turn
        self.images = [dataset.read(item) for item in self.items]
        self.labels = np.array([names.index(item.class_name) for item in self.items])
        self.classes = len(names)
        self.first_half = np.arange(len(self.items)) // self.classes % 2 == 0  # of every class

    def knn_right(self, vectors: Tensor) -> np.ndarray:
        """Whether 10 nearest neighbours (cosine, mean taken off) of the other half name an image's class, (N,)."""
        centred = (vectors - vectors.mean(dim=0)).flatten(1).numpy()
        right = np.empty(len(centred), bool)
        for asked in (self.first_half, ~self.first_half):
            classifier = KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights="distance")
            classifier.fit(centred[~asked], self.labels[~asked])
            right[asked] = classifier.predict(centred[asked]) == self.labels[asked]
        return right


def inputs(images: list[Image.Image]) -> Tensor:
    """Images as the encoders take them, (N, 3, 64, 64)."""
    transform = small_transform({"input_size": 64, "mean": [0.5] * 3, "std": [0.25] * 3})
    return torch.stack([transform(image) for image in images])


def embed_all(path: Path, pixels: Tensor) -> Tensor:
    """Embeddings (N, D) of normalised inputs."""
    encoder = load_small(path)
    with torch.inference_mode():
        return torch.cat([encoder(batch) for batch in pixels.split(256)])


def scores(path: Path, pixels: Tensor) -> np.ndarray:
    """JEPA-SCORE (N,) in nats of normalised inputs."""
    encoder = load_small(path).requires_grad_(False)
    parts = [jacobian_summary(encoder, batch).singular_values for batch in pixels.split(AT_ONCE)]
    return jepa_score(torch.cat(parts)).numpy()


def shape_of(embeddings: Tensor) -> dict[str, Any]:
    """How near embeddings (N, D) are to a standard Gaussian."""
    eigenvalues = covariance_eigenvalues(embeddings)
    median = eigenvalues.median()
    within = (eigenvalues <= 4 * median) & (eigenvalues >= median / 4)
    return {
        "eigenvalues": rounded(eigenvalues),
        "within_factor_4": float(within.double().mean()),
        "effective_rank_share": effective_rank(eigenvalues) / len(eigenvalues),
        "projections": {name: round(value, 4) for name, value in projection_moments(embeddings).items()},
    }


def probe(dataset: Dataset, judged: Judged, work: Path) -> None:
    """Train briefly with each setting, and write what came of it."""
    pixels = inputs(judged.images)
    right: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    for name, changes in PROBES.items():
        config = replace(SETTINGS, **{**PROBE, **changes})
        path = work / "probes" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.safetensors"
        if not path.exists():
            train(config, out=path, dataset=dataset)
        record = json.loads(path.with_name(f"{path.stem}.training.json").read_text())
        embeddings = embed_all(path, pixels)
        right[name] = judged.knn_right(embeddings)
        found = shape_of(embeddings)
        facts = {key: found[key] for key in ("within_factor_4", "effective_rank_share", "projections")}
        rows.append({"probe": name, "knn": float(right[name].mean()), "seconds": record["elapsed_s"]} | facts)
        print(rows[-1], flush=True)
    chosen = next(iter(PROBES))
    for row in rows:
        name = row["probe"]
        row["knn_beyond"] = {} if name == chosen else beyond(right[name], {chosen: right[chosen]})
    (RESULTS / "jepa_small_probes.json").write_text(
        json.dumps({"settings": asdict(SETTINGS) | PROBE, "rows": rows}, indent=1) + "\n"
    )
    write_between("probes", probes_table(rows))


def points(row: dict[str, Any], other: str) -> str:
    """By how many points an accuracy exceeds another, with its interval."""
    if (found := row["knn_beyond"].get(other)) is None:
        return "–"
    return "{:+.1f} ({:+.1f} … {:+.1f}) points".format(*(100 * value for value in found.values()))


def probes_table(rows: Sequence[dict[str, Any]]) -> str:
    """What the short trainings reached, in Markdown."""
    chosen = rows[0]["probe"]
    lines = [
        f"| {PROBE['steps']} steps | eigenvalues within 4 × of their median | effective rank / D | excess kurtosis"
        f" | k-NN accuracy | above “{chosen}” | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['probe']} | {row['within_factor_4']:.0%} | {row['effective_rank_share']:.0%}"
            f" | {row['projections']['excess_kurtosis']:+.2f} | {row['knn']:.1%} | {points(row, chosen)}"
            f" | {row['seconds'] / rows[0]['seconds']:.1f} × |"
        )
    return typographic("\n".join(lines))


def typographic(table: str) -> str:
    """A table with minus signs."""
    return table.replace(" -", " −").replace("(-", "(−")


def write_between(name: str, table: str) -> None:
    """Put a table between the card's marks of that name, and print it."""
    marks = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
    if CARD.exists():
        text = CARD.read_text(encoding="utf-8")
        CARD.write_text(marks.sub(lambda _: f"\n{table}\n\n", text), encoding="utf-8")
    print(table)


def judge(
    path: Path, judged: Judged, pixels: Tensor, sets: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything the card says of one encoder, and its scores by set.

    ``pixels`` are all images of the held-out classes, on whose embeddings it is judged; ``photos`` the scored ones.
    """
    by_set = {name: scores(path, images) for name, images in sets.items()}
    embeddings = embed_all(path, pixels)
    numbers = shape_of(embeddings) | {
        "knn": float(judged.knn_right(embeddings).mean()),
        "score_quantiles_5_50_95": {
            name: rounded(np.quantile(value, [0.05, 0.5, 0.95]), 2) for name, value in by_set.items()
        },
        "auroc": {name: compared(by_set["photos"], by_set[name]) for name in sets if name != "photos"},
    }
    return numbers, by_set


def controls(sets: dict[str, Tensor], trained: np.ndarray) -> dict[str, Any]:
    """What plain image statistics do in the score's place."""
    values = {name: (pixels * 0.25 + 0.5).clamp(0, 1) for name, pixels in sets.items()}
    statistics: dict[str, Callable[[Tensor], Tensor]] = {
        "brightness": lambda x: x.mean(dim=(1, 2, 3)),
        "total variation": total_variation,
    }
    return {
        title: {
            "auroc": {
                name: compared(statistic(values["photos"]).numpy(), statistic(x).numpy())["auroc"]
                for name, x in values.items()
                if name != "photos"
            },
            "spearman_within_photos": round(float(spearmanr(trained, statistic(values["photos"]).numpy())[0]), 3),
        }
        for title, statistic in statistics.items()
    }


def agreement(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Spearman correlation of two encoders' scores of the same images, with a bootstrap 95 % interval."""
    dice = np.random.default_rng(0)
    draws = [dice.integers(len(a), size=len(a)) for _ in range(1000)]
    low, high = np.quantile([spearmanr(a[draw], b[draw])[0] for draw in draws], [0.025, 0.975])
    return {
        "spearman": round(float(spearmanr(a, b)[0]), 3), "low": round(float(low), 3), "high": round(float(high), 3)
    }  # fmt: skip


def beyond(right: np.ndarray, others: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """By how much accuracy exceeds that of others on the same images, with 95 % intervals of the paired difference."""
    found = {}
    for name, other in others.items():
        apart = right.astype(float) - other
        half = 1.96 * float(apart.std(ddof=1)) / np.sqrt(len(apart))
        found[name] = {"difference": float(apart.mean()), "low": apart.mean() - half, "high": apart.mean() + half}
    return found


def tables(numbers: dict[str, Any]) -> str:
    """The card's tables in Markdown."""
    encoders, knn = numbers["encoders"], numbers["knn_pixels"]
    lines = [
        "| encoder | eigenvalues within 4 × of their median | effective rank / D | projections: KS, excess kurtosis"
        " | k-NN accuracy | above untrained | above pixels |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in encoders.items():
        moments = row["projections"]
        lines.append(
            f"| {name} | {row['within_factor_4']:.0%} | {row['effective_rank_share']:.0%}"
            f" | {moments['ks']:.3f}, {moments['excess_kurtosis']:+.2f} | {row['knn']:.1%}"
            f" | {points(row, 'untrained')} | {points(row, 'pixels')} |"
        )
    lines += [
        f"| pixels, 8 × 8 means | – | – | – | {knn['means']:.1%} | – | – |",
        f"| chance | – | – | – | {1 / numbers['classes']:.1%} | – | – |",
    ]
    names = list(encoders[TRAINED]["auroc"])
    lines += ["", "| AUROC of photos above | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for encoder, row in encoders.items():
        cells = " | ".join("{auroc:.2f} ({low:.2f}–{high:.2f})".format(**row["auroc"][name]) for name in names)
        lines.append(f"| {encoder} | {cells} |")
    for title, row in numbers["controls"].items():
        lines.append(f"| {title} alone | " + " | ".join(f"{row['auroc'][name]:.2f}" for name in names) + " |")
    within = {title: row["spearman_within_photos"] for title, row in numbers["controls"].items()}
    twins = "; ".join(
        f"{name} {row['spearman']:.2f} ({row['low']:.2f}–{row['high']:.2f})" for name, row in numbers["twins"].items()
    )
    lines += [
        "",
        f"Rank correlation of the twins' scores: {twins}.",
        "",
        f"Rank correlation of {TRAINED}'s score within the held-out photos with brightness {within['brightness']:.2f}, "
        f"with total variation {within['total variation']:.2f}.",
    ]
    return typographic("\n".join(lines))


def standard_projections(embeddings: Tensor) -> np.ndarray:
    """Random projections of embeddings (N, D), each standardised, (N, SLICES)."""
    directions = torch.randn(embeddings.shape[1], SLICES, generator=torch.Generator().manual_seed(0))
    projected = embeddings @ (directions / directions.norm(dim=0))
    return ((projected - projected.mean(0)) / projected.std(0)).numpy()


def draw(
    work: Path, numbers: dict[str, Any], by_set: dict[str, dict[str, np.ndarray]], embeddings: dict[str, Tensor]
) -> None:
    """All figures of the card."""
    records = {name: json.loads((work / f"{name}.training.json").read_text()) for name in (TRAINED, TWIN)}
    figures.loss_figure(WEIGHTS / f"{TRAINED}-loss.png", {"SIGReg": records[TRAINED]})
    names = {TRAINED: "SIGReg", TWIN: "VICReg", UNTRAINED: "untrained"}
    standard = {title: standard_projections(embeddings[name]) for name, title in names.items()}
    eigenvalues = {title: numbers["encoders"][name]["eigenvalues"] for name, title in names.items()}
    figures.embedding_figure(WEIGHTS / f"{TRAINED}-embedding.png", eigenvalues, standard["SIGReg"])
    figures.quantile_figure(WEIGHTS / f"{TRAINED}-quantiles.png", standard)
    drawn = ("photos", *DEMO_SETS)  # more names would lie over one another
    shown = {
        title: {one: by_set[name][one] for one in drawn}
        for title, name in (("trained", TRAINED), ("untrained", UNTRAINED))
    }
    figures.scores_figure(WEIGHTS / f"{TRAINED}-scores.png", shown)


def train_one(name: str, dataset: Dataset, images: Path, work: Path) -> None:
    """Train an encoder unless it is there; its record names the file of images."""

    def told(record: StepRecord) -> None:
        if record.step % 25 == 0:
            print(f"{name} {record.step} loss {record.loss:.4f} {record.elapsed_s:.0f} s", flush=True)

    path = work / f"{name}.safetensors"
    if not path.exists():
        train(replace(CONFIGS[name], dataset=f"parquet:{images.name}"), out=path, dataset=dataset, on_step=told)


def main() -> None:
    """Train, judge, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="Tiny-ImageNet as a Parquet file")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trainings; made when absent")
    parser.add_argument("--sets", nargs="*", default=[], help="more sets to score, name=dataset id")
    parser.add_argument("--probe", action="store_true", help="run the short trainings that chose the settings")
    parser.add_argument("--only", choices=list(CONFIGS), help="train this one and stop, as one of two processes")
    options = parser.parse_args()
    dataset = load_dataset(f"parquet:{options.images}")
    judged = Judged(dataset, SETTINGS.hold_out_every)
    if options.probe:
        probe(dataset, judged, options.work)
        return
    for name in [options.only] if options.only else list(CONFIGS):
        train_one(name, dataset, options.images, options.work)
    if options.only:
        return
    paths = {name: options.work / f"{name}.safetensors" for name in (TRAINED, TWIN, UNTRAINED)}
    pixels = inputs(judged.images)
    sets = {"photos": pixels[:MOST]}
    for name, dataset_id in {**DEMO_SETS, **dict(entry.split("=", 1) for entry in options.sets)}.items():
        other = load_dataset(dataset_id)
        sets[name] = inputs([other.read(item) for item in sample(other.items, limit=MOST)])
    found = {name: judge(path, judged, pixels, sets) for name, path in paths.items()}
    by_set = {name: values for name, (_, values) in found.items()}
    means = judged.knn_right(torch.nn.functional.adaptive_avg_pool2d(pixels, 8))
    embeddings = {name: embed_all(path, pixels) for name, path in paths.items()}
    right = {name: judged.knn_right(vectors) for name, vectors in embeddings.items()}
    for name, (row, _) in found.items():
        others = {"untrained": right[UNTRAINED], "pixels": means}
        row["knn_beyond"] = beyond(right[name], others if name != UNTRAINED else {"pixels": means})
    numbers = {
        "encoders": {name: row for name, (row, _) in found.items()},
        "knn_pixels": {"pixels": float(judged.knn_right(pixels).mean()), "means": float(means.mean())},
        "classes": judged.classes,
        "images": {name: len(pixels) for name, pixels in sets.items()},
        "twins": {name: agreement(by_set[TRAINED][name], by_set[TWIN][name]) for name in sets},
        "controls": controls(sets, by_set[TRAINED]["photos"]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    (RESULTS / "jepa_small.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(options.work, numbers, by_set, embeddings)
    write_between("numbers", tables(numbers))


if __name__ == "__main__":
    main()

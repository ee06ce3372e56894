"""The trainer: objectives with known answers, steps that resume exactly, and the weights that are shipped."""

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from jepascore_core import load_dataset, load_encoder, trainer
from jepascore_core.datasets.demo import demo_dataset
from jepascore_core.encoders.small import (
    PREPROCESS,
    build_small,
    load_small,
    read_metadata,
    save_checkpoint,
    small_transform,
)
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import EncoderError, RunError
from jepascore_core.jacobian import jacobian_summary, listing1_scores, singular_values
from jepascore_core.score import jepa_score
from jepascore_core.separation import separation
from jepascore_core.trainer import train
from jepascore_core.trainer.augment import random_view
from jepascore_core.trainer.data import embed, split_classes, training_images
from jepascore_core.trainer.objectives import (
    GAUSSIAN_STATISTIC,
    OBJECTIVES,
    Objective,
    covariance_eigenvalues,
    epps_pulley,
    projection_moments,
    sigreg,
    vicreg,
)
from jepascore_core.trainer.state import StepRecord, TrainConfig, TrainingState, learning_rate, take_step

WEIGHTS = Path(trainer.__file__).parents[1] / "weights"
pytestmark = pytest.mark.usefixtures("one_thread")
TINY = TrainConfig(
    dataset="demo:digits", steps=12, batch_size=32, embedding_dim=4, input_size=16, limit=96, device="cpu"
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- objectives ---------------------------------------------------------------------------------


def test_epps_pulley_equals_the_plain_integral() -> None:
    samples = torch.randn(50, 3, generator=generator(), dtype=torch.float64) * 1.3 + 0.2
    t = np.linspace(-3, 3, 33)  # 17 knots on each half line
    for column in range(3):
        x = samples[:, column].numpy()
        empirical = np.array([np.exp(1j * knot * x).mean() for knot in t])
        integrand = np.abs(empirical - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        expected = len(x) * np.trapezoid(integrand, t)
        assert epps_pulley(samples)[column].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [128, 2048])
def test_epps_pulley_of_gaussian_samples_is_its_null_value(count: int) -> None:
    statistic = epps_pulley(torch.randn(count, 2000, generator=generator())).mean()
    assert statistic.item() == pytest.approx(GAUSSIAN_STATISTIC, rel=0.05)


@pytest.mark.parametrize(
    "name, samples",
    [
        ("collapsed", torch.zeros(512, 64)),
        ("too wide", 2 * torch.randn(512, 64, generator=generator())),
        ("shifted", 0.5 + torch.randn(512, 64, generator=generator())),
        ("two points", torch.randn(512, 64, generator=generator()).sign()),
        ("skewed", torch.rand(512, 64, generator=generator()).log().neg() - 1),
    ],
)
def test_epps_pulley_grows_away_from_the_gaussian(name: str, samples: Tensor) -> None:
    assert epps_pulley(samples).mean() > 3 * GAUSSIAN_STATISTIC, name


def test_sigreg_sees_one_collapsed_direction() -> None:
    z = torch.randn(1, 512, 8, generator=generator())
    flat = z.clone()
    flat[..., 0] = 0
    assert sigreg(flat, 1.0, generator()).loss > 1.5 * sigreg(z, 1.0, generator()).loss


def test_vicreg_equals_the_papers_terms() -> None:
    a, b = torch.randn(2, 40, 5, generator=generator(), dtype=torch.float64) * torch.linspace(0.3, 1.5, 5)
    similarity = torch.nn.functional.mse_loss(a, b)
    variance = sum(torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() / 2 for z in (a, b))
    covariance = sum((z.T.cov() - z.T.cov().diagonal().diag()).square().sum() / 5 for z in (a, b))
    paper = 25 * similarity + 25 * variance + covariance
    assert 50 * vicreg(torch.stack([a, b]), 0.5, generator()).loss.item() == pytest.approx(paper.item(), rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_objectives_share_a_meaning(objective: Objective) -> None:
    z = torch.randn(64, 8, generator=generator())
    equal = objective(torch.stack([z, z]), 0.3, generator())
    apart = objective(torch.stack([z, z.roll(1, 0)]), 0.3, generator())
    collapsed = objective(torch.zeros(2, 64, 8), 0.3, generator())
    assert equal.invariance == 0 < apart.invariance
    assert collapsed.regulariser > 3 * equal.regulariser
    assert apart.loss.item() == pytest.approx(0.7 * apart.invariance.item() + 0.3 * apart.regulariser.item(), rel=1e-5)
    z.requires_grad_(True)
    objective(torch.stack([z, 0.9 * z]), 0.3, generator()).loss.backward()
    assert z.grad is not None and z.grad.isfinite().all() and z.grad.abs().sum() > 0


def test_covariance_eigenvalues_of_a_known_covariance() -> None:
    z = torch.randn(200_000, 3, generator=generator()) * torch.tensor([2.0, 1.0, 0.0])
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator())).Q
    assert covariance_eigenvalues(z @ rotation).tolist() == pytest.approx([4, 1, 0], abs=0.05)


def test_projection_moments_tell_gaussian_from_not() -> None:
    gaussian = projection_moments(torch.randn(4000, 8, generator=generator()))
    heavy = projection_moments(
        torch.randn(4000, 8, generator=generator()) * torch.rand(4000, 1, generator=generator()).pow(2)
    )
    assert gaussian["std"] == pytest.approx(1, abs=0.05)
    assert max(gaussian["skewness"], abs(gaussian["excess_kurtosis"]), gaussian["ks"]) < 0.1
    assert heavy["excess_kurtosis"] > 1


# --- views --------------------------------------------------------------------------------------


def test_views_follow_from_the_generator_and_stay_in_range() -> None:
    images = torch.rand(16, 3, 32, 32, generator=generator())
    one, same, other = (random_view(images, 24, generator(seed), areas=(0.6, 1.0), jitter=0.15) for seed in (1, 1, 2))
    assert one.shape == (16, 3, 24, 24)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0 and one.max() <= 1


def test_views_are_mild() -> None:
    grey = torch.full((64, 3, 32, 32), 0.5)
    views = random_view(grey, 24, generator(), areas=(0.6, 1.0), jitter=0.15)
    assert views.std(dim=(2, 3)).max() < 1e-4  # crop, mirror and blur leave a flat image flat
    assert (views.mean(dim=(1, 2, 3)) - 0.5).abs().max() <= 0.5 * 0.15 + 1e-4
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)
    seen = random_view(ramp, 24, generator(), areas=(0.6, 1.0), jitter=0.15)
    span = (seen[:, 0, 12, -1] - seen[:, 0, 12, 0]).abs()
    assert span.min() > 0.5  # at least 0.6 of the area, contrast and brightness within 15 %
    assert 10 < (seen[:, 0, 12, -1] > seen[:, 0, 12, 0]).sum() < 54  # about half are mirrored


# --- training -----------------------------------------------------------------------------------


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    config = TrainConfig(steps=100, lr=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert max(rates) == 1.0 and rates.index(1.0) == 4
    assert rates[:5] == sorted(rates[:5]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_few_steps_lower_the_loss(objective: str, tmp_path: Path) -> None:
    report = train(replace(TINY, objective=objective, steps=30), out=tmp_path / "e.safetensors")
    losses = [record.loss for record in report.history]
    assert report.done and report.images == 96 and len(losses) == 30
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert len(report.covariance_eigenvalues) == 4
    assert not torch.equal(load_small(report.path).head.weight, load_small(report.untrained_path).head.weight)
    record = json.loads((tmp_path / "e.training.json").read_text())
    assert record["config"]["objective"] == objective and len(record["loss"]) == 30
    assert str(tmp_path) not in (tmp_path / "e.training.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "e-untrained.safetensors",
        "e.safetensors",
        "e.training.json",
    ]


def test_a_vision_transformer_trains_and_scores(tmp_path: Path) -> None:
    config = replace(
        TINY, network="vit", input_size=32, embedding_dim=6, steps=2, precision="bfloat16", lr=1e-3, local_views=2
    )
    report = train(config, out=tmp_path / "v.safetensors")
    encoder = load_encoder(f"file:{report.path}")
    assert report.done and encoder.spec.pooling == "mean" and encoder.spec.input_size == (3, 32, 32)
    image = torch.rand(1, 3, 32, 32, generator=generator())
    found = jepa_score(jacobian_summary(encoder, image).singular_values)
    assert found.item() == pytest.approx(listing1_scores(encoder.double(), image.double()).item(), abs=1e-3)


def test_a_vision_transformer_begins_with_a_white_embedding(tmp_path: Path) -> None:
    config = replace(TINY, network="vit", input_size=32, embedding_dim=6, steps=1)
    report = train(config, out=tmp_path / "v.safetensors")
    images = training_images(config.dataset, input_size=32, limit=config.limit, seed=0)
    eigenvalues = covariance_eigenvalues(embed(load_small(report.untrained_path), images, 32))
    assert eigenvalues.min() > 0.9 and eigenvalues.max() < 1.1


def test_a_vision_transformer_can_end_with_a_white_embedding(tmp_path: Path) -> None:
    config = replace(TINY, network="vit", input_size=32, embedding_dim=6, steps=6, lr=1e-2)
    ends = {}
    for whiten in (False, True):
        report = train(replace(config, whiten_head=whiten), out=tmp_path / f"{whiten}.safetensors")
        ends[whiten] = report
    assert min(ends[True].covariance_eigenvalues) > 0.99 and max(ends[True].covariance_eigenvalues) < 1.01
    assert min(ends[False].covariance_eigenvalues) < 0.9
    apart = {
        name for name, tensor in weights(ends[True].path).items() if not tensor.equal(weights(ends[False].path)[name])
    }
    assert apart == {"head.weight", "head.bias"}


@pytest.mark.parametrize("objective, near", [(sigreg, 0.01 * 2 / 4), (vicreg, 0.01 * 4 / 5)])
def test_local_views_are_pulled_to_the_views_of_full_size(objective: Objective, near: float) -> None:
    z = torch.randn(4, 256, 8, generator=generator())
    z[1] = z[0]
    assert objective(z, 0.0, generator()).loss > 100 * near
    z[2:] = z[0] + 0.1
    assert objective(z, 0.0, generator()).loss.item() == pytest.approx(near, rel=1e-3)


def test_local_views_show_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, tuple[float, float]]] = []

    def watched(images: torch.Tensor, size: int, *rest: object, areas: tuple[float, float], jitter: float) -> object:
        seen.append((size, areas))
        return random_view(images, size, *rest, areas=areas, jitter=jitter)  # type: ignore[arg-type]

    monkeypatch.setattr("jepascore_core.trainer.state.random_view", watched)
    images = torch.randint(256, (64, 3, 64, 64), dtype=torch.uint8, generator=generator())
    config = replace(TINY, network="vit", input_size=32, batch_size=16, local_views=3, min_area=0.4)
    take_step(TrainingState.start(config, images, torch.device("cpu")), images, 0.0)
    assert seen == [(32, (0.4, 1.0))] * 2 + [(16, (0.1, 0.4))] * 3


def test_classes_can_be_held_out(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20), (40 * "abcdef".index(name), 0, 0)).save(tmp_path / name / "0.png")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert split_classes(dataset, 3) == (["a", "b", "d", "e"], ["c", "f"])
    assert split_classes(dataset, 0) == (list("abcdef"), [])
    images = training_images(dataset, input_size=16, limit=10, seed=0, hold_out_every=3)
    assert sorted(images[:, 0, 0, 0].tolist()) == [0, 40, 120, 160] and images.shape[-1] == 20


def weights(path: Path) -> dict[str, Tensor]:
    return load_small(path).state_dict()


def test_stopped_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    whole = train(TINY, out=tmp_path / "whole.safetensors")
    stop, out = threading.Event(), tmp_path / "broken.safetensors"

    def stop_at_five(record: StepRecord) -> None:
        if record.step == 4:
            stop.set()

    first = train(TINY, out=out, on_step=stop_at_five, stop=stop)
    assert not first.done and len(first.history) == 5 and not out.exists()
    seen: list[int] = []
    second = train(TINY, out=out, on_step=lambda record: seen.append(record.step))
    assert second.done and seen == list(range(5, 12))
    assert [record.loss for record in second.history] == [record.loss for record in whole.history]
    for name, tensor in weights(whole.path).items():
        assert torch.equal(tensor, weights(out)[name]), name
    assert second.elapsed_s >= first.elapsed_s
    assert not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob(".*"))


def test_a_crash_between_checkpoints_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", 4)
    out = tmp_path / "e.safetensors"

    def crash(record: StepRecord) -> None:
        if record.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, out=out, on_step=crash)
    resumed = train(TINY, out=out)
    whole = train(TINY, out=tmp_path / "whole.safetensors")
    assert [record.step for record in resumed.history] == list(range(12))
    for name, tensor in weights(whole.path).items():
        assert torch.equal(tensor, weights(out)[name]), name


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    stop, out = threading.Event(), tmp_path / "e.safetensors"
    train(TINY, out=out, on_step=lambda _: stop.set(), stop=stop)
    with pytest.raises(RunError, match="other settings or images"):
        train(replace(TINY, lr=1e-3), out=out)
    with pytest.raises(RunError, match="other settings or images"):
        train(TINY, out=out, dataset=demo_dataset("galaxies"))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"e\.checkpoint\.pt"):
        train(TINY, out=tmp_path / "e.safetensors")


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(replace(TINY, steps=2), out=tmp_path / "e.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_seeds_differ(tmp_path: Path) -> None:
    paths = [train(replace(TINY, steps=1, seed=seed), out=tmp_path / f"{seed}.safetensors").path for seed in (0, 1)]
    assert not torch.equal(load_small(paths[0]).head.weight, load_small(paths[1]).head.weight)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"objective": "simclr"}, "No objective named 'simclr'; there are sigreg, vicreg"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"weight": 1.5}, "weight must lie between 0 and 1, not 1.5"),
        ({"limit": 40}, "at least two batches of images: 64, not 40"),
        ({"lr": 1e30}, "no longer finite"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"device": "abacus"}, "abacus"),
        ({"network": "mlp"}, "No network named 'mlp'; there are convnet, vit"),
        ({"network": "vit", "input_size": 36}, "multiple of 8, not 36"),
        ({"network": "vit", "input_size": 40, "local_views": 1}, "multiple of 16, not 40"),
        ({"local_views": -1}, "local_views must be at least 0"),
        ({"precision": "int8"}, "float32 or bfloat16"),
        ({"min_area": 0.0}, "min_area"),
        ({"whiten_head": True}, "network vit"),
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=message):
        train(replace(TINY, **changes), out=tmp_path / "e.safetensors")  # type: ignore[arg-type]


def test_the_file_must_be_safetensors(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must end in \.safetensors, not 'e\.pt'"):
        train(TINY, out=tmp_path / "e.pt")


def test_photos_mean_their_training_crops() -> None:
    images = training_images("demo:photos", input_size=48, limit=10, seed=0)
    assert images.shape == (7000, 3, 64, 64) and images.dtype == torch.uint8


# --- checkpoint file ----------------------------------------------------------------------------


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    config = {"channels": [8, 12], "embedding_dim": 5}
    spec = EncoderSpec("file:x", "x", "test", 5, (3, 32, 32), "average pool", 0, "MIT", "none")
    model = build_small(config)
    model(torch.randn(8, 3, 32, 32))  # moves the running statistics
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())  # what float16 can hold comes back exactly
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, model, config=config, spec=spec, preprocess={**PREPROCESS, "input_size": 32})
    metadata = read_metadata(path)
    assert metadata == {
        "architecture": "small",
        "config": config,
        "spec": spec,
        "preprocess": {**PREPROCESS, "input_size": 32},
    }
    again = load_small(path)
    images = torch.randn(4, 3, 32, 32)
    assert not again.training
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    assert torch.equal(again(images), model.eval()(images))
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes(b"nothing")
    save_file({"w": torch.zeros(2)}, foreign)
    for path in (damaged, foreign, tmp_path / "missing.safetensors"):
        with pytest.raises(EncoderError, match=path.name):
            read_metadata(path)


def test_transform_resizes_the_centre_and_normalises() -> None:
    image = Image.new("RGB", (300, 100), "red")
    image.paste((0, 128, 255), (100, 0, 200, 100))  # only the centre square
    x = small_transform(PREPROCESS)(image)
    assert x.shape == (3, 48, 48) and x.dtype == torch.float32
    assert x[:, 24, 24].tolist() == pytest.approx([-2, (128 / 255 - 0.5) / 0.25, 2], abs=1e-5)


# --- the weights in the repository --------------------------------------------------------------


def held_out_scores(name: str, dataset: str, count: int) -> tuple[np.ndarray, Tensor]:
    path = WEIGHTS / f"{name}.safetensors"
    encoder, transform = load_small(path).requires_grad_(False), small_transform(read_metadata(path)["preprocess"])
    images = demo_dataset(dataset)
    chosen = images.items[:: math.ceil(len(images.items) / count)]
    x = torch.stack([transform(images.read(item)) for item in chosen])
    return jepa_score(singular_values(encoder, x)).numpy(), encoder(x)


@pytest.mark.parametrize(
    ("name", "dim", "side", "parameters"),
    [("jepa-tiny", 16, 48, 663_544), ("jepa-tiny-untrained", 16, 48, 663_544)]
    + [(f"jepa-small{twin}", 32, 64, 1_226_912) for twin in ("", "-vicreg", "-untrained")],
)
def test_shipped_files_are_small_and_describe_themselves(name: str, dim: int, side: int, parameters: int) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    metadata = read_metadata(path)
    assert path.stat().st_size < 5_000_000
    assert metadata["spec"].embedding_dim == dim
    assert metadata["spec"].input_size == (3, side, side)
    assert metadata["spec"].name == name
    assert sum(parameter.numel() for parameter in load_small(path).parameters()) == parameters


@pytest.fixture(scope="module")
def shipped() -> dict[tuple[str, str], tuple[np.ndarray, Tensor]]:
    """Scores and embeddings of both shipped encoders on a fixed share of each demo set."""
    return {
        (name, dataset): held_out_scores(name, dataset, 70)
        for name in ("jepa-tiny", "jepa-tiny-untrained")
        for dataset in ("photos", "digits", "galaxies")
    }


def test_shipped_encoder_is_not_collapsed_where_it_never_trained(shipped: dict) -> None:
    trained = covariance_eigenvalues(shipped["jepa-tiny", "photos"][1])
    untrained = covariance_eigenvalues(shipped["jepa-tiny-untrained", "photos"][1])
    assert trained.min() > 0.1 and trained.max() < 10
    assert untrained.min() < 0.01


def test_trained_and_untrained_order_the_demo_sets_in_opposite_ways(shipped: dict) -> None:
    for dataset in ("digits", "galaxies"):
        trained = separation(shipped["jepa-tiny", "photos"][0], shipped["jepa-tiny", dataset][0])
        untrained = separation(shipped["jepa-tiny-untrained", "photos"][0], shipped["jepa-tiny-untrained", dataset][0])
        assert trained.low > 0.65, dataset
        assert untrained.high < 0.25, dataset


def test_scaling_the_input_moves_every_score_by_the_same_amount() -> None:
    path = WEIGHTS / "jepa-tiny.safetensors"
    encoder = load_small(path).requires_grad_(False)
    photos = demo_dataset("photos")
    transform = small_transform(read_metadata(path)["preprocess"])
    x = torch.stack([transform(photos.read(item)) for item in photos.items[::70]])
    usual = jepa_score(singular_values(encoder, x))
    rescaled = jepa_score(singular_values(lambda y: encoder(2 * y), x / 2))  # type: ignore[arg-type]
    assert (rescaled - usual - 16 * math.log(2)).abs().max() < 1e-3

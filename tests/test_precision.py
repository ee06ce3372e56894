"""Lower precisions: what they round, the error bar that measures it, and scoring again where it is too wide."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from jepascore_core import load_dataset, load_encoder, store
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.jacobian import jacobian_summary
from jepascore_core.products import arithmetic, conv_transpose2d, factor, linear, matmul
from jepascore_core.runner import score_work
from jepascore_core.runner.precision import LEAST_TOLERANCE, Ladder, Tolerance, ladder_of
from jepascore_core.scaled import Scaled, packed
from jepascore_core.score import jepa_score
from jepascore_core.store.parts import part_files
from tests.test_jacobian import DEVICES, convnet
from tests.test_runner import hooks, rows_of
from tests.test_vit import KINDS, built
from tests.tiny import TinyDataset, tiny_encoder, tiny_work

NULL_DIM = {
    "mean of tokens": 1, "attention pooling": 0, "CLIP": 0, "CLIP, quick GELU": 0, "CLIP, mean": 0,
    "more outputs than width": 8,
}  # fmt: skip
ROUNDED = ("float16", "tf32")


def encoder_of(model: nn.Module, null_dim: int, size: torch.Size) -> Encoder:
    spec = EncoderSpec("test:any", "any", "test", 1, tuple(size), "projection", null_dim, "none", "none")
    return Encoder(model, spec, lambda image: torch.zeros(size), "d")


@pytest.fixture(scope="module")
def subjects() -> list[tuple[str, nn.Module, Tensor, int, Tensor]]:
    """Name, float64 encoder, 16 float64 images, null dimension, exact scores of the last 12."""
    torch.manual_seed(3)
    found = []
    for kind in KINDS:
        model, images = built(kind)
        found.append((kind, model, torch.randn(16, *images.shape[1:]).double(), NULL_DIM.get(kind, 2)))
    for seed in range(3):
        found.append((f"convnet {seed}", convnet(seed, dim=24).double(), torch.randn(16, 3, 24, 24).double(), 0))
    demo = load_encoder("demo:jepa-tiny")
    for name in ("demo:photos", "demo:digits"):
        dataset = load_dataset(name)
        images = torch.stack([demo.transform(dataset.read(item)) for item in dataset.items[:64:4]])
        found.append((name, load_encoder("demo:jepa-tiny").double(), images.double(), 0))
    return [(name, model, images, null, exact(model, images[4:], null)) for name, model, images, null in found]


def exact(model: nn.Module, images: Tensor, null_dim: int) -> Tensor:
    return jepa_score(jacobian_summary(model, images, null_dim=null_dim).singular_values, null_dim=null_dim)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", *ROUNDED])
def test_the_error_bar_covers_the_true_error(precision: str, device: str, subjects: list) -> None:
    covered, widths, errors = [], [], []
    for name, model, images, null_dim, scores in subjects:
        encoder = encoder_of(deepcopy(model), null_dim, images[0].shape).float().to(device)
        images = images.float().to(device)
        ladder = Ladder(encoder, ladder_of(precision, torch.device(device)))
        if precision != "float32":
            ladder.calibrate(images[:4], torch.full((4,), 0.5))
        scored = ladder(images[4:], torch.full((12,), torch.inf))
        true = (scored.scores - scores).abs()
        assert (true <= 10 * scored.errors).all(), name
        covered.append(true <= scored.errors)
        widths.append(scored.errors / true.clamp(min=1e-7))
        errors.append(true)
    assert torch.cat(covered).double().mean() >= 0.95
    assert torch.cat(widths).median() < 30  # a bar that covers everything because it is wide would be no use
    if precision in ROUNDED:
        assert torch.cat(errors).median() > 1e-5  # it does round


@pytest.mark.skipif(len(DEVICES) == 1, reason="there is no second device to compare with")
@pytest.mark.parametrize("precision", ["float32", *ROUNDED])
@pytest.mark.parametrize("kind", ["registers", "CLIP"])
def test_devices_agree_within_their_error_bars(kind: str, precision: str) -> None:
    model, images = built(kind)
    encoder, images = encoder_of(model.float(), NULL_DIM.get(kind, 2), images[0].shape), images.float()
    scored = [Ladder(encoder.to(device), (precision,))(images.to(device), torch.ones(2)) for device in DEVICES]
    assert ((scored[0].scores - scored[1].scores).abs() <= scored[0].errors + scored[1].errors).all()


@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("kind", ["layer scale", "SwiGLU", "CLIP", "norm before the blocks"])
def test_rounded_sweeps_are_near_the_exact_one(kind: str, precision: str) -> None:
    model, images = built(kind)
    exact = jacobian_summary(model, images).singular_values
    rough = jacobian_summary(model.float(), images.float(), precision=precision)
    assert rough.precision == precision
    above = exact > 100 * rough.noise.unsqueeze(1)
    assert above.double().mean() > 0.5
    assert (rough.singular_values / exact).log().abs()[above].max() < 0.02
    assert (rough.noise < 3e-3 * exact.square().mean(1).sqrt()).all()


def test_float16_keeps_gradients_of_any_size() -> None:
    model, images = built("layer scale")  # as DINOv2 begins: a block's change is a hundred-thousandth
    for block in model.blocks:
        block.ls1.gamma.data.fill_(1e-5)
        block.ls2.gamma.data.fill_(1e-5)
    for size in (1e-9, 1.0, 1e9):
        scaled = nn.Sequential(model, nn.Linear(24, 20, bias=False).double())
        scaled[1].weight.data = torch.randn(20, 24, generator=torch.Generator().manual_seed(4)).double() * size
        exact = jacobian_summary(scaled, images).singular_values
        rough = jacobian_summary(scaled.float(), images.float(), precision="float16").singular_values
        scaled.double()
        largest = exact > 0.05 * exact[:, :1]
        assert largest.sum() > 4 and (rough / exact).log().abs()[largest].max() < 0.01


def test_the_generic_path_knows_tf32_only() -> None:
    class Sines(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sin().flatten(1)[:, :4]

    summary = jacobian_summary(Sines(), torch.rand(2, 1, 3, 3), precision="float16")
    assert summary.precision == "tf32"


def test_unknown_precisions_are_refused() -> None:
    for precision, images in (("int8", torch.rand(1, 3, 16, 16)), ("float64", torch.rand(1, 3, 16, 16))):
        with pytest.raises(ValueError, match=precision):
            jacobian_summary(convnet(), images, precision=precision)
    with pytest.raises(ValueError, match="float16"):
        jacobian_summary(convnet().double(), torch.rand(1, 3, 16, 16).double(), precision="float16")


def test_tf32_keeps_eleven_bits_and_rounds_ties_to_even() -> None:
    step = 2.0**-10
    values = torch.tensor([1.0, 1 + step, 1 + 0.49 * step, 1 + 0.5 * step, 1 + 1.5 * step, -3e-30, 0.0])
    expected = torch.tensor([1.0, 1 + step, 1.0, 1.0, 1 + 2 * step, -3e-30, 0.0])
    with arithmetic("tf32"):
        torch.testing.assert_close(factor(values), expected, rtol=2**-11, atol=0)
        assert torch.equal(factor(values)[:5], expected[:5])
        noisy = torch.randn(1000)
        assert ((factor(noisy) - noisy).abs() <= 2.0**-11 * noisy.abs()).all()
    assert factor(noisy) is noisy


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_products_are_products(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(3, 7, 5).to(dtype), torch.randn(3, 5, 4).to(dtype)
    images, weight = torch.randn(2, 3, 5, 5).to(dtype), torch.randn(3, 2, 3, 3).to(dtype)
    close = {"rtol": 2e-3, "atol": 4e-3} if dtype == torch.float16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(matmul(left, right).double(), left.double() @ right.double(), check_dtype=False, **close)
    torch.testing.assert_close(linear(left[0], right[0].mT).double(), left[0].double() @ right[0].double(), **close)
    expected = nn.functional.conv_transpose2d(images.double(), weight.double())
    torch.testing.assert_close(conv_transpose2d(images, weight).double(), expected, **close)
    assert matmul(left, right).dtype == linear(left[0], right[0].mT).dtype == dtype


def test_arithmetic_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(RuntimeError, match="inside"), arithmetic("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        raise RuntimeError("inside")
    assert torch.backends.cudnn.allow_tf32 == before and not torch.backends.cuda.matmul.allow_tf32


def test_scales_are_undone_and_keep_values_in_range() -> None:
    torch.manual_seed(0)
    rows = torch.randn(6, 4, 5) * torch.tensor([1e-30, 1e-3, 1.0, 1e25]).view(1, 4, 1)
    rows[:, 1, 2:] = 0
    scaled = Scaled.of(rows, "float16", axis=1)
    for _ in range(3):
        scaled.values *= 0.001
        scaled.balance(1000.0)
        assert (scaled.values.abs().amax((0, 2)) <= 1).all() and (scaled.values.abs().amax((0, 2)) > 0.4).all()
    torch.testing.assert_close(scaled.restored(), rows, rtol=1e-2, atol=0, check_dtype=False)
    assert Scaled.of(rows, "float32", axis=1).restored() is rows


def test_a_vanishing_cotangent_stays_zero() -> None:
    scaled = Scaled.of(torch.zeros(2, 3), "float16", axis=0)
    scaled.balance(4.0)
    assert torch.equal(scaled.restored(), torch.zeros(2, 3))


def test_packed_weights_have_unit_size() -> None:
    weight = torch.randn(4, 5) * 1e-7
    small, power = packed(weight, torch.float16)
    assert 0.5 < small.abs().max() <= 1 and small.dtype == torch.float16
    torch.testing.assert_close(small.float() * power, weight, rtol=1e-3, atol=1e-11)
    same, one = packed(weight, torch.float32)
    assert same is weight and one == 1


def test_auto_climbs_on_a_gpu_only() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert ladder_of("auto", gpu) == ("float16", "tf32", "float32") and ladder_of("auto", cpu) == ("float32",)
    assert ladder_of("tf32", cpu) == ("tf32", "float32") and ladder_of("float64", gpu) == ("float64",)


def test_only_images_beyond_the_tolerance_go_up() -> None:
    asked = []

    def summarise(encoder, images, *, precision, **options):
        asked.append((precision, len(images)))
        return jacobian_summary(encoder, images, precision=precision, **options)

    encoder = encoder_of(convnet(), 0, torch.Size((3, 16, 16)))
    images = torch.randn(5, 3, 16, 16)
    bars = Ladder(encoder, ("float16",))(images, torch.zeros(5)).errors
    ladder = Ladder(encoder, ("float16", "tf32", "float32"), summarise=summarise)
    wanted = bars.median().expand(5)
    scored = ladder(images, wanted)
    assert asked[:2] == [("float16", 5), ("tf32", 2)] and ladder.rescored >= 2
    assert (scored.errors <= wanted).all()
    exact = jepa_score(jacobian_summary(convnet().double(), images.double()).singular_values)
    assert ((scored.scores - exact).abs() <= scored.errors).all()


def test_an_image_that_overflows_goes_up() -> None:
    def overflowing(encoder, images, *, precision, **options):
        summary = jacobian_summary(encoder, images, precision=precision, **options)
        if precision == "float16":
            summary.singular_values[1] = torch.nan
        return summary

    encoder = encoder_of(convnet(), 0, torch.Size((3, 16, 16)))
    scored = Ladder(encoder, ("float16", "float32"), summarise=overflowing)(torch.randn(3, 3, 16, 16), torch.ones(3))
    assert scored.scores.isfinite().all() and scored.errors[1] < scored.errors[0]


def biased(factor: float, encoder, images, *, precision, **options):
    """Singular values that float16 gets wrong by a factor."""
    summary = jacobian_summary(encoder, images, precision=precision, **options)
    if precision == "float16":
        summary.singular_values.mul_(factor)
    return summary


def test_a_precision_that_misses_more_than_the_tolerance_is_given_up() -> None:
    encoder, images = encoder_of(convnet(), 0, torch.Size((3, 16, 16))), torch.randn(4, 3, 16, 16)
    ladder = Ladder(encoder, ("float16", "tf32", "float32"), summarise=partial(biased, 1.1))
    ladder.calibrate(images, torch.full((4,), 0.05))
    assert ladder.precisions == ("tf32", "float32")


def test_what_calibration_found_is_in_the_bar() -> None:
    encoder, images = encoder_of(convnet(), 0, torch.Size((3, 16, 16))), torch.randn(4, 3, 16, 16)
    ladder = Ladder(encoder, ("float16", "float32"), summarise=partial(biased, 1.001))
    before = ladder(images, torch.ones(4)).errors
    ladder.calibrate(images, torch.ones(4))
    added = (ladder(images, torch.ones(4)).errors.square() - before.square()).sqrt()
    assert (added > 6e-3).all() and (added < 3e-2).all()  # six σ of 0.1 % each, about twice


def test_tolerance_follows_the_spread_of_what_came_before() -> None:
    keys = [f"k{number}" for number in range(600)]
    tolerance = Tolerance(positions={key: place for place, key in enumerate(keys)})
    values = torch.linspace(-60, 60, 600).tolist()
    tolerance.learn(dict(zip(keys, values, strict=True)))
    assert tolerance.of("k127") == LEAST_TOLERANCE
    for place, first in ((128, 64), (255, 64), (256, 128), (599, 256)):
        expected = 0.005 * torch.tensor(values[:first]).std().item()
        assert tolerance.of(f"k{place}") == pytest.approx(max(expected, LEAST_TOLERANCE))
    assert Tolerance(0.2).of("k500") == 0.2


def test_a_run_that_was_interrupted_equals_one_that_was_not(tmp_path) -> None:
    options = {"precision": "float16", "tolerance": 0.002}
    for folder in "ab":
        (tmp_path / folder).mkdir()
    whole = score_work(tiny_work(tmp_path / "a", TinyDataset(40, bad=(1, 3)), **options), hooks())
    half = hooks()
    half = type(half)(half.stop, on_progress=lambda progress: progress.done >= 12 and half.stop.set())
    score_work(tiny_work(tmp_path / "b", TinyDataset(40, bad=(1, 3)), **options), half)
    resumed = score_work(tiny_work(tmp_path / "b", TinyDataset(40, bad=(1, 3)), **options), hooks())
    assert len(part_files(resumed.path)) > 1
    for column in ("jepa_score", "score_error"):
        assert rows_of(whole)[column].equals(rows_of(resumed)[column])


def test_a_run_says_how_it_was_computed(tmp_path) -> None:
    run = score_work(tiny_work(tmp_path, precision="float16", tolerance=1e-4), hooks())
    assert run.meta["precision"] == "float16" and run.meta["precisions"] == ["float16", "tf32", "float32"]
    assert run.meta["tolerance"] == 1e-4 and run.progress().rescored > 0
    assert rows_of(run)["score_error"].max() < 1e-4
    plain = score_work(tiny_work(tmp_path), hooks())
    assert plain.meta["precisions"] == ["float32"] and plain.progress().rescored == 0
    assert plain.name != run.name
    both = rows_of(run).merge(rows_of(plain), on="key")
    finite = both.dropna(subset=["jepa_score_x"])
    gap = (finite["jepa_score_x"] - finite["jepa_score_y"]).abs()
    assert (gap <= finite["score_error_x"] + finite["score_error_y"]).all()
    assert store.counts(run)["done"] == store.counts(plain)["done"]


def test_encoders_that_round_nothing_have_no_noise_to_divide_by() -> None:
    summary = jacobian_summary(nn.Flatten(), torch.randn(2, 1, 2, 2))
    assert summary.noise_along.eq(0).all() and summary.singular_values.eq(1).all()


def test_a_tiny_encoder_in_float16_is_the_tiny_encoder() -> None:
    encoder, images = tiny_encoder(), torch.rand(4, 3, 8, 8)
    exact = jacobian_summary(encoder, images)
    rough = jacobian_summary(encoder, images, precision="float16")
    assert rough.precision == "float16" and torch.equal(rough.embedding, exact.embedding)
    torch.testing.assert_close(rough.singular_values, exact.singular_values, rtol=5e-3, atol=0)

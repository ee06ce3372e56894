"""The Jacobian engine against known answers and against Listing 1 in float64."""

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from jepascore_core import gram, pullback
from jepascore_core.jacobian import (
    jacobian_listing1,
    jacobian_summary,
    leverage_bands,
    leverage_map,
    listing1_scores,
    singular_values,
    singular_vectors,
)
from jepascore_core.score import jepa_score, score_error

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def linear_encoder(weight: torch.Tensor) -> nn.Module:
    """Encoder whose Jacobian is a given matrix (D, P) everywhere."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.dtype)
    layer.weight.data = weight
    return nn.Sequential(nn.Flatten(), layer)


def convnet(seed: int = 0, dim: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12)]
    model = nn.Sequential(*layers, nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, dim))
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.3, 2.0)
    return model.eval()


def vit(kind: str, dim: int = 24) -> nn.Module:
    """A Vision Transformer of two blocks at 28 px: class token, mean pooling, or class token and projection."""
    torch.manual_seed(1)
    kwargs = {"img_size": 28, "patch_size": 7, "embed_dim": dim, "depth": 2, "num_heads": 3, "num_classes": 0}
    if kind == "mean":
        kwargs |= {"global_pool": "avg", "class_token": False, "fc_norm": False}
    model: nn.Module = timm.models.vision_transformer.VisionTransformer(**kwargs, init_values=0.7)
    if kind == "projection":
        model = nn.Sequential(model, nn.Linear(dim, dim - 8, bias=False))
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms and biases start at 0 and 1, which would hide mistakes
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


NULL_DIM = {"token": 2, "mean": 1, "projection": 0}


@pytest.mark.parametrize("device", DEVICES)
def test_linear_map_has_the_singular_values_of_its_weight(device: str) -> None:
    weight = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    images = torch.randn(3, 1, 3, 4, dtype=torch.float64, device=device)
    expected = torch.linalg.svdvals(weight).expand(3, -1)
    torch.testing.assert_close(singular_values(linear_encoder(weight), images), expected)


def test_a_plain_function_is_an_encoder_too() -> None:
    weight = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    expected = torch.linalg.svdvals(weight).expand(2, -1)
    torch.testing.assert_close(singular_values(lambda x: x.flatten(1) @ weight.T, images), expected)


def test_square_linear_map_scores_its_log_determinant() -> None:
    weight = torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    score = jepa_score(singular_values(linear_encoder(weight), images))
    torch.testing.assert_close(score, torch.linalg.slogdet(weight).logabsdet.expand(2))


def test_listing1_is_the_jacobian() -> None:
    model, image = convnet().double(), torch.randn(1, 3, 16, 16, dtype=torch.float64)
    expected = torch.func.jacrev(lambda x: model(x.unsqueeze(0)).squeeze(0))(image[0])
    torch.testing.assert_close(jacobian_listing1(model, image)[0], expected.flatten(1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk_size", [None, 1, 4, 100])
def test_convnet_equals_listing1_in_float64(device: str, chunk_size: int | None) -> None:
    model, images = convnet().double().to(device), torch.randn(3, 3, 20, 24, dtype=torch.float64, device=device)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images, chunk_size=chunk_size), expected)
    torch.testing.assert_close(jepa_score(expected), listing1_scores(model, images))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", NULL_DIM)
def test_vit_equals_listing1_in_float64(kind: str, device: str) -> None:
    model, images = vit(kind).double().to(device), torch.randn(2, 3, 28, 28, dtype=torch.float64, device=device)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    rank = expected.shape[1] - NULL_DIM[kind]
    actual = singular_values(model, images)
    torch.testing.assert_close(actual[:, :rank].log(), expected[:, :rank].log(), rtol=0, atol=1e-8)
    assert (actual[:, rank:] < 1e-4 * actual[:, :1]).all()  # the structural null directions
    assert (actual[:, rank - 1] > 1e-3 * actual[:, 0]).all()  # and no more than those


@pytest.mark.parametrize("kind", NULL_DIM)
def test_float32_agrees_with_float64_above_the_noise_floor(kind: str) -> None:
    model, images = vit(kind), torch.randn(4, 3, 28, 28)
    summary = jacobian_summary(model, images, null_dim=NULL_DIM[kind])
    expected = torch.linalg.svdvals(jacobian_listing1(model.double(), images.double()))
    above = expected > 1e3 * summary.noise.unsqueeze(1)  # where Weyl's bound promises 1e-3
    assert above.sum(1).min() >= expected.shape[1] - NULL_DIM[kind]
    assert (summary.singular_values / expected).log().abs()[above].max() < 1e-3


def test_the_error_bar_covers_the_true_error() -> None:
    covered, ratios = [], []
    for seed in range(5):
        model, images = convnet(seed, dim=24), torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(seed))
        summary = jacobian_summary(model, images)
        exact = singular_values(model.double(), images.double())
        true = (jepa_score(summary.singular_values) - jepa_score(exact)).abs()
        bar = score_error(summary.singular_values, summary.noise, summary.noise_along)
        covered.append(true <= bar)
        ratios.append(bar)
    assert torch.cat(covered).double().mean() >= 0.95
    assert torch.cat(ratios).max() < 0.01  # a bar that covers everything because it is huge would be no use


def test_noise_is_measured_not_assumed() -> None:
    images = torch.randn(2, 3, 16, 16)
    coarse = jacobian_summary(convnet(), images).noise
    fine = jacobian_summary(convnet().double(), images.double()).noise
    assert (fine < 1e-6 * coarse).all() and (coarse > 0).all()


def test_summary_holds_embedding_and_sphere_term() -> None:
    model, images = convnet().double(), torch.randn(3, 3, 16, 16, dtype=torch.float64)
    summary = jacobian_summary(model, images)
    torch.testing.assert_close(summary.embedding, model(images))
    jacobian = jacobian_listing1(model, images)
    unit = nn.functional.normalize(model(images), dim=1)
    expected = torch.einsum("bi,bij,bj->b", unit, torch.linalg.inv(jacobian @ jacobian.mT), unit).log() / 2
    torch.testing.assert_close(summary.sphere_term, expected)


def test_sphere_term_leaves_null_directions_out() -> None:
    model, images = vit("token").double(), torch.randn(2, 3, 28, 28, dtype=torch.float64)
    jacobian = jacobian_listing1(model, images)
    U, S, _ = torch.linalg.svd(jacobian, full_matrices=False)
    unit = nn.functional.normalize(model(images), dim=1)
    weights = (U.mT @ unit.unsqueeze(2)).squeeze(2)[:, :-2] / S[:, :-2]
    summary = jacobian_summary(model, images, null_dim=2)
    torch.testing.assert_close(summary.sphere_term, weights.square().sum(1).log() / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smallest", [False, True])
def test_singular_vectors_are_those_of_the_svd(smallest: bool) -> None:
    model, image = convnet().double(), torch.randn(3, 16, 20, dtype=torch.float64)
    U, S, Vh = singular_vectors(model, image, 3, smallest=smallest)
    full_U, full_S, full_Vh = torch.linalg.svd(jacobian_listing1(model, image[None])[0], full_matrices=False)
    chosen = slice(3, 6) if smallest else slice(0, 3)
    torch.testing.assert_close(S, full_S[chosen])
    assert Vh.shape == (3, 3, 16, 20) and U.shape == (6, 3)
    same = (Vh.flatten(1) * full_Vh[chosen]).sum(1)  # ±1: a sign is free, but shared with U
    torch.testing.assert_close(same.abs(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((U * full_U[:, chosen]).sum(0), same)
    assert (U.gather(0, U.abs().argmax(0, keepdim=True)) > 0).all()


def test_smallest_vectors_pass_over_the_null_directions() -> None:
    model, image = vit("token").double(), torch.randn(3, 28, 28, dtype=torch.float64)
    _, S, _ = singular_vectors(model, image, 2, smallest=True, null_dim=2)
    expected = torch.linalg.svdvals(jacobian_listing1(model, image[None]))[0]
    torch.testing.assert_close(S, expected[-4:-2])


@pytest.mark.parametrize(("kind", "null_dim"), NULL_DIM.items())
def test_leverage_sums_to_the_rank_and_equals_its_definition(kind: str, null_dim: int) -> None:
    model, image = vit(kind).double(), torch.randn(3, 28, 28, dtype=torch.float64)
    leverage = leverage_map(model, image, null_dim=null_dim, patch_size=7)
    jacobian = jacobian_listing1(model, image[None])[0]
    U, S, _ = torch.linalg.svd(jacobian, full_matrices=False)
    rank = len(S) - null_dim
    inverse = U[:, :rank] @ torch.diag(S[:rank] ** -2) @ U[:, :rank].T
    patches = jacobian.view(-1, 3, 4, 7, 4, 7).permute(2, 4, 0, 1, 3, 5).reshape(4, 4, len(S), -1)
    expected = torch.einsum("hwip,ij,hwjp->hw", patches, inverse, patches)
    torch.testing.assert_close(leverage, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(leverage.sum(), torch.tensor(float(rank), dtype=torch.float64))


def test_leverage_bands_add_up() -> None:
    model, image = convnet().double(), torch.randn(3, 16, 16, dtype=torch.float64)
    bands = leverage_bands(model, image, [slice(0, 2), slice(2, None), slice(0, 0)], patch_size=4)
    whole = leverage_map(model, image, patch_size=4)
    torch.testing.assert_close(bands.sum(0), whole)
    rank = model(image[None]).shape[1]
    torch.testing.assert_close(bands.sum((1, 2)), torch.tensor([2.0, rank - 2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("share", [0.4, 0.05])
def test_blocks_of_rows_give_the_same_answer(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = convnet(dim=10).double(), torch.randn(3, 3, 16, 16, dtype=torch.float64)
    whole = jacobian_summary(model, images)
    rows_of_one_image = 10 * images[0].numel() * 8
    monkeypatch.setattr(gram, "free_bytes", lambda device: int(share * rows_of_one_image / gram._ROWS_SHARE))
    blocks = jacobian_summary(model, images, chunk_size=4)
    torch.testing.assert_close(blocks.singular_values, whole.singular_values)
    torch.testing.assert_close(blocks.sphere_term, whole.sphere_term)
    assert (blocks.noise < 1e-12).all()


def plain_linear() -> nn.Module:
    return linear_encoder(torch.randn(7, 3 * 28 * 28, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("make", [plain_linear, convnet, *(partial(vit, kind) for kind in NULL_DIM)])
def test_the_share_of_the_work_that_is_done_rises_to_one(make: Callable[[], nn.Module]) -> None:
    model, images, shares = make(), torch.randn(3, 3, 28, 28), []
    told = jacobian_summary(model, images, chunk_size=2, on_share=shares.append)
    assert len(shares) >= 3 and shares[0] <= 1 / 3
    assert shares == sorted(set(shares)) and shares[-1] == pytest.approx(1)
    torch.testing.assert_close(told.singular_values, jacobian_summary(model, images, chunk_size=2).singular_values)


def test_the_share_counts_rows_that_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images, shares = torch.randn(2, 3, 28, 28), []
    monkeypatch.setattr(gram, "free_bytes", lambda device: int(0.6 * 7 * images[0].numel() * 4 / gram._ROWS_SHARE))
    jacobian_summary(plain_linear(), images, on_share=shares.append)  # halves, then blocks of two rows
    assert len(shares) > 4 and shares == sorted(set(shares)) and shares[-1] == pytest.approx(1)


def test_what_the_listener_raises_ends_the_call() -> None:
    shares = []

    def enough(share: float) -> None:
        shares.append(share)
        if share > 0.3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        jacobian_summary(vit("token"), torch.randn(2, 3, 28, 28), on_share=enough)
    assert shares[-1] < 0.7


class Hungry(nn.Module):
    """A linear encoder whose backward pass has room for a few cotangents and images only."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.weight = nn.Parameter(torch.randn(6, 12, generator=torch.Generator().manual_seed(3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return images.flatten(1) @ self.weight.T


def test_out_of_memory_halves_the_batch() -> None:
    images = torch.randn(7, 3, 2, 2)
    expected = torch.linalg.svdvals(Hungry(9).weight.detach().double()).expand(7, -1)
    torch.testing.assert_close(singular_values(Hungry(2), images), expected, rtol=1e-5, atol=1e-6)


def test_out_of_memory_in_the_backward_pass_halves_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = pullback.Pullback._gradient

    def limited(self: pullback.Pullback, cotangent, inputs, *, is_grads_batched: bool = False) -> torch.Tensor:
        sizes.append(len(cotangent) if is_grads_batched else 1)
        if sizes[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return original(self, cotangent, inputs, is_grads_batched=is_grads_batched)

    monkeypatch.setattr(pullback.Pullback, "_gradient", limited)
    model, images = convnet().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images, chunk_size=6), expected)
    assert max(sizes) == 6 and sizes[-2] <= 2


def test_an_image_that_cannot_fit_says_so() -> None:
    with pytest.raises(MemoryError, match="do not fit"):
        singular_values(Hungry(0), torch.randn(2, 3, 2, 2))


class Loner(torch.autograd.Function):
    """An operation without a batching rule."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy((2 * x * gradient).detach().numpy())


def test_operations_that_cannot_be_batched_go_one_by_one() -> None:
    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Loner.apply(x).flatten(1)[:, :5]

    images = torch.rand(2, 1, 3, 3) + 0.5
    expected = (2 * images.flatten(1)[:, :5]).sort(1, descending=True).values.double()
    torch.testing.assert_close(singular_values(Squares(), images), expected)


def test_inference_mode_outside_does_not_matter() -> None:
    model, images = convnet(), torch.randn(2, 3, 16, 16)
    expected = singular_values(model, images)
    with torch.no_grad():
        torch.testing.assert_close(singular_values(model, images), expected)


def test_wrong_shapes_are_refused_with_the_shape() -> None:
    with pytest.raises(ValueError, match=r"\(3, 16, 16\)"):
        singular_values(convnet(), torch.randn(3, 16, 16))
    with pytest.raises(ValueError, match=r"\(0, 3, 16, 16\)"):
        singular_values(convnet(), torch.randn(0, 3, 16, 16))
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\)"):
        singular_values(nn.Identity(), torch.randn(1, 3, 16, 16))
    with pytest.raises(ValueError, match="between 1 and 6"):
        singular_vectors(convnet(), torch.randn(3, 16, 16), 7)
    with pytest.raises(ValueError, match="patch size of 5"):
        leverage_map(convnet(), torch.randn(3, 16, 16), patch_size=5)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 4),
    dim=st.integers(1, 7),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    rank=st.integers(1, 7),
    chunk_size=st.one_of(st.none(), st.integers(1, 9)),
    seed=st.integers(0, 2**31),
)
def test_any_linear_map(count, dim, shape, rank, chunk_size, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = shape[0] * shape[1] * shape[2]
    rank = min(rank, dim, pixels)
    weight = torch.randn(dim, rank, dtype=torch.float64, generator=generator) @ torch.randn(
        rank, pixels, dtype=torch.float64, generator=generator
    )
    actual = singular_values(linear_encoder(weight), torch.randn(count, *shape).double(), chunk_size=chunk_size)
    expected = torch.zeros(dim, dtype=torch.float64)
    expected[: min(dim, pixels)] = torch.linalg.svdvals(weight)
    assert actual.shape == (count, dim) and actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected.expand(count, -1), rtol=1e-6, atol=1e-7 * expected[0].item())
    assert (actual.diff(dim=1) <= 0).all()


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_scaling_the_embedding_shifts_the_score(scale: float, seed: int) -> None:
    model = convnet(seed).double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    before = jepa_score(singular_values(model, images), eps=1e-12)
    model[-1].weight.data *= scale
    after = jepa_score(singular_values(model, images), eps=1e-12)
    torch.testing.assert_close(after, before + 6 * torch.tensor(scale, dtype=torch.float64).log())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_rotating_the_embedding_changes_nothing(seed: int) -> None:
    model = convnet(seed).double()
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q
    before = singular_values(model, images)
    model[-1].weight.data = rotation @ model[-1].weight.data
    torch.testing.assert_close(singular_values(model, images), before)

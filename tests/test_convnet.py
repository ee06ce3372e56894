"""The path for plain stacks of convolutions against Listing 1 and against the generic path."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from jepascore_core import convnet, jacobian, load_encoder, singular_values
from jepascore_core.convnet import find_stack
from jepascore_core.jacobian import jacobian_listing1, jacobian_summary, path_of

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
TAIL = [nn.AdaptiveAvgPool2d(2), nn.Flatten()]


def normed(width: int) -> nn.BatchNorm2d:
    """Batch norm whose statistics and weights matter."""
    norm = nn.BatchNorm2d(width)
    for tensor, low, high in ((norm.running_mean, -0.2, 0.2), (norm.running_var, 0.3, 2.0)):
        assert tensor is not None
        tensor.uniform_(low, high)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm


def stack(*stages: nn.Module, width: int, dim: int = 6) -> nn.Module:
    """Stages, pooling to 2 × 2, and a linear head."""
    return nn.Sequential(nn.Sequential(*stages), *TAIL, nn.Linear(4 * width, dim))


KINDS = {
    "batch norm and GELU": lambda: stack(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), normed(8), nn.GELU()),
        nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), normed(12), nn.SiLU()),
        width=12,
    ),
    "no norm": lambda: stack(nn.Conv2d(3, 8, 5, 3, 2), nn.ReLU(inplace=True), nn.Conv2d(8, 9, 1), nn.Tanh(), width=9),
    "no activation": lambda: stack(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 7, 2, 2), normed(7), width=7),
    "groups, dilation, oblong": lambda: stack(
        nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 2), groups=3), nn.ELU(), nn.Conv2d(6, 8, 3, 1, 2, dilation=2), width=8
    ),
    "dropout": lambda: stack(nn.Conv2d(3, 8, 3, 2), nn.Dropout(0.5), nn.GELU(), nn.Identity(), width=8),
    "in one sequence": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        normed(8),
        nn.GELU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
    ),
    "one convolution": lambda: nn.Sequential(nn.Conv2d(3, 2, 3, 4), nn.Flatten(), nn.LazyLinear(7)),
    "more outputs": lambda: stack(nn.Conv2d(3, 8, 4, 4), nn.GELU(), width=8, dim=20),
}


def built(kind: str, size: tuple[int, int] = (19, 22)) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    model, images = KINDS[kind]().eval(), torch.randn(3, 3, *size)
    model(images)  # gives a lazy layer its size
    return model.double(), images.double()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(19, 22), (20, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_listing1_in_float64(kind: str, size: tuple[int, int], device: str) -> None:
    model, images = (part.to(device) for part in built(kind, size))
    summary = jacobian_summary(model, images)
    assert path_of(model) == "convnet"  # after the sweep, which would have left the path on a disagreement
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(summary.singular_values, expected, rtol=1e-8, atol=1e-7)  # squares of null ones round
    torch.testing.assert_close(summary.embedding, model(images))
    assert (summary.noise < 1e-13).all()


@pytest.mark.parametrize("chunk_size", [1, 13, 1000])
def test_the_chunk_size_changes_nothing(chunk_size: int) -> None:
    model, images = built("batch norm and GELU")
    torch.testing.assert_close(singular_values(model, images, chunk_size=chunk_size), singular_values(model, images))


def test_float32_agrees_with_float64_and_noise_is_rounding() -> None:
    model, images = built("batch norm and GELU")
    exact = singular_values(model, images)
    summary = jacobian_summary(model.float(), images.float())
    assert (summary.singular_values / exact).log().abs().max() < 1e-4
    assert ((summary.noise > 0) & (summary.noise < 1e-5 * exact[:, 0])).all()


def test_the_same_image_twice_gives_the_same_numbers() -> None:
    model, images = built("batch norm and GELU")
    first, second = (jacobian_summary(model.float(), images.float()) for _ in range(2))
    assert torch.equal(first.singular_values, second.singular_values) and torch.equal(first.noise, second.noise)


def test_the_demo_encoder_takes_this_path() -> None:
    encoder = load_encoder("demo:jepa-tiny")
    images = torch.randn(3, 3, 48, 48, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian_listing1(encoder.double(), images))
    torch.testing.assert_close(singular_values(encoder, images), expected, rtol=1e-9, atol=0)
    assert path_of(encoder) == "convnet"


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vgg11", "vit_tiny_patch16_224"])
def test_other_architectures_do_not(name: str) -> None:
    with torch.device("meta"):
        assert find_stack(timm.create_model(name, num_classes=0)) is None


class Twice(nn.Sequential):
    """A sequence that is not one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + super().forward(images.flip(3)) ** 2


def test_an_encoder_that_is_not_what_it_seems_takes_the_generic_path() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(Twice(nn.Conv2d(3, 8, 3), nn.GELU()), *TAIL, nn.Linear(32, 5)).double().eval()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images), expected)
    assert path_of(model) == "generic"


def test_a_stack_behind_something_else_takes_the_generic_path() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.AvgPool2d(2), nn.Sequential(nn.Conv2d(3, 8, 3)), *TAIL).double().eval()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images), expected, rtol=1e-6, atol=1e-6)
    assert path_of(model) == "generic"


def test_without_memory_the_generic_path_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = built("batch norm and GELU")
    expected = singular_values(model, images)
    calls: list[Any] = []
    original = jacobian.any_encoder.sweep
    monkeypatch.setattr(convnet, "_SHARE", 0.0)
    monkeypatch.setattr(jacobian.any_encoder, "sweep", lambda *given: calls.append(given) or original(*given))
    torch.testing.assert_close(singular_values(model, images), expected)
    assert calls

"""The path for Vision Transformers against Listing 1 and against the generic path."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import open_clip
import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from torch import nn

from jepascore_core import gram, jacobian, load_encoder, singular_values, vit
from jepascore_core.jacobian import jacobian_listing1, jacobian_summary, path_of
from jepascore_core.vit_layers import find_transformer

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def timm_vit(**options: Any) -> nn.Module:
    """A Vision Transformer of timm with two blocks of width 24 at 28 px."""
    plain = {"img_size": 28, "patch_size": 7, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
    return timm.models.vision_transformer.VisionTransformer(**(plain | options))


def clip_vit(**options: Any) -> nn.Module:
    """An image tower of open_clip of the same size, with its projection."""
    plain = {"image_size": 28, "patch_size": 7, "width": 24, "layers": 2, "heads": 3, "mlp_ratio": 4, "output_dim": 16}
    return open_clip.transformer.VisionTransformer(**(plain | options))


KINDS = {
    "class token": timm_vit,
    "layer scale": partial(timm_vit, init_values=0.5),
    "registers": partial(timm_vit, reg_tokens=4, no_embed_class=True, init_values=0.5),
    "SwiGLU": partial(timm_vit, mlp_layer=SwiGLUPacked, mlp_ratio=16 / 3, act_layer=nn.SiLU),
    "mean of tokens": partial(timm_vit, class_token=False, global_pool="avg", fc_norm=False),
    "norm after the mean": partial(timm_vit, global_pool="avg", fc_norm=True),
    "attention pooling": partial(timm_vit, class_token=False, global_pool="map"),
    "norm before the blocks": partial(timm_vit, pre_norm=True, qkv_bias=False),
    "patches of many pixels": partial(timm_vit, img_size=28, patch_size=14),
    "patches of few pixels": partial(timm_vit, img_size=12, patch_size=2),
    "oblong": partial(timm_vit, img_size=(14, 35)),
    "more outputs than width": lambda: nn.Sequential(timm_vit(), nn.Linear(24, 30)),
    "few outputs": partial(timm_vit, num_classes=7, class_token=False, global_pool="avg", init_values=0.5),
    "few outputs, SwiGLU": partial(
        timm_vit, num_classes=12, mlp_layer=SwiGLUPacked, mlp_ratio=16 / 3, act_layer=nn.SiLU
    ),
    "CLIP": clip_vit,
    "CLIP, quick GELU": partial(clip_vit, act_layer=open_clip.transformer.QuickGELU, ls_init_value=0.5),
    "CLIP, mean": partial(clip_vit, pool_type="avg", final_ln_after_pool=True, no_ln_pre=True),
}


def built(kind: str) -> tuple[nn.Module, torch.Tensor]:
    """An encoder in float64 whose every parameter matters, and two images."""
    torch.manual_seed(1)
    model = KINDS[kind]().double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms and biases start at 1 and 0, which would hide mistakes
            parameter.data += 0.2 * torch.randn_like(parameter)
    side = {"patches of few pixels": (12, 12), "oblong": (14, 35)}.get(kind, (28, 28))
    return model, torch.randn(2, 3, *side, dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_listing1_in_float64(kind: str, device: str) -> None:
    model, images = (part.to(device) for part in built(kind))
    jacobian_rows = jacobian_listing1(model, images)
    summary = jacobian_summary(model, images)
    assert path_of(model) == "vit"  # after the sweep, which would have left the path on a disagreement
    expected = torch.linalg.svdvals(jacobian_rows)
    counted = expected > 1e-5 * expected[:, :1]  # below, squaring in float64 rounds
    torch.testing.assert_close(summary.singular_values[counted].log(), expected[counted].log(), rtol=0, atol=1e-6)
    assert (summary.singular_values[~counted] < 2e-5 * expected.max()).all()
    assert counted.sum(1).min() >= min(16, expected.shape[1] - min(6, expected.shape[1] // 4))
    assert (summary.noise < 1e-12).all()


@pytest.mark.parametrize("chunk_size", [1, 5, 1000])
def test_the_chunk_size_changes_nothing(chunk_size: int) -> None:
    model, images = built("registers")
    expected = singular_values(model, images)
    torch.testing.assert_close(singular_values(model, images, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("kind", ["class token", "CLIP", "more outputs than width"])
def test_a_device_of_slow_float64_loses_no_digit_to_squaring(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = built(kind)
    exact = singular_values(model, images)
    monkeypatch.setattr(vit, "gram_dtype", lambda device: torch.float32)
    sigma = singular_values(model, images)
    above = exact > 1e-5 * exact[:, :1]  # a Gram matrix in float32 would end at 3e-4
    assert (sigma - exact).abs().max() < 2e-6 * exact.max()
    assert (sigma / exact).log().abs()[above].max() < 0.1


@pytest.mark.parametrize("kind", ["CLIP", "few outputs"])
def test_small_blocks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = built(kind)
    expected = singular_values(model, images)
    monkeypatch.setattr(vit, "_CPU_BLOCK_BYTES", 1)
    torch.testing.assert_close(singular_values(model, images), expected)


@pytest.mark.parametrize("kind", ["class token", "mean of tokens", "CLIP"])
def test_float32_agrees_with_float64_and_noise_is_rounding(kind: str) -> None:
    model, images = built(kind)
    exact = singular_values(model, images)
    summary = jacobian_summary(model.float(), images.float())
    above = exact > 1e3 * summary.noise.unsqueeze(1)
    assert above.sum(1).min() >= exact.shape[1] - 2
    assert (summary.singular_values / exact).log().abs()[above].max() < 1e-3
    assert ((summary.noise > 0) & (summary.noise < 1e-4 * exact[:, 0])).all()


def test_the_same_image_twice_gives_the_same_numbers() -> None:
    model, images = built("registers")
    first, second = (jacobian_summary(model.float(), images.float()) for _ in range(2))
    assert torch.equal(first.singular_values, second.singular_values) and torch.equal(first.noise, second.noise)


def test_threads_may_share_an_encoder() -> None:
    model, images = built("registers")
    expected = [singular_values(model, images.roll(number, 3)) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda number: singular_values(model, images.roll(number, 3)), range(4))
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other)
    assert path_of(model) == "vit"


def test_real_architectures_take_this_path() -> None:
    for encoder_id in ("timm:vit_small_patch14_dinov2.lvd142m", "open_clip:ViT-B-32-quickgelu/metaclip_400m"):
        assert path_of(load_encoder(encoder_id, pretrained=False, check=False)) == "vit"


@pytest.mark.parametrize(
    "name", ["vit_giant_patch14_reg4_dinov2", "vit_huge_patch14_gap_224", "deit3_small_patch16_224"]
)
def test_preset_architectures_are_recognised(name: str) -> None:
    with torch.device("meta"):
        transformer = find_transformer(timm.create_model(name, num_classes=0))
    assert transformer is not None and len(transformer.layers) >= 12


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_dinov3", "resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_other_architectures_are_not(name: str) -> None:
    with torch.device("meta"):
        assert find_transformer(timm.create_model(name, num_classes=0)) is None


class Block(timm.models.vision_transformer.Block):
    """A block with the parts of the plain one, which computes something else."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().forward(x, *args, **kwargs) + x.sin()


def test_an_encoder_that_is_not_what_it_seems_takes_the_generic_path() -> None:
    torch.manual_seed(2)
    model = timm_vit(block_fn=Block).double().eval()
    images = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    assert find_transformer(model) is not None
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images)[:, :-2], expected[:, :-2])
    assert path_of(model) == "generic"


class Repeating(nn.Module):
    """A Vision Transformer that goes through its blocks in its own way."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.model, self.order = timm_vit(init_values=0.5), order

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        model = self.model
        tokens = model._pos_embed(model.patch_embed(images))
        for place in self.order:
            tokens = model.blocks[place](tokens)
        return model.forward_head(model.norm(tokens))


@pytest.mark.parametrize("order", [[0], [1], [0, 1, 1], [1, 0], []])
def test_blocks_in_another_order_take_the_generic_path(order: list[int]) -> None:
    torch.manual_seed(2)
    model = Repeating(order).double().eval()
    images = torch.randn(1, 3, 28, 28, dtype=torch.float64)
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    torch.testing.assert_close(singular_values(model, images)[:, :-2], expected[:, :-2], rtol=1e-6, atol=1e-7)
    assert path_of(model) == "generic"


def test_a_deeper_difference_too_small_to_reject_is_in_the_error_bar() -> None:
    class Nearly(Block):
        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return timm.models.vision_transformer.Block.forward(self, x, *args, **kwargs) + 1e-3 * x.sin()

    Nearly.__name__ = "Block"
    torch.manual_seed(2)
    model = timm_vit(block_fn=Nearly).double().eval()
    images = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    summary = jacobian_summary(model, images)
    assert path_of(model) == "vit"
    expected = torch.linalg.svdvals(jacobian_listing1(model, images))
    assert (summary.noise > 1e-5).all()
    assert ((summary.singular_values - expected).abs() < 30 * summary.noise.unsqueeze(1)).all()


def test_without_memory_for_all_cotangents_the_generic_path_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = built("class token")
    expected = singular_values(model, images)
    monkeypatch.setattr(vit, "_COTANGENTS_SHARE", 0.0)
    calls = []
    original = gram.sweep
    monkeypatch.setattr(jacobian.any_encoder, "sweep", lambda *given: calls.append(1) or original(*given))
    actual = singular_values(model, images)
    torch.testing.assert_close(actual[:, :-2], expected[:, :-2])
    assert calls


def test_an_encoder_can_be_deleted() -> None:
    import gc
    import weakref

    model, images = built("class token")
    singular_values(model, images)
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None

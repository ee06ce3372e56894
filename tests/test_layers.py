"""Encoders cut off behind a layer: Listing 1 in float64 on features read with a hook, ids, commands, refusals."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from jepascore_core import load_encoder, singular_values
from jepascore_core.__main__ import app
from jepascore_core.encoders.layers import count_layers, cut_behind
from jepascore_core.encoders.load import list_layers
from jepascore_core.encoders.names import parse, split_layer
from jepascore_core.encoders.parts import Parts
from jepascore_core.encoders.small import NETWORKS, build_small, save_checkpoint
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import EncoderError
from jepascore_core.jacobian import jacobian_listing1, path_of
from tests.test_vit import built

SPEC = EncoderSpec("test:whole", "whole", "test", 24, (3, 28, 28), "class token", 2, "none", "none")
POOLED = {  # how each kind of Vision Transformer pools, of tokens (B, N, d) with their prefix
    "class token": lambda x: x[:, 0],
    "registers": lambda x: x[:, 0],
    "layer scale": lambda x: x[:, 0],
    "SwiGLU": lambda x: x[:, 0],
    "mean of tokens": lambda x: x.mean(1),
    "norm after the mean": lambda x: x[:, 1:].mean(1),
    "attention pooling": lambda x: x.mean(1),
    "norm before the blocks": lambda x: x[:, 0],
    "few outputs": lambda x: x.mean(1),
    "CLIP": lambda x: x[:, 0],
    "CLIP, quick GELU": lambda x: x[:, 0],
    "CLIP, mean": lambda x: x[:, 1:].mean(1),
}


@pytest.fixture(autouse=True, scope="module")
def threads(one_thread: None) -> None:
    """Networks this small lose more to threads than they gain."""


def cut(model: nn.Module, layer: int) -> Parts:
    """The pieces of a copy of a network, cut off."""
    parts = Parts(copy.deepcopy(model), SPEC, True, lambda image: torch.zeros(0), "digest")
    return cut_behind(parts, layer)


def features(model: nn.Module, block: nn.Module, pool: Any) -> nn.Module:
    """The whole network, of which a hook reads what one block puts out."""

    class Read(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = []
            hook = block.register_forward_hook(lambda _, __, made: seen.append(made))
            model(images)
            hook.remove()
            return pool(seen[0])

    return Read()


@pytest.mark.parametrize("kind", POOLED)
def test_a_layer_of_a_vision_transformer_equals_listing1_in_float64(kind: str) -> None:
    model, images = built(kind)
    blocks = model.transformer.resblocks if hasattr(model, "transformer") else model.blocks
    shorter = cut(model, 1).model
    oracle = features(model, blocks[0], POOLED[kind])
    torch.testing.assert_close(shorter(images), oracle(images))
    assert path_of(shorter) == "vit"
    expected = torch.linalg.svdvals(jacobian_listing1(oracle, images))
    torch.testing.assert_close(singular_values(shorter, images), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_stage_of_the_convnet_equals_listing1_in_float64(layer: int) -> None:
    torch.manual_seed(0)
    model = build_small({"channels": [6, 8, 10, 12], "embedding_dim": 5}).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    parts = cut(model, layer)
    oracle = features(model, model.stages[layer - 1], lambda x: x.mean((2, 3)))
    assert parts.model(images).shape == (2, [6, 8, 10][layer - 1])
    expected = torch.linalg.svdvals(jacobian_listing1(oracle, images))
    torch.testing.assert_close(singular_values(parts.model, images), expected, rtol=1e-6, atol=1e-9)
    assert path_of(parts.model) == "convnet"


def test_a_layer_of_rotary_kin_equals_listing1_in_float64() -> None:
    torch.manual_seed(0)
    model = timm.models.eva.Eva(
        img_size=28, patch_size=7, embed_dim=24, depth=3, num_heads=3, num_classes=0, global_pool="token",
        use_rot_pos_emb=True,
    ).double().eval()  # fmt: skip
    images = torch.randn(1, 3, 28, 28, dtype=torch.float64)
    shorter = cut(model, 2).model
    oracle = features(model, model.blocks[1], lambda x: x[:, 0])
    expected = torch.linalg.svdvals(jacobian_listing1(oracle, images))
    torch.testing.assert_close(singular_values(shorter, images), expected, rtol=1e-6, atol=1e-9)


def test_the_last_layer_is_the_encoder_itself() -> None:
    model, _ = built("class token")
    parts = Parts(model, SPEC, True, lambda image: torch.zeros(0), "digest")
    assert cut_behind(parts, 2) is parts
    assert load_encoder("demo:jepa-tiny@layer4").spec == load_encoder("demo:jepa-tiny").spec
    assert load_encoder("demo:jepa-tiny@layer4").digest == load_encoder("demo:jepa-tiny").digest


@pytest.mark.parametrize(
    ("encoder_id", "dim", "pooling", "count"),
    [
        ("demo:jepa-tiny@layer2", 48, "average pool", 4),
        ("timm:vit_tiny_patch16_224@layer1", 192, "class token", 12),
        ("open_clip:ViT-B-32-quickgelu/metaclip_400m@layer1", 768, "class token", 12),
    ],
)
def test_real_encoders_load_and_say_what_they_are(encoder_id: str, dim: int, pooling: str, count: int) -> None:
    encoder = load_encoder(encoder_id, pretrained=encoder_id.startswith("demo"))
    whole, layer = split_layer(encoder_id)
    assert encoder.spec.embedding_dim == dim and encoder.spec.pooling == pooling and encoder.spec.null_dim == 0
    assert split_layer(encoder.spec.id)[1] == layer and encoder.spec.name.endswith(f", layer {layer} of {count}")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert encoder(encoder.transform(Image.fromarray(pixels))[None]).shape == (1, dim)
    if whole.startswith("demo"):
        assert encoder.digest not in (load_encoder(whole).digest, load_encoder(f"{whole}@layer1").digest)


def test_the_null_dimension_of_a_layer_is_measured() -> None:
    """A convnet whose second stage copies one channel: its layer 2 has a null direction that its layer 1 has not."""
    torch.manual_seed(0)
    model = build_small({"channels": [6, 8, 10], "embedding_dim": 5}).eval()
    mixing = model.stages[1]
    mixing[3].weight.data[1] = mixing[3].weight.data[0]
    from jepascore_core.encoders.null_space import find_ending

    image = torch.randn(3, 32, 32)
    found = [find_ending(cut(model, layer).model, image).null_dim for layer in (1, 2)]
    assert found == [0, 1]


def test_our_own_vision_transformer_has_layers_in_its_file(tmp_path: Path) -> None:
    config = {**NETWORKS["vit"], "depth": 3, "width": 16, "heads": 2, "embedding_dim": 4, "input_size": 32}
    torch.manual_seed(0)
    model = build_small(config)
    spec = EncoderSpec("file:x", "mine", "test", 4, (3, 32, 32), "projection", 0, "MIT", "none")
    path = tmp_path / "mine@layer1"  # a name that looks like a layer
    preprocess = {"input_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    save_checkpoint(path, model, config=config, spec=spec, preprocess=preprocess)
    assert list_layers(f"file:{path}") == [
        (f"file:{path}@layer1", 16), (f"file:{path}@layer2", 16), (f"file:{path}", None)
    ]  # fmt: skip
    encoder = load_encoder(f"file:{path}@layer2")
    assert encoder.spec.pooling == "mean" and encoder.spec.embedding_dim == 16
    assert encoder.spec.id == f"file:{path}@layer2"


def test_giants_are_counted_without_being_allocated() -> None:
    layers = list_layers("timm:vit_7b_patch16_dinov3.lvd1689m")
    assert len(layers) == 40 and layers[0][1] == layers[-1][1] == 4096


def test_ids_with_layers() -> None:
    assert str(parse("demo:jepa-tiny@layer2")) == "demo:jepa-tiny@layer2"
    identity = parse("file:w.safetensors@timm:vit_tiny_patch16_224.augreg_in21k@layer3")
    assert (identity.scheme, identity.name, identity.layer) == ("file", "w.safetensors", 3)
    assert identity.architecture.name == "vit_tiny_patch16_224.augreg_in21k" and identity.architecture.layer is None


@pytest.mark.parametrize(
    ("encoder_id", "words"),
    [
        ("demo:jepa-tiny@layer0", "has layers 1 to 4, and no layer 0"),
        ("demo:jepa-tiny@layer5", "has layers 1 to 4, and no layer 5"),
        ("demo:jepa-tiny@layer2@layer1", "names two layers"),
        ("demo:nothing@layer1", "There is no encoder 'demo:nothing'"),
        ("timm:test_resnet@layer1", "has no layers that can be scored by themselves"),
    ],
)
def test_what_is_no_layer_is_refused_in_one_sentence(encoder_id: str, words: str) -> None:
    with pytest.raises(EncoderError, match=words) as caught:
        load_encoder(encoder_id, pretrained=encoder_id.startswith("demo"))
    assert "\n" not in str(caught.value)


def test_relatives_that_pool_in_their_own_way_are_refused() -> None:
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=0)
    assert count_layers(model) == 0


def test_the_command_line_lists_and_scores_layers(tmp_path: Path) -> None:
    def command(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = json.loads(command("layers", "demo:jepa-tiny", "--json"))
    assert [(row["layer"], row["id"], row["embedding_dim"]) for row in listed] == [
        (1, "demo:jepa-tiny@layer1", 24), (2, "demo:jepa-tiny@layer2", 48),
        (3, "demo:jepa-tiny@layer3", 96), (4, "demo:jepa-tiny", 16),
    ]  # fmt: skip
    where = ["--encoder=demo:jepa-tiny", "--layer=2", "--dataset=corrupted:jpeg:5:demo:digits", "--limit=3"]
    folder = Path(command("score", *where, f"--runs-dir={tmp_path}").strip())
    meta = json.loads((folder / "run.json").read_text())
    assert folder.name.startswith("jepa-tiny-layer2-digits-jpeg-5-")
    assert meta["encoder"]["id"] == "demo:jepa-tiny@layer2" and meta["encoder"]["embedding_dim"] == 48
    assert meta["request"]["encoder_id"] == "demo:jepa-tiny@layer2"

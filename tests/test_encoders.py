"""Encoders: the table against the libraries, real architectures with random weights, ids, transforms."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from jepascore_core.encoders import PRESETS, clip_models, load_encoder, timm_models
from jepascore_core.encoders.names import closest, parse
from jepascore_core.encoders.null_space import find_ending
from jepascore_core.encoders.presets import find_spec
from jepascore_core.encoders.random_weights import randomise_constants, seeded
from jepascore_core.errors import EncoderError
from tests.helpers_encoders import KINDS, tiny_vit

LIBRARY_PRESETS = [spec for spec in PRESETS if not spec.id.startswith("demo:")]
DINOV2_S = "timm:vit_small_patch14_dinov2.lvd142m"
METACLIP = "open_clip:ViT-B-32-quickgelu/metaclip_400m"
FAMILIES = (
    DINOV2_S,
    "timm:vit_small_patch14_reg4_dinov2.lvd142m",
    "timm:vit_small_patch16_dinov3.lvd1689m",
    METACLIP,
    "open_clip:ViT-B-16-SigLIP2/webli",
    "timm:vit_small_patch16_224.augreg_in1k",
    "timm:deit3_small_patch16_224.fb_in1k",
    "timm:resnet50.a1_in1k",
    "timm:convnext_tiny.fb_in1k",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other cost more than these small networks do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """Random pixels, the same each time."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# ---------------------------------------------------------------------------------------------- the table


def test_preset_ids_and_names_are_unique():
    assert len({spec.id for spec in PRESETS}) == len(PRESETS) == len({spec.name for spec in PRESETS})


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec.id)
def test_preset_row_is_complete(spec):
    channels, height, width = spec.input_size
    assert channels == 3 and height == width > 0
    assert spec.name and spec.family and spec.licence and spec.paper
    assert spec.pooling in ("class token", "mean", "projection", "attention", "average pool")
    assert spec.embedding_dim > spec.null_dim >= 0
    assert parse(spec.id).scheme == spec.id.partition(":")[0]


@pytest.mark.parametrize("spec", LIBRARY_PRESETS, ids=lambda spec: spec.id)
def test_preset_agrees_with_the_library_without_allocating(spec):
    """D, input size and licence, on the meta device: this is how ViT-g and ViT-7B are checked."""
    scheme, _, name = spec.id.partition(":")
    side = spec.input_size[1]
    library = {"timm": timm_models, "open_clip": clip_models}[scheme]
    assert library.canonical_name(name) == name
    source = library.weights_source(name)
    assert source.repo or source.url
    if scheme == "timm":
        config = timm_models._config(name)
        assert spec.licence.lower().replace(" ", "-") == config.license
        arguments = timm_models._arguments(name, spec, config.fixed_input_size, declared=True)
        with torch.device("meta"):
            model = timm_models._create(arguments)
    else:
        with torch.device("meta"):
            model = clip_models._create(name.partition("/")[0], None)
        assert clip_models._side(model) == side
    images = torch.zeros(1, *spec.input_size, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.eval()(images).shape == (1, spec.embedding_dim)


@pytest.mark.parametrize(
    ("encoder_id", "tokens"),
    [
        (DINOV2_S, 1 + 16 * 16),
        ("timm:vit_giant_patch14_reg4_dinov2.lvd142m", 5 + 16 * 16),
        ("timm:vit_huge_patch14_gap_224.in1k_ijepa", 16 * 16),
        ("timm:vit_huge_patch16_gap_448.in1k_ijepa", 28 * 28),
        ("timm:vit_giant_patch16_gap_224.in22k_ijepa", 14 * 14),
        ("timm:vit_7b_patch16_dinov3.lvd1689m", 5 + 16 * 16),
    ],
)
def test_number_of_tokens(encoder_id, tokens):
    spec = find_spec(encoder_id)
    name = encoder_id.partition(":")[2]
    with torch.device("meta"):
        model = timm_models._create(timm_models._arguments(name, spec, True, declared=True))
    assert model.forward_features(torch.zeros(1, *spec.input_size, device="meta")).shape[1] == tokens


@pytest.mark.parametrize("encoder_id", [spec.id for spec in PRESETS if spec.id.startswith("demo:")])
def test_demo_preset_is_what_its_file_says(encoder_id):
    encoder = load_encoder(encoder_id)
    assert encoder.spec == find_spec(encoder_id)
    assert encoder(encoder.transform(picture())[None]).shape == (1, encoder.spec.embedding_dim)
    if encoder.spec.pooling == "mean":  # a Vision Transformer's positions are those of its size
        with pytest.raises(EncoderError, match="does not take an image of 80 px"):
            load_encoder(encoder_id, input_size=80)
        return
    wide = load_encoder(encoder_id, input_size=80)
    assert wide.transform(picture()).shape == (3, 80, 80) == wide.spec.input_size
    assert wide(wide.transform(picture())[None]).isfinite().all()


# ------------------------------------------------------------------------- real architectures, random weights


@pytest.mark.parametrize("encoder_id", FAMILIES)
def test_real_architecture_with_random_weights(encoder_id):
    """Loads (its null dimension is checked on the way), embeds, and hears from every block."""
    encoder = load_encoder(encoder_id, pretrained=False)
    spec = encoder.spec
    assert spec == find_spec(encoder_id)
    image = encoder.transform(picture())
    assert image.shape == spec.input_size and image.dtype == torch.float32
    images = torch.stack([image, image.flip(-1)])
    embeddings = encoder(images)
    assert embeddings.shape == (2, spec.embedding_dim) and embeddings.dtype == torch.float32
    assert embeddings.isfinite().all() and not torch.equal(embeddings[0], embeddings[1])
    assert not encoder.training and not any(parameter.requires_grad for parameter in encoder.parameters())
    blocks = [module for name, module in encoder.named_modules() if name.rpartition(".")[2].isdigit()]
    last = blocks[-1]
    handle = last.register_forward_hook(lambda module, inputs, output: inputs[0])  # as if it were the identity
    without = encoder(images)
    handle.remove()
    assert (embeddings - without).norm() > 1e-2 * embeddings.norm()


def test_layer_scale_and_zeroed_norms_are_raised():
    dino = load_encoder(DINOV2_S, pretrained=False, check=False)
    gammas = [value for name, value in dino.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 24 and all(value.min() >= 0.5 for value in gammas)
    resnet = load_encoder("timm:resnet50.a1_in1k", pretrained=False, check=False)
    assert all(value.abs().max() > 0 for value in resnet.parameters())


def test_random_weights_are_the_same_each_time_and_leave_the_random_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = load_encoder("timm:test_vit.r160_in1k", pretrained=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    second = load_encoder("timm:test_vit.r160_in1k", pretrained=False)
    assert first.digest == second.digest
    images = torch.randn(1, *first.spec.input_size)
    assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("encoder_id", [DINOV2_S, "timm:vit_small_patch16_dinov3.lvd1689m", METACLIP])
def test_float64_agrees_with_float32(encoder_id):
    """Buffers move too: rotary embeddings, batch statistics."""
    side = {METACLIP: 64}.get(encoder_id, 112)
    encoder = load_encoder(encoder_id, pretrained=False, input_size=side)
    images = torch.randn(1, 3, side, side)
    single = encoder(images)
    double = encoder.double()(images.double())
    assert double.dtype == torch.float64
    assert (single - double).norm() < 1e-4 * double.norm()


# ---------------------------------------------------------------------------------------- null dimension


def singular_values(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """All D singular values of the Jacobian in float64, row by row."""
    images = image[None].double().requires_grad_()
    embedding = model.double()(images)[0]
    rows = [torch.autograd.grad(value, images, retain_graph=True)[0].reshape(-1) for value in embedding]
    return torch.linalg.svdvals(torch.stack(rows))


@pytest.mark.parametrize(("kind", "null_dim"), KINDS.items())
def test_null_dimension_is_the_gap_in_the_whole_spectrum(kind, null_dim):
    encoder = tiny_vit(kind, embed_dim=160, num_heads=4)
    image = torch.randn(encoder.spec.input_size, generator=torch.Generator().manual_seed(1))
    ending = find_ending(encoder.model, image)
    assert ending.embedding_dim == encoder.spec.embedding_dim > 64  # so that it was not read off the spectrum
    assert ending.null_dim == encoder.spec.null_dim == null_dim
    sigma = singular_values(encoder.model, image)
    rank = len(sigma) - null_dim
    assert sigma[rank - 1] > 1e-4 * sigma[0]
    assert (sigma[rank:] < 1e-2 * sigma[rank - 1]).all()


@pytest.mark.parametrize("encoder_id", [DINOV2_S, "timm:vit_small_patch16_dinov3.lvd1689m"])
def test_null_directions_of_a_real_encoder_vanish_through_the_whole_network(encoder_id):
    encoder = load_encoder(encoder_id, pretrained=False)
    captured = []
    encoder.model.norm.register_forward_hook(lambda module, inputs, output: captured.append(inputs[0]))
    images = torch.randn(1, *encoder.spec.input_size).requires_grad_()
    embedding = encoder(images)
    token, gamma = captured[0][0, 0].detach(), encoder.model.norm.weight
    normalised = (token - token.mean()) / token.std()
    random = torch.randn(gamma.shape).sign()
    gradients = {}
    for name, direction in {"ones": 1 / gamma, "x": normalised / gamma, "random": random / gamma}.items():
        gradients[name] = torch.autograd.grad(embedding, images, direction[None], retain_graph=True)[0].norm()
    assert gradients["ones"] < 1e-3 * gradients["random"]
    assert gradients["x"] < 1e-3 * gradients["random"]


class Head(nn.Module):
    """Tokens from a random linear map of the image, then the ending under test."""

    def __init__(self, ending: nn.Module, dim: int = 100) -> None:
        super().__init__()
        self.body = nn.Linear(3 * 16 * 4, dim)
        self.ending = ending

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = nn.functional.gelu(self.body(images.reshape(len(images), 4, -1)))
        return self.ending(tokens)


class First(nn.Module):
    def forward(self, tokens):
        return tokens[:, 0]


class Mean(nn.Module):
    def forward(self, tokens):
        return tokens.mean(1)


@pytest.mark.parametrize(
    ("ending", "dim", "null_dim"),
    [
        (nn.Sequential(nn.LayerNorm(100), First()), 100, 2),
        (nn.Sequential(First(), nn.LayerNorm(100)), 100, 2),
        (nn.Sequential(nn.LayerNorm(100), Mean()), 100, 1),
        (nn.Sequential(nn.LayerNorm(100, elementwise_affine=False), First()), 100, 2),
        (nn.Sequential(nn.RMSNorm(100), First()), 100, 1),
        (nn.Sequential(nn.RMSNorm(100), Mean()), 100, 0),
        (nn.Sequential(nn.LayerNorm(100), First(), nn.Linear(100, 80)), 80, 0),
        (nn.Sequential(nn.LayerNorm(100), First(), nn.GELU()), 100, 0),
        (nn.Sequential(First(), nn.Linear(100, 130)), 130, 30),
        (nn.Sequential(First(), nn.Linear(100, 8), nn.Linear(8, 40)), 40, 32),  # small D: from the spectrum
        (Mean(), 100, 0),
    ],
    ids=lambda value: str(value).replace("\n", "") if isinstance(value, nn.Module) else str(value),
)
def test_known_endings(ending, dim, null_dim):
    with seeded():
        model = Head(ending)
        randomise_constants(model)
    found = find_ending(model.eval().requires_grad_(False), torch.randn(3, 16, 16) * 2)
    assert (found.embedding_dim, found.null_dim) == (dim, null_dim)


def test_a_wrong_declaration_is_an_error_with_both_values(monkeypatch):
    import dataclasses

    right = find_spec(DINOV2_S)
    for field, value in (("null_dim", 0), ("embedding_dim", 385)):
        wrong = dataclasses.replace(right, **{field: value})
        monkeypatch.setattr(timm_models, "find_spec", lambda encoder_id, spec=wrong: spec)
        with pytest.raises(EncoderError, match=rf"declares .* {value}, but one image shows {getattr(right, field)}"):
            load_encoder(DINOV2_S, pretrained=False, input_size=28)
    assert load_encoder(DINOV2_S, pretrained=False, input_size=28, check=False).spec.embedding_dim == 385


@pytest.mark.parametrize(
    ("encoder_id", "dim", "pooling", "null_dim"),
    [
        ("timm:test_vit.r160_in1k", 64, "class token", 2),
        ("timm:mobilenetv3_small_050", 1024, "average pool", 1024 - 288),
        ("timm:xcit_nano_12_p16_224", 128, "class token", 2),
        ("timm:swin_s3_tiny_224", 768, "mean", 1),
        ("open_clip:RN50-quickgelu/openai", 1024, "attention", 0),
        ("timm:vit_tiny_patch16_dinov3_qkvb", 192, "mean", 1),
    ],
)
def test_spec_of_any_other_architecture_is_derived(encoder_id, dim, pooling, null_dim):
    spec = load_encoder(encoder_id, pretrained=False, check=False).spec
    assert (spec.embedding_dim, spec.pooling, spec.null_dim) == (dim, pooling, null_dim)
    assert spec.id.startswith(encoder_id) and spec.licence and spec.paper and spec.name


# --------------------------------------------------------------------------------------------- transforms


def test_transform_normalises_black_and_white():
    for encoder_id in ("timm:test_vit.r160_in1k", "open_clip:RN50-quickgelu/openai"):
        scheme, _, name = encoder_id.partition(":")
        library = {"timm": timm_models, "open_clip": clip_models}[scheme]
        transform = library.build(name, weights=None).transform
        black, white = (transform(Image.new("RGB", (50, 70), value)) for value in ((0,) * 3, (255,) * 3))
        assert torch.allclose(white - black, (white - black)[:, :1, :1])  # constant images stay constant
        assert (black < 0).all() and (white > 0).all() and (white - black < 5).all()
        between = transform(picture())
        assert (between >= black - 1e-4).all() and (between <= white + 1e-4).all()


def test_dinov2_at_224_px_shows_the_whole_short_side():
    """timm's own 518 px and crop of 1.0 carry over: a 224 px image reaches the encoder pixel by pixel."""
    transform = timm_models.build("vit_small_patch14_dinov2.lvd142m", weights=None).transform
    image = picture(224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.allclose(transform(image), (pixels - mean[:, None, None]) / std[:, None, None], atol=1e-5)


def test_clip_transform_is_open_clips_own():
    import open_clip

    _, _, reference = open_clip.create_model_and_transforms("ViT-S-32-alt")
    ours = clip_models.make_transform("ViT-S-32-alt", "", 224)
    assert torch.equal(ours(picture()), reference(picture()))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16", "LA"])
def test_transform_takes_any_mode(mode):
    transform = load_encoder("timm:test_vit.r160_in1k", pretrained=False, check=False).transform
    image = Image.new("I;16", (30, 20)) if mode == "I;16" else picture(30, 20).convert(mode)
    assert transform(image).shape == (3, 160, 160)


@pytest.mark.parametrize("size", [(1, 1), (1, 40_000), (40_000, 1), (3, 5)])
def test_transform_takes_any_shape(size):
    transform = load_encoder("timm:test_vit.r160_in1k", pretrained=False, check=False).transform
    assert transform(Image.new("RGB", size, (9, 9, 9))).shape == (3, 160, 160)


def test_trimming_a_long_image_changes_nothing():
    transform = load_encoder("timm:test_vit.r160_in1k", pretrained=False, check=False).transform
    long = picture(40 * 24, 40)
    assert torch.allclose(transform(long), transform._transform(long), atol=1e-6)


def test_transform_is_safe_in_threads():
    transform = load_encoder("timm:test_vit.r160_in1k", pretrained=False, check=False).transform
    pictures = [picture(100 + i, 90) for i in range(40)]
    serial = [transform(image) for image in pictures]
    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(a, b) for a, b in zip(serial, pool.map(transform, pictures), strict=True))


# -------------------------------------------------------------------------------------------- input size


@pytest.mark.parametrize(
    ("encoder_id", "side"),
    [
        (DINOV2_S, 98),
        ("timm:vit_small_patch16_dinov3.lvd1689m", 64),
        ("timm:resnet50.a1_in1k", 64),
        ("open_clip:ViT-S-32-alt", 96),
    ],
)
def test_input_size_can_be_chosen(encoder_id, side):
    encoder = load_encoder(encoder_id, pretrained=False, input_size=side)
    assert encoder.spec.input_size == (3, side, side)
    assert encoder(encoder.transform(picture())[None]).shape == (1, encoder.spec.embedding_dim)


@pytest.mark.parametrize(
    ("encoder_id", "side", "message"),
    [
        (DINOV2_S, 225, "225 px is not a multiple of the 14 px patches.*224 or 238"),
        ("timm:vit_huge_patch14_gap_224.in1k_ijepa", 10, "take 14"),
        (METACLIP, 100, "take 96 or 128"),
        ("open_clip:ViT-B-16-SigLIP2/webli", 100, "take 96 or 112"),
        (DINOV2_S, 7, "not between 8 and 4096"),
    ],
)
def test_impossible_input_sizes_are_one_sentence(encoder_id, side, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(encoder_id, pretrained=False, input_size=side)


# --------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("timm:vit_small_patch14_dinov2", DINOV2_S),
        ("vit_small_patch14_dinov2", DINOV2_S),
        ("resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("ViT-B-32-quickgelu/metaclip_400m", METACLIP),
        ("jepa-tiny", "demo:jepa-tiny"),
        (f" {DINOV2_S} ", DINOV2_S),
        ("file:a@b.pth@resnet50.a1_in1k", "file:a@b.pth@timm:resnet50.a1_in1k"),
    ],
)
def test_ids_are_completed(typed, canonical):
    assert str(parse(typed)) == canonical


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142", DINOV2_S),
        ("dinov2_vits14", DINOV2_S),
        ("open_clip:ViT-B-33-quickgelu/metaclip_400m", METACLIP),
        ("ijepa", "timm:vit_huge_patch14_gap_224.in1k_ijepa"),
        ("demo:jepa_tiny", "demo:jepa-tiny"),
        ("tim:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
    ],
)
def test_unknown_id_names_the_three_closest(typed, expected):
    assert closest(typed)[0] == expected
    with pytest.raises(EncoderError) as error:
        load_encoder(typed)
    assert str(error.value).count(":") >= 3 and expected in str(error.value)


@pytest.mark.parametrize("typed", ["", ":", "timm:", "open_clip:", "file:", "demo:", "timm:../../etc/passwd", "\0"])
def test_nonsense_is_one_sentence(typed):
    with pytest.raises(EncoderError) as error:
        load_encoder(typed)
    assert "\n" not in str(error.value)


def test_weights_of_the_other_gelu_are_refused():
    with pytest.raises(EncoderError, match="use open_clip:ViT-B-32-quickgelu/metaclip_400m"):
        load_encoder("open_clip:ViT-B-32/metaclip_400m", pretrained=False)


def test_a_device_that_is_not_there_is_one_sentence():
    with pytest.raises(EncoderError, match="device 'nonsense'"):
        load_encoder("demo:jepa-tiny", device="nonsense")


def test_the_demo_loads_without_the_big_libraries():
    code = (
        "import sys; from jepascore_core.encoders import load_encoder; load_encoder('demo:jepa-tiny');"
        "print([name for name in ('timm', 'open_clip', 'torchvision', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""Weights files and downloads: what fits is loaded, what is dangerous or damaged is refused, offline is said."""

import http.server
import os
import pickle
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jepascore_core.encoders import load_encoder, timm_models
from jepascore_core.encoders.checkpoint import weights_digest
from jepascore_core.errors import EncoderError

TINY = "timm:test_vit.r160_in1k"
HUB_FILE = "/timm/test_vit.r160_in1k/resolve/main/"


@pytest.fixture(scope="module")
def donor():
    """A small encoder of timm whose weights the tests write in many ways."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_encoder(TINY, pretrained=False)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state(donor):
    """Its weights, changed, so that loading them cannot be mistaken for drawing them."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: value + 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in donor.model.state_dict().items()
    }


def prefixed(state: dict, prefix: str) -> dict:
    """The same weights behind a prefix."""
    return {prefix + name: value for name, value in state.items()}


def assert_loaded(encoder, state):
    """Every weight of the encoder is the one in the file."""
    own = encoder.model.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own)


# ------------------------------------------------------------------------------------------------- digest


def test_digest_sees_every_change_and_no_order():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    digest = weights_digest(state)
    assert digest == weights_digest(dict(reversed(state.items())))
    assert digest == weights_digest({**state, "a": state["a"].T.contiguous().T})  # memory layout is no matter
    changed = [
        {**state, "a": state["a"] + torch.eye(2, 3) * 1e-6},
        {**state, "a": state["a"].reshape(3, 2)},
        {**state, "a": state["a"].double()},
        {**state, "a": state["a"].bfloat16()},
        {"c": state["a"], "b": state["b"]},
        {**state, "c": torch.zeros(0)},
    ]
    assert len({digest, *map(weights_digest, changed)}) == len(changed) + 1


def test_digest_of_a_file_changes_with_one_weight(state, tmp_path):
    digests = []
    for _ in range(2):
        save_file(state, tmp_path / "w.safetensors")
        digests.append(load_encoder(f"file:{tmp_path}/w.safetensors@{TINY}").digest)
        state = {**state, "norm.bias": state["norm.bias"] + (torch.arange(64) == 7) * 1e-4}
    assert digests[0] != digests[1] != load_encoder(TINY, pretrained=False).digest


# ------------------------------------------------------------------------------------------- files that fit


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "backbone.", "module.backbone.", "net.visual.trunk."])
def test_prefixes_are_taken_off(state, tmp_path, prefix):
    path = tmp_path / "weights.safetensors"
    save_file(prefixed(state, prefix), path)
    encoder = load_encoder(f"file:{path}@{TINY}")
    assert_loaded(encoder, state)
    assert encoder.spec.id == f"file:{path}@{TINY}" and encoder.spec.null_dim == 2
    save_file(state, tmp_path / "plain.safetensors")
    assert encoder.digest == load_encoder(f"file:{tmp_path}/plain.safetensors@{TINY}").digest


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": prefixed(state, "module.")},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 3},
        lambda state: {"epoch": 3, "target_encoder": scaled(state), "encoder": prefixed(state, "module.")},  # I-JEPA
        lambda state: {"student": scaled(state), "teacher": prefixed(state, "backbone.")},  # DINO
        lambda state: {"state_dict": scaled(state), "state_dict_ema": state},  # timm's trainer
        lambda state: {**state, "head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)},
    ],
    ids=["plain", "module", "training", "ijepa", "dino", "ema", "head"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pytorch_files_in_the_usual_wrappings(state, tmp_path, wrap, legacy):
    path = tmp_path / "weights.pth"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=not legacy)
    assert_loaded(load_encoder(f"file:{path}@{TINY}"), state)


def scaled(state: dict) -> dict:
    """Other weights of the same shapes."""
    return {name: value * 2 for name, value in state.items()}


def test_half_precision_files_become_float32(state, tmp_path):
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "w.safetensors")
    encoder = load_encoder(f"file:{tmp_path}/w.safetensors@{TINY}")
    assert_loaded(encoder, {name: value.half().float() for name, value in state.items()})


def test_a_path_may_hold_an_at_sign_and_a_tilde(state, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(state, tmp_path / "me@home.safetensors")
    assert_loaded(load_encoder(f"file:~/me@home.safetensors@{TINY}"), state)


def test_published_dinov2_at_518_px_is_resampled_to_224_as_timm_does(tmp_path):
    """The same file through timm's own loader and through ours."""
    import timm

    name = "vit_small_patch14_dinov2.lvd142m"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        published = timm.create_model(name, num_classes=0).state_dict()
    published = {key: value.half() for key, value in published.items()}
    assert published["pos_embed"].shape[1] == 1 + 37 * 37
    path = tmp_path / "model.safetensors"
    save_file(published, path)
    encoder = load_encoder(f"file:{path}@timm:{name}", check=False)
    source = {"file": str(path)}
    reference = timm.create_model(name, pretrained=True, num_classes=0, img_size=224, pretrained_cfg_overlay=source)
    assert encoder.model.pos_embed.shape[1] == 1 + 16 * 16
    assert_loaded(encoder, reference.state_dict())
    at_518 = load_encoder(f"file:{path}@timm:{name}", input_size=518, check=False)
    assert at_518.digest == encoder.digest  # of the published weights: resampling rounds differently on each machine


def test_meta_names_of_dinov2_registers_are_understood(tmp_path):
    """The original release calls them register_tokens and carries a mask_token."""
    name = "vit_small_patch14_reg4_dinov2.lvd142m"
    donor = load_encoder(f"timm:{name}", pretrained=False, check=False).model.state_dict()
    original = {"register_tokens" if key == "reg_token" else key: value.half() for key, value in donor.items()}
    original["mask_token"] = torch.zeros(1, 384)
    original["pos_embed"] = torch.cat([torch.zeros(1, 1, 384).half(), original["pos_embed"]], 1)
    original["cls_token"] = torch.ones(1, 1, 384).half()
    torch.save(original, tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    encoder = load_encoder(f"file:{tmp_path}/dinov2_vits14_reg4_pretrain.pth@timm:{name}")
    assert torch.equal(encoder.model.reg_token, donor["reg_token"].half().float())


def test_clip_file_gives_the_projected_embedding_of_open_clip(tmp_path):
    """The image tower alone, from a file of both towers, against open_clip's own model and loader."""
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = open_clip.create_model("ViT-S-32-alt")
    path = tmp_path / "open_clip_model.safetensors"
    save_file({name: value.half().contiguous() for name, value in whole.state_dict().items()}, path)
    encoder = load_encoder(f"file:{path}@open_clip:ViT-S-32-alt")
    reference = open_clip.create_model("ViT-S-32-alt", pretrained=str(path)).eval()
    images = torch.randn(2, 3, 224, 224)
    assert torch.allclose(encoder(images), reference.encode_image(images, normalize=False), atol=1e-5)
    assert (encoder.spec.embedding_dim, encoder.spec.pooling, encoder.spec.null_dim) == (256, "projection", 0)
    larger = load_encoder(f"file:{path}@open_clip:ViT-S-32-alt", input_size=256)
    assert larger(torch.randn(1, 3, 256, 256)).shape == (1, 256)
    assert larger.digest == encoder.digest


def test_clip_tower_of_timm_is_loaded_and_then_resampled(tmp_path):
    """SigLIP's towers are built so: a trunk of timm, whose input size changes after the weights are in."""
    name = "open_clip:vit_medium_patch16_gap_256"
    donor = load_encoder(name, pretrained=False, check=False)
    path = tmp_path / "open_clip_model.safetensors"
    save_file(prefixed({key: value.half() for key, value in donor.model.state_dict().items()}, "visual."), path)
    encoder = load_encoder(f"file:{path}@{name}")
    images = torch.randn(1, *encoder.spec.input_size)
    assert torch.allclose(encoder(images), donor(images), atol=1e-2) and not torch.equal(encoder(images), donor(images))
    assert (encoder.spec.pooling, encoder.spec.null_dim) == ("projection", 0)
    smaller = load_encoder(f"file:{path}@{name}", input_size=128)
    assert smaller.model.trunk.pos_embed.shape[1] == 8 * 8 and smaller.digest == encoder.digest
    assert smaller(torch.randn(1, 3, 128, 128)).shape == encoder(images).shape


def test_random_weights_need_no_file():
    encoder = load_encoder(f"file:/nowhere/w.pth@{TINY}", pretrained=False)
    assert encoder.digest == load_encoder(TINY, pretrained=False).digest


def test_our_own_checkpoint_by_path():
    path = Path(timm_models.__file__).parent.parent / "weights" / "jepa-tiny.safetensors"
    encoder = load_encoder(f"file:{path}")
    assert encoder.spec.id == f"file:{path}"
    assert encoder.digest == load_encoder("demo:jepa-tiny").digest
    assert encoder.digest != load_encoder("demo:jepa-tiny-untrained").digest


# ------------------------------------------------------------------------------------------ files that do not


class Evil:
    """Runs code when it is unpickled by an unguarded reader."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pkl", ".ckpt", ".tar", ""])
@pytest.mark.parametrize("write", ["pickle", "torch", "torch legacy"])
def test_a_malicious_pickle_is_refused_and_never_run(state, tmp_path, suffix, write):
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "owned"
    content = {**state, "extra": Evil(marker)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(EncoderError, match="refused because it holds more than plain tensors") as error:
        load_encoder(f"file:{path}@{TINY}")
    assert not marker.exists() and "\n" not in str(error.value)
    with pytest.raises(EncoderError, match="does not say which encoder"):
        load_encoder(f"file:{path}")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.npz"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04 not a zip", os.urandom(1000)])
def test_damaged_files_are_one_sentence(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    for encoder_id in (f"file:{path}@{TINY}", f"file:{path}"):
        with pytest.raises(EncoderError, match="weights") as error:
            load_encoder(encoder_id)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_truncated_file_is_one_sentence(state, tmp_path, name):
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderError, match=r"cannot be read|refused"):
        load_encoder(f"file:{path}@{TINY}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "norm.bias"}, "lacks 'norm.bias'"),
        (lambda s: {k: v for k, v in s.items() if ".5." not in k}, "lacks 'blocks.5.norm1.weight' and 11 more"),
        (lambda s: {**s, "norm.bias": torch.zeros(65)}, r"norm.bias has shape \(65,\), not \(64,\)"),
        (lambda s: {**s, "blocks.6.norm1.weight": torch.zeros(64)}, "has no 'blocks.6.norm1.weight'"),
        (lambda s: {"something": torch.zeros(3)}, "lacks"),
        (lambda s: {**prefixed(s, "a."), **prefixed(scaled(s), "b.")}, "several networks that fit"),
        (lambda s: {**s, "norm.bias": torch.full((64,), torch.nan)}, "not finite"),
    ],
    ids=["missing", "shallower", "shape", "deeper", "other", "several", "nan"],
)
def test_weights_that_do_not_fit_are_one_sentence(state, tmp_path, change, message):
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in change(state).items()}, path)
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"file:{path}@{TINY}")


@pytest.mark.parametrize(
    ("encoder_id", "message"),
    [
        ("file:/nowhere/w.safetensors", "no weights file /nowhere/w.safetensors"),
        (f"file:/nowhere/w.safetensors@{TINY}", "no weights file /nowhere/w.safetensors"),
        ("file:/nowhere/w.pth@timm:nope", "no encoder 'timm:nope'"),
        ("file:/nowhere/w.pth@demo:jepa-tiny", "must be a timm or open_clip encoder"),
        (f"file:/@{TINY}", "no weights file /"),
    ],
)
def test_missing_files_are_one_sentence(encoder_id, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(encoder_id)


def test_a_bare_path_is_told_how_to_name_it(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    for encoder_id in (f"file:{path}", str(path)):
        with pytest.raises(EncoderError, match=f"name it file:{path}@"):
            load_encoder(encoder_id)


# ---------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """Empty caches, and a proxy that answers nothing, whatever the machine's own network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("encoder_id", "file"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", "timm/vit_small_patch14_dinov2.lvd142m/model.safetensors"),
        ("timm:vit_huge_patch14_gap_224.in1k_ijepa", "https://dl.fbaipublicfiles.com/ijepa/IN1K-vit.h.14-300e.pth.tar"),
        ("open_clip:ViT-B-32-quickgelu/metaclip_400m", "clip_224.metaclip_400m/open_clip_model.safetensors"),
        ("open_clip:ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2/open_clip_model.safetensors"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_offline_says_which_file_where_to_put_it_and_how_to_name_it(encoder_id, file):
    start = time.monotonic()
    with pytest.raises(EncoderError, match=file) as error:
        load_encoder(encoder_id)
    assert time.monotonic() - start < 10  # the Hub's client alone would retry for half a minute
    message = str(error.value)
    path, _, rest = message.rpartition("file:")[2].partition("@")
    assert f"save it here as {path}," in message and rest == encoder_id and "\n" not in message


def test_no_public_weights_is_one_sentence():
    with pytest.raises(EncoderError, match="no public weights for timm:mixer_s16_224"):
        load_encoder("timm:mixer_s16_224")
    with pytest.raises(EncoderError, match="open_clip:ViT-B-32/openai"):
        load_encoder("open_clip:ViT-B-32")


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download needs."""

    files: dict[str, bytes]
    refusal: tuple[int, str] | None
    requests: list[str]

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *arguments):
        pass

    def _answer(self, with_body):
        self.requests.append(self.path)
        content = self.files.get(self.path)
        status, code = (200, "") if content is not None else (404, "EntryNotFound")
        if self.refusal:
            (status, code), content = self.refusal, None
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", '"0123"')
        self.send_header("X-Repo-Commit", "f" * 40)
        self.end_headers()
        if with_body and content:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, and empty caches."""
    from huggingface_hub import constants

    handler = type("Handler", (Hub,), {"files": {}, "refusal": None, "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield handler
    server.shutdown()
    server.server_close()


def test_weights_are_downloaded_once_and_then_come_from_the_cache(hub, state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    hub.files = {HUB_FILE + "model.safetensors": (tmp_path / "w.safetensors").read_bytes()}
    encoder = load_encoder(TINY)
    assert_loaded(encoder, state)
    assert encoder.spec.id == TINY
    hub.requests.clear()
    hub.refusal = (500, "")
    assert load_encoder(TINY).digest == encoder.digest
    assert hub.requests == []


def test_the_second_file_name_is_tried(hub, state, tmp_path):
    torch.save(state, tmp_path / "w.bin")
    hub.files = {HUB_FILE + "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    assert_loaded(load_encoder(TINY), state)


def test_a_downloaded_pickle_is_refused_too(hub, state, tmp_path):
    torch.save({**state, "extra": Evil(tmp_path / "owned")}, tmp_path / "w.bin")
    hub.files = {HUB_FILE + "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    with pytest.raises(EncoderError, match="refused"):
        load_encoder(TINY)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "gated: accept their licence at https://huggingface.co/timm/test_vit.r160_in1k"),
        ((401, "RepoNotFound"), "not there or is private"),
        ((404, "EntryNotFound"), "has no model.safetensors or pytorch_model.bin"),
        ((418, ""), "Downloading the weights of timm:test_vit.r160_in1k failed"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, refusal, message):
    hub.refusal = refusal
    with pytest.raises(EncoderError, match=message) as error:
        load_encoder(TINY)
    assert "\n" not in str(error.value)


def test_a_file_at_a_web_address_is_downloaded_once(hub, state, tmp_path, monkeypatch):
    """As I-JEPA's: no repository, an address alone, a training checkpoint."""
    import dataclasses

    from huggingface_hub import constants

    torch.save({"encoder": prefixed(state, "module."), "epoch": 300}, tmp_path / "w.tar")
    hub.files = {"/ijepa/w.pth.tar": (tmp_path / "w.tar").read_bytes()}
    source = timm_models.weights_source("test_vit.r160_in1k")
    source = dataclasses.replace(source, repo=None, url=f"{constants.ENDPOINT}/ijepa/w.pth.tar")
    monkeypatch.setattr(timm_models, "weights_source", lambda name: source)
    assert_loaded(load_encoder(TINY), state)
    hub.files.clear()
    assert_loaded(load_encoder(TINY), state)

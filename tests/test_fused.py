"""The GPU kernels, run by Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from jepascore_core import fused
from jepascore_core.jacobian import jacobian_listing1, jacobian_summary, path_of
from tests.test_vit import built

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed on this platform")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; the interpreter stands in for it")
DEVICES = ["cpu"] if INTERPRETED else [pytest.param("cuda", marks=NO_GPU)]


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's run")
def test_the_kernels_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-4000:]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs on a CPU")
def test_a_cpu_does_without_them() -> None:
    assert not fused.usable(torch.zeros(2, 24), heads=3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("heads", "size"), [(3, 8), (2, 64), (1, 80)])
def test_kernels_agree_with_pytorch(heads: int, size: int, dtype: torch.dtype, device: str) -> None:
    bound = 1e-5 if dtype == torch.float32 else 2e-3
    assert fused.largest_difference(torch.device(device), dtype, heads=heads, size=size) < bound


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["registers", "CLIP, quick GELU"])
def test_the_sweep_that_they_make_is_listing_1(kind: str, precision: str, device: str) -> None:
    model, images = (part.to(device) for part in built(kind))
    exact = torch.linalg.svdvals(jacobian_listing1(model, images[:1]))
    assert fused.usable(torch.zeros(2, 24, device=device), heads=3)
    summary = jacobian_summary(model.float(), images[:1].float(), precision=precision, chunk_size=10)
    assert path_of(model) == "vit"
    above = exact > 100 * summary.noise.unsqueeze(1)
    assert above.double().mean() > 0.5
    error = (summary.singular_values / exact).log().abs()[above].max()
    assert error < (1e-4 if precision == "float32" else 2e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_kernels_that_err_are_not_used(device: str, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    fused._checked.cache_clear()
    monkeypatch.setattr(fused, "largest_difference", lambda *given, **named: 0.5)
    assert not fused.usable(torch.zeros(2, 24, device=device), heads=3)
    fused._checked.cache_clear()
    monkeypatch.setattr(fused, "largest_difference", lambda *given, **named: 1 / 0)
    assert not fused.usable(torch.zeros(2, 24, device=device), heads=3)
    fused._checked.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]

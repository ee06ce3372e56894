"""Eigenvalues of Gram matrices."""

import torch

from jepascore_core import eigen
from jepascore_core.eigen import eigh, on_device, on_host
from tests.test_jacobian import DEVICES


def grams(device: str) -> torch.Tensor:
    torch.manual_seed(0)
    rows = torch.randn(5, 6, 9, dtype=torch.float64, device=device)
    return rows @ rows.mT


def test_known_answers_descend() -> None:
    values, vectors = eigh(torch.diag(torch.tensor([1.0, 9.0, 4.0])).double().unsqueeze(0))
    assert values.tolist() == [[9.0, 4.0, 1.0]]
    assert vectors.abs().tolist() == [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]


def test_both_ways_agree_on_every_device() -> None:
    for device in DEVICES:
        matrices = grams(device)
        for method in (on_device, on_host):
            values, vectors = method(matrices)
            torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, matrices)
        values, vectors = eigh(matrices)
        torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, matrices)
        if device != "cpu":
            assert eigen._faster[matrices.device, 6] in (on_device, on_host)


def test_a_matrix_that_is_not_finite_spoils_no_other() -> None:
    matrices = grams("cpu")
    expected, _ = eigh(matrices[:1])
    matrices[1, 2, 3], matrices[2] = torch.nan, torch.inf
    values, _ = eigh(matrices)
    torch.testing.assert_close(values[:1], expected)
    assert values[1:3].isnan().all() and values[3:].isfinite().all()


def test_rounding_below_zero_is_zero() -> None:
    row = torch.tensor([[1e-3, 1.0, 1e3]], dtype=torch.float64)
    assert (eigh((row.mT @ row).unsqueeze(0))[0] >= 0).all()

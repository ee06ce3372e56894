"""JEPA-SCORE from singular values: known answers, laws, refusals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jepascore_core.score import FORWARD_ROUNDING, jepa_score, score_error, views_score

spectra = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


def test_known_answer() -> None:
    sigma = torch.tensor([[math.e**2, math.e, 1.0], [1.0, 1.0, math.exp(-3)]])
    torch.testing.assert_close(jepa_score(sigma), torch.tensor([3.0, -3.0], dtype=torch.float64), rtol=0, atol=1e-6)


def test_eps_is_the_least_that_counts() -> None:
    sigma = torch.tensor([[1.0, 0.0]])
    assert jepa_score(sigma).item() == pytest.approx(math.log(1e-6))
    assert jepa_score(sigma, eps=0.1).item() == pytest.approx(math.log(0.1))


def test_eq_5_stops_at_the_rank_and_listing_1_does_not() -> None:
    sigma = torch.tensor([[3.0, 2.0, 1e-4]])
    assert jepa_score(sigma, null_dim=1).item() == pytest.approx(math.log(6))
    assert jepa_score(sigma).item() == pytest.approx(math.log(6e-4), abs=1e-5)


def test_score_is_in_float64() -> None:
    assert jepa_score(torch.ones(2, 3, dtype=torch.float16)).dtype == torch.float64


def test_nan_is_not_hidden() -> None:
    assert jepa_score(torch.tensor([[1.0, math.nan]])).isnan().all()


@given(sigma=spectra, scale=st.floats(0.1, 10), null_dim=st.integers(0, 1))
def test_scaling_law(sigma: list[float], scale: float, null_dim: int) -> None:
    values = torch.tensor([sigma], dtype=torch.float64)
    shift = (len(sigma) - null_dim) * math.log(scale)
    shifted = jepa_score(values * scale, eps=1e-12, null_dim=null_dim)
    torch.testing.assert_close(shifted, jepa_score(values, eps=1e-12, null_dim=null_dim) + shift)


@given(sigma=spectra, seed=st.integers(0, 99))
def test_order_does_not_matter(sigma: list[float], seed: int) -> None:
    values = torch.tensor([sigma])
    shuffled = values[:, torch.randperm(len(sigma), generator=torch.Generator().manual_seed(seed))]
    torch.testing.assert_close(jepa_score(shuffled, null_dim=1), jepa_score(values, null_dim=1))


@pytest.mark.parametrize(("shape", "null_dim"), [((3,), 0), ((1, 3), 3), ((1, 3), -1)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...], null_dim: int) -> None:
    with pytest.raises(ValueError, match=str(null_dim)):
        jepa_score(torch.ones(shape), null_dim=null_dim)


def test_eps_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        jepa_score(torch.ones(1, 2), eps=0)


def test_score_error_is_what_its_docstring_says() -> None:
    sigma = torch.tensor([[1.0, 1.0], [1.0, 1e-2]])
    along = torch.tensor([[1e-4, 1e-4], [1e-4, 1e-5]])
    error = score_error(sigma, torch.tensor([1e-3, 1e-3]), along)
    floor = 2 * FORWARD_ROUNDING
    assert error[0].item() == pytest.approx(3 * math.sqrt(2) * 1e-4 + 1e-6 + floor, rel=1e-4)
    assert error[1].item() == pytest.approx(3 * math.hypot(1e-4, 1e-3) + (1e-6 + 1e-2) / 2 + floor, rel=1e-4)


def test_score_error_takes_singular_values_in_any_order() -> None:
    sigma, along = torch.tensor([[3.0, 2.0, 1e-9]]), torch.tensor([[1e-4, 2e-4, 5e-4]])
    noise, turned = torch.tensor([1e-3]), [2, 0, 1]
    expected = score_error(sigma, noise, along, null_dim=1)
    torch.testing.assert_close(score_error(sigma[:, turned], noise, along[:, turned], null_dim=1), expected)


def test_score_error_ignores_null_directions() -> None:
    error = score_error(torch.tensor([[1.0, 1e-9]]), torch.tensor([1e-6]), torch.tensor([[1e-6, 1e-6]]), null_dim=1)
    assert error.item() < 1e-5


def test_score_error_without_noise_is_finite() -> None:
    assert score_error(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0]), torch.zeros(1, 2)).isfinite().all()


def test_score_error_of_what_is_not_known_is_infinite() -> None:
    for sigma in ([[1.0, 0.0]], [[1.0, math.nan]]):
        assert score_error(torch.tensor(sigma), torch.tensor([1e-3]), torch.full((1, 2), 1e-4)).isinf().all()


def test_one_view_is_eq_5() -> None:
    scores = torch.tensor([[-12.25], [3.5]], dtype=torch.float64)
    assert torch.equal(views_score(scores), scores.squeeze(1))


def test_views_are_combined_as_eq_4() -> None:
    volumes = torch.tensor([[2.0, 4.0, 8.0]], dtype=torch.float64)  # Π σ_k of three views
    expected = -torch.log((1 / volumes).mean(1))
    torch.testing.assert_close(views_score(volumes.log()), expected)


def test_views_do_not_overflow() -> None:
    scores = torch.tensor([[-5000.0, -5000.0]])
    assert views_score(scores).item() == pytest.approx(-5000)


@given(scores=st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_views_lie_between_the_least_and_the_mean(scores: list[float]) -> None:
    combined = views_score(torch.tensor([scores], dtype=torch.float64)).item()
    assert min(scores) - 1e-9 <= combined <= sum(scores) / len(scores) + 1e-9


def test_no_views_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        views_score(torch.empty(2, 0))

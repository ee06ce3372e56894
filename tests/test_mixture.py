"""Mixtures against torch.distributions, Langevin sampling against the density it climbs, energy distance by hand."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from jepascore_core.langevin import energy_test, langevin, uniform_in_box
from jepascore_core.mixture import GaussianMixture, random_mixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uneven(dim: int = 3) -> GaussianMixture:
    """A mixture with weights that differ."""
    drawn = random_mixture(dim, components=3, separation=3, seed=dim)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]).double(), drawn.means, drawn.cholesky)


def reference(mixture: GaussianMixture) -> MixtureSameFamily:
    normal = MultivariateNormal(mixture.means, scale_tril=mixture.cholesky)
    return MixtureSameFamily(Categorical(mixture.weights), normal)


@pytest.mark.parametrize("dim", [1, 3, 16])
def test_log_density_and_gradient_are_those_of_torch(dim: int) -> None:
    mixture = uneven(dim)
    x = (4 * torch.randn(50, dim, generator=generator(), dtype=torch.float64)).requires_grad_()
    expected = reference(mixture).log_prob(x)
    torch.testing.assert_close(mixture.log_density(x), expected)
    torch.testing.assert_close(mixture.gradient(x), torch.autograd.grad(expected.sum(), x)[0])


def test_far_points_do_not_underflow() -> None:
    x = torch.full((1, 3), 1e4)
    assert uneven().log_density(x).isfinite().all() and uneven().gradient(x).isfinite().all()


def test_one_standard_gaussian_is_known() -> None:
    mixture = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double().unsqueeze(0))
    x = torch.tensor([[3.0, 4.0]])
    assert mixture.log_density(x).item() == pytest.approx(-12.5 - math.log(2 * math.pi))
    assert mixture.gradient(x).tolist() == [[-3.0, -4.0]]


def test_samples_have_the_mixtures_moments() -> None:
    mixture = uneven()
    samples = mixture.sample(200_000, generator())
    mean, covariance = mixture.moments()
    torch.testing.assert_close(samples.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(samples.T.cov(), covariance, atol=0.1, rtol=0)
    assert torch.equal(samples[:5], mixture.sample(200_000, generator())[:5])


def test_random_mixture_is_what_was_asked_for() -> None:
    mixture = random_mixture(6, components=400, separation=5, anisotropy=4, scale_ratio=9, seed=1)
    apart = torch.pdist(mixture.means)
    assert apart.square().mean().sqrt().item() == pytest.approx(5, rel=0.05)
    axes = torch.linalg.svdvals(mixture.cholesky)  # standard deviations along the axes
    torch.testing.assert_close(axes[:, 0] / axes[:, -1], torch.full((400,), 4.0).double())
    scale = axes.log().mean(1).exp()
    assert (scale[-1] / scale[0]).item() == pytest.approx(9) and scale.log().mean().abs() < 1e-9
    assert not torch.equal(mixture.means, random_mixture(6, components=400, seed=2).means)


@pytest.mark.parametrize("wrong", [{"components": 0}, {"anisotropy": 0.5}, {"scale_ratio": 0.0}, {"separation": -1.0}])
def test_numbers_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="at least"):
        random_mixture(2, **wrong)


def test_shapes_and_weights_that_do_not_fit_are_refused() -> None:
    good = uneven()
    with pytest.raises(ValueError, match=r"\(2,\)"):
        GaussianMixture(good.weights[:2], good.means, good.cholesky)
    with pytest.raises(ValueError, match="sum to 1"):
        GaussianMixture(good.weights * 2, good.means, good.cholesky)
    with pytest.raises(ValueError, match=r"\(B, 3\)"):
        good.log_density(torch.zeros(4, 2))


# --- Langevin -----------------------------------------------------------------------------------


def box(samples: Tensor) -> tuple[Tensor, Tensor]:
    return samples.amin(0) - 1, samples.amax(0) + 1


def test_langevin_recovers_a_mixture() -> None:
    mixture = random_mixture(2, components=3, separation=3, anisotropy=2, scale_ratio=1.5, seed=0)
    data = mixture.sample(600, generator(1))
    start = uniform_in_box(600, box(data), generator(2))
    path = langevin(
        mixture.gradient, start, box=box(data), steps=800, step_size=0.02, keep_every=800, generator=generator(3)
    )
    assert path.shape == (2, 600, 2) and torch.equal(path[0], start)
    found, before = energy_test(path[-1], data), energy_test(start, data)
    assert found.distance < found.null_95 and found.p_value > 0.05
    assert before.distance > 10 * before.null_95 and before.p_value < 0.01


def test_langevin_stays_in_its_box_and_cuts_long_gradients() -> None:
    corner = (torch.zeros(2).double(), torch.ones(2).double())
    pushed = langevin(
        lambda x: torch.full_like(x, 1e9), torch.full((50, 2), 0.5), box=corner, clip=20.0, generator=generator()
    )
    assert pushed.shape == (301, 50, 2) and ((pushed >= 0) & (pushed <= 1)).all()
    steps = (langevin(lambda x: 1e9 * x, torch.ones(1, 2), box=(-100 * corner[1], 100 * corner[1]), steps=1,
                      step_size=1e-6, clip=20.0, generator=generator())[1] - 1).norm()  # fmt: skip
    assert steps < 20e-6 + 5 * math.sqrt(2e-6)


def test_langevin_of_a_flat_density_spreads_evenly() -> None:
    corner = (torch.zeros(1).double(), torch.ones(1).double())
    path = langevin(torch.zeros_like, torch.full((2000, 1), 0.1), box=corner, steps=200, generator=generator())
    assert stats.kstest(path[-1, :, 0].numpy(), "uniform").pvalue > 0.01


def test_langevin_refuses_a_start_outside() -> None:
    corner = (torch.zeros(1).double(), torch.ones(1).double())
    with pytest.raises(ValueError, match="within"):
        langevin(torch.zeros_like, torch.full((1, 1), 2.0), box=corner, generator=generator())
    with pytest.raises(ValueError, match="steps=0"):
        langevin(torch.zeros_like, torch.full((1, 1), 0.5), box=corner, steps=0, generator=generator())


# --- energy distance ----------------------------------------------------------------------------


def test_energy_distance_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0]])
    assert energy_test(x, y).distance == pytest.approx(2 * (5 + 3) / 2 - (0 + 2 + 2 + 0) / 4)


def test_energy_distance_is_scipys_in_one_dimension() -> None:
    x, y = torch.randn(60, 1, generator=generator()), 0.5 + torch.rand(40, 1, generator=generator(1))
    expected = stats.energy_distance(x.flatten().numpy(), y.flatten().numpy()) ** 2
    assert energy_test(x, y).distance == pytest.approx(expected, rel=1e-6)


def test_the_null_holds_its_level() -> None:
    draws = torch.randn(60, 2, 40, 2, generator=generator())
    tests = [energy_test(x, y, permutations=99) for x, y in draws]
    rejected = sum(test.p_value <= 0.1 for test in tests) / len(tests)
    assert 0.01 <= rejected <= 0.22  # 0.1 expected; three standard deviations around it
    assert all(test.null_mean < test.null_95 for test in tests)


def test_samples_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        energy_test(torch.zeros(3, 2), torch.zeros(3, 1))

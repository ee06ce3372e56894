"""Sphere and corrected scores: known answers, and the gradient of the score against finite differences."""

import math

import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from jepascore_core.density import FittedGaussian, corrected_score, fit_gaussian, sphere_gram, sphere_score
from jepascore_core.eigen import eigh
from jepascore_core.jacobian import jacobian_summary
from jepascore_core.score import jepa_score
from jepascore_core.score_gradient import input_jacobian, log_volume, score_and_gradient


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def mlp(dim: int, size: int, *, on_sphere: bool = False) -> nn.Module:
    """A smooth encoder in float64; the same weights each time."""
    torch.manual_seed(0)

    class Normalise(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return nn.functional.normalize(z, dim=1)

    ends = [Normalise()] if on_sphere else []
    return nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Linear(16, size), *ends).double()


# --- the fitted Gaussian and the corrected score ------------------------------------------------


def test_fitted_log_density_is_that_of_torch() -> None:
    z = normal(500, 3) @ normal(3, 3, seed=1) + 2
    gaussian = fit_gaussian(z, shrinkage=0.0)
    expected = torch.distributions.MultivariateNormal(z.mean(0), z.T.cov(correction=0)).log_prob(z)
    torch.testing.assert_close(gaussian.log_density(z), expected)


@pytest.mark.parametrize(("n", "dim"), [(500, 3), (40, 30), (5, 60)])
def test_shrinkage_is_ledoit_and_wolfs(n: int, dim: int) -> None:
    z = normal(n, dim) * torch.linspace(0.2, 3, dim) + 1
    covariance, share = ledoit_wolf(z.numpy())
    gaussian = fit_gaussian(z)
    assert gaussian.shrinkage == pytest.approx(share)
    torch.testing.assert_close(gaussian.cholesky @ gaussian.cholesky.T, torch.from_numpy(covariance))


def test_corrected_score_of_a_linear_encoder_is_log_p() -> None:
    mix, weight = normal(4, 4, seed=1), normal(4, 4, seed=2)
    x = normal(20_000, 4) @ mix.T
    sigma = torch.linalg.svdvals(weight).expand(len(x), -1)
    raw = jepa_score(sigma)
    assert raw.max() == raw.min()  # a linear map stretches alike everywhere: eq. (5) alone says nothing
    exact = corrected_score(sigma, x @ weight.T, fit_gaussian(x @ weight.T, shrinkage=0.0))
    torch.testing.assert_close(exact, fit_gaussian(x, shrinkage=0.0).log_density(x))
    truth = torch.distributions.MultivariateNormal(torch.zeros(4).double(), mix @ mix.T).log_prob(x)
    shrunk = corrected_score(sigma, x @ weight.T, fit_gaussian(x @ weight.T))
    assert torch.corrcoef(torch.stack([shrunk, truth]))[0, 1] > 0.999 and (shrunk - truth).abs().mean() < 0.03


def test_corrected_score_of_an_invertible_map_is_log_p() -> None:
    """X = g(Z) for Z standard normal and f = g⁻¹: log p is known, and neither the raw score nor log N(f) is it."""
    z = normal(5000, 3)
    encoder = Triangular()
    x = encoder.inverse(z)
    jacobian, embedding = input_jacobian(encoder, x)
    torch.testing.assert_close(embedding, z)
    truth = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + jacobian.det().abs().log()
    sigma = torch.linalg.svdvals(jacobian)
    standard = FittedGaussian(torch.zeros(3).double(), torch.eye(3).double(), 0.0)
    torch.testing.assert_close(corrected_score(sigma, embedding, standard), truth)
    fitted = corrected_score(sigma, embedding, fit_gaussian(embedding))
    assert torch.corrcoef(torch.stack([fitted, truth]))[0, 1] > 0.99
    assert torch.corrcoef(torch.stack([jepa_score(sigma), truth]))[0, 1] < 0.9


class Triangular(nn.Module):
    """f(x) = sinh(x_i) + a nonlinear function of the coordinates before: an invertible map with known inverse."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = x.unbind(1)
        return torch.stack([a.sinh(), b.sinh() + a.sin(), c.sinh() + a * b], dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        a = z[:, 0].asinh()
        b = (z[:, 1] - a.sin()).asinh()
        return torch.stack([a, b, (z[:, 2] - a * b).asinh()], dim=1)


@pytest.mark.parametrize(
    ("z", "options", "words"),
    [
        (torch.zeros(1, 3), {}, "two"),
        (torch.tensor([[0.0], [math.nan]]), {}, "finite"),
        (torch.ones(9, 3), {}, "do not vary"),
        (torch.ones(9, 3) * torch.arange(9).unsqueeze(1), {"shrinkage": 0.0}, "do not vary in every direction"),
        (torch.zeros(9, 3), {"shrinkage": 2.0}, "between 0 and 1"),
    ],
)
def test_what_no_gaussian_fits_is_refused(z: Tensor, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_gaussian(z, **options)


# --- the sphere score ---------------------------------------------------------------------------


def true_sphere_score(encoder: nn.Module, x: Tensor) -> Tensor:
    """Eq. (5) of f/‖f‖, its Jacobian taken by autograd, summed to its rank."""
    jacobian, _ = input_jacobian(lambda y: nn.functional.normalize(encoder(y), dim=1), x)
    sigma = torch.linalg.svdvals(jacobian)
    rank = min(x.shape[1], jacobian.shape[1] - 1)
    return sigma[:, :rank].log().sum(1)


def test_sphere_score_of_stored_rows_is_eq_5_on_the_sphere() -> None:
    encoder, x = mlp(6, 4), normal(7, 6)
    images = x.view(7, 1, 2, 3)
    summary = jacobian_summary(nn.Sequential(nn.Flatten(), encoder), images)
    score = sphere_score(summary.singular_values, summary.sphere_term, summary.embedding)
    torch.testing.assert_close(score, true_sphere_score(encoder, x))


@pytest.mark.parametrize(
    ("dim", "size", "on_sphere"), [(6, 4, False), (4, 4, False), (3, 4, False), (3, 4, True)], ids=str
)
def test_sphere_gram_serves_every_shape_with_one_null_direction(dim: int, size: int, on_sphere: bool) -> None:
    encoder, x = mlp(dim, size, on_sphere=on_sphere), normal(7, dim)
    jacobian, z = input_jacobian(encoder, x)
    score = log_volume(sphere_gram(jacobian @ jacobian.mT, z), null_dim=1)
    torch.testing.assert_close(score, true_sphere_score(encoder, x))
    if on_sphere:  # nothing is left to normalise: eq. (5) to the rank
        torch.testing.assert_close(score, log_volume(jacobian @ jacobian.mT, null_dim=1))


def test_sphere_score_does_not_see_the_radius() -> None:
    weight, x = normal(3, 3), normal(5, 3, seed=1)
    sigma = torch.linalg.svdvals(weight).expand(5, -1)
    z = x @ weight.T
    unit = nn.functional.normalize(z, dim=1)
    term = (unit * torch.linalg.solve(weight @ weight.T, unit.T).T).sum(1).log() / 2
    once, thrice = sphere_score(sigma, term, z), sphere_score(3 * sigma, term - math.log(3), 3 * z)
    torch.testing.assert_close(once, thrice)


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\)"):
        sphere_score(torch.ones(3, 4), torch.ones(2), torch.ones(3, 4))


# --- the gradient -------------------------------------------------------------------------------


def spectrum(*sigma: float, seed: int = 0) -> Tensor:
    """A Gram matrix (1, D, D) with these σ and random eigenvectors."""
    frame, _ = torch.linalg.qr(normal(len(sigma), len(sigma), seed=seed))
    return (frame * torch.tensor(sigma).double().square() @ frame.T).unsqueeze(0)


@pytest.mark.parametrize("sigma", [(3.0, 2.0, 1.0), (2.0, 2.0, 2.0), (5.0, 0.3, 0.3), (1.0, 1.0, 1e-2)], ids=str)
def test_gradient_of_the_volume_by_finite_differences(sigma: tuple[float, ...]) -> None:
    gram = spectrum(*sigma).requires_grad_()
    assert log_volume(gram).item() == pytest.approx(jepa_score(torch.tensor([sigma])).item(), abs=1e-6)
    (gradient,) = torch.autograd.grad(log_volume(gram).sum(), gram)
    assert gradient.isfinite().all()
    for seed in range(4):
        turn = normal(1, 3, 3, seed=seed)
        turn = turn + turn.mT
        h = 1e-4 * min(sigma) ** 2
        slope = (log_volume(gram + h * turn) - log_volume(gram - h * turn)) / (2 * h)
        assert (gradient * turn).sum().item() == pytest.approx(slope.item(), rel=1e-5)


def test_vanishing_singular_values_add_nothing() -> None:
    gram = spectrum(2.0, 2.0, 0.0).requires_grad_()
    (clamped,) = torch.autograd.grad(log_volume(gram).sum(), gram)
    (left_out,) = torch.autograd.grad(log_volume(gram, null_dim=1).sum(), gram)
    expected = spectrum(2.0, 2.0, 0.0)[0] / 32  # U diag(1/8, 1/8, 0) Uᵀ
    torch.testing.assert_close(clamped[0], expected)
    torch.testing.assert_close(left_out[0], expected)


def test_null_directions_do_not_pull() -> None:
    """A null σ of 1e-3 is rounding: counted, it would dominate the gradient."""
    gram = spectrum(2.0, 1.0, 1e-3).requires_grad_()
    (gradient,) = torch.autograd.grad(log_volume(gram, null_dim=1).sum(), gram)
    torch.testing.assert_close(torch.linalg.eigvalsh(gradient)[0], torch.tensor([0.0, 1 / 8, 1 / 2]).double())


def test_a_matrix_that_is_not_finite_stays_nan_and_spoils_no_other() -> None:
    gram = torch.cat([spectrum(2.0, 1.0), torch.full((1, 2, 2), torch.nan)]).requires_grad_()
    score = log_volume(gram)
    (gradient,) = torch.autograd.grad(score.sum(), gram)
    assert score[0].isfinite() and gradient[0].isfinite().all() and score[1].isnan() and gradient[1].isnan().any()


def test_it_is_not_differentiated_twice_in_silence() -> None:
    gram = spectrum(2.0, 1.0).requires_grad_()
    (gradient,) = torch.autograd.grad(log_volume(gram).square().sum(), gram, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_only_square_matrices() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 3\)"):
        log_volume(torch.ones(1, 2, 3))


@pytest.mark.parametrize(
    ("dim", "size", "on_sphere", "null_dim"), [(4, 3, False, 0), (3, 3, False, 0), (2, 3, True, 1)], ids=str
)
@pytest.mark.parametrize("corrected", [False, True])
def test_gradient_of_the_score_by_finite_differences(
    dim: int, size: int, on_sphere: bool, null_dim: int, corrected: bool
) -> None:
    encoder, x = mlp(dim, size, on_sphere=on_sphere), normal(5, dim)
    log_density = fit_gaussian(encoder(normal(200, dim, seed=3)).detach()).log_density if corrected else None
    options = {"null_dim": null_dim, "embedding_log_density": log_density}
    score, gradient = score_and_gradient(encoder, x, **options)
    if not corrected:
        sigma = jacobian_summary(nn.Sequential(nn.Flatten(), encoder), x.view(5, 1, 1, dim)).singular_values
        torch.testing.assert_close(score, jepa_score(sigma, null_dim=null_dim))
    h = 1e-5
    for axis in range(dim):
        step = h * torch.eye(dim).double()[axis]
        up, down = (score_and_gradient(encoder, x + sign * step, **options)[0] for sign in (1, -1))
        torch.testing.assert_close(gradient[:, axis], (up - down) / (2 * h), rtol=1e-5, atol=1e-6)


def test_the_gradient_works_on_images_and_leaves_no_graph() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    images = torch.randn(2, 3, 6, 6)
    score, gradient = score_and_gradient(encoder, images)
    assert gradient.shape == images.shape and not score.requires_grad and not gradient.requires_grad
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_the_volume_is_that_of_the_eigenvalues() -> None:
    gram = spectrum(3.0, 0.5, 0.1)
    torch.testing.assert_close(log_volume(gram, eps=0.2), jepa_score(eigh(gram)[0].sqrt(), eps=0.2))

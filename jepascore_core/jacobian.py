"""Singular values and vectors of an encoder's input Jacobian, for any encoder.

Letters: B images, D embedding size, P = C·H·W input values. The Jacobian J of one image is (D, P).

Only J Jᵀ (D, D) is computed: its eigenvalues are the squared singular values. It is accumulated and
decomposed in float64, so that the rounding of J, not the squaring, is the limit. Plain Vision Transformers
take the path of ``vit.py``, plain stacks of convolutions that of ``convnet.py``, all others that of ``gram.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakSet

import torch
from torch import Tensor, nn

from jepascore_core import convnet, vit
from jepascore_core import gram as any_encoder
from jepascore_core.convnet import find_stack
from jepascore_core.eigen import eigh
from jepascore_core.memory import is_out_of_memory
from jepascore_core.products import PRECISIONS, arithmetic
from jepascore_core.pullback import Misfit, Options, Pullback, Sweep
from jepascore_core.vit_layers import find_transformer

_misfits: WeakSet[nn.Module] = WeakSet()  # encoders that look plain and are not


@dataclass(frozen=True, slots=True)
class JacobianSummary:
    """What one sweep over all cotangents tells of each image.

    An image on which the encoder or its Jacobian overflows has NaN everywhere.

    Attributes:
        embedding: f(x), (B, D), in the encoder's dtype.
        singular_values: σ of J, (B, D), float64, descending.
        sphere_term: ½ log(ẑᵀ(JJᵀ)⁺ẑ) with ẑ = f(x)/‖f(x)‖, (B,), float64, nats.
        noise: Measured rounding error of one row of J (2-norm), (B,), float64: a σ below it is not known. The
            structurally null σ, which are rounding too, count.
        noise_along: Component of that error along each right singular vector v_k, (B, D), float64, ≥ 0.
        precision: The arithmetic of the sweep, one of ``PRECISIONS``.
    """

    embedding: Tensor
    singular_values: Tensor
    sphere_term: Tensor
    noise: Tensor
    noise_along: Tensor
    precision: str


def jacobian_listing1(encoder: nn.Module, images: Tensor) -> Tensor:
    """Input Jacobian of each image, one backward pass for each embedding component.

    Listing 1 of the paper, to the letter: the oracle of our tests and the baseline of our benchmarks.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself.
        images: (B, C, H, W), normalised as the encoder wants them.

    Returns:
        J, (B, D, P), in the images' dtype.
    """
    jacobian = torch.autograd.functional.jacobian(lambda x: encoder(x).sum(0), inputs=images)
    return jacobian.flatten(2).permute(1, 0, 2)


def listing1_scores(encoder: nn.Module, images: Tensor, eps: float = 1e-6) -> Tensor:
    """JEPA-SCORE as the paper's Listing 1 computes it: Σ over all D of log max(σ_k, eps).

    Args:
        encoder: Maps (B, C, H, W) to (B, D).
        images: (B, C, H, W).
        eps: Least singular value that counts.

    Returns:
        Scores (B,), nats, in the images' dtype.
    """
    jacobian = jacobian_listing1(encoder, images)
    with torch.inference_mode():
        return torch.linalg.svdvals(jacobian).clip_(eps).log_().sum(1)


def singular_values(
    encoder: nn.Module, images: Tensor, *, precision: str | None = None, chunk_size: int | None = None
) -> Tensor:
    """Singular values of each image's input Jacobian.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself (eval mode).
        images: (B, C, H, W), normalised, on the encoder's device.
        precision: See ``jacobian_summary``.
        chunk_size: Cotangents in one backward pass; chosen from memory when None.

    Returns:
        σ, (B, D), float64, descending, ≥ 0.

    Raises:
        ValueError: The images or the embedding have the wrong number of axes, or the precision is unknown.
        MemoryError: One image and one cotangent do not fit in memory.

    Example:
        >>> weight = torch.diag(torch.tensor([3.0, 2.0]))
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> linear[1].weight.data = weight
        >>> singular_values(linear, torch.ones(1, 1, 1, 2)).tolist()
        [[3.0, 2.0]]
    """
    return jacobian_summary(encoder, images, precision=precision, chunk_size=chunk_size).singular_values


def jacobian_summary(
    encoder: nn.Module,
    images: Tensor,
    *,
    null_dim: int = 0,
    precision: str | None = None,
    chunk_size: int | None = None,
    on_share: Callable[[float], None] | None = None,
) -> JacobianSummary:
    """Embedding, singular values, sphere term and measured rounding error of each image.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself (eval mode).
        images: (B, C, H, W), normalised, on the encoder's device.
        null_dim: Directions in which J vanishes by construction; left out of the pseudo-inverse.
        precision: Arithmetic of the sweep over cotangents: ``float16`` or ``tf32`` for float32 images, or None for
            the images' own. The forward pass is always computed in the images' dtype. What was rounded is measured
            (``noise``), and ``score_error`` makes an error bar of it. Meant for a GPU: a CPU imitates it, slowly.
        chunk_size: Cotangents in one backward pass; chosen from memory when None.
        on_share: Told now and then the share of the work that is done, 0 to 1; what it raises ends the call.

    Returns:
        The summary, on the images' device.

    Raises:
        ValueError: The images or the embedding have the wrong number of axes, or the images are not of a dtype that
            the precision goes with.
        MemoryError: One image and one cotangent do not fit in memory.
    """
    own = str(images.dtype).removeprefix("torch.")
    precision = precision or own
    if precision not in PRECISIONS or (precision != own and (precision == "float64" or own != "float32")):
        raise ValueError(f"There is no precision {precision!r} for images of {images.dtype}.")
    sweep = _sweep(encoder, images, Options(chunk_size, precision, on_share))
    eigenvalues, eigenvectors = eigh(sweep.gram)
    sigma = eigenvalues.sqrt()
    unit = nn.functional.normalize(sweep.embedding.to(eigenvalues), dim=1)
    weights = (eigenvectors.mT @ unit.unsqueeze(2)).squeeze(2).square()  # (B, D)
    kept = slice(0, sigma.shape[1] - null_dim)
    sphere_term = (weights[:, kept] / eigenvalues[:, kept]).sum(1).log() / 2
    along = (sweep.noise_products @ eigenvectors).square().mean(1).sqrt() / sigma  # v_k·e = u_k·(J e) / σ_k
    floor = sigma[:, kept.stop :].amax(1) if null_dim else torch.zeros_like(sweep.noise)
    noise = torch.maximum(sweep.noise, floor)
    along = (along * (noise / sweep.noise).unsqueeze(1)).nan_to_num(0.0)  # 0 / 0 where nothing was rounded
    along = torch.minimum(along, noise.unsqueeze(1))
    if precision == "float16" and path_of(encoder) == "generic":
        precision = "tf32"  # the best that autograd can do
    return JacobianSummary(sweep.embedding, sigma, sphere_term, noise, along, precision)


def singular_vectors(
    encoder: nn.Module, image: Tensor, k: int, *, smallest: bool = False, null_dim: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right singular vectors of one image's Jacobian (Figure 7 of the paper).

    v_k = Jᵀu_k / σ_k costs one vector-Jacobian product each. Signs are fixed so that the largest entry
    of each u_k is positive. A σ at the rounding floor has an arbitrary vector.

    Args:
        encoder: Maps (B, C, H, W) to (B, D).
        image: (C, H, W), normalised.
        k: How many, at most D.
        smallest: Take the smallest σ instead of the largest; still in descending order.
        null_dim: With ``smallest``, pass over this many structurally null directions.

    Returns:
        U (D, k), S (k,) descending, both float64, and Vh (k, C, H, W) of unit norm in the image's dtype.

    Raises:
        ValueError: k is not between 1 and D − null_dim, or the image is not (C, H, W).
    """
    if image.dim() != 3:
        raise ValueError(f"singular_vectors takes one image (C, H, W), not {tuple(image.shape)}.")
    (eigenvalues,), (eigenvectors,) = eigh(_sweep(encoder, image.unsqueeze(0), _as_is(image)).gram)
    rank = len(eigenvalues) - null_dim
    if not 1 <= k <= rank:
        raise ValueError(f"k must lie between 1 and {rank}, not {k}.")
    chosen = slice(rank - k, rank) if smallest else slice(0, k)
    U, S = eigenvectors[:, chosen], eigenvalues[chosen].sqrt()
    largest = U.gather(0, U.abs().argmax(0, keepdim=True))
    U = U * torch.where(largest < 0, -1.0, 1.0)
    products = _products(encoder, image, U.mT)  # (k, P)
    return U, S, nn.functional.normalize(products, dim=1).view(k, *image.shape)


def leverage_map(encoder: nn.Module, image: Tensor, *, null_dim: int = 0, patch_size: int = 1) -> Tensor:
    """Where in the image the volume √det(JJᵀ) comes from.

    With JJᵀ = Σ_t J_t J_tᵀ over patches t, the leverage ℓ_t = tr((JJᵀ)⁺ J_t J_tᵀ) is the sum of v_k² over the
    patch and over k. It is ≥ 0 and sums to the rank.

    Args:
        encoder: Maps (B, C, H, W) to (B, D).
        image: (C, H, W), normalised.
        null_dim: Structurally null directions to leave out.
        patch_size: Side of a patch in pixels; must divide H and W.

    Returns:
        ℓ, (H / patch_size, W / patch_size), float64.

    Raises:
        ValueError: The patch size does not divide the image, or the image is not (C, H, W).
    """
    return leverage_bands(encoder, image, [slice(None)], null_dim=null_dim, patch_size=patch_size)[0]


def leverage_bands(
    encoder: nn.Module, image: Tensor, bands: Sequence[slice], *, null_dim: int = 0, patch_size: int = 1
) -> Tensor:
    """The leverage map of ``leverage_map`` for parts of the spectrum: which patches carry which directions.

    Args:
        encoder: Maps (B, C, H, W) to (B, D).
        image: (C, H, W), normalised.
        bands: Which σ to count in each map, as slices of the D − null_dim descending ones.
        null_dim: Structurally null directions to leave out.
        patch_size: Side of a patch in pixels; must divide H and W.

    Returns:
        (bands, H / patch_size, W / patch_size), float64; each map sums to the number of directions in its band, and
        the maps of bands that cover the spectrum once sum to that of the whole.

    Raises:
        ValueError: The patch size does not divide the image, or the image is not (C, H, W).
    """
    if image.dim() != 3 or image.shape[1] % patch_size or image.shape[2] % patch_size:
        raise ValueError(f"A patch size of {patch_size} does not divide an image of {tuple(image.shape)}.")
    _, (eigenvectors,) = eigh(_sweep(encoder, image.unsqueeze(0), _as_is(image)).gram)
    directions = eigenvectors[:, : len(eigenvectors) - null_dim]
    leverage = torch.zeros(len(bands), *image.shape, dtype=torch.float64, device=image.device)
    for number, band in enumerate(bands):
        for some in directions[:, band].split(64, dim=1):
            products = _products(encoder, image, some.mT)
            unit = nn.functional.normalize(products.to(leverage), dim=1)
            leverage[number] += unit.square().sum(0).view(image.shape)
    height, width = image.shape[1] // patch_size, image.shape[2] // patch_size
    return leverage.sum(1).view(len(bands), height, patch_size, width, patch_size).sum((2, 4))


def _as_is(image: Tensor) -> Options:
    """A sweep in the precision of the image."""
    return Options(precision=str(image.dtype).removeprefix("torch."))


def _products(encoder: nn.Module, image: Tensor, cotangents: Tensor) -> Tensor:
    """Vector-Jacobian products (k, P) of one image with cotangents (k, D)."""
    forward = Pullback(encoder, image.unsqueeze(0))
    return forward.products(cotangents.to(image)).squeeze(1)


def path_of(encoder: nn.Module) -> str:
    """Which path computes an encoder's singular values: ``vit``, ``convnet`` or ``generic``."""
    return _path(encoder)[0]


def _path(encoder: nn.Module) -> tuple[str, Callable[[nn.Module, Tensor, Options], Sweep]]:
    """Name and sweep of an encoder's fastest path."""
    if isinstance(encoder, nn.Module) and encoder not in _misfits:  # a plain function has no parts to look at
        if transformer := find_transformer(encoder):
            return "vit", partial(vit.sweep, transformer)
        if stack := find_stack(encoder):
            return "convnet", partial(convnet.sweep, stack)
    return "generic", any_encoder.sweep


def _sweep(encoder: nn.Module, images: Tensor, options: Options) -> Sweep:
    """Embeddings, Gram matrices and noise by the fastest path that fits."""
    if images.dim() != 4 or not len(images):
        raise ValueError(f"Images must be (B, C, H, W) with B at least 1, not {tuple(images.shape)}.")
    with arithmetic("float32"):  # also of the forward pass: PyTorch's own choice for convolutions is TF32
        name, sweep = _path(encoder)
        if name != "generic":
            try:
                return sweep(encoder, images, options)
            except Misfit:
                _misfits.add(encoder)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
        return any_encoder.sweep(encoder, images, options)

"""Singular values and vectors of an encoder's input Jacobian, for any encoder.

Letters: B images, D embedding size, P = C·H·W input values. The Jacobian J of one image is (D, P).

Row i of J is the vector-Jacobian product of the cotangent e_i. Rows of many cotangents and images
are computed together, and only J Jᵀ (D, D) is kept: its eigenvalues are the squared singular values.
It is accumulated and decomposed in float64, so that the rounding of J, not the squaring, is the limit.
J of the whole batch is never held: images are taken in groups whose rows fit in memory, and an image
whose D rows do not fit is taken in blocks of rows, each pair of blocks once.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes, is_out_of_memory

_PIXEL_SLICE = 1 << 14  # input values converted to float64 at a time
_CPU_CHUNK_BYTES = 16 << 20  # on a CPU, cotangents whose largest activation outgrows the caches gain nothing
_ROWS_SHARE = 0.25  # of the free memory, for rows of J
_CHUNK_SHARE = 0.25  # of the free memory, for one backward pass
_LAYERS_ALIVE = 6  # activations that one backward pass keeps at a time, in units of the largest


@dataclass(frozen=True, slots=True)
class JacobianSummary:
    """What one sweep over all cotangents tells of each image.

    Attributes:
        embedding: f(x), (B, D), in the encoder's dtype.
        singular_values: σ of J, (B, D), float64, descending.
        sphere_term: ½ log(ẑᵀ(JJᵀ)⁺ẑ) with ẑ = f(x)/‖f(x)‖, (B,), float64, nats.
        noise: Measured rounding error of one row of J (2-norm), (B,), float64: a σ below it is not known.
    """

    embedding: Tensor
    singular_values: Tensor
    sphere_term: Tensor
    noise: Tensor


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


def singular_values(encoder: nn.Module, images: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Singular values of each image's input Jacobian.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself (eval mode).
        images: (B, C, H, W), normalised, on the encoder's device.
        chunk_size: Cotangents in one backward pass; chosen from memory when None.

    Returns:
        σ, (B, D), float64, descending, ≥ 0.

    Raises:
        ValueError: The images or the embedding have the wrong number of axes.
        MemoryError: One image and one cotangent do not fit in memory.

    Example:
        >>> weight = torch.diag(torch.tensor([3.0, 2.0]))
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> linear[1].weight.data = weight
        >>> singular_values(linear, torch.ones(1, 1, 1, 2)).tolist()
        [[3.0, 2.0]]
    """
    return jacobian_summary(encoder, images, chunk_size=chunk_size).singular_values


def jacobian_summary(
    encoder: nn.Module, images: Tensor, *, null_dim: int = 0, chunk_size: int | None = None
) -> JacobianSummary:
    """Embedding, singular values, sphere term and measured rounding floor of each image.

    Args:
        encoder: Maps (B, C, H, W) to (B, D), each image by itself (eval mode).
        images: (B, C, H, W), normalised, on the encoder's device.
        null_dim: Directions in which J vanishes by construction; left out of the pseudo-inverse.
        chunk_size: Cotangents in one backward pass; chosen from memory when None.

    Returns:
        The summary, on the images' device.

    Raises:
        ValueError: The images or the embedding have the wrong number of axes.
        MemoryError: One image and one cotangent do not fit in memory.
    """
    embedding, gram, noise = _sweep(encoder, images, chunk_size)
    eigenvalues, eigenvectors = _eigh(gram)
    unit = nn.functional.normalize(embedding.to(eigenvalues), dim=1)
    weights = (eigenvectors.mT @ unit.unsqueeze(2)).squeeze(2).square()  # (B, D)
    kept = slice(0, eigenvalues.shape[1] - null_dim)
    sphere_term = (weights[:, kept] / eigenvalues[:, kept]).sum(1).log() / 2
    return JacobianSummary(embedding, eigenvalues.sqrt(), sphere_term, noise)


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
    _, gram, _ = _sweep(encoder, image.unsqueeze(0), None)
    eigenvalues, eigenvectors = _eigh(gram[0])
    rank = len(eigenvalues) - null_dim
    if not 1 <= k <= rank:
        raise ValueError(f"k must lie between 1 and {rank}, not {k}.")
    chosen = slice(rank - k, rank) if smallest else slice(0, k)
    U, S = eigenvectors[:, chosen], eigenvalues[chosen].sqrt()
    largest = U.gather(0, U.abs().argmax(0, keepdim=True))
    U = U * torch.where(largest < 0, -1.0, 1.0)
    products = _products(encoder, image, U.mT)  # (k, P)
    return U, S, nn.functional.normalize(products, dim=1).view(k, *image.shape)


def leverage_map(
    encoder: nn.Module, image: Tensor, *, null_dim: int = 0, patch_size: int = 1, band: slice | None = None
) -> Tensor:
    """Where in the image the volume √det(JJᵀ) comes from.

    With JJᵀ = Σ_t J_t J_tᵀ over patches t, the leverage ℓ_t = tr((JJᵀ)⁺ J_t J_tᵀ) is the sum of v_k² over the
    patch and over k. It is ≥ 0 and sums to the rank.

    Args:
        encoder: Maps (B, C, H, W) to (B, D).
        image: (C, H, W), normalised.
        null_dim: Structurally null directions to leave out.
        patch_size: Side of a patch in pixels; must divide H and W.
        band: Which σ to count, by descending rank; None counts all but the null ones.

    Returns:
        ℓ, (H / patch_size, W / patch_size), float64, summing to the number of directions counted.

    Raises:
        ValueError: The patch size does not divide the image, or the image is not (C, H, W).
    """
    if image.dim() != 3 or image.shape[1] % patch_size or image.shape[2] % patch_size:
        raise ValueError(f"A patch size of {patch_size} does not divide an image of {tuple(image.shape)}.")
    _, gram, _ = _sweep(encoder, image.unsqueeze(0), None)
    _, eigenvectors = _eigh(gram[0])
    directions = eigenvectors[:, : len(eigenvectors) - null_dim][:, band or slice(None)]
    leverage = torch.zeros(image.shape, dtype=torch.float64, device=gram.device)
    for start in range(0, directions.shape[1], 64):
        products = _products(encoder, image, directions[:, start : start + 64].mT)
        unit = nn.functional.normalize(products.to(leverage), dim=1)
        leverage += unit.square().sum(0).view(image.shape)
    height, width = image.shape[1] // patch_size, image.shape[2] // patch_size
    return leverage.sum(0).view(height, patch_size, width, patch_size).sum((1, 3))


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (…, D), descending and ≥ 0, and eigenvectors (…, D, D) as columns."""
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    return eigenvalues.flip(-1).clamp(min=0), eigenvectors.flip(-1)


def _products(encoder: nn.Module, image: Tensor, cotangents: Tensor) -> Tensor:
    """Vector-Jacobian products (k, P) of one image with cotangents (k, D)."""
    forward = _Forward(encoder, image.unsqueeze(0))
    return forward.products(cotangents.to(image)).squeeze(1)


def _sweep(encoder: nn.Module, images: Tensor, chunk_size: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (B, D), Gram matrices (B, D, D) and noise (B,); halves the batch until it fits."""
    if images.dim() != 4 or not len(images):
        raise ValueError(f"Images must be (B, C, H, W) with B at least 1, not {tuple(images.shape)}.")
    try:
        return _sweep_together(encoder, images, chunk_size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(images) == 1:
            raise MemoryError("One image and one cotangent do not fit in this device's memory.") from error
    halves = [_sweep(encoder, half, chunk_size) for half in images.chunk(2)]
    embeddings, grams, noises = zip(*halves, strict=True)
    return torch.cat(embeddings), torch.cat(grams), torch.cat(noises)


def _sweep_together(encoder: nn.Module, images: Tensor, chunk_size: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The sweep over one group of images that share a forward pass."""
    forward = _Forward(encoder, images, chunk_size)
    count, dim = forward.embedding.shape
    block = _block_size(images, dim)
    identity = torch.eye(dim, dtype=images.dtype, device=images.device)
    probe = nn.functional.normalize(torch.cos(torch.arange(1.0, dim + 1)), dim=0).to(images)  # any fixed mixture
    gram = torch.empty(count, dim, dim, dtype=torch.float64, device=images.device)
    mixture = torch.zeros(count, images[0].numel(), dtype=torch.float64, device=images.device)  # (B, P)
    for a in range(0, dim, block):
        held = forward.products(identity[a : a + block])  # (block, B, P)
        for b in range(a, dim, block):
            rows = held if b == a else forward.products(identity[b : b + block])
            tile = _inner(rows, held)  # (B, block of b, block of a)
            gram[:, b : b + block, a : a + block] = tile
            gram[:, a : a + block, b : b + block] = tile.mT
            if a == 0:  # every row passes here once
                _add_mixture(mixture, probe[b : b + block], rows)
    direct = forward.products(probe.unsqueeze(0)).squeeze(0)  # (B, P)
    # The direct product and the mixture round independently, so that their difference holds the noise twice.
    noise = (direct - mixture).norm(dim=1) / 2**0.5
    return forward.embedding, gram, noise


def _block_size(images: Tensor, dim: int) -> int:
    """Rows of J that may be held at a time for every image: D, or for one large image a block.

    Raises:
        MemoryError: Several images do not fit together; fewer may.
    """
    budget = _ROWS_SHARE * free_bytes(images.device)
    row_bytes = images.numel() * images.element_size()
    if dim * row_bytes <= budget:
        return dim
    if len(images) > 1:
        raise MemoryError("The rows of this many images do not fit together.")
    return max(1, int(budget / row_bytes / 2))  # two blocks are held at a time


def _inner(rows: Tensor, held: Tensor) -> Tensor:
    """Inner products over P of rows (b, B, P) and held (a, B, P), accumulated in float64: (B, b, a)."""
    total = torch.zeros(rows.shape[1], len(rows), len(held), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[2], _PIXEL_SLICE):
        pixels = slice(start, start + _PIXEL_SLICE)
        left = rows[:, :, pixels].double().transpose(0, 1)  # (B, b, slice)
        right = left if rows is held else held[:, :, pixels].double().transpose(0, 1)
        total += left @ right.mT
    return total


def _add_mixture(mixture: Tensor, weights: Tensor, rows: Tensor) -> None:
    """Add Σ_i weights_i · rows_i to the mixture (B, P), in float64, in place."""
    for start in range(0, rows.shape[2], _PIXEL_SLICE):
        pixels = slice(start, start + _PIXEL_SLICE)
        mixture[:, pixels] += torch.einsum("b,bnp->np", weights.double(), rows[:, :, pixels].double())


class _Forward:
    """One forward pass over images, kept so that many cotangents can be pulled back through it."""

    def __init__(self, encoder: nn.Module, images: Tensor, chunk_size: int | None = None) -> None:
        self._images = images.detach().requires_grad_()
        self._largest_bytes = 0
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(self._measure, lambda saved: saved):
            self._output = encoder(self._images)
        if self._output.dim() != 2 or len(self._output) != len(images):
            raise ValueError(f"The encoder must return (B, D), not {tuple(self._output.shape)}.")
        self.embedding = self._output.detach()
        self._chunk_size = chunk_size or self._fitting_chunk()
        self._batched = True

    def products(self, cotangents: Tensor) -> Tensor:
        """Pull cotangents (k, D) back through every image: (k, B, P)."""
        count = len(self._images)
        result = cotangents.new_empty(len(cotangents), count, self._images[0].numel())
        start = 0
        while start < len(cotangents):
            chunk = slice(start, start + self._chunk_size)
            try:
                result[chunk] = self._pull_back(cotangents[chunk])
                start += self._chunk_size
            except RuntimeError as error:
                if not is_out_of_memory(error) or self._chunk_size == 1:
                    raise
                self._chunk_size = (self._chunk_size + 1) // 2
        return result

    def _pull_back(self, cotangents: Tensor) -> Tensor:
        """One chunk of cotangents (c, D) in one batched backward pass, or one by one: (c, B, P)."""
        if self._batched and len(cotangents) > 1:
            spread = cotangents.unsqueeze(1).expand(-1, len(self._images), -1)  # (c, B, D)
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "There is a performance drop")  # fused attention goes row by row
                    return self._gradient(spread, is_grads_batched=True).flatten(2)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._batched = False  # an operation of this encoder cannot be batched
        rows = [self._gradient(cotangent.expand(len(self._images), -1)) for cotangent in cotangents]
        return torch.stack(rows).flatten(2)

    def _gradient(self, cotangent: Tensor, *, is_grads_batched: bool = False) -> Tensor:
        """Gradient of the images under a cotangent (B, D), or a batch of them."""
        (gradient,) = torch.autograd.grad(
            self._output, self._images, cotangent, retain_graph=True, is_grads_batched=is_grads_batched
        )
        return gradient

    def _measure(self, saved: Tensor) -> Tensor:
        """Remember the largest activation that the backward pass will need."""
        if saved.dim() and saved.shape[0] == len(self._images):
            self._largest_bytes = max(self._largest_bytes, saved.numel() * saved.element_size())
        return saved

    def _fitting_chunk(self) -> int:
        """Cotangents that one backward pass can take, judged by the largest activation."""
        bytes_each = max(self._largest_bytes, self._images.numel() * self._images.element_size())
        budget = _CHUNK_SHARE * free_bytes(self._images.device) / _LAYERS_ALIVE
        if self._images.device.type == "cpu":
            budget = min(budget, _CPU_CHUNK_BYTES)
        return max(1, min(self._output.shape[1], int(budget / bytes_each)))

"""Many vector-Jacobian products through one forward pass."""

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes, is_out_of_memory

_CPU_CHUNK_BYTES = 16 << 20  # on a CPU, cotangents whose largest activation outgrows the caches gain nothing
_CHUNK_SHARE = 0.25  # of the free memory, for one backward pass
_LAYERS_ALIVE = 6  # activations that one backward pass keeps at a time, in units of the largest
_MISFIT = 0.05  # of the probe's product: no precision in use rounds by that much


OnShare = Callable[[float], None]
"""Told now and then which share of a sweep's work is done, 0 to 1; may raise to end the sweep."""


def untold(share: float) -> None:
    """Tell nobody."""


class Tally:
    """Counts pieces of work and tells the share that is done.

    Args:
        pieces: All there are.
        on_share: Told after each ``add``.
    """

    def __init__(self, pieces: float, on_share: OnShare) -> None:
        self._pieces, self._on_share, self._done = pieces, on_share, 0.0

    def add(self, pieces: float) -> None:
        """Count pieces that were just done.

        Args:
            pieces: How many; parts of one count too.
        """
        self._done += pieces
        self._on_share(min(1.0, self._done / self._pieces))


class Misfit(Exception):
    """An encoder whose parts look plain, and which computes something else."""


class Sweep(NamedTuple):
    """What one pass over all cotangents gives for each image.

    Attributes:
        embedding: f(x), (B, D), in the images' dtype.
        gram: JJᵀ, (B, D, D), float64.
        noise: Norm of what one mixture of J's rows differs from autograd's product with the same mixture of
            cotangents, over √2 because both round; (B,), float64.
    """

    embedding: Tensor
    gram: Tensor
    noise: Tensor


def joined(sweeps: Iterable[Sweep]) -> Sweep:
    """The sweeps over groups of images as one."""
    return Sweep(*map(torch.cat, zip(*sweeps, strict=True)))


def agree(difference: Tensor, product: Tensor) -> None:
    """Make sure that a path and autograd differ by no more than rounding.

    Args:
        difference: Norm of what they differ (B,).
        product: The probe's product of each image (B, …).

    Raises:
        Misfit: They differ by far more.
    """
    if (difference > _MISFIT * product.flatten(1).norm(dim=1)).any():
        raise Misfit


def slope(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Derivative of an elementwise function at some values (any shape); of a gate, that of its outputs' sum."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        return torch.autograd.grad(function(values.clone()).sum(), values)[0]  # it may work in place


def mixture_weights(dim: int, like: Tensor) -> Tensor:
    """A fixed unit vector (dim,) without zeros: any mixture of all components would do to measure the noise."""
    return nn.functional.normalize(torch.cos(torch.arange(1.0, dim + 1)), dim=0).to(like)


class Pullback:
    """One forward pass over images, kept so that many cotangents can be pulled back through it.

    Attributes:
        embedding: The output, (B, D), detached.
        seen: First input of each watched module, in order, and the output of the last of them.
    """

    def __init__(
        self,
        encoder: nn.Module,
        images: Tensor,
        chunk_size: int | None = None,
        watch: Sequence[nn.Module] = (),
    ) -> None:
        """Run the encoder.

        Args:
            encoder: Maps (B, C, H, W) to (B, D), each image by itself.
            images: (B, C, H, W).
            chunk_size: Cotangents in one backward pass; chosen from memory when None.
            watch: Modules that the pass goes through in this order, each once.

        Raises:
            ValueError: The encoder does not return (B, D).
        """
        self._images = images.detach().requires_grad_()
        self._largest_bytes = 0
        self.seen: list[Tensor] = []
        thread = threading.get_ident()  # another thread may run the same encoder meanwhile

        def note(tensor: Tensor) -> None:
            if threading.get_ident() == thread:
                self.seen.append(tensor)

        hooks = [module.register_forward_pre_hook(lambda _, given: note(given[0])) for module in watch]
        hooks += [module.register_forward_hook(lambda _, __, made: note(made)) for module in watch[-1:]]
        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(self._measure, lambda saved: saved):
                self._output = encoder(self._images)
        finally:
            for hook in hooks:
                hook.remove()
        if self._output.dim() != 2 or len(self._output) != len(images):
            raise ValueError(f"The encoder must return (B, D), not {tuple(self._output.shape)}.")
        self.embedding = self._output.detach()
        self._chunk_size = chunk_size or self._fitting_chunk()
        self._batched = True

    def products(self, cotangents: Tensor, inputs: Tensor | None = None, tally: Tally | None = None) -> Tensor:
        """Pull cotangents (k, D), pieces of the tally, back to the images or to an inner tensor (B, …): (k, B, P)."""
        inputs = self._images if inputs is None else inputs
        result = cotangents.new_empty(len(cotangents), len(inputs), inputs[0].numel())
        start = 0
        while start < len(cotangents):
            chunk = slice(start, start + self._chunk_size)
            try:
                result[chunk] = self._pull_back(cotangents[chunk], inputs)
                start += self._chunk_size
                if tally is not None:
                    tally.add(len(cotangents[chunk]))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self._chunk_size == 1:
                    raise
                self._chunk_size = (self._chunk_size + 1) // 2
        return result

    def _pull_back(self, cotangents: Tensor, inputs: Tensor) -> Tensor:
        """One chunk of cotangents (c, D) in one batched backward pass, or one by one: (c, B, P)."""
        count = len(inputs)
        if self._batched and len(cotangents) > 1:
            spread = cotangents.unsqueeze(1).expand(-1, count, -1)  # (c, B, D)
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "There is a performance drop")  # fused attention goes row by row
                    return self._gradient(spread, inputs, is_grads_batched=True).flatten(2)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._batched = False  # an operation of this encoder cannot be batched
        return torch.stack([self._gradient(row.expand(count, -1), inputs) for row in cotangents]).flatten(2)

    def _gradient(self, cotangent: Tensor, inputs: Tensor, *, is_grads_batched: bool = False) -> Tensor:
        """Gradient of the inputs under a cotangent (B, D), or a batch of them."""
        (gradient,) = torch.autograd.grad(
            self._output, inputs, cotangent, retain_graph=True, is_grads_batched=is_grads_batched
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

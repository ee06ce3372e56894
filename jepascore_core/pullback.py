"""Many vector-Jacobian products through one forward pass."""

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepascore_core.memory import free_bytes, is_out_of_memory

_CPU_CHUNK_BYTES = 16 << 20  # on a CPU, cotangents whose largest activation outgrows the caches gain nothing
_CHUNK_SHARE = 0.25  # of the free memory, for one backward pass
_LAYERS_ALIVE = 6  # activations that one backward pass keeps at a time, in units of the largest
_MISFIT = 0.05  # of the probe's product: no precision in use rounds by that much


class Misfit(Exception):
    """An encoder whose parts look plain, and which computes something else."""


class Sweep(NamedTuple):
    """What one pass over all cotangents gives for each image.

    R known mixtures of the cotangents (the *probes*, orthonormal) also go through autograd in float32. What each
    product differs from the same mixture of J's rows is rounding alone: e_r.

    Attributes:
        embedding: f(x), (B, D), in the images' dtype.
        gram: JJᵀ, (B, D, D), float64.
        noise: Root mean square of the norms ‖e_r‖, (B,), float64.
        noise_products: J e_r, (B, R, D), float64.
    """

    embedding: Tensor
    gram: Tensor
    noise: Tensor
    noise_products: Tensor


@dataclass(frozen=True, slots=True)
class Options:
    """How a sweep goes about its work.

    Attributes:
        chunk_size: Cotangents taken together; chosen from memory when None.
        precision: Arithmetic of the sweep, one of ``PRECISIONS``; the forward pass is computed as the images are.
        on_share: Told the share of the call's work that is done, 0 to 1; what it raises ends the sweep.
    """

    chunk_size: int | None = None
    precision: str = "float32"
    on_share: Callable[[float], None] | None = None

    @property
    def rounds(self) -> bool:
        """Whether the sweep computes less exactly than the forward pass."""
        return self.precision in ("float16", "tf32")

    def report(self, share: float) -> None:
        """Tell how far the call is."""
        if self.on_share is not None:
            self.on_share(share)

    def within(self, start: float, end: float) -> "Options":
        """The options of a part of the call, from one share of its work to another."""
        if self.on_share is None:
            return self
        tell = self.on_share
        return replace(self, on_share=lambda share: tell(start + share * (end - start)))


def joined(sweeps: Iterable[Sweep]) -> Sweep:
    """The sweeps over groups of images as one."""
    return Sweep(*map(torch.cat, zip(*sweeps, strict=True)))


def differences(direct: Tensor, mixtures: Tensor, options: Options) -> Tensor:
    """What the probes' products differ from the same mixtures of J's rows.

    Args:
        direct: Products by autograd, (R, B, P).
        mixtures: Mixtures of the rows, (R, B, P), float64.
        options: In the precision of the forward pass both round alike, and each is charged with its half.

    Returns:
        e_r, (R, B, P), float64.
    """
    difference = mixtures - direct
    return difference if options.rounds else difference / 2**0.5


def agree(difference: Tensor, direct: Tensor) -> None:
    """Make sure that a path and autograd differ by no more than rounding.

    Args:
        difference: (R, B, P).
        direct: (R, B, P).

    Raises:
        Misfit: They differ by far more: the encoder is not what its parts look like.
    """
    if (difference.norm(dim=2) > _MISFIT * direct.norm(dim=2)).any():
        raise Misfit


def noise_of(difference: Tensor) -> Tensor:
    """Root mean square over the probes of the norms of their differences (R, B, P): (B,)."""
    return difference.square().sum(2).mean(0).sqrt()


def slope(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Derivative of an elementwise function at some values (any shape); of a gate, that of its outputs' sum."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        return torch.autograd.grad(function(values.clone()).sum(), values)[0]  # it may work in place


def probes(dim: int, like: Tensor) -> Tensor:
    """Fixed orthonormal mixtures of all components, (R, dim): a few waves of the discrete cosine transform DCT-IV.

    One in 64 cotangents, at most four: they cost a backward pass each. None of their entries is zero.
    """
    waves = 1 + torch.arange(max(1, min(4, dim // 64)), dtype=torch.float64)
    angles = torch.pi / dim * torch.outer(waves + 0.5, torch.arange(dim) + 0.5)
    return ((2 / dim) ** 0.5 * angles.cos()).to(like)


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

    def products(
        self, cotangents: Tensor, inputs: Tensor | None = None, report: Callable[[float], None] | None = None
    ) -> Tensor:
        """Pull cotangents (k, D) back to every image, or to an intermediate tensor (B, …): (k, B, P).

        Args:
            cotangents: (k, D).
            inputs: An intermediate tensor; None means the images.
            report: Told the share of the cotangents that is done.

        Returns:
            The products.

        Raises:
            RuntimeError: Memory does not hold even one cotangent, or the encoder failed.
        """
        inputs = self._images if inputs is None else inputs
        result = cotangents.new_empty(len(cotangents), len(inputs), inputs[0].numel())
        start = 0
        while start < len(cotangents):
            chunk = slice(start, start + self._chunk_size)
            try:
                result[chunk] = self._pull_back(cotangents[chunk], inputs)
                start += self._chunk_size
                if report is not None:
                    report(min(1.0, start / len(cotangents)))
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

"""The Gram matrix JJᵀ of a plain stack of convolutions, several images at a time.

Letters: B images, D embedding size, P = C·H·W input values, d channels of an activation.

All D cotangents share the forward pass: batch norm is folded into the convolution before it, the slopes of the
activations are computed once, and cotangents of all components and images form one batch in channels-last order for
transposed convolutions, which know no weight gradients. What follows the stack (pooling, head) is left to autograd.
As on the other paths, one fixed mixture of the cotangents also goes through autograd and gives the noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from jepascore_core.gram import along, inner, mixed
from jepascore_core.memory import free_bytes
from jepascore_core.products import arithmetic, conv_transpose2d
from jepascore_core.pullback import (
    Misfit,
    Options,
    Pullback,
    Sweep,
    agree,
    differences,
    joined,
    noise_of,
    probes,
    slope,
)
from jepascore_core.scaled import Scaled, packed

_SHARE = 0.25  # of the free memory, for the cotangents of one layer
_CPU_BYTES = 16 << 20  # on a CPU, cotangents that outgrow the caches gain nothing
_ELEMENTWISE = (
    nn.GELU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Hardswish,
)
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)  # do nothing in eval mode


Weights = tuple[Tensor, Tensor | None]  # weight and bias of a convolution


@dataclass(frozen=True)
class Stage:
    """A convolution with what follows it.

    Attributes:
        conv: The convolution.
        norm: Batch norm behind it, or None.
        activation: Elementwise function behind that, or None.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    activation: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Stack:
    """A plain stack of convolutions that starts at the image.

    Attributes:
        first: The module that takes the image.
        last: The module that gives the stack's output.
        stages: In order.
    """

    first: nn.Module
    last: nn.Module
    stages: tuple[Stage, ...]


def find_stack(encoder: nn.Module) -> Stack | None:
    """Read a plain stack of convolutions out of an encoder.

    Args:
        encoder: Any module that maps (B, C, H, W) to (B, D).

    Returns:
        The stack, or None where the encoder holds convolutions outside one chain of convolutions, batch norms and
        elementwise activations.
    """
    wanted = sum(isinstance(module, nn.Conv2d) for module in encoder.modules())
    for module in encoder.modules():
        if wanted and isinstance(module, nn.Sequential) and (stack := _read(list(_leaves(module)))):
            return stack if len(stack.stages) == wanted else None
    return None


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that do the work in nested sequences, in order."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _leaves(child)
    elif not isinstance(module, _IDLE):
        yield module


def _read(leaves: list[nn.Module]) -> Stack | None:
    """The stack that a chain of modules begins with."""
    stages: list[Stage] = []
    for place, leaf in enumerate(leaves):
        last = stages[-1] if stages else None
        if isinstance(leaf, nn.Conv2d) and leaf.padding_mode == "zeros" and not isinstance(leaf.padding, str):
            stages.append(Stage(leaf, None, None))
        elif last and isinstance(leaf, nn.BatchNorm2d) and not last.norm and not last.activation and _frozen(leaf):
            stages[-1] = replace(last, norm=leaf)
        elif last and isinstance(leaf, _ELEMENTWISE) and not last.activation:
            stages[-1] = replace(last, activation=leaf)
        else:
            return Stack(leaves[0], leaves[place - 1], tuple(stages)) if stages else None
    return Stack(leaves[0], leaves[-1], tuple(stages)) if stages else None


def _frozen(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch norm is a fixed affine map of each channel."""
    return norm.affine and norm.running_mean is not None and not norm.training


def sweep(stack: Stack, encoder: nn.Module, images: Tensor, options: Options) -> Sweep:
    """Sweep over images in groups.

    Args:
        stack: The encoder's convolutions.
        encoder: Maps (B, C, H, W) to (B, D), each image by itself.
        images: (B, C, H, W), normalised.
        options: How to go about it; ``chunk_size`` counts the cotangents of all images together that are worked on at
            a time, rounded to whole images.

    Returns:
        The sweep.

    Raises:
        MemoryError: The cotangents of one image do not fit in memory.
        Misfit: Autograd disagrees by far more than rounding: the encoder is not what its parts look like.
    """
    together = _images_together(stack, encoder, images, options.chunk_size)
    weights = [_folded(stage) for stage in stack.stages]
    parts = []
    for group in images.split(together):
        parts.append(_sweep_together(stack, weights, encoder, group, options))
        options.report(sum(len(part.embedding) for part in parts) / len(images))
    return joined(parts)


def _sweep_together(
    stack: Stack, weights: list[Weights], encoder: nn.Module, images: Tensor, options: Options
) -> Sweep:
    """The sweep over images whose cotangents form one batch."""
    watched = list(dict.fromkeys([stack.first, stack.last]))
    graph = Pullback(encoder, images, watch=watched)
    if len(graph.seen) != len(watched) + 1 or graph.seen[0].shape != images.shape:
        raise Misfit  # the stack was left out, came twice, or does not take the image
    first, last = graph.seen[0], graph.seen[-1]
    count, dim = graph.embedding.shape
    known = probes(dim, images)
    direct = graph.products(known).view(-1, *images.shape).permute(0, 1, 3, 4, 2).flatten(2)  # channels last
    identity = torch.eye(dim, dtype=images.dtype, device=images.device)
    cotangents = graph.products(identity, last).view(dim * count, *last.shape[1:])
    embedding = graph.embedding
    del graph, last
    with torch.no_grad():
        activations = _forward(stack, weights, first.detach())
        with arithmetic(options.precision):
            rows = _through_stack(stack, weights, activations, cotangents, options)  # (D·B, C, H, W)
        rows = rows.permute(0, 2, 3, 1).reshape(dim, count, -1)  # (D, B, P), channels last
        difference = differences(direct, mixed(known, rows), options)
        agree(difference, direct)
        return Sweep(embedding, inner(rows, rows), noise_of(difference), along(rows, difference))


def _forward(stack: Stack, weights: list[Weights], images: Tensor) -> list[tuple[torch.Size, Tensor | None]]:
    """Shape of each convolution's input, and slopes of the activation behind it."""
    activation, found = images.contiguous(memory_format=torch.channels_last), []
    for stage, (weight, bias) in zip(stack.stages, weights, strict=True):
        conv, shape = stage.conv, activation.shape
        activation = nn.functional.conv2d(
            activation, weight, bias, conv.stride, _padding(conv), conv.dilation, conv.groups
        )
        found.append((shape, None if stage.activation is None else slope(stage.activation, activation)))
        activation = activation if stage.activation is None else stage.activation(activation)
    return found


def _through_stack(
    stack: Stack,
    weights: list[Weights],
    activations: list[tuple[torch.Size, Tensor | None]],
    cotangents: Tensor,
    options: Options,
) -> Tensor:
    """Pull cotangents (D·B, …) of the stack's output back to the image: (D·B, C, H, W)."""
    scaled = Scaled.of(cotangents.contiguous(memory_format=torch.channels_last), options.precision, axis=0)
    for stage, (weight, _), (shape, steepness) in zip(
        *map(reversed, (stack.stages, weights, activations)), strict=True
    ):
        if steepness is not None:
            _times(scaled.values, steepness)
        kernel, undo = packed(weight, scaled.values.dtype)
        scaled.values = _transposed(stage.conv, kernel, scaled.values, shape)
        scaled.balance(undo)
    return scaled.restored()


def _times(cotangents: Tensor, steepness: Tensor) -> None:
    """Multiply cotangents (D·B, d, h, w) by the slopes of each image (B, d, h, w), in place."""
    laid = cotangents.permute(0, 2, 3, 1)
    laid.view(-1, len(steepness), *laid.shape[1:]).mul_(steepness.permute(0, 2, 3, 1))


def _transposed(conv: nn.Conv2d, weight: Tensor, cotangents: Tensor, shape: torch.Size) -> Tensor:
    """Cotangents of a convolution's input of a known shape."""
    given = zip(cotangents.shape[2:], conv.stride, _padding(conv), conv.dilation, conv.kernel_size, strict=True)
    reached = [(size - 1) * step - 2 * pad + gap * (kernel - 1) + 1 for size, step, pad, gap, kernel in given]
    left_over = [side - whole for side, whole in zip(shape[2:], reached, strict=True)]  # pixels that no stride covered
    return conv_transpose2d(
        cotangents, weight, None, conv.stride, _padding(conv), left_over, conv.groups, conv.dilation
    )


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    """Padding of a convolution in numbers, as all recognised ones have it."""
    return tuple(int(side) for side in conv.padding if not isinstance(side, str))


def _folded(stage: Stage) -> Weights:
    """Weight and bias of a convolution that does its batch norm too."""
    conv = stage.conv if stage.norm is None else nn.utils.fusion.fuse_conv_bn_eval(stage.conv, stage.norm)
    return conv.weight.contiguous(memory_format=torch.channels_last), conv.bias


def _images_together(stack: Stack, encoder: nn.Module, images: Tensor, chunk_size: int | None) -> int:
    """Images whose cotangents form one batch."""
    largest = images[0].numel()
    with torch.no_grad():
        activation = images[:1]
        for stage in stack.stages:
            activation = stage.conv(activation)  # its size is all that counts here
            largest = max(largest, activation.numel())
        dim = encoder(images[:1]).shape[1]
    budget = int(_SHARE * free_bytes(images.device))
    bytes_each = largest * dim * images.element_size()
    if bytes_each > budget:
        raise MemoryError("The cotangents of one image do not fit in memory.")
    if chunk_size is None:
        return max(1, min(budget, _CPU_BYTES if images.device.type == "cpu" else budget) // bytes_each)
    return max(1, chunk_size // dim)

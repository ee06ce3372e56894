"""Ways to get every singular value of an encoder's Jacobian, with one signature each: (encoder, images) -> (B, D)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from jepascore_core import gram as any_encoder
from jepascore_core.jacobian import jacobian_listing1, singular_values
from jepascore_core.pullback import Options


def listing1_one_by_one(encoder: nn.Module, images: Tensor) -> Tensor:
    """Listing 1 as published, one image at a time."""
    return torch.cat([listing1_batched(encoder, image) for image in images.split(1)])


def listing1_batched(encoder: nn.Module, images: Tensor) -> Tensor:
    """Listing 1 over the whole batch at once."""
    return torch.linalg.svdvals(jacobian_listing1(encoder, images))


def torch_func(encoder: nn.Module, images: Tensor) -> Tensor:
    """``torch.func``: vmap over images of a chunked jacrev."""

    def jacobian(image: Tensor) -> Tensor:
        return torch.func.jacrev(lambda x: encoder(x.unsqueeze(0)).squeeze(0), chunk_size=16)(image).flatten(1)

    return torch.linalg.svdvals(torch.func.vmap(jacobian, chunk_size=16)(images))


def generic(encoder: nn.Module, images: Tensor) -> Tensor:
    """This project's path for any encoder."""
    gram = any_encoder.sweep(encoder, images, Options()).gram
    return torch.linalg.eigvalsh(gram).flip(1).clamp(min=0).sqrt()


METHODS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "Listing 1, one by one": listing1_one_by_one,
    "Listing 1, batched": listing1_batched,
    "torch.func": torch_func,
    "ours, generic": generic,
    "ours": singular_values,
    "ours, TF32": partial(singular_values, precision="tf32"),
    "ours, float16": partial(singular_values, precision="float16"),
}
ARITHMETIC = {"ours, TF32": "tf32", "ours, float16": "float16"}  # of methods that do not compute in float32

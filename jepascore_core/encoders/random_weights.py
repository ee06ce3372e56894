"""Random weights that are worth differentiating, and none at all where a file fills them in.

Fresh weights are made for training: LayerScale starts at 1e-5, the last norm of a residual branch and the
class token near zero, every bias at zero. The Jacobian of such an encoder hardly sees its blocks, so for
``pretrained=False`` whatever starts out constant is drawn at random.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SEED = 0


@contextmanager
def seeded() -> Iterator[None]:
    """Draw the same numbers each time, and leave the caller's random state as it was.

    Yields:
        Nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


@torch.no_grad()
def randomise_constants(model: nn.Module) -> None:
    """Give every parameter that starts out constant a value that makes its part of the network matter.

    LayerScale is drawn from [0.5, 1), norm weights from [0.5, 1.5), and biases, tokens and zeroed
    weights from a normal distribution with standard deviation 0.02.

    Args:
        model: A network just built; changed in place.
    """
    for name, parameter in model.named_parameters():
        if parameter.numel() == 1:  # a learned temperature, or a residual gain that starts at zero
            if parameter.item() == 0:
                parameter.fill_(0.5)
        elif parameter.std() > 1e-4:
            continue
        elif "gamma" in name.rpartition(".")[2]:
            parameter.uniform_(0.5, 1)
        elif parameter.ndim == 1 and abs(parameter.mean() - 1) < 1e-3:
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(std=0.02)


class UnsetParameters(TorchFunctionMode):
    """Inside this context new parameters are left unset: for a network that a file fills in at once.

    Drawing the weights of a ViT-L takes longer than reading them. Whoever uses this must check that
    every parameter was loaded.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave a parameter as it is where it would be initialised in place.

        Args:
            func: The torch function called.
            types: Types of the overridden arguments; unused.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            What the function returns, or its first argument unchanged.
        """
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        initialises = func in _IN_PLACE or getattr(func, "__module__", None) == "torch.nn.init"
        if initialises and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)


_IN_PLACE = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_)

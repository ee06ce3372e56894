"""What a library adapter hands over: the pieces of an encoder before it is checked and moved."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor, nn

from jepascore_core.encoders.spec import EncoderSpec


@dataclass(frozen=True, slots=True)
class Parts:
    """Pieces of an encoder.

    Attributes:
        model: The library's own module, images in, embeddings out.
        spec: What is known of it. Unless it is declared, D, pooling and null dimension are still to be measured.
        declared: Whether the spec comes from our table or from the file, to be checked, not measured.
        transform: PIL image -> (C, H, W) float32.
        digest: Hex digest of the weights.
    """

    model: nn.Module
    spec: EncoderSpec
    declared: bool
    transform: Callable[[Image.Image], Tensor]
    digest: str

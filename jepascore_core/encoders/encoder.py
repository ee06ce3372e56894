"""The module that an encoder becomes once it is loaded."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn

from jepascore_core.encoders.spec import EncoderSpec


class Encoder(nn.Module):
    """A frozen encoder in eval mode: images (B, C, H, W) in, embeddings (B, D) out.

    Attributes:
        spec: What is known of it.
        transform: PIL image -> (C, H, W) float32, resized, cropped and normalised.
        digest: Hex digest of the weights; two encoders with one digest give the same numbers.
    """

    def __init__(
        self, model: nn.Module, spec: EncoderSpec, transform: Callable[[Image.Image], Tensor], digest: str
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.spec = spec
        self.transform = transform
        self.digest = digest

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: (B, C, H, W), as ``transform`` makes them, stacked.

        Returns:
            Embeddings (B, D), before any L2 normalisation.
        """
        return self.model(images)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

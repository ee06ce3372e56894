"""What is known of an encoder before it is loaded, and the module that it becomes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Facts that decide how an encoder is used and how its score is read.

    Attributes:
        id: Id that ``load_encoder`` takes, such as ``timm:vit_small_patch14_dinov2.lvd142m``.
        name: Short name for a screen, such as ``DINOv2 ViT-S/14``.
        family: Training method, such as ``DINOv2``, ``I-JEPA``, ``MetaCLIP``, ``supervised``.
        embedding_dim: D, length of the embedding.
        input_size: (C, H, W) of the normalised input.
        pooling: How tokens become one embedding: ``class token``, ``mean``, ``projection``, ``attention`` or
            ``average pool``.
        null_dim: Directions in which the Jacobian vanishes by construction (final LayerNorm: 2 for
            one token, 1 for a mean of tokens, 0 behind a projection).
        licence: Licence of the weights.
        paper: Where the encoder was published.
    """

    id: str
    name: str
    family: str
    embedding_dim: int
    input_size: tuple[int, int, int]
    pooling: str
    null_dim: int
    licence: str
    paper: str


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

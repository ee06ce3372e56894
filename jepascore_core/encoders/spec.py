"""What is known of an encoder before it is loaded. Imports no torch: lists of encoders come at once."""

from dataclasses import dataclass


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

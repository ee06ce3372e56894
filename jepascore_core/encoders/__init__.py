"""Encoders: from an id to a frozen network with its transform, its spec and the digest of its weights.

- ``timm:<architecture>[.<tag>]``: any image model of timm
- ``open_clip:<architecture>/<tag>``: the image tower of any CLIP of open_clip
- ``demo:<name>``: the small encoders that come with this project
- ``file:<path>``: a checkpoint that our own trainer wrote
- ``file:<path>@<encoder id>``: weights on disk for an architecture of timm or open_clip
- ``<any of these>@layer<l>``: the encoder cut off behind its layer l, pooled as the encoder pools
"""

from typing import TYPE_CHECKING, Any

from jepascore_core.encoders.presets import PRESETS, find_spec
from jepascore_core.encoders.spec import EncoderSpec

if TYPE_CHECKING:
    from jepascore_core.encoders.encoder import Encoder
    from jepascore_core.encoders.load import load_encoder

__all__ = ["PRESETS", "Encoder", "EncoderSpec", "find_spec", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use, so that listing encoders does not wait for it."""
    if name == "load_encoder":
        from jepascore_core.encoders.load import load_encoder

        return load_encoder
    if name == "Encoder":
        from jepascore_core.encoders.encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""JEPA-SCORE: which images a pretrained encoder finds likely, which it finds strange, and why.

Example:
    >>> from jepascore_core import jepa_score, load_dataset, load_encoder, singular_values
    >>> encoder, photos = load_encoder("demo:jepa-tiny"), load_dataset("demo:photos")
    >>> image = encoder.transform(photos.read(photos.items[0]))
    >>> sigma = singular_values(encoder, image.unsqueeze(0))
    >>> tuple(sigma.shape), bool(jepa_score(sigma).isfinite())
    ((1, 16), True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jepascore_core.datasets import load_dataset as load_dataset
    from jepascore_core.density import corrected_score as corrected_score
    from jepascore_core.density import fit_gaussian as fit_gaussian
    from jepascore_core.density import sphere_score as sphere_score
    from jepascore_core.encoders import load_encoder as load_encoder
    from jepascore_core.jacobian import leverage_bands as leverage_bands
    from jepascore_core.jacobian import leverage_map as leverage_map
    from jepascore_core.jacobian import singular_values as singular_values
    from jepascore_core.jacobian import singular_vectors as singular_vectors
    from jepascore_core.score import jepa_score as jepa_score
    from jepascore_core.score import views_score as views_score
    from jepascore_core.score_gradient import score_and_gradient as score_and_gradient

# Loaded on first use: listing runs or asking for help should not wait for torch.
_HOME = {
    "corrected_score": "density",
    "fit_gaussian": "density",
    "jepa_score": "score",
    "leverage_bands": "jacobian",
    "leverage_map": "jacobian",
    "load_dataset": "datasets",
    "load_encoder": "encoders",
    "score_and_gradient": "score_gradient",
    "singular_values": "jacobian",
    "singular_vectors": "jacobian",
    "sphere_score": "density",
    "views_score": "score",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

"""Score batches of loaded images into rows; one bad image never takes the others with it."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import RunError
from jepascore_core.files import storable
from jepascore_core.jacobian import JacobianSummary, jacobian_summary
from jepascore_core.locks import Cancelled
from jepascore_core.memory import is_out_of_memory
from jepascore_core.runner.reading import Loaded, reason
from jepascore_core.score import EPS, jepa_score, score_error, views_score
from jepascore_core.store.parts import SCHEMA, Row

_MOST_FAILURES = 16  # in a row: then it is not the images
_FINISHED_S = 5.0  # a batch that takes longer than this is not finished when the run is cancelled


class Summarise(Protocol):
    """``jacobian_summary`` or what stands for it."""

    def __call__(self, encoder: Any, images: Tensor, *, null_dim: int) -> JacobianSummary:
        """Embedding, singular values, sphere term and noise of images (B, C, H, W)."""


def interruptible(stop: threading.Event) -> Summarise:
    """``jacobian_summary`` that a cancel ends in the midst of a batch that takes long.

    Args:
        stop: Set to cancel; a batch that takes no more than a few seconds is still finished.

    Returns:
        The function; it raises ``Cancelled``.
    """

    def summarise(encoder: Any, images: Tensor, *, null_dim: int) -> JacobianSummary:
        began = time.monotonic()

        def give_up(_: float) -> None:
            if stop.is_set() and time.monotonic() - began > _FINISHED_S:
                raise Cancelled("Cancelled in the midst of a batch.")

        return jacobian_summary(encoder, images, null_dim=null_dim, on_share=give_up)

    return summarise


@dataclass
class BatchScorer:
    """Turns loaded images into rows.

    Attributes:
        encoder: On its device, in its precision.
        summarise: What computes the Jacobian's singular values.
        device: Where images go.
        dtype: What images become.
        eps: Least σ that counts.
    """

    encoder: Encoder
    summarise: Summarise = jacobian_summary
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    eps: float = EPS
    _failures: int = 0

    def __call__(self, batch: Sequence[Loaded]) -> list[Row]:
        """Score a batch.

        Args:
            batch: Loaded images, some of which may have an error.

        Returns:
            One row for each image, in order.

        Raises:
            Cancelled: ``summarise`` was told to stop.
            RunError: Many images in a row cannot be scored, or memory does not hold even one.
        """
        rows = {loaded.item.key: empty_row(loaded) for loaded in batch}
        for loaded, values in self._score([loaded for loaded in batch if loaded.views is not None]):
            rows[loaded.item.key].update(values)
        return [rows[loaded.item.key] for loaded in batch]

    def _score(self, batch: list[Loaded]) -> Iterator[tuple[Loaded, Row]]:
        """Score together; where that fails, in halves, down to the image that is to blame.

        Raises:
            Cancelled: ``summarise`` was told to stop.
            RunError: Many images in a row cannot be scored, or memory does not hold even one.
        """
        if not batch:
            return
        try:
            scored = list(zip(batch, self._score_together(batch), strict=True))
        except Cancelled:
            raise
        except Exception as error:
            if len(batch) == 1:
                yield batch[0], {"error": f"Scoring failed: {self._blame(error)}"}
                return
        else:
            self._failures = 0
            yield from scored
            return
        # outside of the except block, which would keep the failed batch's tensors alive
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            yield from self._score(half)

    def _score_together(self, batch: list[Loaded]) -> Iterator[Row]:
        """Columns of each image's row, computed in one go."""
        stacked = torch.stack([loaded.views for loaded in batch if loaded.views is not None])  # (B, T, C, H, W)
        null_dim = self.encoder.spec.null_dim
        images = stacked.flatten(0, 1).to(self.device, self.dtype)  # (B·T, C, H, W)
        summary = self.summarise(self.encoder, images, null_dim=null_dim)
        sigma = summary.singular_values.cpu()  # (B·T, D)
        shape = stacked.shape[:2]
        scores = jepa_score(sigma, eps=self.eps, null_dim=null_dim).view(shape)  # (B, T)
        errors = score_error(sigma, summary.noise.cpu(), null_dim=null_dim).view(shape)
        # each view moves eq. (4) by its share of the mean of exp(−score)
        errors = (torch.softmax(-scores, dim=1) * errors).sum(1)
        combined = views_score(scores)
        plain = slice(0, None, shape[1])  # view 0 of each image
        sigma, embedding = sigma[plain].float(), summary.embedding[plain].float().cpu()
        sphere = summary.sphere_term[plain].cpu()
        finite = combined.isfinite() & sigma.isfinite().all(1) & embedding.isfinite().all(1)
        for number in range(len(batch)):
            if not finite[number]:
                yield {"error": "Its score is not finite: the encoder or its Jacobian overflows on this image."}
                continue
            yield {
                "jepa_score": combined[number].item(),
                "score_error": _finite(errors[number]),
                "singular_values": sigma[number].numpy(),
                "sphere_term": _finite(sphere[number]),
                "embedding": embedding[number].numpy(),
                "view_scores": scores[number].numpy() if shape[1] > 1 else None,
            }

    def _blame(self, error: Exception) -> str:
        """Reason of one image's failure, unless it is not the image's fault.

        Raises:
            RunError: Many images in a row cannot be scored, or memory does not hold even one.
        """
        if is_out_of_memory(error):
            raise RunError(f"One image does not fit in the memory of {self.device}; use a smaller encoder.") from error
        self._failures += 1
        if self._failures >= _MOST_FAILURES or "CUDA error" in str(error):
            raise RunError(f"{self._failures} images in a row cannot be scored ({reason(error)}).") from error
        if isinstance(error, torch.linalg.LinAlgError):
            return "its Jacobian is not finite, or has no singular values that can be computed."
        return reason(error)


def empty_row(loaded: Loaded) -> Row:
    """What is known of an image before it is scored.

    Args:
        loaded: The image.

    Returns:
        A row with every column, null where nothing is known.
    """
    item = loaded.item
    known = {
        "index": item.index,
        "key": storable(item.key),
        "label": item.label,
        "class_name": storable(item.class_name),
        "width": loaded.width,
        "height": loaded.height,
        "thumbnail": loaded.thumbnail,
        "error": storable(loaded.error) if loaded.error else None,
    }
    return dict.fromkeys(SCHEMA.names) | known


def _finite(value: Tensor) -> float | None:
    """A number, or None for infinity and NaN, which a mean over a column could not survive."""
    return value.item() if value.isfinite() else None

"""Score batches of loaded images into rows; one bad image never takes the others with it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from jepascore_core.errors import RunError
from jepascore_core.files import storable
from jepascore_core.jacobian import JacobianSummary, jacobian_summary
from jepascore_core.locks import Cancelled
from jepascore_core.memory import is_out_of_memory
from jepascore_core.runner.precision import Ladder, Summarise, Tolerance
from jepascore_core.runner.reading import Loaded, reason
from jepascore_core.score import views_score
from jepascore_core.store.parts import SCHEMA, Row

_MOST_FAILURES = 16  # in a row: then it is not the images
_FINISHED_S = 5.0  # a sweep that takes longer than this is not finished when the run is cancelled
_PAUSES_S = (0.5, 2.0, 5.0)  # before one image that did not fit in memory is tried again


def interruptible(stop: threading.Event) -> Summarise:
    """``jacobian_summary`` that a cancel ends in the midst of a batch that takes long.

    Args:
        stop: Set to cancel; a batch that takes no more than a few seconds is still finished.

    Returns:
        The function; it raises ``Cancelled``.
    """

    def summarise(
        encoder: Any, images: Tensor, *, null_dim: int, precision: str, on_share: Callable[[float], None] | None
    ) -> JacobianSummary:
        began = time.monotonic()

        def look(share: float) -> None:
            if stop.is_set() and time.monotonic() - began > _FINISHED_S:
                raise Cancelled("Cancelled in the midst of a batch.")
            if on_share is not None:
                on_share(share)

        return jacobian_summary(encoder, images, null_dim=null_dim, precision=precision, on_share=look)

    return summarise


@dataclass
class BatchScorer:
    """Turns loaded images into rows.

    Attributes:
        ladder: Scores images; its encoder is on the device.
        tolerance: How exact each score must be.
        device: Where images go.
        dtype: What images become.
    """

    ladder: Ladder
    tolerance: Tolerance = field(default_factory=Tolerance)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    _failures: int = 0

    def __call__(self, batch: Sequence[Loaded]) -> list[Row]:
        """Score a batch.

        Args:
            batch: Loaded images, some of which may have an error.

        Returns:
            One row for each image, in order.

        Raises:
            Cancelled: A sweep was told to stop.
            RunError: Many images in a row cannot be scored, or memory does not hold even one.
        """
        rows = {loaded.item.key: empty_row(loaded) for loaded in batch}
        for loaded, values in self._score([loaded for loaded in batch if loaded.views is not None]):
            rows[loaded.item.key].update(values)
        return [rows[loaded.item.key] for loaded in batch]

    def _score(self, batch: list[Loaded]) -> Iterator[tuple[Loaded, Row]]:
        """Score together; where that fails, in halves, down to the image that is to blame.

        Raises:
            RunError: Many images in a row cannot be scored, or memory does not hold even one.
        """
        if not batch:
            return
        outcome = self._attempt(batch)
        for pause in _PAUSES_S if len(batch) == 1 else ():
            if not isinstance(outcome, Exception) or not is_out_of_memory(outcome):
                break
            time.sleep(pause)  # another process may give its memory back
            outcome = self._attempt(batch)
        if not isinstance(outcome, Exception):
            self._failures = 0
            yield from zip(batch, outcome, strict=True)
        elif len(batch) == 1:
            yield batch[0], {"error": f"Scoring failed: {self._blame(outcome)}"}
        else:
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                yield from self._score(half)

    def _attempt(self, batch: list[Loaded]) -> list[Row] | Exception:
        """The batch's columns, or what went wrong."""
        try:
            return list(self._score_together(batch))
        except Cancelled:
            raise
        except Exception as error:
            return error.with_traceback(None)  # whose frames would keep the failed batch's tensors alive

    def calibrate(self, batch: Sequence[Loaded]) -> None:
        """Compare the precisions on a few images that could be read; nothing to do where there is but one.

        Args:
            batch: Loaded images; only their first views are looked at.
        """
        readable = [loaded for loaded in batch if loaded.views is not None]
        if readable and len(self.ladder.precisions) > 1:
            plain = torch.cat([loaded.views[:1] for loaded in readable if loaded.views is not None])
            tolerances = torch.tensor([self.tolerance.of(storable(loaded.item.key)) for loaded in readable])
            self.ladder.calibrate(plain.to(self.device, self.dtype), tolerances)

    def _score_together(self, batch: list[Loaded]) -> Iterator[Row]:
        """Columns of each image's row, computed in one go."""
        stacked = torch.stack([loaded.views for loaded in batch if loaded.views is not None])  # (B, T, C, H, W)
        count, views = stacked.shape[:2]
        images = stacked.flatten(0, 1).to(self.device, self.dtype)  # (B·T, C, H, W)
        tolerances = torch.tensor([self.tolerance.of(storable(loaded.item.key)) for loaded in batch])
        scored = self.ladder(images, tolerances.repeat_interleave(views))
        scores = scored.scores.view(count, views)
        # each view moves eq. (4) by its share of the mean of exp(−score)
        errors = (torch.softmax(-scores, dim=1) * scored.errors.view(count, views)).sum(1)
        combined = views_score(scores)
        plain = slice(0, None, views)  # view 0 of each image
        sigma, embedding, sphere = (
            scored.singular_values[plain].float(), scored.embedding[plain], scored.sphere_term[plain]
        )  # fmt: skip
        finite = combined.isfinite() & sigma.isfinite().all(1) & embedding.isfinite().all(1)
        for number, loaded in enumerate(batch):
            if not finite[number]:
                yield {"error": "Its score is not finite: the encoder or its Jacobian overflows on this image."}
                continue
            self.tolerance.learn({storable(loaded.item.key): combined[number].item()})
            yield {
                "jepa_score": combined[number].item(),
                "score_error": _finite(errors[number]),
                "singular_values": sigma[number].numpy(),
                "sphere_term": _finite(sphere[number]),
                "embedding": embedding[number].numpy(),
                "view_scores": scores[number].numpy() if views > 1 else None,
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
            return "its Jacobian has no singular values that can be computed."
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

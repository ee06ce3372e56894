"""What an import is asked to be."""

from dataclasses import dataclass
from pathlib import Path

from jepascore_core.encoders.presets import find_spec
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import ImportedFileError
from jepascore_core.files import storable
from jepascore_core.store.request import absolute_id, short_name

DIRECTIONS = ("in", "out")
_LONGEST_NAME = 200  # letters


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A file of results, and what they are results of.

    Attributes:
        path: The file.
        encoder: Name of the encoder; that of a preset brings its facts along.
        dataset: Name of the dataset; runs of one name compare by their keys.
        direction: The side on which higher *given* scores lie: ``in`` or ``out``; no effect on spectra.
        score_column: Which column holds the scores; None tells by its name.
        null_dim: Structurally null directions; None takes the preset's, else 0.
        log: The singular values are given as log σ.
        file_name: What the file is called, where it lies under another name.
    """

    path: Path
    encoder: str
    dataset: str
    direction: str = "in"
    score_column: str | None = None
    null_dim: int | None = None
    log: bool = False
    file_name: str | None = None

    def check(self) -> None:
        """Refuse what no import can be.

        Raises:
            ImportedFileError: A name or option is out of its range.
        """
        for what, name in (("encoder", self.encoder), ("dataset", self.dataset)):
            if not (name.strip() and len(name) <= _LONGEST_NAME and storable(name).isprintable()):
                raise ImportedFileError(f"Name the {what}, in one line of at most {_LONGEST_NAME} letters.")
        if self.direction not in DIRECTIONS:
            raise ImportedFileError(f"The direction must be in or out, not {self.direction!r}.")
        if self.null_dim is not None and self.null_dim < 0:
            raise ImportedFileError(f"The null dimension must be at least 0, not {self.null_dim}.")

    @property
    def spec(self) -> EncoderSpec:
        """Facts of the encoder; those of one that is no preset are mostly unknown, as its D is."""
        encoder_id = storable(self.encoder.strip())
        known = find_spec(encoder_id)
        null_dim = self.null_dim if self.null_dim is not None else known.null_dim if known else 0
        if known is None:
            name = short_name(encoder_id) if ":" in encoder_id else encoder_id
            return EncoderSpec(encoder_id, name, "unknown", 0, (0, 0, 0), "unknown", null_dim, "unknown", "unknown")
        return EncoderSpec(
            known.id, known.name, known.family, known.embedding_dim, known.input_size, known.pooling, null_dim,
            known.licence, known.paper,
        )  # fmt: skip

    @property
    def dataset_id(self) -> str:
        """Id of the dataset, the same from any folder."""
        return storable(absolute_id(self.dataset.strip()))

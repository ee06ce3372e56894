"""Commands that list what there is: ``encoders``, ``layers`` and ``datasets``."""

from typing import Annotated

import typer

from jepascore_core.commands.app import Json, RunsDir, command
from jepascore_core.commands.printing import print_rows

PANEL = "What there is"  # of --help


@command(PANEL, "encoders --json")
def encoders(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the preset encoders; any other timm or open_clip name works too."""
    from dataclasses import asdict

    from jepascore_core.encoders.presets import PRESETS

    rows = [asdict(spec) for spec in PRESETS]
    print_rows(rows, as_json, ["id", "name", "embedding_dim", "pooling", "null_dim", "licence", "paper"])


@command(PANEL, "layers timm:vit_small_patch14_dinov2.lvd142m")
def layers(
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="Encoder id; `encoders` lists presets.")],
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the layers of an encoder that can be scored by themselves; the last is the encoder itself.

    A layer's features are pooled as the encoder pools, without the norms and projections behind the last layer.
    """
    from jepascore_core.encoders.load import list_layers

    found = enumerate(list_layers(encoder), 1)
    rows = [{"layer": number, "id": identifier, "embedding_dim": dim} for number, (identifier, dim) in found]
    print_rows(rows, as_json, ["layer", "id", "embedding_dim"])


@command(PANEL, "datasets")
def datasets(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the known datasets; folder:, parquet:, hf: and torchvision: reach any other."""
    from dataclasses import asdict

    from jepascore_core.datasets import DATASETS

    rows = [asdict(known) for known in DATASETS]
    print_rows(rows, as_json, list(rows[0]))

"""Commands that list what there is: ``encoders`` and ``datasets``."""

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


@command(PANEL, "datasets")
def datasets(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the known datasets; folder:, parquet:, hf: and torchvision: reach any other."""
    from dataclasses import asdict

    from jepascore_core.datasets import DATASETS

    rows = [asdict(known) for known in DATASETS]
    print_rows(rows, as_json, list(rows[0]))

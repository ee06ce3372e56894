"""The command line itself, its options that several commands share, and what their help shows."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

# Waiting threads of torch spin for 0.1 ms: longer burns the cores of other work, not at all is late for each product.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

app = typer.Typer(
    name="jepascore_core",
    help="Which images a pretrained encoder finds likely, which it finds strange, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

RunsDir = Annotated[
    Path | None, typer.Option(help="Folder of runs. Default: $JEPASCORE_HOME/runs, else ~/.jepascore/runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Names of runs, as `runs` lists them, or folders.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, as `runs` lists it, or its folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Score = Annotated[str, typer.Option("--score", help="raw (eq. 5), sphere, corrected, or listing1.")]
Eps = Annotated[float, typer.Option(help="Least singular value that counts.")]
Job = Annotated[Path | None, typer.Option("--job", hidden=True)]

EncoderId = Annotated[str, typer.Option(help="Encoder id; `encoders` lists presets.")]
Layer = Annotated[
    int | None, typer.Option(help="Score the features behind this layer, not the embedding; `layers` lists them.")
]
DatasetId = Annotated[str, typer.Option(help="Dataset id; `datasets` lists known ones. A path will do.")]
PerClass = Annotated[int | None, typer.Option(help="Most images of each class.")]
Limit = Annotated[int | None, typer.Option(help="Most images in total, classes in turn.")]
Seed = Annotated[int, typer.Option(help="Seed of the sample and of the views.")]
Classes = Annotated[str | None, typer.Option(help="Class names to keep, comma-separated.")]
Views = Annotated[int, typer.Option(help="Augmented views T of eq. (4); 1 is eq. (5).")]
InputSize = Annotated[int | None, typer.Option(help="Side of the encoder's input in pixels.")]
BatchSize = Annotated[int | None, typer.Option(help="Images scored together; chosen by itself.")]
Precision = Annotated[str, typer.Option(help="auto, float16, tf32, float32 or float64.")]
ToleranceNats = Annotated[
    float | None, typer.Option(help="Error bar, nats, beyond which an image is scored again more exactly.")
]
MemoryShare = Annotated[float, typer.Option(help="Share of the device's free memory to take.")]
Engine = Annotated[str, typer.Option(help="local, in this process; or ray, in workers of a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster: auto or host:port. Default: a Ray of its own on this machine.")
]
Workers = Annotated[int | None, typer.Option(help="Ray workers. Default: one for each GPU, else for each node.")]
RandomWeights = Annotated[bool, typer.Option(help="Do not load the weights: a control.")]


def command(
    panel: str, example: str, *, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command, in a group of ``--help`` and with an example of its use."""
    return app.command(name, rich_help_panel=panel, epilog=f"Example: `python -m jepascore_core {example}`")

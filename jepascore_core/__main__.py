"""Command line: ``python -m jepascore_core``.

Results go to stdout, progress and errors to stderr, so that a shell can use the one and a person read the other.
Heavy modules are imported by the command that needs them: ``--help`` and ``runs`` do not wait for torch.
"""

import sys

import typer

from jepascore_core.allowed import as_owner
from jepascore_core.commands.app import app
from jepascore_core.commands.printing import one_line
from jepascore_core.errors import JepaScoreError, in_words, lacks_memory

# isort: off
# registers them, in the order of --help
from jepascore_core.commands import scoring, runs, decisions, sensitivity, files, importing, care, training, lists
# isort: on

_INTERRUPTED = 130  # what typer makes of Ctrl-C

__all__ = [
    "app", "care", "decisions", "files", "importing", "lists", "main", "runs", "scoring", "sensitivity", "training",
]  # fmt: skip


def main() -> None:
    """Run the command line; an error that we raise on purpose is one sentence on stderr."""
    try:
        with as_owner():  # who can type commands here can do anything
            app()
    except Exception as error:
        if not isinstance(error, JepaScoreError) and not lacks_memory(error):
            raise
        typer.echo(one_line(in_words(error)), err=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            typer.echo("Interrupted; what is scored is kept, and the same command resumes.", err=True)
        raise


if __name__ == "__main__":
    main()

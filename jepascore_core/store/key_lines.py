"""Lists of images as text: a key on each line, with its run where there are several."""

import re
from pathlib import Path

from jepascore_core.allowed import check_path
from jepascore_core.errors import RunError
from jepascore_core.files import expanded, why

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def key_line(key: str, run: str | None = None) -> str:
    r"""One line of a list of keys: backslash, tab and line breaks escaped, a run's name and a tab before it if asked.

    Args:
        key: The image.
        run: Name of its run.

    Returns:
        The line with its end.

    Example:
        >>> key_line("cat/1.png", "photos"), key_line("a\tb")
        ('photos\tcat/1.png\n', 'a\\tb\n')
    """
    fields = [re.sub(r"[\\\n\r\t]", lambda found: _ESCAPES[found[0]], text) for text in (run, key) if text is not None]
    return "\t".join(fields) + "\n"


def parse_key_line(line: str) -> tuple[str | None, str]:
    r"""Undo ``key_line``.

    Args:
        line: A line, with or without its end.

    Returns:
        Name of the run, or None; and the key.

    Example:
        >>> parse_key_line(key_line("a\tb", "photos"))
        ('photos', 'a\tb')
    """
    letters = {escape[1]: letter for letter, escape in _ESCAPES.items()}
    text = line.rstrip("\r\n")
    fields = [re.sub(r"\\([\\nrt])", lambda found: letters[found[1]], field) for field in text.split("\t", 1)]
    return (fields[0], fields[1]) if len(fields) == 2 else (None, fields[0])


def read_keys(path: Path) -> list[tuple[str | None, str]]:
    """Read a list of keys, as ``export`` writes it or as a person does.

    Args:
        path: Text file, UTF-8; empty lines are passed over.

    Returns:
        Run, or None, and key of each line.

    Raises:
        RunError: It cannot be read, or may not be.
    """
    check_path(path, RunError)
    try:
        with expanded(path).open(encoding="utf-8-sig", newline="\n") as file:
            return [parse_key_line(line) for line in file if line.strip("\r\n")]
    except OSError as error:
        raise RunError(f"Cannot read {path} ({why(error)}).") from error
    except (UnicodeError, ValueError) as error:
        raise RunError(f"{path} is not a list of keys in UTF-8.") from error

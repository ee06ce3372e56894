"""One self-contained HTML file that says what some runs found: it opens without a network, and without this program."""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from markupsafe import Markup

from jepascore_core.errors import RunError
from jepascore_core.files import expanded, why, written_aside
from jepascore_core.naming import printable
from jepascore_core.report.facts import IMAGES, gather
from jepascore_core.store import Run, ScoreRule
from jepascore_core.text import count, number, plural, significant


def make_report(
    runs: Sequence[Run],
    *,
    rule: ScoreRule | None = None,
    classes: Sequence[str] | None = None,
    n: int = IMAGES,
    made: datetime | None = None,
) -> str:
    """Write a report on some runs: provenance, distributions, separation, extremes, spectra, failures.

    All text from data is escaped and shown in one line; folders of this machine are cut from paths. The file holds
    neither scripts nor links to other files, and its content policy forbids both.

    Args:
        runs: The runs; those of one encoder share a chapter. Runs without a score are named and said to be empty.
        rule: Convention of the score; None is the stored one.
        classes: Classes whose extremes are shown; None takes the largest few of each run.
        n: Images at each end of a strip.
        made: When; None is now.

    Returns:
        HTML.

    Raises:
        RunError: There is no run, one cannot be read, or one has no score under the rule.
    """
    facts = gather(runs, rule=rule or ScoreRule(), classes=classes, n=n)
    made = made or datetime.now(UTC)
    return _template().render(facts=facts, made=made)


def write_report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    rule: ScoreRule | None = None,
    classes: Sequence[str] | None = None,
    n: int = IMAGES,
) -> int:
    """Write a report to a file, whole or not at all; arguments as ``make_report``.

    Args:
        runs: The runs.
        path: The file; replaced if it exists.
        rule: Convention of the score.
        classes: Classes whose extremes are shown.
        n: Images at each end of a strip.

    Returns:
        Bytes written.

    Raises:
        RunError: The report cannot be made, or the file cannot be written.
    """
    path = expanded(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"A report is HTML: the name must end in .html, and {path.name!r} does not.")
    data = make_report(runs, rule=rule, classes=classes, n=n).encode()
    try:
        with written_aside(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error
    return len(data)


@functools.cache
def _template() -> jinja2.Template:
    """The page, with every expression escaped and printable."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jepascore_core.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is a type of its own
    )
    environment.filters |= {"count": count, "plural": plural, "significant": significant, "data": _data}
    environment.filters["date"] = _date
    return environment.get_template("report.html.j2")


def _data(value: float, digits: int = 2, write: Callable[[float, int], str] = number) -> Markup:
    """A number to read, with the stored one beside it for programs."""
    return Markup('<data value="{}">{}</data>').format(repr(float(value)), write(value, digits))


def _date(moment: datetime | None) -> str:
    """A time of day, UTC."""
    if moment is None:
        return "unknown"
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M}"

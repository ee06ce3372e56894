"""Words and numbers as every page writes them. Text that comes from data is escaped here."""

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from jepascore_core.allowed import data_roots
from jepascore_core.files import storable
from jepascore_core.naming import without_folders
from jepascore_core.text import EMPTY as EMPTY
from jepascore_core.text import count as count
from jepascore_core.text import duration as duration
from jepascore_core.text import listed as listed
from jepascore_core.text import number as number
from jepascore_core.text import ordinal as ordinal
from jepascore_core.text import plural as plural
from jepascore_core.text import significant as significant

_PUNCTUATION = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")
_SHORTCODE = re.compile(r":(?=[\w+\-/]+:)")
# what becomes a link although it is escaped; our own messages name pages of the Hugging Face hub
_ADDRESS = re.compile(
    r"(?<=http)(?=://(?!huggingface\.co/))|(?<=https)(?=://(?!huggingface\.co/))|(?<=www)(?=\.)"
    r"|(?<=[\w.+-])(?=@[\w-]+\.[\w-])",
    re.IGNORECASE,
)


def md(text: object) -> str:
    r"""Escape any text so that Markdown shows it as it is: no markup, formula, icon, link or line break.

    Example:
        >>> print(md("a*b"))
        a\*b
    """
    flat = storable(" ".join(str(text).split()))  # a browser is told UTF-8
    flat = _SHORTCODE.sub(":\u2060", flat)  # a word joiner keeps :cat: from becoming a picture
    flat = _ADDRESS.sub("\u2060", flat)
    return _PUNCTUATION.sub(r"\\\1", flat)


def shown(message: object) -> str:
    """A message that names files, such as an error, without the folders that lead to them; not escaped.

    Example:
        >>> shown("There is no folder /home/me/birds.")
        'There is no folder …/birds.'
    """
    text, home = str(message), os.environ.get("JEPASCORE_HOME") or str(Path.home())
    return without_folders(text, [home, str(Path.home()), *(data_roots() or ())])


def public_md(message: object) -> str:
    """The same for Markdown: see ``shown`` and ``md``."""
    return md(shown(message))


def column(cells: Sequence[str]) -> list[str]:
    r"""Cells of one column of figures, padded on the left so that tabular figures line up; they do not wrap.

    An interval in brackets follows its figure, and does not move it.

    Example:
        >>> [cell.replace("\u2007", "_").replace("\u00a0", " ") for cell in column(["1.5", "−12.5 (−13 … −12)"])]
        ['__1.5', '−12.5 (−13 … −12)']
    """
    widths = [len(cell.partition(" (")[0]) for cell in cells]
    most = max(widths, default=0)
    padded = [
        cell if cell == EMPTY else "\u2007" * (most - width) + cell for cell, width in zip(cells, widths, strict=True)
    ]
    return [cell.replace(" ", "\u00a0") for cell in padded]


def below(k: int) -> str:
    """A number in subscript digits."""
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def dot(colour: str) -> str:
    """A dot in any colour as Markdown, which itself knows a few named colours only."""
    circle = f'<circle cx="4" cy="4" r="3.5" fill="{colour}"/>'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">{circle}</svg>'
    return f"![](data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()})"

"""Words and numbers as every page writes them. Text that comes from data is escaped here."""

import math
import re
from base64 import b64encode
from collections.abc import Sequence

_PUNCTUATION = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")
_SHORTCODE = re.compile(r":(?=[\w+\-/]+:)")
EMPTY = "–"


def md(text: object) -> str:
    r"""Escape any text so that Markdown shows it as it is: no markup, no formula, no icon, no line break.

    Example:
        >>> print(md("a*b"))
        a\*b
    """
    flat = " ".join(str(text).split())
    flat = _SHORTCODE.sub(":\u2060", flat)  # a word joiner keeps :cat: from becoming a picture
    return _PUNCTUATION.sub(r"\\\1", flat)


def number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals and a true minus sign; a dash where there is none.

    Example:
        >>> number(-3.14159, 1)
        '−3.1'
    """
    if value is None or math.isnan(value):
        return EMPTY
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:,.{digits}f}".replace(",", "\u202f")
    return shown.replace("-", "−") if float(f"{value:.{digits}f}") else shown.lstrip("-")


def significant(value: float, digits: int = 3) -> str:
    """A number with some significant digits; very small and very large ones as powers of ten.

    Example:
        >>> significant(3.342), significant(0.0513), significant(0.0000921)
        ('3.34', '0.0513', '9.21·10⁻⁵')
    """
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    power = math.floor(math.log10(abs(value)))
    if -3 <= power < 5:
        return number(value, max(0, digits - 1 - power))
    raised = str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"{number(value / 10**power, digits - 1)}·10{raised}"


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands.

    Example:
        >>> count(999)
        '999'
    """
    return number(value, 0)


def column(cells: Sequence[str]) -> list[str]:
    r"""Cells of one column of figures, padded on the left so that tabular figures line up; they do not wrap.

    Example:
        >>> [cell.replace("\u2007", "_") for cell in column(["1.5", "−12.5"])]
        ['__1.5', '−12.5']
    """
    width = max((len(cell) for cell in cells), default=0)
    padded = [cell if cell == EMPTY else "\u2007" * (width - len(cell)) + cell for cell in cells]
    return [cell.replace(" ", "\u00a0") for cell in padded]


def ordinal(value: float | None) -> str:
    """A percentile as an ordinal number.

    Example:
        >>> ordinal(97.2), ordinal(11.0), ordinal(0.3)
        ('97th', '11th', '0th')
    """
    if value is None or math.isnan(value):
        return EMPTY
    whole = int(value)
    ending = "th" if whole % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"


def duration(seconds: float | None) -> str:
    """A length of time in the largest fitting unit.

    Example:
        >>> duration(8), duration(95), duration(7300)
        ('8 s', '2 min', '2.0 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def below(k: int) -> str:
    """A number in subscript digits."""
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def listed(words: Sequence[str]) -> str:
    """Words in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plural(n: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "image"), plural(2, "image")
        ('1 image', '2 images')
    """
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def dot(colour: str) -> str:
    """A dot in any colour as Markdown, which itself knows a few named colours only."""
    circle = f'<circle cx="4" cy="4" r="3.5" fill="{colour}"/>'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">{circle}</svg>'
    return f"![](data:image/svg+xml;base64,{b64encode(drawing.encode()).decode()})"

"""Numbers and lists in words, as pages, reports and figures write them."""

import math
from collections.abc import Sequence

EMPTY = "–"


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

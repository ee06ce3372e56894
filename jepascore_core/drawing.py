"""Matplotlib, held on a short leash: our own typeface, one drawing at a time, and the same bytes each time.

Nothing here goes through pyplot, and no setting outlives a drawing. The two fonts are Inter at weights 400 and 600,
made from ``static/inter-latin.woff2`` with ``fontTools.varLib.instancer`` under a name of their own, so that a figure
does not depend on the fonts of the machine; letters that they lack come from the fonts after them.
"""

import functools
import io
import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager

PNG_DPI = 300

_FAMILY = "Inter Print"
_FINE_DPI = 720  # at which text is measured
_FONTS = Path(__file__).parent / "fonts"
_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS",
)  # fmt: skip
_ONE_AT_A_TIME = threading.Lock()  # Matplotlib's settings are global, and a server has many threads


def saved(draw: Callable[[], Figure], kind: str, *, title: str = "", about: str = "") -> bytes:
    """Draw a figure and write it, at its own size in inches.

    Args:
        draw: Makes the figure; called once.
        kind: ``pdf`` or ``svg``, which keep text as text, or ``png`` with 300 dpi.
        title: Kept in the file's metadata.
        about: Longer description, kept likewise.

    Returns:
        The file; equal for equal drawings.
    """
    facts: dict[str, dict[str, str | None]] = {
        "pdf": {"Subject": about, "Creator": "JEPA-SCORE Explorer", "CreationDate": None},
        "svg": {"Description": about, "Creator": "JEPA-SCORE Explorer", "Date": None},
        "png": {"Description": about, "Software": "JEPA-SCORE Explorer"},
    }
    file = io.BytesIO()
    with _ONE_AT_A_TIME, matplotlib.rc_context(_settings()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw().savefig(file, format=kind, dpi=PNG_DPI, metadata={"Title": title} | facts[kind])
    return _for_viewers(file.getvalue()) if kind == "svg" else file.getvalue()


def width_mm_of(text: str, size: float, weight: int = 400) -> float:
    """Width of a line of text in our typeface.

    Args:
        text: The line.
        size: Of the type, pt.
        weight: 400 or 600.

    Returns:
        mm.
    """
    properties = FontProperties(family=_settings()["font.family"], size=size, weight=weight)
    renderer = FigureCanvasAgg(Figure(figsize=(0.1, 0.1), dpi=_FINE_DPI)).get_renderer()
    width, _, _ = renderer.get_text_width_height_descent(text, properties, ismath=False)
    return width / _FINE_DPI * 25.4


def _for_viewers(svg: bytes) -> bytes:
    """Name the typeface that viewers may have, and let them smooth the images that they scale."""
    svg = svg.replace(f"font-family: '{_FAMILY}'".encode(), b"font-family: Inter")
    return svg.replace(b"image-rendering:crisp-edges;image-rendering:pixelated", b"image-rendering:auto")


@functools.cache
def _settings() -> dict[Any, Any]:
    """Settings of every drawing."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a fallback font has no weight 600: so be it
    for path in sorted(_FONTS.glob("*.ttf")):
        fontManager.addfont(path)
    installed = set(fontManager.get_font_names())
    return {
        "font.family": [_FAMILY, "DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)],
        "text.parse_math": False,  # a $ in a name is a $
        "svg.fonttype": "none",
        "svg.hashsalt": "jepascore",
        "pdf.fonttype": 42,
        "image.composite_image": False,  # each thumbnail stays an image of its own
        "axes.unicode_minus": True,
        "figure.dpi": 72,
    }

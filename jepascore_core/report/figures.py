"""Figures of a report as inline SVG: Matplotlib draws them, the page's style sheet gives them its colours."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from jepascore_core.curves import kernel_density
from jepascore_core.drawing import saved
from jepascore_core.naming import printable
from jepascore_core.plots import Label, lifts
from jepascore_core.text import number

# Colours that the page sets, light or dark; written with these values and replaced in the SVG.
_THEMED = {"#010203": "var(--ink)", "#010204": "var(--muted)", "#010205": "var(--line)"}
_INK, _MUTED, _LINE = _THEMED
_WIDE, _HALF = (900, 300), (440, 280)  # px
_LONGEST_NAME = 34
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True)
class Curve:
    """Scores of a run: name, hex colour, and values (N,), nats, N ≥ 1."""

    name: str
    colour: str
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Spectrum of a run: name, hex colour, and its quantiles as ``store.spectrum_band`` gives them."""

    name: str
    colour: str
    band: pd.DataFrame


@dataclass(frozen=True)
class Drawn:
    """A figure on the page: title, caption, the drawing, and whether it takes the whole width."""

    title: str
    caption: str
    svg: Markup
    wide: bool


def density(curves: Sequence[Curve], score: str, key: str, about: str) -> Drawn:
    """Smoothed score densities with a strip of dots (paper Fig. 3).

    Args:
        curves: One for each run; at least one.
        score: Name of the score.
        key: Anything that tells this figure from others of its kind on the page.
        about: Encoder, datasets, numbers of images and convention, for the caption.

    Returns:
        The figure.
    """

    def draw() -> Figure:
        figure, axes = _axes(_WIDE, left=0.025, bottom=0.17)
        low, high = (end(end(curve.scores) for curve in curves) for end in (min, max))
        lines = [(curve, *kernel_density(np.sort(curve.scores), low, high)) for curve in curves]
        top = max(y.max() for _, _, y in lines)
        left, right = min(x[0] for _, x, _ in lines), max(x[-1] for _, x, _ in lines)
        labels = [Label(_short(curve.name), curve.colour, x[y.argmax()], y.max()) for curve, x, y in lines]
        labels = [_above(label, [(x, y) for _, x, y in lines], right - left, top) for label in labels]
        shifts = lifts(labels, left, right, 175 / top, width=_WIDE[0])
        lane = 0.06 * top
        for place, (curve, x, y) in enumerate(lines, start=1):
            axes.plot(x, y, _line(curves, curve), color=curve.colour, linewidth=2)
            axes.fill_between(x, 0, y, color=curve.colour, alpha=0.14, linewidth=0)
            five, half, most = np.quantile(curve.scores, [0.05, 0.5, 0.95])
            axes.plot([five, most], [-lane * place] * 2, color=curve.colour, linewidth=2.5, alpha=0.45)
            axes.plot([half], [-lane * place], "o", color=curve.colour, markersize=6)
        _name(axes, labels, [shift * top / 175 for shift in shifts])
        needed = max(label.y + (shift + 16) * top / 175 for label, shift in zip(labels, shifts, strict=True))
        axes.set(xlim=(left, right), ylim=(-lane * (len(lines) + 0.9), needed), yticks=[])
        axes.axhline(0, color=_LINE, linewidth=1, zorder=0)
        axes.set_xlabel(f"{score} (nats), higher is likelier →")
        axes.set_ylabel("density (1/nat)")
        return figure

    medians = "; ".join(f"{curve.name}: {number(float(np.median(curve.scores)), 1)}" for curve in curves)
    caption = f"{about} The dot beneath a curve is its median, the bar spans 5 to 95 % of the images."
    return _drawn(draw, "Score distributions", caption, f"Score densities. Median in nats: {medians}.", f"d{key}", True)


def ecdf(curves: Sequence[Curve], score: str, key: str) -> Drawn:
    """Empirical distribution functions; arguments as ``density``.

    Args:
        curves: One for each run; at least one.
        score: Name of the score.
        key: Tells this figure from others of its kind.

    Returns:
        The figure.
    """

    def draw() -> Figure:
        figure, axes = _axes(_HALF, left=0.12, bottom=0.185)
        low, high = (end(end(curve.scores) for curve in curves) for end in (min, max))
        margin = 0.03 * (high - low) or 1.0
        ordered = sorted(curves, key=lambda curve: float(np.median(curve.scores)))
        labels = []
        for place, curve in enumerate(ordered, start=1):
            x = np.sort(curve.scores)
            y = 100 * np.arange(1, len(x) + 1) / len(x)
            keep = np.unique(np.linspace(0, len(x) - 1, 400).astype(int))
            axes.step([low - margin, *x[keep], high + margin], [0, *y[keep], 100], _line(curves, curve), where="post",
                      color=curve.colour, linewidth=1.8)  # fmt: skip
            at = 100 * place / (len(ordered) + 1)
            where = float(x[min(int(at * len(x) / 100), len(x) - 1)])
            side = "left" if place <= (len(ordered) + 1) / 2 else "right"
            labels.append(Label(_short(curve.name), curve.colour, where, at, side))
        _name(axes, labels, [0.0] * len(labels), room=margin / 2)
        axes.set(xlim=(low - margin, high + margin), ylim=(0, 102), yticks=[0, 25, 50, 75, 100])
        axes.set_xlabel(f"{score} (nats)")
        axes.set_ylabel("images below (%)")
        return figure

    alt = f"Share of images below each score, for {', '.join(curve.name for curve in curves)}."
    return _drawn(draw, "Cumulative", "Share of each run’s images that score below.", alt, f"e{key}", False)


def spectra(bands: Sequence[Band], null_dim: int, key: str) -> Drawn:
    """Median spectrum of each run, with the band that holds 90 % of its images.

    Args:
        bands: One for each run; at least one.
        null_dim: Directions that vanish by construction; they are left out.
        key: Tells this figure from others of its kind.

    Returns:
        The figure, ln σ over k.
    """
    kept = [Band(item.name, item.colour, item.band.iloc[: len(item.band) - null_dim or None]) for item in bands]

    def draw() -> Figure:
        figure, axes = _axes(_HALF, left=0.12, bottom=0.185)
        labels, longest = [], 1
        for item in kept:
            k = item.band["k"].to_numpy(float)
            low, median, high = (_log(item.band[name]) for name in ("low", "median", "high"))
            axes.fill_between(k, low, high, color=item.colour, alpha=0.13, linewidth=0)
            axes.plot(k, median, _line(kept, item), color=item.colour, linewidth=1.8)
            longest = max(longest, len(k))
            if len(k) and np.isfinite(median).any():
                last = np.flatnonzero(np.isfinite(median))[-1]
                labels.append(Label(_short(item.name, 16), item.colour, float(k[last]), float(median[last]), "right"))
        room = min(0.5, (14 + 7.4 * max((len(label.name) for label in labels), default=0)) / (0.865 * _HALF[0]))
        axes.set_xlim(0.5, 0.5 + longest / (1 - room))
        bottom, top = axes.get_ylim()
        px = _HALF[1] * 0.78 / (top - bottom)
        raised = [label._replace(y=label.y - bottom) for label in labels]
        shifts = lifts(raised, 0, 1e9, px, width=_HALF[0])
        _name(axes, labels, [shift / px for shift in shifts], room=0.025 * longest)
        axes.set_ylim(
            bottom, max([top, *(label.y + (shift + 8) / px for label, shift in zip(labels, shifts, strict=True))])
        )
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, prune=None))
        axes.set_xticks([tick for tick in axes.get_xticks() if 1 <= tick <= longest])
        axes.set_xlabel("k, singular value by size", x=(1 - room) / 2)
        axes.set_ylabel("ln σₖ")
        return figure

    left_out = f" {null_dim} null direction{'s' if null_dim > 1 else ''} left out." if null_dim else ""
    caption = f"Log singular values: median, and the band that holds 90 % of the images.{left_out}"
    alt = f"Median log singular values of {', '.join(item.name for item in bands)}, largest first."
    return _drawn(draw, "Spectra", caption, alt, f"s{key}", False)


def _drawn(draw: Callable[[], Figure], title: str, caption: str, alt: str, key: str, wide: bool) -> Drawn:
    """Draw a figure and make it part of a page."""
    prefix = f"{key[0]}{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}-"
    return Drawn(title, caption, _inline(saved(draw, "svg"), printable(alt), prefix), wide)


def _inline(svg: bytes, alt: str, prefix: str) -> Markup:
    """An SVG file as an element of a page: ids of its own, the page's colours and typeface, an accessible name."""
    root = ElementTree.fromstring(svg)
    for unwanted in (f"{_SVG}metadata", f"{_SVG}title"):
        for element in root.findall(unwanted):
            root.remove(element)
    for element in root.iter():
        if "style" in element.attrib:
            style = re.sub(r"font-family: [^;]*;? ?", "", element.attrib["style"])
            for written, themed in _THEMED.items():
                style = style.replace(written, themed)
            element.set("style", style)
        if "id" in element.attrib:
            element.set("id", prefix + element.attrib["id"])
        for name in ("clip-path", f"{_XLINK}href"):
            if name in element.attrib:
                element.set(name, element.attrib[name].replace("#", f"#{prefix}", 1))
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", _XLINK[1:-1])
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _axes(size: tuple[int, int], *, left: float, bottom: float) -> tuple[Figure, Axes]:
    """An empty chart, size in px."""
    figure = Figure(figsize=(size[0] / 72, size[1] / 72), facecolor="none")
    axes = figure.add_axes((left, bottom, 0.985 - left, 0.97 - bottom), facecolor="none")
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set(color=_LINE, linewidth=1)
    axes.grid(True, axis="x" if size is _WIDE else "both", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=12, labelcolor=_MUTED, pad=5)
    axes.xaxis.label.set(size=12.5, color=_MUTED)
    axes.yaxis.label.set(size=12.5, color=_MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    return figure, axes


def _name(axes: Axes, labels: Sequence[Label], shifts: Sequence[float], *, room: float = 0.0) -> None:
    """Write names beside their curves, lifted in units of y."""
    sides = {"above": ("center", "bottom", 0), "left": ("right", "center", -room), "right": ("left", "center", room)}
    for label, shift in zip(labels, shifts, strict=True):
        across, up, beside = sides[label.side]
        axes.text(label.x + beside, label.y + shift, label.name, color=label.colour, size=13, weight=600, ha=across,
                  va=up if label.side != "above" else "center", clip_on=False)  # fmt: skip


def _above(
    label: Label, lines: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], width: float, top: float
) -> Label:
    """A name raised over the curves that it would cover, unless they are so much higher that it would seem theirs."""
    half = (4.0 * len(label.name) + 6) / _WIDE[0] * width
    covered = [y[np.abs(x - label.x) < half] for x, y in lines]
    highest = max(float(y.max(initial=0.0)) for y in covered)
    return label._replace(y=highest) if label.y < highest < label.y + 0.2 * top else label


def _line(items: Sequence[Curve] | Sequence[Band], item: Curve | Band) -> str:
    """Line style: solid, and others for further runs of one dataset, which share its colour."""
    alike = [other.name for other in items if other.colour == item.colour]
    return ("-", "--", ":", "-.")[alike.index(item.name) % 4]


def _short(name: str, most: int = _LONGEST_NAME) -> str:
    """A name that fits beside a curve."""
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _log(values: pd.Series) -> NDArray[np.float64]:
    """Natural logarithm; zeros become gaps."""
    array = values.to_numpy(float)
    return np.log(np.where(array > 0, array, np.nan))

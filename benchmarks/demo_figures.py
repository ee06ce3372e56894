"""Figures of the demo encoder's model card, drawn with Pillow alone so that they draw anywhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.special import ndtr

SCALE = 2  # drawn larger, then reduced: smooth lines
INK, MUTED, LINE, PAGE = "#1C1D1F", "#6E7075", "#E6E5E1", "#FFFFFF"
COLOURS = {"photos": "#2F6FDE", "digits": "#E08A1E", "galaxies": "#A24FC8", "histology": "#1E9E7A"}


class Panel:
    """One pair of axes on a picture; data coordinates in, pixels out.

    Args:
        draw: Where to draw.
        box: Left, top, right, bottom of the plot area in px.
        x, y: Least and largest value on each axis.
        log_y: Logarithmic ordinate.
    """

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        box: tuple[int, int, int, int],
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        log_y: bool = False,
    ) -> None:
        self.draw, self.box, self.x, self.y, self.log_y = draw, box, x, y, log_y

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Position of a point on the enlarged picture."""
        left, top, right, bottom = self.box
        low, high = (np.log(self.y[0]), np.log(self.y[1])) if self.log_y else self.y
        height = (np.log(max(y, self.y[0])) if self.log_y else y) - low
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = min(max(float(height / (high - low)), 0.0), 1.0)
        return SCALE * (left + across * (right - left)), SCALE * (bottom - up * (bottom - top))

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_title: str, y_title: str) -> None:
        """Faint gridlines, tick labels and titles with units."""
        for value in y_ticks:
            self.draw.line([self.pixel(self.x[0], value), self.pixel(self.x[1], value)], fill=LINE, width=SCALE)
            column, row = self.pixel(self.x[0], value)
            self.text((column - 6 * SCALE, row), f"{value:g}", anchor="rm", fill=MUTED)
        for value in x_ticks:
            column, row = self.pixel(value, self.y[0])
            self.text((column, row + 6 * SCALE), f"{value:g}", anchor="mt", fill=MUTED)
        left, top, right, bottom = (SCALE * edge for edge in self.box)
        self.text(((left + right) / 2, bottom + 24 * SCALE), x_title, anchor="mt", fill=INK)
        self.text((left - 30 * SCALE, top - 12 * SCALE), y_title, anchor="ls", fill=INK)

    def curve(self, x: Sequence[float], y: Sequence[float], colour: str, *, width: int = 2, dash: bool = False) -> None:
        """A polyline; dashed when asked."""
        points = [self.pixel(a, b) for a, b in zip(x, y, strict=True)]
        if not dash:
            self.draw.line(points, fill=colour, width=width * SCALE, joint="curve")
            return
        for start, end in zip(points[::2], points[1::2], strict=False):
            self.draw.line([start, end], fill=colour, width=width * SCALE)

    def label(self, x: float, y: float, text: str, colour: str, *, anchor: str = "lm", shift: int = 0) -> None:
        """Direct label of a curve, ``shift`` px to the right of a point."""
        column, row = self.pixel(x, y)
        self.text((column + shift * SCALE, row), text, anchor=anchor, fill=colour)

    def end_labels(self, ends: Sequence[tuple[float, str, str]]) -> None:
        """Labels right of the plot at the ends of curves (y, text, colour), pushed apart so that none hides another."""
        least = -np.inf
        for row, text, colour in sorted((self.pixel(self.x[1], y)[1], text, colour) for y, text, colour in ends):
            least = max(row, least + 14 * SCALE)
            self.text(((self.box[2] + 6) * SCALE, least), text, anchor="lm", fill=colour)

    def text(self, position: tuple[float, float], text: str, *, anchor: str, fill: str) -> None:
        """Text at 12 px."""
        self.draw.text(position, text, anchor=anchor, fill=fill, font=ImageFont.load_default(12 * SCALE))


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty page, enlarged."""
    image = Image.new("RGB", (width * SCALE, height * SCALE), PAGE)
    return image, ImageDraw.Draw(image)


def save(image: Image.Image, path: Path) -> None:
    """Reduce to the final size and write a small PNG."""
    image = image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.LANCZOS)
    image.quantize(256).save(path, optimize=True)


def smooth(values: Sequence[float], window: int = 15) -> np.ndarray:
    """Running mean; the ends use what there is."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def loss_figure(path: Path, records: dict[str, dict]) -> None:
    """Invariance and regulariser over the steps, shipped seed bold, other seeds thin.

    Args:
        path: PNG to write.
        records: Training record of each SIGReg seed, shipped seed first.
    """
    image, draw = canvas(720, 300)
    steps = max(len(record["loss"]) for record in records.values())
    least = min(float(smooth(record["invariance"]).min()) for record in records.values())
    panel = Panel(draw, (60, 40, 600, 240), (0, steps), (min(0.05, 0.8 * least), 50), log_y=True)
    ticks = [tick for tick in (0.01, 0.1, 1, 10) if tick >= panel.y[0]]
    panel.axes(np.linspace(0, steps, 6).tolist(), ticks, "step", "value (log scale, mean of 15 steps)")
    for order, (name, record) in reversed(list(enumerate(records.items()))):
        for term, colour in (("invariance", "#D9541E"), ("regulariser", "#2F6FDE")):
            values = smooth(record[term])
            panel.curve(
                range(len(values)), values.tolist(), colour if order == 0 else "#C9C8C4", width=2 if order == 0 else 1
            )
            if order == 0:
                panel.label(len(values), float(values[-1]), f"{term}, {name}", colour, shift=6)
    panel.curve([0, steps], [1.06, 1.06], MUTED, width=1)
    panel.label(0.62 * steps, 1.6, "1.06: expected of Gaussian samples", MUTED)
    save(image, path)


def embedding_figure(path: Path, eigenvalues: dict[str, list[float]], projections: np.ndarray) -> None:
    """Covariance eigenvalues of each encoder, and projections of the shipped one beside a Gaussian.

    Args:
        path: PNG to write.
        eigenvalues: Descending, of the training crops' embeddings, shipped encoder first.
        projections: Random projections of its embeddings, any shape, standardised.
    """
    image, draw = canvas(860, 300)
    kinds = {"VICReg": "#D9541E", "untrained": "#6E7075", next(iter(eigenvalues)): "#2F6FDE"}
    size = len(next(iter(eigenvalues.values())))
    panel = Panel(draw, (60, 40, 330, 240), (1, size), (1e-3, 10), log_y=True)
    panel.axes(
        [1, *(size * quarter // 4 for quarter in (1, 2, 3, 4))],
        [0.001, 0.01, 0.1, 1, 10],
        "component",
        "covariance eigenvalue (log scale)",
    )
    for name, values in reversed(eigenvalues.items()):
        colour = kinds.get(name, "#7FA6EA")
        panel.curve(range(1, len(values) + 1), values, colour, width=3 if name == next(iter(eigenvalues)) else 2)
    panel.end_labels([
        (values[-1], name, kinds.get(name, "#7FA6EA")) for name, values in eigenvalues.items() if "seed" not in name
    ])
    heights, edges = np.histogram(projections, bins=60, range=(-4, 4), density=True)
    centres = (edges[1:] + edges[:-1]) / 2
    panel = Panel(draw, (520, 40, 830, 240), (-4, 4), (0, 0.5))
    panel.axes([-4, -2, 0, 2, 4], [0, 0.25, 0.5], "standardised projection", "density")
    panel.curve(centres.tolist(), heights.tolist(), "#2F6FDE")
    fine = np.linspace(-4, 4, 161)
    panel.curve(fine.tolist(), (np.exp(-(fine**2) / 2) / np.sqrt(2 * np.pi)).tolist(), INK, width=1, dash=True)
    panel.label(1.4, 0.32, "dashed: Gaussian", INK)
    save(image, path)


def quantile_figure(path: Path, projections: dict[str, np.ndarray]) -> None:
    """Quantiles of standardised projections against those of a Gaussian, a curve an encoder.

    Args:
        path: PNG to write.
        projections: Encoder -> random projections of its embeddings, any shape; the shipped one first.
    """
    image, draw = canvas(520, 400)
    panel = Panel(draw, (60, 40, 420, 340), (-3.5, 3.5), (-6, 6))
    panel.axes(
        [-3, -2, -1, 0, 1, 2, 3], [-6, -4, -2, 0, 2, 4, 6], "quantile of a Gaussian", "quantile of the projections"
    )
    panel.curve([-3.5, 3.5], [-3.5, 3.5], INK, width=1)
    at = np.linspace(-3.4, 3.4, 137)
    curves = {name: np.quantile(values, ndtr(at)) for name, values in projections.items()}
    colours = dict(zip(curves, ("#2F6FDE", "#D9541E", "#6E7075"), strict=False))
    for name, curve in reversed(curves.items()):
        panel.curve(at.tolist(), curve.tolist(), colours[name])
    panel.end_labels([(float(curve[-1]), name, colours[name]) for name, curve in curves.items()])
    save(image, path)


def scores_figure(path: Path, panels: dict[str, dict[str, np.ndarray]]) -> None:
    """Score distributions of the demo sets, one panel an encoder.

    Args:
        path: PNG to write.
        panels: Encoder -> dataset -> scores in nats.
    """
    image, draw = canvas(860, 300)
    for column, (name, sets) in enumerate(panels.items()):
        values = np.concatenate(list(sets.values()))
        low, high = float(np.quantile(values, 0.002)) - 3, float(values.max()) + 3
        grid = np.linspace(low, high, 200)
        curves = {key: _density(scores, grid) for key, scores in sets.items()}
        top = 1.1 * max(float(curve.max()) for curve in curves.values())
        left = 60 + 420 * column
        panel = Panel(draw, (left, 56, left + 350, 240), (low, high), (0, top))
        ticks = np.arange(np.ceil(low / 10) * 10, high, 10).tolist()
        panel.axes(ticks, [], "JEPA-SCORE (nats), higher is likelier", f"{name}: density")
        for key, curve in curves.items():
            colour = COLOURS.get(key, MUTED)
            panel.curve(grid.tolist(), curve.tolist(), colour)
            peak = int(curve.argmax())
            panel.label(float(grid[peak]), float(curve[peak]), key, colour, anchor="mb")
    save(image, path)


def extremes_figure(path: Path, least: list[Image.Image], most: list[Image.Image], captions: list[str]) -> None:
    """Two strips: the least and the most likely held-out crops, with their scores.

    Args:
        path: PNG to write.
        least: Images, least likely first.
        most: As many images, most likely first.
        captions: Score of each image, least then most.
    """
    tile, gap = 72, 6
    image, draw = canvas(len(least) * (tile + gap) + gap, 2 * (tile + 40))
    texts = iter(captions)
    for row, (title, images) in enumerate((("Least likely", least), ("Most likely", most))):
        top = row * (tile + 40)
        panel = Panel(draw, (0, 0, 1, 1), (0, 1), (0, 1))
        panel.text((gap * SCALE, (top + 18) * SCALE), title, anchor="ls", fill=INK)
        for column, picture in enumerate(images):
            left = gap + column * (tile + gap)
            image.paste(picture.resize((tile * SCALE, tile * SCALE)), (left * SCALE, (top + 22) * SCALE))
            panel.text(((left + tile / 2) * SCALE, (top + 25 + tile) * SCALE), next(texts), anchor="mt", fill=MUTED)
    save(image, path)


def _density(scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Gaussian kernel density, Silverman's width."""
    spread = min(scores.std(), np.subtract(*np.quantile(scores, [0.75, 0.25])) / 1.34)
    width = max(0.9 * float(spread) * len(scores) ** -0.2, 0.05)
    return np.exp(-(((grid[:, None] - scores) / width) ** 2) / 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))

"""One image file -> upright RGB, within bounds of size and time, or one short sentence.

Every byte is untrusted. The header is read first, and pixels are decoded only when their number, shape
and cost are sane; whatever Pillow raises becomes an ``ImageError``.
"""

import contextlib
import functools
import io
import logging
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.room import Room
from jepascore_core.errors import ImageError

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 28  # 256 MiB: an uncompressed RGB image of 90 megapixels
MAX_ASPECT = 100  # resizing the short side of a 1 × 60,000 strip to 224 would make 3 gigapixels
MAX_SLOW_PIXELS = 4_000_000  # Pillow decodes QOI, XPM, plain PPM … in Python, about a million pixels a second
MAX_COPIED_PIXELS = 30_000_000  # the decoders of _COPYING hold an image several times, up to 28 bytes a pixel
MAX_SCANNED_PIXELS = 2_000_000_000  # pixels × scans: a small progressive JPEG may hold thousands of scans

# Raster formats that a signature identifies (JPEG opens MPO too). Left out: EPS (starts Ghostscript), WMF (Windows
# only), IPTC (opens whatever is embedded), and BUFR, GRIB, HDF5, MPEG, which Pillow names but cannot decode.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS", "PSD"),
    *("PCX", "DCX", "SGI", "SUN", "QOI", "DDS", "FTEX", "BLP", "MSP", "XBM", "XPM", "FITS", "FLI", "GBR", "PIXAR"),
    *("MCIDAS", "XVTHUMB"),
)
_COPYING = ("WEBP", "AVIF", "JPEG2000")
_BLOCK_BYTES = 1 << 26
_STRIP_PIXELS = 1 << 20  # of an image that is converted at once: beside the image and its RGB there is no third copy
_BY_SUFFIX_ONLY = ("TGA", "PCD")  # no signature: any bytes might pass for one of these

# EXIF orientation -> how to turn it upright (Exif 2.32, tag 0x0112).
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUIET = threading.Lock()
_ROOM = Room(MAX_PIXELS)


def shared_room() -> contextlib.AbstractContextManager[None]:
    """Bound what threads hold that each read one image at a time; each enters it for the time that it holds its image.

    Returns:
        A context; all images of more than a megapixel that are read within one, in any thread, have at most
        ``MAX_PIXELS`` together. Further images wait.
    """
    return _ROOM.shared()


def open_image(source: bytes | Path) -> Image.Image:
    """Read an image file as upright RGB.

    Args:
        source: The file's bytes, or its path.

    Returns:
        The image in mode RGB, decoded; the first frame of an animation.

    Raises:
        ImageError: Missing, empty, not an image, cut short, damaged or too large.
    """
    _set_up_pillow()
    data = read_file(source) if isinstance(source, Path) else source
    formats = list(_FORMATS)
    if isinstance(source, Path):
        formats += [name for name in _BY_SUFFIX_ONLY if name == _suffixes().get(source.suffix.lower())]
    if not data:
        raise ImageError("The file is empty.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        _check_decoding_cost(image, data)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(error)) from error
    return _upright_rgb(image, ours=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any mode into upright RGB.

    Transparent pixels are laid over white, as browsers and paper do. Sixteen-bit greys are divided by
    the smallest of 8, 10, 12, 14 or 16 bits that holds the brightest pixel, because cameras store
    12 bits in 16. Integer and float images that are neither in [0, 1], [0, 255] nor 16-bit are
    stretched from their least to their greatest finite value.

    Args:
        image: Any Pillow image; a lazily opened file is decoded here.

    Returns:
        The image in mode RGB.

    Raises:
        ImageError: It cannot be decoded or converted, or its size is out of bounds.
    """
    return _upright_rgb(image, ours=False)


def thumbnail(image: Image.Image, size: int = 160) -> bytes:
    """Make a small JPEG of an image.

    Args:
        image: Any Pillow image.
        size: Longest side, in pixels; a smaller image keeps its size.

    Returns:
        JPEG bytes, without metadata.

    Raises:
        ImageError: The image cannot be converted.
    """
    image = to_rgb(image)
    share = min(1.0, size / max(image.size))
    box = (max(1, round(share * image.width)), max(1, round(share * image.height)))
    small = image.resize(box, Image.Resampling.HAMMING)  # as sharp as bicubic at a third of the cost of Lanczos
    small.info.clear()  # Pillow would write a comment of the original into the thumbnail
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()


def read_file(path: Path) -> bytes:
    """Read a regular file of bounded size, whatever it holds.

    Args:
        path: The file.

    Returns:
        Its bytes, at most ``MAX_BYTES``.

    Raises:
        ImageError: Missing, closed to us, not a regular file, or too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise ImageError("Not a regular file.")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"The file has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("The file is gone.") from error
    except PermissionError as error:
        raise ImageError("No permission to read the file.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"The file cannot be read: {_first_line(error)}.") from error


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case file name endings that ``open_image`` can read, such as ``.jpg``."""
    return frozenset(suffix for suffix, name in _suffixes().items() if name in (*_FORMATS, "MPO", *_BY_SUFFIX_ONLY))


@functools.cache
def _suffixes() -> dict[str, str]:
    """Pillow's table of file name endings -> format."""
    return Image.registered_extensions()


def _set_up_pillow() -> None:
    """Keep Pillow's warnings off the terminal, and its large images out of the heap.

    What matters arrives as an error. Filters are process-wide, so this adds one filter once, and again only after
    someone took it away. Blocks of 64 MiB are mapped by themselves and go back to the system when an image is let go;
    those of 16 MiB, Pillow's own choice, stay in the heap of the thread that read it.
    """
    if Image.core.get_block_size() < _BLOCK_BYTES:
        Image.core.set_block_size(_BLOCK_BYTES)
    if not any(entry[0] == "ignore" and "PIL" in str(getattr(entry[3], "pattern", "")) for entry in warnings.filters):
        with _QUIET:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _upright_rgb(image: Image.Image, *, ours: bool) -> Image.Image:
    """Decode and convert; an image that is ours is let go as soon as it is converted."""
    _check_size(image)
    _ROOM.take(image.width * image.height)
    try:
        image.load()
        _check_size(image)  # an icon names one size in its directory and may hold another
        turn = _turn(image)
        flat = _flatten(image)
        if ours and flat is not image:
            image.close()  # frees its pixels now, and not when the garbage is collected
        if turn is None:
            return flat
        upright = flat.transpose(turn)
        upright.info.clear()  # else its EXIF would have it turned again
        return upright
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(error)) from error


def _check_size(image: Image.Image) -> None:
    """Refuse an image whose pixels would not fit, before they are decoded."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} × {height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image is too large: {width} × {height} is more than {MAX_PIXELS // 10**6} megapixels.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"The image is too long and thin: {width} × {height}.")


def _check_decoding_cost(image: Image.Image, data: bytes) -> None:
    """Refuse small files that take minutes to decode."""
    pixels = image.width * image.height
    if isinstance(image, ImageFile.ImageFile) and pixels > MAX_SLOW_PIXELS:
        slow = [tile[0] for tile in image.tile if tile[0] in Image.DECODERS]  # the decoders written in Python
        if slow:
            limit = f"{image.format} images are read up to {MAX_SLOW_PIXELS // 10**6} megapixels"
            raise ImageError(f"The image is too large: {image.width} × {image.height}, and {limit}.")
    copied = image.format in _COPYING or (image.mode == "CMYK" and "progressive" in image.info)
    if copied and pixels > MAX_COPIED_PIXELS:
        limit = f"{image.format} images of this kind are read up to {MAX_COPIED_PIXELS // 10**6} megapixels"
        raise ImageError(f"The image is too large: {image.width} × {image.height}, and {limit}.")
    if image.format in ("JPEG", "MPO") and pixels * data.count(b"\xff\xda") > MAX_SCANNED_PIXELS:
        raise ImageError("The JPEG has too many scans for its size.")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the EXIF orientation is applied; damaged EXIF counts as none."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the pixels are whole, and Pillow's EXIF parser raises anything from struct.error on
        return None


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode -> RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    wide = image.mode == "F" or image.mode.startswith("I")
    limits = _range(np.asarray(strip) for _, strip in _strips(image)) if wide else None
    paper = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        paper.paste(_flat(strip, limits), (0, top))
    return paper


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """An image from top to bottom in pieces, each with the number of its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _flat(image: Image.Image, limits: tuple[float, float] | None) -> Image.Image:
    """Any mode -> RGB, at once; wide greys by the values that become black and white."""
    if limits is not None:
        image = Image.fromarray(_to_bytes(np.asarray(image), *limits))  # (H, W) uint8
    if image.mode == "La":  # premultiplied alpha, which Pillow takes only to LA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image.convert("RGB")


def _to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale grey values of 16 or 32 bits, or floats, to 0 … 255.

    Args:
        values: (H, W), any numeric dtype.
        low: Becomes black.
        high: Becomes white.

    Returns:
        (H, W) uint8.
    """
    scaled = values.astype(np.float32)
    np.nan_to_num(scaled, copy=False, nan=low, posinf=high, neginf=low)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low)) if high > low else np.float32(0)
    np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def _range(pieces: Iterable[np.ndarray]) -> tuple[float, float]:
    """Values that become black and white, over all pieces of an image."""
    least, greatest, limits = np.inf, -np.inf, [2.0**bits - 1 for bits in (8, 10, 12, 14, 16)]
    for values in pieces:
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            low = float(values.min(where=finite, initial=np.inf))
            high = float(values.max(where=finite, initial=-np.inf))
            limits = [1.0, 255.0]
        else:
            low, high = float(values.min()), float(values.max())
        least, greatest = min(least, low), max(greatest, high)
    if least > greatest:  # nothing finite
        return 0.0, 0.0
    whole = [limit for limit in limits if greatest <= limit]
    return (0.0, whole[0]) if least >= 0 and whole else (least, greatest)


def _reason(error: Exception) -> str:
    """Say in one short sentence what Pillow could not read."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "Not an image that can be read."
    if isinstance(error, Image.DecompressionBombError):
        return f"The image is too large: more than {MAX_PIXELS // 10**6} megapixels."
    if isinstance(error, MemoryError):
        return "The image does not fit in memory."
    return f"The image is damaged: {_first_line(error)}."


def _first_line(error: Exception) -> str:
    """Beginning of a message that we did not write, fit for one line."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [line for line in text.splitlines() if line.strip()] or ["it cannot be decoded"]
    return printable(lines[0])[:120].rstrip(". ")

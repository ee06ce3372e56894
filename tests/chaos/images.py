"""Two thousand image files that wish us harm, a folder of them at a time, through reading and through whole runs."""

import functools
import gzip
import io
import pickle
import random
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.chaos.mutations import MUTATIONS, of_its_structure
from tests.chaos.pictures import chunk, picture, png, sources

MALICE = {"whole": 1, "cut short": 2, "bits flipped": 3, "absurd number": 3, "header overwritten": 3}  # else 1
OF_STRUCTURE = 2
SPECIAL_EVERY = 8


def images(n: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Kind, file name and bytes of each.

    Args:
        n: How many; the costly ones come after some hundreds.
        seed: Of all chances; the first m of n are the same for every n.
    """
    endings = sorted({ending for _, ending, _ in sources()})
    special = _specials()
    for place in range(n):
        draw = random.Random(f"{seed} {place}")
        if place % SPECIAL_EVERY == 0 and (found := next(special, None)) is not None:
            yield found
            continue
        name, ending, data = draw.choice(sources())
        possible = MUTATIONS | of_its_structure(data)
        weights = [MALICE.get(kind, OF_STRUCTURE if kind not in MUTATIONS else 1) for kind in possible]
        kind = draw.choices(list(possible), weights)[0]
        data = possible[kind](data, draw)
        if data and draw.random() < 0.2:
            again = draw.choice(list(possible))
            data = possible[again](data, draw)
        if draw.random() < 0.1:
            kind, ending = "wrong ending", draw.choice(endings)
        yield kind, f"{place:05d} {name[:60].replace('/', ' ')}{ending}", data


def _specials() -> Iterator[tuple[str, str, bytes]]:
    """Files that no chance would make; what is dear comes last."""
    for number, ending in enumerate((".jpg", ".png", ".gif", ".tif", ".webp", ".bmp", ".tga", ".pcd", ".pcx", ".xbm")):
        yield "empty", f"empty{ending}", b""
        text = (
            b"To be, or not to be.\n" * 90,
            b"<html><svg onload='x'/></html>",
            b"#!/bin/sh\nrm -rf ~\n",
            b"\0" * 5000,
        )
        yield "no image", f"text {number}{ending}", text[number % len(text)]
    yield "no image", "pickle.png", pickle.dumps({"a": [1, 2]})
    yield "no image", "zip.jpg", _zipped()
    yield "no image", "gzip.jpg", gzip.compress(bytes(10**6))
    yield "no image", "tar.jpg", _tarred()
    yield "no image", "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "no image", "script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for width, height in ((0, 5), (5, 0), (1, 10**6), (60_000, 1), (2**31 - 1, 2**31 - 1), (20_000, 20_000)):
        yield "absurd size", f"{width}x{height}.png", png(width, height, rows=bytes(99))
    for width, height in ((65_535, 65_535), (30_000, 30_000), (1, 65_535), (0, 0)):
        yield "absurd size", f"{width}x{height}.jpg", _jpeg_of(width, height)
        yield "absurd size", f"{width}x{height}.gif", _gif_of(width, height)
        yield "absurd size", f"{width}x{height}.tif", _tiff_of(width, height)
        yield "absurd size", f"{width}x{height}.bmp", _bmp_of(width, height)
        yield "absurd size", f"{width}x{height}.pgm", b"P5 %d %d 255\n" % (width, height) + bytes(99)
        yield "absurd size", f"{width}x{height}.qoi", b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + b"\xfd" * 99
    yield "absurd size", "canvas.webp", _webp_of(16_383, 16_383)
    for name, prefix in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        hidden = chunk(name, prefix + zlib.compress(bytes(1 << 26)))
        yield "bomb", f"{name.decode()}.png", png(8, 8, extra=hidden)
        yield "bomb", f"many {name.decode()}.png", png(8, 8, extra=hidden * 20)
    yield "bomb", "rows.png", png(8, 8, rows=bytes(1 << 26))
    yield "bomb", "scans.jpg", _scans()
    yield "bomb", "frames.gif", _frames()
    yield "bomb", "directories.tif", _looping_tiff()
    yield "bomb", "entries.ico", struct.pack("<HHH", 0, 1, 65_535) + struct.pack("<8BII", *([0] * 8), 40, 22) * 65_535
    yield "bomb", "resources.psd", b"8BPS" + struct.pack(">H6xHIIHHII", 1, 3, 8, 8, 8, 3, 0, 2**31 - 1) + bytes(10**5)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):  # as large as is allowed, and tiny on disk
        colour, depth = {"1": (0, 1), "L": (0, 8), "LA": (4, 8), "P": (3, 8), "RGB": (2, 8), "RGBA": (6, 8)}[mode]
        yield "as large as allowed", f"{mode}.png", png(10_000, 10_000, depth=depth, colour=colour)
    yield "as large as allowed", "sixteen bits.png", png(10_000, 10_000, depth=16, colour=0)
    yield "as large as allowed", "transparent.png", png(10_000, 10_000, extra=chunk(b"tRNS", bytes(6)))
    for mode in ("F", "I", "I;16", "CMYK", "LAB", "RGBA"):
        yield "as large as allowed", f"{mode.replace(';', ' ')}.tif", _large(mode, "TIFF", compression="tiff_lzw")
    turned = Image.Exif()
    turned[0x0112] = 5
    for mode in ("L", "RGB", "CMYK"):
        yield "as large as allowed", f"{mode}.jpg", _large(mode, "JPEG", exif=turned, quality=20)
    yield "as large as allowed", "progressive.jpg", _large("RGB", "JPEG", progressive=True, quality=20)
    yield "as large as allowed", "RGB.gif", _large("P", "GIF")
    for kind, ending, options in (
        ("WEBP", "webp", {"method": 0}),
        ("JPEG2000", "jp2", {}),
        ("AVIF", "avif", {"speed": 10}),
    ):
        if kind in Image.SAVE:
            yield "as large as allowed", f"RGBA.{ending}", _large("RGBA", kind, side=5_470, **options)
    yield (
        "as large as allowed",
        "CMYK progressive.jpg",
        _large("CMYK", "JPEG", side=5_470, progressive=True, quality=20),
    )


def read_image(case: tuple[str, str]) -> str:
    """One image through its dataset, the runner's reader, the thumbnail and the transform of the demo's encoder.

    Args:
        case: A folder of images, and the name of one in it.
    """
    folder, name = case
    dataset, read = _reader(folder)
    loaded = read(next(item for item in dataset.items if item.key.endswith(name)))
    if loaded.error is not None:
        check_sentence(loaded.error)
        return loaded.error
    assert loaded.views is not None and loaded.thumbnail is not None
    assert loaded.views.shape == (1, 3, 48, 48) and bool(loaded.views.isfinite().all()), "values that are no numbers"
    with Image.open(io.BytesIO(loaded.thumbnail)) as small:
        assert small.format == "JPEG" and max(small.size) <= 160
    return "read"


def score_folder(folder: str) -> str:
    """A whole run of a folder: each image ends as a row with a score, or with an error in a sentence."""
    import torch

    from jepascore_core import store
    from jepascore_core.datasets import load_dataset
    from jepascore_core.datasets.images import thumbnail
    from jepascore_core.encoders import load_encoder
    from jepascore_core.runner import Hooks, Work, score_work

    dataset, home = load_dataset(f"folder:{folder}"), Path(folder).parent / "runs"
    home.mkdir(exist_ok=True)
    request = store.RunRequest("demo:jepa-tiny", dataset.id, device="cpu", batch_size=8)
    encoder = load_encoder("demo:jepa-tiny")
    run = score_work(Work(request, encoder, dataset, torch.device("cpu"), home, thumbnail), Hooks(threading.Event()))
    scored, failed = store.scores(run), store.failures(run)
    keys = {*scored["key"], *failed["key"]}
    assert run.progress().state == "done"
    assert keys == {item.key for item in dataset.items}, "an image has no row"
    assert len(scored) + len(failed) == len(dataset.items), "an image has two rows"
    for reason in failed["error"]:
        check_sentence(reason)
    return f"{len(scored)} scored, {len(failed)} refused"


def check_sentence(text: str) -> None:
    """One line in words of ours: no class of an exception, no traceback.

    Raises:
        AssertionError: It is not.
    """
    assert text.isprintable() and len(text) <= 300, f"not one line: {text!r}"
    first = text.partition(":")[0]
    assert " " in first or not first.endswith(("Error", "Exception", "Warning")), f"not a sentence: {text!r}"
    assert text.endswith((".", "…")), f"not a sentence: {text!r}"


@functools.lru_cache(maxsize=1)
def _reader(folder: str) -> tuple[Any, Any]:
    from jepascore_core.datasets import load_dataset
    from jepascore_core.datasets.images import thumbnail
    from jepascore_core.runner.reading import reader

    dataset = load_dataset(f"folder:{folder}")
    return dataset, reader(dataset, _transform(), thumbnail)


@functools.cache
def _transform() -> Any:
    from jepascore_core.encoders import load_encoder

    return load_encoder("demo:jepa-tiny").transform


def _large(mode: str, kind: str, *, side: int = 10_000, **options: Any) -> bytes:
    """A blank image of a hundred megapixels, or another side."""
    out = io.BytesIO()
    Image.new(mode, (side, side)).save(out, kind, **options)
    return out.getvalue()


def _encoded(kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture("RGB").save(out, kind, **options)
    return out.getvalue()


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(_encoded("JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _gif_of(width: int, height: int) -> bytes:
    data = bytearray(_encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def _tiff_of(width: int, height: int) -> bytes:
    out = bytearray(_encoded("TIFF"))
    (place,) = struct.unpack_from("<I", out, 4)
    for entry in range(struct.unpack_from("<H", out, place)[0]):
        (tag,) = struct.unpack_from("<H", out, place + 2 + 12 * entry)
        if tag in (256, 257):
            struct.pack_into("<HII", out, place + 4 + 12 * entry, 4, 1, width if tag == 256 else height)
    return bytes(out)


def _bmp_of(width: int, height: int) -> bytes:
    data = bytearray(_encoded("BMP"))
    data[18:26] = struct.pack("<II", width, height)
    return bytes(data)


def _webp_of(width: int, height: int) -> bytes:
    """Two small frames on a large canvas."""
    data = bytearray(_encoded("WEBP", save_all=True, append_images=[picture("RGB").rotate(90)]))
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def _scans() -> bytes:
    """A small progressive JPEG, its last scan again and again."""
    data = _encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 3000 + data[-2:]


def _frames() -> bytes:
    frames = [Image.new("P", (8, 8), shade) for shade in range(200)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:] * 20, optimize=False)
    return out.getvalue()


def _looping_tiff() -> bytes:
    """Its directory is followed by itself."""
    out = bytearray(_encoded("TIFF"))
    (place,) = struct.unpack_from("<I", out, 4)
    (count,) = struct.unpack_from("<H", out, place)
    struct.pack_into("<I", out, place + 2 + 12 * count, place)
    return bytes(out)


def _zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**6))
    return out.getvalue()


def _tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/passwd"))
    return out.getvalue()

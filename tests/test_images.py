"""Reading one image: every mode and format that Pillow can write, and files that wish us harm."""

import io
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from jepascore_core.datasets import images
from jepascore_core.datasets.images import MAX_PIXELS, image_suffixes, open_image, thumbnail, to_rgb
from jepascore_core.datasets.keys import key_to_name, name_to_key, printable
from jepascore_core.datasets.room import Room
from jepascore_core.errors import ImageError

FORMATS = {
    "AVIF": ".avif",
    "BLP": ".blp",
    "BMP": ".bmp",
    "DDS": ".dds",
    "DIB": ".dib",
    "GIF": ".gif",
    "ICNS": ".icns",
    "ICO": ".ico",
    "JPEG": ".jpg",
    "JPEG2000": ".jp2",
    "MPO": ".mpo",
    "MSP": ".msp",
    "PCX": ".pcx",
    "PNG": ".png",
    "PPM": ".ppm",
    "QOI": ".qoi",
    "SGI": ".sgi",
    "TGA": ".tga",
    "TIFF": ".tif",
    "WEBP": ".webp",
    "XBM": ".xbm",
}
MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """A smooth colour picture whose corners differ, so that a wrong turn shows."""
    down, across = np.mgrid[0:height, 0:width]
    red, green = 255 * across / (width - 1), 255 * down / (height - 1)
    return Image.fromarray(np.stack([red, green, 255 - red], axis=-1).astype(np.uint8))


def in_mode(mode: str) -> Image.Image:
    """The picture in a mode; Pillow does not convert into some of them."""
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(photo().convert("L"))
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(grey.astype(dtype))
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode)
    return photo().convert(via).convert(mode) if via else photo().convert(mode)


def encode(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two images of one size, in grey levels."""
    assert a.size == b.size
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = to_rgb(in_mode(mode))
    assert image.mode == "RGB"
    grey = mode in ("1", "L", "LA", "La", "I", "I;16", "F")
    expected = photo().convert("L").convert("RGB") if grey else photo()
    # One bit dithers and a palette of 216 colours rounds, so these two are compared after blurring.
    small = (6, 4) if mode in ("1", "P", "PA") else photo().size
    assert difference(image.resize(small), expected.resize(small)) < (14 if mode in ("1", "P", "PA", "LAB") else 3)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_and_mode_that_pillow_writes(tmp_path: Path, name: str) -> None:
    """Whatever Pillow writes is read from its file, and from bytes where the bytes say what they are."""
    written = []
    for mode in MODES:
        path = tmp_path / f"{mode.replace(';', '-')}{FORMATS[name].upper()}"
        source = in_mode(mode)
        if name == "ICNS":
            if mode == "P":  # Pillow writes it, and fails to read it back
                continue
            source = source.resize((64, 64))
        try:
            source.save(path, name)
        except (OSError, ValueError, KeyError, SystemError):  # a mode that the format does not have
            continue
        image = open_image(path)
        assert image.mode == "RGB"
        if name not in ("ICO", "ICNS"):  # an icon is written in sizes of its own
            assert image.size == source.size
        if name not in ("TGA",):
            assert image.tobytes() == open_image(path.read_bytes()).tobytes()
        written.append(mode)
    assert written, f"Pillow wrote no {name}"
    assert FORMATS[name] in image_suffixes()


def test_lossless_formats_keep_every_pixel() -> None:
    for name in ("PNG", "BMP", "TIFF", "PPM", "QOI", "SGI"):
        assert open_image(encode(photo(), name)).tobytes() == photo().tobytes(), name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_turns_the_image_upright(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(), name, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        reference = ImageOps.exif_transpose(opened).convert("RGB")
    image = open_image(data)
    assert image.size == ((48, 32) if orientation < 5 else (32, 48))
    assert difference(image, reference) < 1


def test_damaged_exif_counts_as_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(photo(), "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 8] = b"\xff" * 8
    assert open_image(bytes(data)).size == (48, 32)


def test_transparency_shows_white_paper() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert open_image(encode(clear)).getpixel((0, 0)) == (255, 255, 255)
    assert abs(open_image(encode(half)).getpixel((0, 0))[0] - 127) <= 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    image = open_image(encode(palette, transparency=0))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((1, 0)) == (200, 0, 0)
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    assert open_image(encode(keyed, transparency=(1, 2, 3))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535]], np.uint16), [0, 255]),  # sixteen bits
        (np.array([[0, 2048, 4095]], np.uint16), [0, 128, 255]),  # twelve bits stored in sixteen
        (np.array([[0, 128, 255]], np.uint16), [0, 128, 255]),  # eight bits stored in sixteen
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 1_000_000]], np.int32), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 2.0, np.inf, 300.0]], np.float32), [0, 0, 255, 255]),
        (np.array([[np.nan, np.inf]], np.float32), [0, 0]),
        (np.array([[7.0e30, 7.0e30]], np.float32), [0, 0]),
    ],
)
def test_wide_greys_are_scaled(values: np.ndarray, expected: list[int]) -> None:
    image = to_rgb(Image.fromarray(values))
    assert np.abs(np.asarray(image)[0, :, 0].astype(int) - expected).max() <= 1


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encode(frames[0], name, save_all=True, append_images=frames[1:])
        red, green, blue = open_image(data).getpixel((4, 4))
        assert red > 240, name
        assert max(green, blue) < 15, name


def png(width: int, height: int) -> bytes:
    """A PNG header of any size, with a few bytes for its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


HARM = {
    "zero bytes": (b"", "empty"),
    "text": (b"this is not an image at all, only a sentence\n" * 9, "Not an image"),
    "html": (b"<html><script>alert(1)</script></html>", "Not an image"),
    "random bytes": (random.Random(0).randbytes(4096), "Not an image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "Not an image"),
    "PDF": (b"%PDF-1.7\n1 0 obj\n", "Not an image"),
    "bomb": (png(20_000, 20_000), "too large"),
    "between Pillow's warning and its error": (png(12_000, 9_000), "too large"),
    "absurd header": (png(2**31 - 1, 2**31 - 1), "too large"),
    "no pixels": (png(0, 5), "damaged|no pixels|Not an image"),
    "thread": (png(60_000, 1), "long and thin"),
    "cut short": (encode(photo(200, 200), "JPEG")[:900], "damaged"),
    "pixels missing": (png(64, 64), "damaged"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", "Not an image|damaged"),
    "slow format": (b"qoif" + struct.pack(">II", 9_000, 9_000) + b"\3\0" + b"\xfd" * 999, "too large"),
    "scans without end": (encode(photo(1000, 1000), "JPEG", progressive=True) + b"\xff\xda" * 3000, "scans"),
}


@pytest.mark.parametrize("case", HARM)
def test_harmful_bytes_are_one_sentence(case: str) -> None:
    data, reason = HARM[case]
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(data)
    assert_sentence(str(caught.value))


def assert_sentence(text: str) -> None:
    assert text.endswith(".")
    assert len(text) < 250
    assert text.isprintable()
    text.encode()  # valid UTF-8


def test_files_that_are_not_there_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    cases = {"gone.png": "gone", "pipe.png": "regular", "folder.png": "regular", "a" * 300 + ".png": "cannot be read"}
    for name, reason in cases.items():
        with pytest.raises(ImageError, match=reason):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(Path("null\0byte.png"))
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # sparse: one terabyte that takes no room
    with pytest.raises(ImageError, match="bytes; at most"):
        open_image(tmp_path / "huge.png")


def test_a_large_image_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """The limit holds in a process that may not have the memory, and nothing is printed, not even by Pillow."""
    script = """
import pathlib, resource, sys
from jepascore_core.datasets.images import open_image
from jepascore_core.errors import ImageError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        open_image(pathlib.Path(path).read_bytes())
    except ImageError:
        pass
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "more than 100 MB"
"""
    names = []
    for case in ("bomb", "between Pillow's warning and its error", "slow format", "absurd header"):
        names.append(str(tmp_path / case))
        Path(names[-1]).write_bytes(HARM[case][0])
    done = subprocess.run([sys.executable, "-W", "always", "-c", script, *names], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_largest_image_that_is_allowed() -> None:
    width, height = 10_000, MAX_PIXELS // 10_000
    data = encode(Image.new("1", (width, height)), "PNG")
    assert open_image(data).size == (width, height)


def mutations(data: bytes, seed: int) -> list[bytes]:
    """Bit flips, overwritten headers, cuts and insertions of one file."""
    draw = random.Random(seed)
    result = []
    for _ in range(4):
        flipped = bytearray(data)
        for _ in range(draw.choice((1, 8, 64))):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        header = bytearray(data)
        start = draw.randrange(min(len(data), 64))
        header[start : start + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        middle = draw.randrange(len(data))
        result += [
            bytes(flipped),
            bytes(header),
            data[: draw.randrange(len(data))],
            data[:middle] + draw.randbytes(16) + data[middle:],
        ]
    return result


def test_mutated_images_are_read_or_refused(tmp_path: Path) -> None:
    """About 250 damaged files: an RGB image or an ImageError with one sentence, within seconds each."""
    refused = count = 0
    for name, suffix in FORMATS.items():
        source = photo(64, 64) if name == "ICNS" else photo()
        source = source.convert({"MSP": "1", "XBM": "1", "BLP": "P"}.get(name, "RGB"))
        for number, data in enumerate(mutations(encode(source, name), seed=len(name))[:12]):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(data)
            started = time.monotonic()
            try:
                assert open_image(path).mode == "RGB"
            except ImageError as error:
                refused += 1
                assert_sentence(str(error))
            assert time.monotonic() - started < 10, (name, number)
            count += 1
    assert count == 12 * len(FORMATS)
    assert refused > 50, "the mutations did no harm"


def test_threads_read_what_one_thread_reads() -> None:
    files = [encode(photo(30 + n % 7, 40), name) for n in range(40) for name in ("JPEG", "PNG", "GIF", "TIFF")]
    with ThreadPoolExecutor(8) as pool:
        together = [image.tobytes() for image in pool.map(open_image, files)]
    assert together == [open_image(data).tobytes() for data in files]


def test_thumbnail_is_a_small_jpeg() -> None:
    for source, size in ((photo(640, 400), (160, 100)), (photo(20, 30), (20, 30)), (photo(300, 600), (80, 160))):
        data = thumbnail(source)
        with Image.open(io.BytesIO(data)) as small:
            assert (small.format, small.mode, small.size) == ("JPEG", "RGB", size)
        assert len(data) < 20_000
    assert thumbnail(in_mode("RGBA"))
    with Image.open(io.BytesIO(thumbnail(photo(640, 400), size=64))) as small:
        assert small.size == (64, 40)


def test_thumbnail_carries_no_metadata_and_leaves_the_image_alone() -> None:
    image = open_image(encode(photo(400, 400), "JPEG", comment=b"secret" * 100, exif=b"Exif\0\0secret"))
    assert b"secret" not in thumbnail(image)
    assert image.size == (400, 400)


@given(st.text(st.characters(codec=None) | st.sampled_from("\\\n\r\x1b\udcff\u202e/x0a"), max_size=30))
def test_keys_are_one_line_and_lead_back(name: str) -> None:
    key = name_to_key(name)
    key.encode()
    assert len(key.splitlines()) <= 1
    assert key_to_name(key) == name
    assert len(printable(name).splitlines()) <= 1


@given(st.lists(st.text("ab\\x0\n\udc80u", max_size=6), unique=True))
def test_keys_stay_apart(names: list[str]) -> None:
    assert len({name_to_key(name) for name in names}) == len(names)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_converted_in_strips_is_the_image_converted_at_once(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = to_rgb(in_mode(mode)).tobytes()
    monkeypatch.setattr(images, "_STRIP_PIXELS", 48 * 5)
    assert to_rgb(in_mode(mode)).tobytes() == whole


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_thumbnail_stands_upright_too(name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = open_image(encode(photo(), name, exif=exif))
    with Image.open(io.BytesIO(thumbnail(upright))) as small:
        assert small.size == upright.size == (32, 48)
        assert difference(small.convert("RGB"), upright) < 8


@pytest.mark.parametrize(("name", "mode"), [("WEBP", "RGB"), ("JPEG2000", "L"), ("AVIF", "RGB"), ("JPEG", "CMYK")])
def test_decoders_that_hold_an_image_many_times_take_smaller_ones(
    name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(photo().convert(mode), name, progressive=True)
    assert open_image(data).size == (48, 32)
    monkeypatch.setattr(images, "MAX_COPIED_PIXELS", 48 * 32 - 1)
    with pytest.raises(ImageError, match=r"too large: 48 × 32, and .* are read up to"):
        open_image(data)


def test_images_read_side_by_side_share_the_room_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads read images of half the limit: never more than two at once, each after the other, none for ever."""
    monkeypatch.setattr(images, "_ROOM", Room(2_400_000))
    data, held, most, lock = encode(photo(1200, 1000)), 0, [0], threading.Lock()

    def read(_: int) -> None:
        nonlocal held
        with images.shared_room(), images.shared_room():
            open_image(data)
            with lock:
                held += 1
                most[0] = max(most[0], held)
            time.sleep(0.02)
            with lock:
                held -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(16)))
    assert most[0] == 2
    with images.shared_room():  # more than there is counts as all of it; a second image of one block waits for nothing
        assert open_image(encode(photo(2000, 1500))).size == open_image(encode(photo(2000, 1500))).size
    assert open_image(data).size == (1200, 1000)  # outside, nobody waits

"""Small image files to mutate: every format and mode that the installed Pillow writes, and those that it only reads."""

import functools
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

MODES = (
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "I;16", "I;16B", "F"),
)
_ONE_BIT = ("tiff_ccitt", "group3", "group4")
_COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd")
_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {"progressive": True, "quality": 40}),
    ("JPEG", "RGB", {"subsampling": 0, "optimize": True, "restart_marker_blocks": 2}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "P", {"transparency": 3, "bits": 4}),
    ("WEBP", "RGBA", {"lossless": True, "exact": True}),
    ("JPEG2000", "RGB", {"irreversible": True, "quality_layers": [20, 4]}),
    ("JPEG2000", "L", {"no_jp2": True}),
    ("TIFF", "RGB", {"big_tiff": True}),
    ("DDS", "RGBA", {"pixel_format": "DXT1"}),
    ("DDS", "RGBA", {"pixel_format": "DXT3"}),
    ("DDS", "RGBA", {"pixel_format": "DXT5"}),
    ("DDS", "RGB", {"pixel_format": "BC5"}),
    ("TGA", "RGB", {"compression": "tga_rle"}),
    ("BLP", "P", {"blp_version": "BLP1"}),
    ("ICO", "RGBA", {"bitmap_format": "bmp"}),
)


def picture(mode: str, width: int = 48, height: int = 32) -> Image.Image:
    """A smooth picture in a mode, also those that Pillow does not convert into."""
    down, across = np.mgrid[0:height, 0:width]
    red, green = 255 * across / (width - 1), 255 * down / (height - 1)
    image = Image.fromarray(np.stack([red, green, 255 - red], axis=-1).astype(np.uint8))
    if mode.startswith("I") or mode == "F":
        grey = np.asarray(image.convert("L"))
        return Image.fromarray(grey.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]))
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode)
    return image.convert(via).convert(mode) if via else image.convert(mode)


@functools.cache
def sources() -> tuple[tuple[str, str, bytes], ...]:
    """Name, file name ending and bytes of each file."""
    return tuple(_written()) + tuple(_by_hand())


def _written() -> Iterator[tuple[str, str, bytes]]:
    """What Pillow writes: formats × modes, TIFF's compressions, options, animations, metadata."""
    Image.init()
    endings = {name: ending for ending, name in Image.EXTENSION.items()}
    endings |= {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "DIB": ".dib", "MPO": ".mpo"}
    plans: list[tuple[str, str, dict[str, Any]]] = [(name, mode, {}) for name in sorted(Image.SAVE) for mode in MODES]
    plans += [("TIFF", mode, {"compression": way}) for way in _COMPRESSIONS for mode in MODES]
    plans += [("TIFF", "1", {"compression": way}) for way in _ONE_BIT]
    plans += [("TIFF", mode, {"compression": "jpeg"}) for mode in ("L", "RGB", "CMYK", "YCbCr")]
    plans += list(_OPTIONS)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif.get_ifd(0x8769)[0x9286] = 6, "a description", b"ASCII\0\0\0words"
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        plans.append((name, "RGB", {"exif": exif}))
    frames = [picture("RGB").rotate(angle) for angle in (90, 180)]
    for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"):
        plans.append((name, "RGB", {"save_all": True, "append_images": frames}))
    for name, mode, options in plans:
        side = (64, 64) if name in ("ICNS", "ICO", "BLP") else (48, 32)
        buffer = io.BytesIO()
        try:
            picture(mode, *side).save(buffer, name, **options)
        except Exception:  # a mode, a compression or an option that the format does not have
            continue
        words = " ".join([name, mode, *(f"{k}={v}" for k, v in options.items() if isinstance(v, str | bool | int))])
        yield words, endings.get(name, ".bin"), buffer.getvalue()


def _by_hand() -> Iterator[tuple[str, str, bytes]]:
    """Formats that Pillow only reads, as plain as they can be."""
    width, height = 48, 32
    grey = bytes(range(256)) * 6  # 48 × 32
    colour = grey * 3
    for depth, body in ((1, grey[:192]), (8, grey), (24, colour), (32, grey * 4)):
        kind = struct.pack(">8I", 0x59A66A95, width, height, depth, len(body), 1, 0, 0)
        yield f"SUN {depth}", ".ras", kind + body
    runs = b"".join(bytes((0x80, 47, shade)) for shade in range(height))
    yield "SUN rle", ".ras", struct.pack(">8I", 0x59A66A95, width, height, 8, len(runs), 2, 0, 0) + runs
    for bits in (8, 16, 32, -32, -64):
        cards = [f"{k:8}= {v:>20}" for k, v in {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": 48}.items()]
        head = "".join(card.ljust(80) for card in [*cards, f"{'NAXIS2':8}= {32:>20}", "END"]).ljust(2880)
        yield f"FITS {bits}", ".fits", head.encode() + grey * (abs(bits) // 8)
    for channels, mode, body in ((1, 1, grey), (3, 3, colour), (4, 4, grey * 4), (4, 3, grey * 4)):
        head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, mode)
        yield f"PSD {mode} of {channels}", ".psd", head + bytes(12) + b"\0\0" + body
    packed = b"".join(b"\xd1" + bytes([shade]) for shade in range(height))
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, height, width, 8, 1) + bytes(12) + b"\0\1"
    yield "PSD packed", ".psd", head + struct.pack(">H", 2) * height + packed
    head = bytearray(1024)
    head[:4], head[416:420], head[424:428] = (
        b"\x80\xe8\0\0",
        struct.pack("<2H", height, width),
        struct.pack("<2H", 14, 2),
    )
    yield "PIXAR", ".pxr", bytes(head) + colour
    yield "GBR L", ".gbr", struct.pack(">7I", 29, 2, width, height, 1, 0x47494D50, 10) + b"\0" + grey
    yield "GBR RGBA", ".gbr", struct.pack(">5I", 21, 1, width, height, 4) + b"\0" + grey * 4
    for kind, body in ((0, bytes(range(256)) * 3), (1, colour)):
        yield f"FTEX {kind}", ".ftu", b"FTEX" + struct.pack("<8i", 1, width, height, 1, 1, kind, 32, len(body)) + body
    for size in (1, 2, 4):
        words = [0] * 64
        words[1], words[8], words[9], words[10], words[13], words[33] = 4, height, width, size, 1, 256
        yield f"MCIDAS {size}", ".area", struct.pack(">64i", *words) + grey * size
    yield "XVTHUMB", ".p7", b"P7 332\n#IMGINFO: x\n#END_OF_COMMENTS\n48 32 255\n" + grey
    rows = ",\n".join('"' + "ab" * 24 + '"' for _ in range(height))
    text = f'/* XPM */\nstatic char *x[] = {{\n"48 32 2 1",\n"a c #102030",\n"b c None",\n{rows}\n}};\n'
    yield "XPM", ".xpm", text.encode()
    frame = struct.pack("<IHH8x", 16 + 6 + len(grey), 0xF1FA, 1) + struct.pack("<IH", 6 + len(grey), 16) + grey
    head = struct.pack("<IHHHHHHI", 128 + len(frame), 0xAF12, 1, width, height, 8, 0, 70)
    yield "FLI", ".fli", head.ljust(128, b"\0") + frame
    buffer = io.BytesIO()
    picture("RGB").save(buffer, "PCX")
    yield "DCX", ".dcx", struct.pack("<III", 0x3ADE68B1, 12, 0) + buffer.getvalue()
    for bits, palette in ((24, b""), (8, bytes(1024)), (1, b"\0\0\0\0\xff\xff\xff\0")):
        stride = (16 * bits + 31) // 32 * 4
        body = struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, bits, 0, 0, 0, 0, 0, 0) + palette + bytes(stride * 32)
        entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 1, len(body), 22)
        yield f"CUR {bits}", ".cur", struct.pack("<HHH", 0, 2, 1) + entry + body
    yield "PCD", ".pcd", bytes(2048) + b"PCD_IPI" + bytes(94 * 2048 - 7 + 768 * 512 * 3 // 2 + 2048)


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes | None = None, extra: bytes = b""
) -> bytes:
    """A PNG of one's own making, right or wrong.

    Args:
        width: What its header says.
        height: What its header says.
        depth: Bits a channel.
        colour: Colour type.
        rows: Its pixels before compression; None for black ones of the right number.
        extra: Chunks before them.
    """
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    if rows is None:
        packer, line = zlib.compressobj(9), bytes(1 + (width * channels * depth + 7) // 8)
        packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    else:
        packed = zlib.compress(rows, 9)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

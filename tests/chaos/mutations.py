"""Ways to damage a file: at random, and by its own structure, where checksums and lengths would hide the damage."""

import random
import struct
import zlib
from collections.abc import Callable

from tests.chaos.pictures import chunk

Mutation = Callable[[bytes, random.Random], bytes]

_NUMBERS = (0, 1, 2, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def whole(data: bytes, draw: random.Random) -> bytes:
    """Nothing changed."""
    return data


def bit_flips(data: bytes, draw: random.Random) -> bytes:
    """One bit, or some."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 64))):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def header(data: bytes, draw: random.Random) -> bytes:
    """Bytes of the first hundred."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 3, 9))):
        out[draw.randrange(min(len(out), 100))] = draw.randrange(256)
    return bytes(out)


def number(data: bytes, draw: random.Random) -> bytes:
    """A number that is absurd, in the first 200 bytes."""
    size, order = draw.choice((2, 4)), draw.choice("<>")
    place = draw.randrange(max(1, min(len(data), 200) - size))
    value = draw.choice(_NUMBERS) & (2 ** (8 * size) - 1)
    return data[:place] + struct.pack(order + {2: "H", 4: "I"}[size], value) + data[place + size :]


def truncated(data: bytes, draw: random.Random) -> bytes:
    """The beginning."""
    return data[: draw.randrange(len(data))]


def removed(data: bytes, draw: random.Random) -> bytes:
    """A piece is missing."""
    low, high = _piece(data, draw)
    return data[:low] + data[high:]


def doubled(data: bytes, draw: random.Random) -> bytes:
    """A piece comes again, perhaps often."""
    low, high = _piece(data, draw)
    return data[:high] + data[low:high] * draw.choice((1, 2, 50)) + data[high:]


def inserted(data: bytes, draw: random.Random) -> bytes:
    """Noise within."""
    place = draw.randrange(len(data))
    return data[:place] + draw.randbytes(draw.choice((1, 4, 100))) + data[place:]


def blanked(data: bytes, draw: random.Random) -> bytes:
    """Zeros or ones in place of a piece."""
    low, high = _piece(data, draw)
    return data[:low] + draw.choice((b"\0", b"\xff")) * (high - low) + data[high:]


def trailed(data: bytes, draw: random.Random) -> bytes:
    """Something behind the end."""
    return data + draw.choice((b"\0" * 1000, draw.randbytes(1000), data))


MUTATIONS: dict[str, Mutation] = {
    "whole": whole,
    "bits flipped": bit_flips,
    "header overwritten": header,
    "absurd number": number,
    "cut short": truncated,
    "piece removed": removed,
    "piece doubled": doubled,
    "noise inserted": inserted,
    "piece blanked": blanked,
    "rubbish behind": trailed,
}


def png_chunks(data: bytes, draw: random.Random) -> bytes:
    """Chunks of a PNG removed, doubled, shuffled or changed, their checksums right."""
    found, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not found:
        return bit_flips(data, draw)
    which, deed = draw.randrange(len(found)), draw.randrange(6)
    kind, body = found[which]
    if deed == 0:
        del found[which]
    elif deed == 1:
        found[which:which] = [found[which]] * draw.choice((1, 20))
    elif deed == 2:
        draw.shuffle(found)
    elif deed == 3 and body:
        found[which] = kind, number(body, draw) if len(body) > 4 else bit_flips(body, draw)
    elif deed == 4:
        found[0] = found[0][0], (number if draw.random() < 0.5 else bit_flips)(found[0][1] or b"\0" * 13, draw)[:13]
    else:
        hidden = zlib.compress(bytes(draw.choice((1, 10**6, 3 * 10**7))))
        extras = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"eXIf": b"II*\0", b"tRNS": b"\0\1"}
        name = draw.choice(list(extras))
        found.insert(1, (name, extras[name] + (hidden if name[1:2] in b"TC" else draw.randbytes(50))))
    return data[:8] + b"".join(chunk(*entry) for entry in found)


def jpeg_segments(data: bytes, draw: random.Random) -> bytes:
    """Segments of a JPEG removed, doubled, shuffled or changed."""
    found, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        found.append(data[place : place + length])
        place += length
    if not found:
        return bit_flips(data, draw)
    which, deed, rest = draw.randrange(len(found)), draw.randrange(5), data[place:]
    if deed == 0:
        del found[which]
    elif deed == 1:
        found[which:which] = [found[which]] * draw.choice((1, 20))
    elif deed == 2:
        draw.shuffle(found)
    elif deed == 3:
        found[which] = found[which][:4] + bit_flips(found[which][4:] or b"\0", draw)
    else:
        rest = rest[: draw.randrange(len(rest) + 1)] + b"\xff\xda" * draw.choice((1, 99)) + rest
    return data[:2] + b"".join(found) + rest


def tiff_tags(data: bytes, draw: random.Random) -> bytes:
    """Entries of a TIFF's directories changed: tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, place)
    except struct.error:
        return bit_flips(data, draw)
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 3))):
        entry = place + 2 + 12 * draw.randrange(max(1, count))
        field, kind = draw.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
        value = draw.choice((*_NUMBERS, *range(20), place, 8)) & (0xFFFF if kind == "H" else 0xFFFFFFFF)
        if entry + 12 <= len(out):
            struct.pack_into(order + kind, out, entry + field, value)
    return bytes(out)


def exif(data: bytes, draw: random.Random) -> bytes:
    """EXIF that is rubbish, that points to itself, or that is nested, in a JPEG or PNG."""
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 2)
    loop += (
        struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 1, draw.randrange(12)) + b"\x08\0\0\0"
    )
    many = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + struct.pack("<HHII", 0x9286, 7, 2**31, 8) * 4000
    body = draw.choice((loop, many, draw.randbytes(300), b"MM\0*" + b"\xff" * 200, b"", b"II*\0"))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[:33] + chunk(b"eXIf", body) + data[33:]
    segment = b"Exif\0\0" + body
    return data[:2] + b"\xff\xe1" + struct.pack(">H", min(65535, len(segment) + 2)) + segment[:65533] + data[2:]


def of_its_structure(data: bytes) -> dict[str, Mutation]:
    """Mutations that know what a file is made of."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return {"chunks": png_chunks, "EXIF": exif}
    if data[:2] == b"\xff\xd8":
        return {"segments": jpeg_segments, "EXIF": exif}
    if data[:4] in (b"II*\0", b"MM\0*"):
        return {"tags": tiff_tags}
    return {}


def _piece(data: bytes, draw: random.Random) -> tuple[int, int]:
    low = draw.randrange(len(data))
    return low, min(len(data), low + draw.choice((1, 4, 16, 200, len(data) // 3 + 1)))

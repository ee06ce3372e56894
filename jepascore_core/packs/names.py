"""File names that every system takes, out of any text."""

import re
import unicodedata

LONGEST = 48  # characters; at most 192 bytes
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows


def safe_name(text: str, longest: int = LONGEST) -> str:
    """Turn any text into one part of a path.

    Letters, digits and marks of any script stay, and ``- _ . ( )`` and blanks; all else becomes ``_``.

    Args:
        text: A class name, a key, the name of a run.
        longest: Most characters.

    Returns:
        At most so many characters: no separator or control character; neither hidden, nor a device, nor empty.

    Example:
        >>> safe_name("../../etc/passwd"), safe_name("CON.txt"), safe_name("n01440764 tench"), safe_name("..")
        ('_.._etc_passwd', '_CON.txt', 'n01440764 tench', 'unnamed')
    """
    letters = unicodedata.normalize("NFC", text)[: 4 * longest]
    kept = (letter if letter in "-_.() " or unicodedata.category(letter)[0] in "LNM" else "_" for letter in letters)
    name = "".join(kept).lstrip(". -")[:longest].rstrip(". ")
    return f"_{name}"[:longest].rstrip(". ") if _RESERVED.fullmatch(name) else name or "unnamed"


def stem_of(key: str) -> str:
    """What an image's file may be called, without an ending.

    Args:
        key: The image, such as ``dog/deep/1.PNG`` or ``test/00012``.

    Returns:
        A safe name.

    Example:
        >>> stem_of("dog/deep/1.PNG"), stem_of("test/00012"), stem_of("a/..")
        ('1', '00012', 'unnamed')
    """
    return safe_name(re.sub(r"(?<=.)\.\w{1,5}$", "", re.split(r"[/\\]", key)[-1]))

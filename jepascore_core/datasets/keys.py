r"""File names as text that is safe to store, and back again.

A file name is any bytes; a key is one line of valid UTF-8. Backslash, control characters, bytes that
are not UTF-8 and characters that turn the writing direction become backslash escapes, so that two
names never share a key and a key leads back to its file.
"""

import re

# A lone surrogate is how Python holds a byte of a file name that is not UTF-8.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_TO_ESCAPE = re.compile(f"[\\\\{_UNSAFE}]")
_TO_PRINT = re.compile(f"[{_UNSAFE}]")
_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def name_to_key(name: str) -> str:
    r"""Escape a file name or relative path, reversibly.

    Args:
        name: As ``os.scandir`` gives it, with surrogates for bytes that are not UTF-8.

    Returns:
        One line of valid UTF-8; a usual name comes back as it is.

    >>> name_to_key("cat/two\nlines.jpg")
    'cat/two\\x0alines.jpg'
    """
    return _TO_ESCAPE.sub(_escape, name)


def key_to_name(key: str) -> str:
    r"""Undo ``name_to_key``.

    >>> key_to_name(name_to_key("a\\x0a\udcff\n")) == "a\\x0a\udcff\n"
    True
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else "\\", key)


def printable(text: str) -> str:
    r"""Escape what must not reach a terminal or a UTF-8 file; a backslash stays as it is.

    >>> printable("C:\\data\n")
    'C:\\data\\x0a'
    """
    return _TO_PRINT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    """The escape of one character."""
    if found[0] == "\\":
        return "\\\\"
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

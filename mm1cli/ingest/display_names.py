"""Untrusted names and messages as one visible line."""

import unicodedata
from pathlib import PurePath

_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Marks that reorder the text around them: a name with one can pass for another name.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    """`text` with control characters, line breaks and lone surrogates as backslash escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def shown_path(path: str) -> str:
    """`path` as its user would name it: no "./", "/" between parts, and fit to print.

    Bytes of a name that are not UTF-8 appear as `\\xff`.
    """
    return one_line(PurePath(path).as_posix())


def _escape(character: str) -> str:
    # How Python stands in for a byte that is not UTF-8 in a file name.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _REORDERING or unicodedata.category(character) in _INVISIBLE:
        return character.encode("unicode_escape").decode("ascii")
    return character

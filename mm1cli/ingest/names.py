"""Untrusted names and messages as one visible line."""

import os
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
    return one_line(
        os.fsencode(PurePath(path).as_posix()).decode(encoding="utf-8", errors="backslashreplace")
    )


def _escape(character: str) -> str:
    if character in _REORDERING or unicodedata.category(character) in _INVISIBLE:
        return character.encode("unicode_escape").decode("ascii")
    return character

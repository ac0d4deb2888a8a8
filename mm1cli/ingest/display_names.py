"""Untrusted names and messages as one visible line."""

import unicodedata
from pathlib import PurePath

_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# What reorders the text around it, takes no room, or spells text that is not seen (tags): a name
# with one can pass for another. The two joiners stay: Persian, Hindi and emoji need them.
UNSEEN = frozenset(
    map(
        chr,
        (
            *(0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF),
            *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),  # fillers
            *range(0x202A, 0x202F),
            *range(0x2060, 0x2070),
            *range(0xFFF9, 0xFFFC),
            *range(0xE0000, 0xE0080),
        ),
    )
)


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
    if character in UNSEEN or unicodedata.category(character) in _INVISIBLE:
        return character.encode("unicode_escape").decode("ascii")
    return character

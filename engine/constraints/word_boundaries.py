"""Where a quotation may begin and end, so that no word, number or negation is cut.

“able to swim” is in “unable to swim” and “2 million” in “48.2 million”, letter for letter. In
scripts that put no space between words every character is a word here: what to cut there needs a
dictionary.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

_JOINERS = "'’‘‐‑-\u00ad\u200c\u200d_"  # don't, non-negotiable
_IN_NUMBERS = ".,:/⁄"  # 48.2, 1,904, 12:30
_SIGNS = "-−+±"
_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")

_WORD, _DIGIT, _JOINER, _IN_NUMBER, _SIGN, _MARK, _SPACE = (1 << bit for bit in range(7))

Mask = npt.NDArray[np.bool_]


@cache
def _kind(code: int) -> int:
    character = chr(code)
    kind = 0
    if unicodedata.category(character).startswith("M"):
        kind |= _WORD | _MARK
    elif character.isalnum() and not unicodedata.name(character, "").startswith(_SPACELESS):
        kind |= _WORD
    for flag, members in ((_JOINER, _JOINERS), (_IN_NUMBER, _IN_NUMBERS), (_SIGN, _SIGNS)):
        kind |= flag if character in members else 0
    if character.isdecimal():
        kind |= _DIGIT
    return kind | (_SPACE if character.isspace() else 0)


def is_word(character: str) -> bool:
    """Whether `character` makes a word with the letter or digit after it."""
    return bool(_kind(ord(character)) & _WORD)


def word_boundaries(text: str) -> tuple[Mask, Mask]:
    """Whether a quotation may begin with character i, and whether it may end before it.

    Both are [len(text) + 1]; linear, and in numpy but for the different characters in it.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    different = np.flatnonzero(np.bincount(codes)) if len(codes) else codes
    kinds = np.zeros(0x110000, dtype=np.uint8)
    kinds[different] = [_kind(int(code)) for code in different]
    # Two characters of no kind on each side, so that all of what follows is a slice.
    padded = np.zeros(len(codes) + 4, dtype=np.uint8)
    padded[2 : len(codes) + 2] = kinds[codes]
    two_before, before, after, two_after = (
        padded[shift : shift + len(codes) + 1] for shift in range(4)
    )

    def both(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8], kind: int) -> Mask:
        return np.asarray(left & right & kind, dtype=np.bool_)

    def has(which: npt.NDArray[np.uint8], kind: int) -> Mask:
        return np.asarray(which & kind, dtype=np.bool_)

    inside = both(before, after, _WORD) | has(after, _MARK)
    inside |= both(before, two_after, _WORD) & has(after, _JOINER)
    inside |= both(two_before, after, _WORD) & has(before, _JOINER)
    inside |= both(before, two_after, _DIGIT) & has(after, _IN_NUMBER)
    # .5 and -5 are numbers, too; p.12 is not.
    inside |= (
        has(before, _IN_NUMBER)
        & has(after, _DIGIT)
        & (has(two_before, _DIGIT) | ~has(two_before, _WORD))
    )
    inside |= has(before, _SIGN) & has(after, _DIGIT)
    begins = ~inside & ~has(after, _SPACE)
    ends = ~inside & ~has(before, _SPACE)
    begins[-1:] = False
    ends[:1] = False
    return begins, ends

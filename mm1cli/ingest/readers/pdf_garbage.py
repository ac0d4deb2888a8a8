"""Pages whose fonts do not say which letters they draw: what is read there is no text.

Two signs together: pdfium found no letter for most characters and had to guess, and the guess does
not look like writing. Readable plots have the first, tables of codes the second.
"""

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

UNREADABLE = "unreadable"
_SAMPLES = 200
_MOST_LOOKED_AT = 800
_MOST_ERRORS = 0.5
_FEWEST_LETTERS = 20  # fewer tell nothing; a plot has numbers
_VOWELS = frozenset("aeiouyαειουηωаеиоуыэюяіє")
_VOWEL_SHARE = (0.22, 0.62)
_LETTER_SHARE = 0.55  # of what is not space
_LONGEST_MEAN_WORD = 16
_IDEOGRAPHIC_STOPS = frozenset("。、，．！？：；「」")
_STOP_SHARE = 0.005
_WITHOUT_VOWELS = ("HEBREW", "ARABIC", "SYRIAC")


def is_garbled(text_page: "PdfTextPage", text: str) -> bool:
    import pypdfium2.raw as c

    if looks_written(text[:_MOST_LOOKED_AT]):
        return False
    num_chars = text_page.count_chars()
    sample = range(0, num_chars, max(1, num_chars // _SAMPLES))
    errors = sum(c.FPDFText_HasUnicodeMapError(text_page.raw, index) == 1 for index in sample)
    return bool(errors >= _MOST_ERRORS * len(sample))


def looks_written(text: str) -> bool:
    """Whether letters are as frequent and as mixed as in some language; true for very few."""
    marks = "".join(text.split())
    letters = "".join(filter(str.isalpha, marks))
    if len(marks) < _FEWEST_LETTERS:
        return True
    if sum(map(str.isdigit, marks)) > len(marks) / 2:
        return True
    if len(letters) < _LETTER_SHARE * len(marks):
        return False
    plain = letters.lower()
    if not plain.isascii():
        wide = list(map(unicodedata.east_asian_width, letters)).count("W")
        if wide > len(letters) / 2:
            return sum(map(_IDEOGRAPHIC_STOPS.__contains__, marks)) >= _STOP_SHARE * len(marks)
        plain = "".join(unicodedata.normalize("NFD", letter)[0] for letter in plain)
        names = (unicodedata.name(letter, "") for letter in plain)
        if sum(name.startswith(_WITHOUT_VOWELS) for name in names) > len(plain) / 2:
            return True
    low, high = _VOWEL_SHARE
    share = sum(map(_VOWELS.__contains__, plain)) / len(plain)
    return low <= share <= high and len(marks) <= _LONGEST_MEAN_WORD * len(text.split())

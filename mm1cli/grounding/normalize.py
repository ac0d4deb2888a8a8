"""The one normalisation that quotes are compared in, and the way back to the text as it is.

NFKC, then every run of white space as one space, none at the ends. Case, punctuation and words
count, so a dropped "not" is another text.
"""

import unicodedata
from collections.abc import Iterator
from functools import cached_property


def normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


class NormalizedText:
    """`source` folded; the map back is made when it is first asked for, because it is slow."""

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def text(self) -> str:
        return normalize(self.source)

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Where `text[start:end]`, which is not empty, stands in `source`.

        Characters that fold together stand together. None where the map fails: it is made of
        pieces, and NFKC of the whole could differ from that of its pieces.
        """
        text, origins = self._mapped
        if end > len(origins) or text[start:end] != self.text[start:end]:
            return None
        return origins[start][0], origins[end - 1][1]

    @cached_property
    def _mapped(self) -> tuple[str, list[tuple[int, int]]]:
        """The folded text, and for each of its characters where it came from."""
        characters: list[str] = []
        origins: list[tuple[int, int]] = []
        for start, end in _clusters(self.source):
            for new in unicodedata.normalize("NFKC", self.source[start:end]):
                if new.isspace():
                    if not characters or characters[-1] == " ":
                        continue
                    new = " "
                characters.append(new)
                origins.append((start, end))
        return "".join(characters), origins


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """A character with those after it that NFKC may join to it, one after the other."""
    start = 0
    for end in range(1, len(text) + 1):
        if not (end < len(text) and _joins(text[end])):
            yield start, end
            start = end


def _joins(character: str) -> bool:
    if character.isascii():
        return False
    first = unicodedata.normalize("NFKD", character)[0]
    is_jamo = "\u1160" <= first <= "\u11ff"  # Korean vowels and finals
    return unicodedata.category(first).startswith("M") or is_jamo

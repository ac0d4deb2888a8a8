"""The normalisations that quotes are compared in, and the way back to the text as it is.

Prose: NFKC, then every run of white space as one space, none at the ends. Code: white space at the
ends of lines, and around the whole, is dropped. Case, punctuation and words count in both, so a
dropped "not" is another text.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

_PLAIN = re.compile(r"[!-~]+(?: [!-~]+){0,99}(?![^\x00-\x7f])")  # NFKC and `split` leave it alone


def normalize(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


class NormalizedText:
    """`source` normalised as prose; the map back is made when it is first asked for: it is slow."""

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def text(self) -> str:
        return normalize(self.source)

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Where `text[start:end]`, which is not empty, stands in `source`.

        Characters that change together stand together. None where the map fails: it is made of
        segments, and NFKC of the whole could differ from that of its segments.
        """
        mapped = self._mapped[0]
        if end > len(mapped) or mapped[start:end] != self.text[start:end]:
            return None
        return self._origin(start)[0], self._origin(end - 1)[1]

    def _origin(self, at: int) -> tuple[int, int]:
        _, starts, spans = self._mapped
        segment = bisect_right(starts, at) - 1
        start, end, is_verbatim = spans[segment]
        offset = start + at - starts[segment]
        return (offset, offset + 1) if is_verbatim else (start, end)

    @cached_property
    def _mapped(self) -> tuple[str, list[int], list[tuple[int, int, bool]]]:
        """The normalised text; where each segment begins in it; (start, end) of the segment in
        `source`, and whether it stands there unchanged."""
        texts: list[str] = []
        starts: list[int] = []
        spans: list[tuple[int, int, bool]] = []
        length = 0
        for start, end, text in self._segments():
            is_verbatim = text == self.source[start:end]
            if spans and is_verbatim and spans[-1][1:] == (start, True):
                spans[-1] = (spans[-1][0], end, True)
            else:
                starts.append(length)
                spans.append((start, end, is_verbatim))
            texts.append(text)
            length += len(text)
        return "".join(texts), starts, spans

    def _segments(self) -> Iterator[tuple[int, int, str]]:
        """(start, end) in `source`, ascending, and what stands for it in the normalised text."""
        is_after_space = True
        for start, end in _clusters(self.source):
            text = normalize(f".{self.source[start:end]}.")[1:-1]  # the space at its ends counts
            if is_after_space:
                text = text.removeprefix(" ")
            if text:
                is_after_space = text.endswith(" ")
                yield start, end, text


class CodeText(NormalizedText):
    """`source` normalised as code."""

    @cached_property
    def text(self) -> str:
        return self._mapped[0]

    def _segments(self) -> Iterator[tuple[int, int, str]]:
        begin = start = len(self.source) - len(self.source.lstrip())
        for line in self.source.strip().split("\n"):
            if start > begin:
                yield start - 1, start, "\n"
            trimmed = line.rstrip(" \t\r\f\v")
            yield start, start + len(trimmed), trimmed
            start += len(line) + 1


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Plain words, or a character with those after it that NFKC may join to it."""
    start = 0
    while start < len(text):
        plain = _PLAIN.match(text, start)
        end = plain.end() if plain else start + 1
        while not plain and end < len(text) and _joins(text[end]):
            end += 1
        yield start, end
        start = end


def _joins(character: str) -> bool:
    if character.isascii():
        return False
    first = unicodedata.normalize("NFKD", character)[0]
    is_jamo = "\u1160" <= first <= "\u11ff"  # Korean vowels and finals
    return unicodedata.category(first).startswith("M") or is_jamo

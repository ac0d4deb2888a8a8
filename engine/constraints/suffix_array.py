"""A suffix array over the words of a corpus: whether, and where, a text stands in it.

The text is bytes of UTF-8, so that it serves every tokenizer and every way to cut text into
tokens. Only suffixes that may begin a quotation are kept, about one a token. A range of the array
is the set of places that begin with the same bytes; one byte more is a binary search inside it
(Manber and Myers, 1993).
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import xxhash

from engine.constraints.word_boundaries import Mask, word_boundaries
from engine.errors import StoreError

BORDER = b"\n"  # between texts, and around them all; no quotation crosses it

_HEADER = struct.Struct("<8s16sQ8s")
_MAGIC = b"mm1 sfx1"
_COMPARED_BYTES = 16

Ints = npt.NDArray[np.int64]


class Range(NamedTuple):
    """Suffixes `first` to `last`, the last one excluded, with equal first `depth` bytes."""

    first: int
    last: int
    depth: int

    def __bool__(self) -> bool:
        return self.first < self.last


@dataclass(frozen=True)
class SuffixArray:
    """`text` and where the suffixes begin in it, sorted. `build` and `load` make one.

    `begins` and `ends` are where a quotation may, by byte of `text` (see words.py).
    """

    text: bytes
    order: npt.NDArray[Any]  # int32, or int64 for 2 GiB and more
    begins: Mask
    ends: Mask

    @classmethod
    def build(cls, texts: Sequence[str]) -> Self:
        """Of texts without line breaks. O(n log n) for any text; a second for a million tokens."""
        import pydivsufsort

        text, begins, ends = _joined(texts)
        order = pydivsufsort.divsufsort(text)
        return cls(text, order[begins[order]], begins, ends)

    @classmethod
    def load(cls, content: bytes, texts: Sequence[str]) -> Self:
        """What `dump` wrote of the same texts. Raises StoreError if it cannot be.

        Every place is checked to be one, and neighbours are compared by their first bytes. Should
        an order be wrong further on, then texts are not found; none is found where it is not.
        """
        text, begins, ends = _joined(texts)
        try:
            magic, digest, count, kind = _HEADER.unpack_from(content)
        except struct.error:
            raise StoreError("suffixes: cut off") from None
        if magic != _MAGIC or digest != _digest(text):
            raise StoreError("suffixes: of another text")
        if kind != _kind_for(text) or count != int(begins.sum()):
            raise StoreError("suffixes: of another size")
        body = memoryview(content)[_HEADER.size :]
        dtype = np.dtype(kind.rstrip(b"\0").decode())
        if len(body) != count * dtype.itemsize:
            raise StoreError("suffixes: cut off")
        loaded = cls(text, np.frombuffer(body, dtype=dtype), begins, ends)
        loaded._check()
        return loaded

    def dump(self) -> bytes:
        kind = _kind_for(self.text)
        header = _HEADER.pack(_MAGIC, _digest(self.text), len(self.order), kind)
        return header + self.order.astype(kind.rstrip(b"\0").decode()).tobytes()

    @property
    def everywhere(self) -> Range:
        """All places where a quotation may begin."""
        return Range(0, len(self.order), 0)

    def narrow(self, range: Range, more: bytes) -> Range:
        """The places of `range` where `more` comes next. O(log n) for each byte."""
        first, last, depth = range
        text, order = self.text, self._order
        for byte in more:
            if last - first == 1:  # the usual case, and a search would cost ten times as much
                if text[order[first] + depth : order[first] + depth + 1] != bytes((byte,)):
                    return Range(first, first, depth)
            else:

                def following(place: int, at: int = depth) -> bytes:
                    return text[place + at : place + at + 1]

                wanted = bytes((byte,))
                first = bisect_left(order, wanted, first, last, key=following)
                last = bisect_right(order, wanted, first, last, key=following)
            depth += 1
        return Range(first, last, depth)

    def find(self, wanted: bytes) -> Range:
        """The places where a quotation may begin and `wanted` stands."""
        return self.narrow(self.everywhere, wanted)

    def find_all(self, wanted: bytes, most: int) -> list[int]:
        """At most `most` places in `text` where `wanted` may be quoted, ascending."""
        found: list[int] = self.places(self.find(wanted))[:most].tolist()
        return found

    def end(self, range: Range) -> int | None:
        """A suffix of `range` whose quotation may end after `depth` bytes; None if none may.

        It looks at each different continuation once, not at each place.
        """
        first, last, depth = range
        text, order = self.text, self._order
        while first < last:
            at = order[first] + depth
            if at < len(self.ends) and self.ends[at]:
                return first
            # In a word one letter decides; after an apostrophe or a point the next one does, too.
            following = text[at : at + 8].decode(errors="ignore")
            alike = following[: 1 if following[:1].isalnum() else 2].encode() or text[at : at + 1]

            def seen(place: int, size: int = len(alike)) -> bytes:
                return text[place + depth : place + depth + size]

            first = max(bisect_right(order, alike, first, last, key=seen), first + 1)
        return None

    def places(self, range: Range, most: int = 4096) -> Ints:
        """Where in `text` quotations of `range` stand that may end there, ascending.

        At least one if there is any; of more than `most` places some may be missing.
        """
        first, last, depth = range
        found = np.sort(self.order[first : min(last, first + most)].astype(np.int64))
        found = found[self.ends[np.minimum(found + depth, len(self.ends) - 1)]]
        if not len(found) and (one := self.end(range)) is not None:
            found = self.order[one : one + 1].astype(np.int64)
        return found

    def narrow_all(
        self, firsts: Ints, lasts: Ints, depth: int, wanted: npt.NDArray[np.uint8]
    ) -> tuple[Ints, Ints]:
        """As `narrow` by one byte, for many ranges and bytes [N] of one depth at once."""
        low, high = self._bound(firsts, lasts, depth, wanted), lasts
        high = self._bound(low, high, depth, wanted + np.uint16(1))
        return low, high

    def _bound(self, low: Ints, high: Ints, depth: int, wanted: npt.NDArray[Any]) -> Ints:
        """The first suffix of each range whose byte at `depth` is `wanted` or more."""
        low, high = low.copy(), high.copy()
        order = self.order
        open_ = np.flatnonzero(low < high)
        while len(open_):
            middle = (low[open_] + high[open_]) >> 1
            less = self.bytes_at(order[middle].astype(np.int64) + depth) < wanted[open_]
            low[open_[less]] = middle[less] + 1
            high[open_[~less]] = middle[~less]
            open_ = open_[low[open_] < high[open_]]
        return low

    def bytes_at(self, places: Ints) -> npt.NDArray[np.uint8]:
        """The bytes of `text` at `places`, 0 behind its end."""
        return self._bytes[np.minimum(places, len(self.text))]

    @cached_property
    def _bytes(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.text + b"\0", dtype=np.uint8)

    @cached_property
    def _order(self) -> "array[int]":
        # Its items are Python's own ints, at a third of the time that numpy's take.
        return array("i" if self.order.itemsize == 4 else "q", self.order.tobytes())

    def _check(self) -> None:
        order = self.order
        if not len(order):
            return
        if int(order.min()) < 0 or int(order.max()) >= len(self.text):
            raise StoreError("suffixes: outside of the text")
        seen = np.zeros_like(self.begins)
        seen[order] = True
        if not np.array_equal(seen, self.begins):  # as many places as beginnings: each one once
            raise StoreError("suffixes: not one for each word")
        ahead = np.arange(_COMPARED_BYTES)
        for first in range(0, len(order) - 1, 1 << 18):
            here = order[first : first + (1 << 18) + 1].astype(np.int64)
            seen_bytes = self.bytes_at(here[:, None] + ahead)
            left, right = seen_bytes[:-1], seen_bytes[1:]
            unequal = left != right
            at = unequal.argmax(axis=1)[:, None]
            wrong = np.take_along_axis(left, at, 1) > np.take_along_axis(right, at, 1)
            if wrong.any():
                raise StoreError("suffixes: out of order")


def _joined(texts: Sequence[str]) -> tuple[bytes, Mask, Mask]:
    """The texts as one, and where in its bytes a quotation may begin and end."""
    border = BORDER.decode()
    text = f"{border}{border.join(texts)}{border}"
    assert text.count(border) == len(texts) + 1 or not texts, "a text has a line break"
    content = text.encode("utf-8", "surrogatepass")
    begins, ends = word_boundaries(text)
    is_first = (np.frombuffer(content, dtype=np.uint8) & 0xC0) != 0x80
    by_byte = []
    for flags in (begins, ends):
        spread = np.zeros(len(content), dtype=np.bool_)
        spread[is_first] = flags[:-1]
        by_byte.append(spread)
    return content, by_byte[0], by_byte[1]


def _digest(text: bytes) -> bytes:
    return xxhash.xxh3_128_digest(text)


def _kind_for(text: bytes) -> bytes:
    return (b"<i4" if len(text) < 2**31 else b"<i8").ljust(8, b"\0")

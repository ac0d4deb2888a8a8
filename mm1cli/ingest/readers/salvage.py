"""What can still be had of a compressed stream that is cut off or damaged.

What inflated before the damage is given out, and the damage is said; the libraries' own classes
give out nothing of the piece in which it is found.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator

from mm1cli.ingest.readers.reader import MIB

CUT = "its end is missing"
MAGIC = {"gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\0"}
_GZIP_BITS = 31  # zlib's word for: with gzip's header and checksum
_RAW_BITS = -15
_FIRST_STEP_BYTES = 1 << 10  # streams can be many and tiny
_LARGEST_STEP_BYTES = 1 << 16


class Salvage:
    """Reads like a file. Once it has ended, `damage` says what is missing, and `end` is where in
    the data it ended."""

    def __init__(self, data: bytes, method: str, start: int = 0) -> None:
        self.damage = ""
        self.end = start
        self._pieces = self._inflate(data, method)

    def read(self, _size: int = -1, /) -> bytes:
        """The next piece, of whatever size; b"" at the end."""
        return next(filter(None, self._pieces), b"")

    def _inflate(self, data: bytes, method: str) -> Iterator[bytes]:
        if method in {"gz", "deflate"}:
            return self._zlib(data, _GZIP_BITS if method == "gz" else _RAW_BITS)
        make = bz2.BZ2Decompressor if method == "bz2" else lzma.LZMADecompressor
        return self._blocks(data, MAGIC[method], make)

    def _zlib(self, data: bytes, bits: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(bits)
        step = _FIRST_STEP_BYTES
        while self.end < len(data):
            piece = data[self.end : self.end + step]
            before = inflater.copy()
            try:
                yield inflater.decompress(piece)
            except zlib.error as error:
                yield from _byte_by_byte(before, piece)
                self.damage = f"damaged inside: {error}"
                return
            self.end += len(piece)
            step = min(2 * step, _LARGEST_STEP_BYTES)
            if inflater.eof:
                self.end -= len(inflater.unused_data)
                if bits == _RAW_BITS or self._is_over(data, MAGIC["gz"]):
                    return
                inflater = zlib.decompressobj(bits)
                step = _FIRST_STEP_BYTES
        self.damage = CUT

    def _blocks(
        self,
        data: bytes,
        magic: bytes,
        make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    ) -> Iterator[bytes]:
        inflater = make()
        while True:
            piece = data[self.end : self.end + _LARGEST_STEP_BYTES] if inflater.needs_input else b""
            if inflater.needs_input and not piece:
                self.damage = CUT
                return
            try:
                yield inflater.decompress(piece, MIB)
            except (OSError, lzma.LZMAError, EOFError) as error:
                self.damage = f"damaged inside: {error}"
                return
            self.end += len(piece)
            if inflater.eof:
                self.end -= len(inflater.unused_data)
                if self._is_over(data, magic):
                    return
                inflater = make()

    def _is_over(self, data: bytes, magic: bytes) -> bool:
        """Whether no further stream follows; zeros, which pad some files, are nothing."""
        if data.startswith(magic, self.end):
            return False
        if data[self.end :].strip(b"\0"):
            self.damage = "other data follows its end"
        return True


def _byte_by_byte(inflater: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    try:
        for at in range(len(piece)):
            yield inflater.decompress(piece[at : at + 1])
    except zlib.error:
        return

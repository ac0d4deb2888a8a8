"""Objects that Office keeps in a compound file (OLE): the file inside, with its name.

Sources: [MS-OLEDS], sections 2.3.6 (OLENativeStream) and 2.3.8 (CompObjStream); what programs call
the streams in which they keep a file as it is, is their own convention.
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.attachments import bare
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.reader import ReadError

if TYPE_CHECKING:
    from olefile import OleFileIO

# The compound file is a document itself; it is read as what it is called then.
_DOCUMENTS = {
    "Workbook": ".xls",
    "Book": ".xls",
    "WordDocument": ".doc",
    "PowerPoint Document": ".ppt",
    "__properties_version1.0": ".msg",
}
_PACKAGER, _KIND, _LOCKED = "\1Ole10Native", "\1CompObj", "EncryptedPackage"
_WHOLE_FILES = ("Package", "CONTENTS", "EmbeddedOdf")
_EXTENSIONS = {b"%PDF-": ".pdf", b"PK\3\4": "", b"{\\rtf": ".rtf"}  # a zip is known by its content
_LONGEST_NAME_BYTES = 1024
_KIND_AT = 28  # in CompObj, what people call the program
_LINKED_FILE = 2  # flags of a file that was dropped into a document


def inner_file(name: str, data: bytes) -> tuple[str, bytes]:
    """The file in the object `data`, which is called `name`; where it has no name of its own, under
    `name` with the extension of its kind. Raises ReadError: ENCRYPTED, UNSUPPORTED, UNREADABLE.
    """
    import olefile

    try:
        with olefile.OleFileIO(BytesIO(data)) as ole:
            return _found(name, data, ole)
    except (ReadError, MemoryError):
        raise
    except Exception:  # a compound file can be broken in more ways than the library names
        raise ReadError(Reason.UNREADABLE, "no object, or damaged") from None


def file_in_text(name: str, octets: str) -> tuple[str, bytes]:
    """As `inner_file`, of an object in RTF: hexadecimal digits of a header ([MS-OLEDS] 2.2.4 and
    2.2.5) and of what the program keeps."""
    try:
        data = bytes.fromhex("".join(octets.split()))
        at = 8
        for _ in range(3):  # class, topic, item
            (length,) = struct.unpack_from("<I", data, at)
            at += 4 + length
        (num_bytes,) = struct.unpack_from("<I", data, at)
    except (struct.error, ValueError):
        raise ReadError(Reason.UNREADABLE, "no object, or cut") from None
    inside = data[at + 4 : at + 4 + num_bytes]
    if inside.startswith(b"\xd0\xcf\x11\xe0"):
        return inner_file(name, inside)
    if packed := _packed(data[at : at + 4] + inside):
        return packed
    raise ReadError(Reason.UNSUPPORTED, f"an object of {_class(data)}")


def _class(data: bytes) -> str:
    (length,) = struct.unpack_from("<I", data, 8)
    text = data[12 : 12 + min(length, _LONGEST_NAME_BYTES)]
    return one_line(text.decode("cp1252", "replace").rstrip("\0"))


def _found(name: str, data: bytes, ole: "OleFileIO") -> tuple[str, bytes]:
    if ole.exists(_LOCKED):
        raise ReadError(Reason.ENCRYPTED)
    stem = PurePath(name).stem
    for stream, extension in _DOCUMENTS.items():
        if ole.exists(stream):
            return stem + extension, data
    for stream in _WHOLE_FILES:
        if ole.exists(stream):
            content = ole.openstream(stream).read()
            for magic, extension in _EXTENSIONS.items():
                if content.startswith(magic):
                    return stem + extension, content
    if ole.exists(_PACKAGER) and (packed := _packed(ole.openstream(_PACKAGER).read())):
        return packed
    kind = _kind(ole.openstream(_KIND).read()) if ole.exists(_KIND) else ""
    raise ReadError(Reason.UNSUPPORTED, f"an object of {kind}" if kind else "an unknown object")


def _packed(stream: bytes) -> tuple[str, bytes] | None:
    """The name and bytes of a file that was dropped into a document; None of anything else."""
    try:
        _, flags = struct.unpack_from("<IH", stream)
        if flags != _LINKED_FILE:
            return None
        label, at = _string(stream, 6)
        _, at = _string(stream, at)
        (length,) = struct.unpack_from("<I", stream, at + 4)
        at += 8 + length
        (num_bytes,) = struct.unpack_from("<I", stream, at)
        content = stream[at + 4 : at + 4 + num_bytes]
        if len(content) < num_bytes:
            raise ReadError(Reason.UNREADABLE, f"{one_line(label)}: its end is missing")
        wide = list(_wide_strings(stream, at + 4 + num_bytes))
    except (struct.error, ValueError):
        return None
    named = bare(wide[1] if len(wide) > 1 and wide[1] else label)
    return (named, content) if named else None


def _string(stream: bytes, at: int) -> tuple[str, int]:
    """Text in some code page up to a NUL, and where it ends. Raises ValueError."""
    end = stream.index(b"\0", at, at + _LONGEST_NAME_BYTES)
    try:
        return decode(stream[at:end])[0], end + 1
    except ReadError:
        raise ValueError from None


def _wide_strings(stream: bytes, at: int) -> Iterator[str]:
    """The path, the label and the source again, in UTF-16, where the program wrote them."""
    while at + 4 <= len(stream):
        (length,) = struct.unpack_from("<I", stream, at)
        if not 0 < length <= _LONGEST_NAME_BYTES:
            return
        yield stream[at + 4 : at + 4 + 2 * length].decode("utf-16-le", "replace").rstrip("\0")
        at += 4 + 2 * length


def _kind(stream: bytes) -> str:
    try:
        (length,) = struct.unpack_from("<I", stream, _KIND_AT)
    except struct.error:
        return ""
    text = stream[_KIND_AT + 4 : _KIND_AT + 4 + min(length, _LONGEST_NAME_BYTES)]
    return one_line(text.split(b"\0")[0].decode("cp1252", "replace")).strip()

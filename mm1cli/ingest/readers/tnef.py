"""TNEF, the format of winmail.dat: a list of attributes, some of which list MAPI properties.

Source: [MS-OXTNEF]. Lengths are checked against what is left before anything is read; text in
compressed RTF is not taken out, which old messages have beside another form of their text.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mm1cli.ingest.corpus import Damaged
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.reader import ReadError

TNEF_MAGIC = b"\x78\x9f\x3e\x22"
_HEADER_BYTES = 6
_SUBJECT, _BODY, _PROPERTIES = 0x8004, 0x800C, 0x9003
_NEW_FILE, _TITLE, _CONTENT, _FILE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
# MAPI properties by their ids.
_MAPI_SUBJECT, _MAPI_BODY, _MAPI_PAGE, _MAPI_NAME = 0x0037, 0x1000, 0x1013, 0x3707
_FIXED_BYTES = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 20: 8, 64: 8, 72: 16}
_NARROW, _WIDE, _BINARY, _OBJECT = 0x1E, 0x1F, 0x102, 0x0D
_MANY_VALUES = 0x1000
_FIRST_NAMED = 0x8000
_CUT = "its end is missing"


@dataclass(slots=True)
class Parts:
    """What a message holds; `page` is its HTML."""

    subject: str = ""
    body: str = ""
    page: str = ""
    files: Attachments = field(default_factory=Attachments)
    warnings: list[str] = field(default_factory=list)


def read_parts(data: bytes) -> Parts:
    parts = Parts()
    name, content = "", None
    try:
        for key, value in _attributes(data):
            if key == _NEW_FILE:
                _close(parts, name, content)
                name, content = "", None
            elif key == _TITLE:
                name = name or _text(value)
            elif key == _CONTENT:
                content = value
            elif key == _FILE_PROPERTIES:
                name = dict(_properties(value)).get(_MAPI_NAME, name)
            elif key == _SUBJECT:
                parts.subject = parts.subject or _text(value)
            elif key == _BODY:
                parts.body = parts.body or _text(value)
            elif key == _PROPERTIES:
                found = dict(_properties(value))
                parts.subject = found.get(_MAPI_SUBJECT, parts.subject)
                parts.body = found.get(_MAPI_BODY, parts.body)
                parts.page = found.get(_MAPI_PAGE, parts.page)
    except EOFError:
        parts.warnings.append(Damaged(_CUT))
    _close(parts, name, content)
    return parts


def _close(parts: Parts, name: str, content: bytes | None) -> None:
    if content is not None:
        parts.files.add(name, content)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lower half of each attribute's id, and its bytes. Raises EOFError at a cut."""
    at = _HEADER_BYTES
    while at < len(data):
        _level, key, num_bytes = struct.unpack("<BII", _piece(data, at, 9))
        at += 9
        yield key & 0xFFFF, _piece(data, at, num_bytes)
        at += num_bytes + 2  # and a checksum


def _properties(data: bytes) -> Iterator[tuple[int, str]]:
    """The text of MAPI properties by their ids; the first of several values."""
    (count,) = struct.unpack("<I", _piece(data, 0, 4))
    at = 4
    for _ in range(count):
        kind, key = struct.unpack("<HH", _piece(data, at, 4))
        at += 4
        if key >= _FIRST_NAMED:
            at += 16
            is_named, length = struct.unpack("<II", _piece(data, at, 8))
            at += 8 + (_padded(length) if is_named else 0)
        base = kind & ~_MANY_VALUES
        if base in _FIXED_BYTES:
            num_values = 1
            if kind & _MANY_VALUES:
                (num_values,) = struct.unpack("<I", _piece(data, at, 4))
                at += 4
            at += _FIXED_BYTES[base] * num_values
            continue
        if base not in {_NARROW, _WIDE, _BINARY, _OBJECT}:
            return
        (num_values,) = struct.unpack("<I", _piece(data, at, 4))
        at += 4
        for number in range(num_values):
            (num_bytes,) = struct.unpack("<I", _piece(data, at, 4))
            value = _piece(data, at + 4, num_bytes)
            at += 4 + _padded(num_bytes)
            if number == 0 and base != _OBJECT:
                yield (
                    key,
                    value.decode("utf-16-le", "replace").rstrip("\0")
                    if (base == _WIDE)
                    else _text(value),
                )


def _padded(num_bytes: int) -> int:
    return (num_bytes + 3) // 4 * 4


def _piece(data: bytes, at: int, num_bytes: int) -> bytes:
    if at + num_bytes > len(data):
        raise EOFError
    return data[at : at + num_bytes]


def _text(value: bytes) -> str:
    try:
        return decode(value.rstrip(b"\0"))[0]
    except ReadError:
        return ""

"""Files for the tests of readers: packages written part by part, and readings as pairs."""

import struct
import zipfile
from io import BytesIO

import pytest

from mm1cli.ingest.readers.reader import ReadError

RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SECTOR = 512
PACKAGE_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"


def packed(parts):
    """A zip of `parts`, text or bytes by name, in their order."""
    output = BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return output.getvalue()


def unpacked(data):
    with zipfile.ZipFile(BytesIO(data)) as package:
        return {name: package.read(name) for name in package.namelist()}


def repacked(data, changed):
    return packed(unpacked(data) | changed)


def relations(**targets):
    """A .rels part: `rId1="slide slides/slide1.xml"`."""
    entries = "".join(
        f'<Relationship Id="{key}" Type="{RELATIONS}/{value.split()[0]}"'
        f' Target="{value.split()[1]}"/>'
        for key, value in targets.items()
    )
    return f'<Relationships xmlns="{PACKAGE_RELATIONS}">{entries}</Relationships>'


def saved(document):
    output = BytesIO()
    document.save(output)
    return output.getvalue()


def shown(reading):
    """Every line with the locator that a citation of it would carry."""
    found = []
    for block in reading.blocks:
        start = 0
        for line in block.text.split("\n"):
            assert line and "\r" not in line and "\0" not in line
            line.encode()
            found.append((str(block.locate(start, start + len(line))), line))
            start += len(line) + 1
    return found


def texts(reading):
    return [line for _, line in shown(reading)]


def refusal(read, data):
    with pytest.raises(ReadError) as raised:
        read(data)
    assert "\n" not in raised.value.detail
    return raised.value


def compound(streams):
    """A compound file with `streams` in its root, each padded with blanks to a whole of sectors
    that is no less than 4096 bytes: smaller ones are kept in another way."""
    names = list(streams)
    sectors, chains, entries = [], [], []
    for name in names:
        content = streams[name]
        size = max(4096, -(-len(content) // SECTOR) * SECTOR)
        blank = " ".encode("utf-16-le") if name.endswith("001F") else b"\0"
        content = (content + blank * size)[:size]
        first = len(sectors)
        sectors += [content[at : at + SECTOR] for at in range(0, size, SECTOR)]
        chains += [*range(first + 1, len(sectors)), 0xFFFFFFFE]
        entries.append((name, 2, first, size))
    entries.insert(0, ("Root Entry", 5, 0xFFFFFFFE, 0))
    directory = b""
    for at, (name, kind, first, size) in enumerate(entries):
        text = name.encode("utf-16-le") + b"\0\0"
        after = at + 1 if 0 < at < len(entries) - 1 else 0xFFFFFFFF
        below = 1 if at == 0 and names else 0xFFFFFFFF
        directory += struct.pack("<64sHBBIII16sIQQIQ", text, len(text), kind, 1, 0xFFFFFFFF, after,
                                 below, b"", 0, 0, 0, first, size)  # fmt: skip
    directory += bytes(-len(directory) % SECTOR)
    first = len(sectors)
    sectors += [directory[at : at + SECTOR] for at in range(0, len(directory), SECTOR)]
    chains += [*range(first + 1, len(sectors)), 0xFFFFFFFE]
    fat_at = len(sectors)
    assert fat_at < SECTOR // 4
    fat = struct.pack("<128I", *chains, 0xFFFFFFFD, *[0xFFFFFFFF] * (127 - fat_at))
    magic, numbers = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", (62, 3, 0xFFFE, 9, 6)
    places = (0, 1, first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0, fat_at)
    header = struct.pack("<8s16s5H6s10I432s", magic, b"", *numbers, b"", *places, b"\xff" * 432)
    return header + b"".join(sectors) + fat

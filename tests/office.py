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
    """A compound file with `streams` in its root, those in a dict in a storage below it, each
    padded with blanks to a whole of sectors that is no less than 4096 bytes: smaller ones are kept
    in another way."""
    sectors, chains, entries = [], [], [["Root Entry", 5, 0xFFFFFFFE, 0, *[0xFFFFFFFF] * 2]]

    def add(parent, contents):
        before = None
        for name, content in contents.items():
            at = len(entries)
            if before is None:
                entries[parent][5] = at
            else:
                entries[before][4] = at
            before = at
            if isinstance(content, dict):
                entries.append([name, 1, 0, 0, *[0xFFFFFFFF] * 2])
                add(at, content)
                continue
            size = max(4096, -(-len(content) // SECTOR) * SECTOR)
            blank = " ".encode("utf-16-le") if name.endswith("001F") else b"\0"
            content = (content + blank * size)[:size]
            entries.append([name, 2, len(sectors), size, *[0xFFFFFFFF] * 2])
            sectors.extend(content[at : at + SECTOR] for at in range(0, size, SECTOR))
            chains.extend([*range(entries[-1][2] + 1, len(sectors)), 0xFFFFFFFE])

    add(0, streams)
    directory = b""
    for name, kind, first, size, after, below in entries:
        text = name.encode("utf-16-le") + b"\0\0"
        directory += struct.pack("<64sHBBIII16sIQQIQ", text, len(text), kind, 1, 0xFFFFFFFF, after,
                                 below, b"", 0, 0, 0, first, size)  # fmt: skip
    directory += bytes(-len(directory) % SECTOR)
    first = len(sectors)
    sectors += [directory[at : at + SECTOR] for at in range(0, len(directory), SECTOR)]
    chains += [*range(first + 1, len(sectors)), 0xFFFFFFFE]
    fat_at = len(sectors)
    num_fats = fat_at // (SECTOR // 4 - 1) + 1
    chains += [0xFFFFFFFD] * num_fats
    chains += [0xFFFFFFFF] * (-len(chains) % (SECTOR // 4))
    fat = struct.pack(f"<{len(chains)}I", *chains)
    magic, numbers = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", (62, 3, 0xFFFE, 9, 6)
    fats = [*range(fat_at, fat_at + num_fats), *[0xFFFFFFFF] * 109][:109]
    places = (0, num_fats, first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0, *fats)
    header = struct.pack("<8s16s5H6s118I", magic, b"", *numbers, b"", *places)
    return header + b"".join(sectors) + fat

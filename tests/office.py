"""Files for the tests of readers: packages written part by part, and readings as pairs."""

import zipfile
from io import BytesIO

import pytest

from mm1cli.ingest.readers.reader import ReadError

RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
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

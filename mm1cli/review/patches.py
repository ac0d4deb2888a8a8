"""From the bytes of a diff to its patches, whoever wrote it: git with any setting, diff -u, a mail.

Line ends, colours, prefixes and the ways in which git tells of submodules make no difference.
"""

import codecs
import re
from collections.abc import Sequence
from typing import BinaryIO

from unidiff.constants import DEV_NULL
from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from mm1cli.errors import InputError
from mm1cli.ingest.display_names import one_line

MAX_DIFF_BYTES = 256 << 20
_NAMING = ("--- ", "+++ ", "rename from ", "rename to ")
_USUAL_HEADER = re.compile(r'diff --git "?a/.* "?b/')
_COLOURED_HEADER = re.compile(r"^(?:\x1b\[[\d;]*m)+(?:diff |--- )", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[\d;]*[mK]")
_COMBINED_HEADER = re.compile(r"^diff --(?:cc|combined) ", re.MULTILINE)
_SUBMODULE = re.compile(
    r"^Submodule (.+) ([\da-f]{4,64})\.{2,3}([\da-f]{4,64})\b.*\n?", re.MULTILINE
)


def read_diff(stream: BinaryIO) -> str:
    """Raises InputError if it is larger than any diff a person would review."""
    data = stream.read(MAX_DIFF_BYTES + 1)
    if len(data) > MAX_DIFF_BYTES:
        raise InputError(f"the diff is larger than {MAX_DIFF_BYTES >> 20} MiB; split it")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes files
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def parse(text: str) -> PatchSet:
    """Raises InputError for what is no unified diff; nothing at all is an empty one."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if _COLOURED_HEADER.search(text):
        text = _COLOUR.sub("", text)
    if _COMBINED_HEADER.search(text):
        raise InputError(
            "a combined diff, of a merge; take the difference to one side, such as "
            "`git diff main...HEAD`"
        )
    try:
        patches = PatchSet(_with_usual_headers(_SUBMODULE.sub(_submodule, text)))
    except UnidiffParseError as error:
        raise InputError(f"not a unified diff: {one_line(str(error))[:120]}") from None
    except (ValueError, IndexError) as error:
        raise InputError(f"not a unified diff ({one_line(str(error))[:80]})") from None
    if not patches and text.strip():
        raise InputError("not a unified diff: no file and no hunk is in it; try `git diff`")
    return patches


def _submodule(line: re.Match[str]) -> str:
    """As `--submodule=short` has it."""
    name, before, after = line.groups()
    return (
        f"diff --git a/{name} b/{name}\nindex {before}..{after} 160000\n"
        f"--- a/{name}\n+++ b/{name}\n"
        f"@@ -1 +1 @@\n-Subproject commit {before}\n+Subproject commit {after}\n"
    )


def _with_usual_headers(text: str) -> str:
    """As git writes it with the prefixes a/ and b/: other headers of names with blanks in them
    cannot be split. The names stay whole behind these prefixes."""
    lines: list[str] = []
    header: list[str] | None = None
    for line in text.split("\n"):
        if header is not None and line.startswith(("diff --git ", "@@ ", "GIT binary", "Binary ")):
            lines += _usual(header)
            header = None
        if line.startswith("diff --git ") and not _USUAL_HEADER.match(line):
            header = []
        (lines if header is None else header).append(line)
    return "\n".join(lines if header is None else [*lines, *_usual(header)])


def _usual(header: Sequence[str]) -> list[str]:
    names = {key: line[len(key) :] for line in header for key in _NAMING if line.startswith(key)}
    both = header[0].removeprefix("diff --git ")
    halves = both[: len(both) // 2], both[len(both) // 2 + 1 :]
    source = names.get("--- ", names.get("rename from ", halves[0]))
    target = names.get("+++ ", names.get("rename to ", halves[1]))
    source, target = (name.rstrip("\t") for name in (source, target))
    named = [name for name in (source, target) if name != DEV_NULL] * 2
    lines = [f"diff --git {_prefixed('a/', named[0])} {_prefixed('b/', named[-1])}"]
    for line in header[1:]:
        if line.startswith("--- ") and source != DEV_NULL:
            line = f"--- {_prefixed('a/', source)}\t"
        elif line.startswith("+++ ") and target != DEV_NULL:
            line = f"+++ {_prefixed('b/', target)}\t"
        lines.append(line)
    return lines


def _prefixed(prefix: str, name: str) -> str:
    return f'"{prefix}{name[1:]}' if name.startswith('"') else f"{prefix}{name}"

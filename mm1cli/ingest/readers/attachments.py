"""Files in files: what they are called, and how many are taken."""

import re

from mm1cli.ingest.readers.lines import tidy
from mm1cli.ingest.readers.reader import (
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    MIB,
    Member,
    ReadError,
    beyond,
)


class Attachments:
    """The files in a file, each with a name of its own; what is beyond the limits is left out."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._left, self._is_full = MAX_MEMBER_BYTES, False
        self._names: set[str] = set()

    def add(self, name: str, content: bytes) -> bool:
        """False where neither this one nor any other is taken."""
        return self._add(name, content, None)

    def refuse(self, name: str, why: ReadError) -> bool:
        """One that is there, and not read."""
        return self._add(name, b"", why)

    def _add(self, name: str, content: bytes, refusal: ReadError | None) -> bool:
        if self._is_full:
            return False
        self._left -= len(content)
        count = len(self.members)
        if self._left < 0 or count == MAX_MEMBERS - 1:
            self._is_full = True
            limit = f"{MAX_MEMBER_BYTES // MIB} MiB, or {MAX_MEMBERS - 1:,} files"
            self.members.append(beyond(f"more than {limit} in one file"))
            return False
        chosen = unused(bare(name) or f"attachment {count + 1}", self._names)
        self.members.append(Member(chosen, content, refusal=refusal))
        return True


def bare(name: str) -> str:
    """Without folders: attachments are written nowhere, but the name is shown."""
    return re.split(r"[/\\]", " ".join(tidy(name).split()))[-1].strip()


def unused(name: str, names: set[str]) -> str:
    """`name`, with a number where it is one of `names`, to which it is added."""
    stem, dot, extension = name.rpartition(".")
    count, chosen = 1, name
    while chosen in names:
        count += 1
        chosen = f"{stem} ({count}){dot}{extension}" if stem else f"{name} ({count})"
    names.add(chosen)
    return chosen

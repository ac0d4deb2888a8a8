"""A safetensors file that is written tensor by tensor, in any order, over days if need be.

Where each tensor stands follows from names, shapes and dtypes alone, so the file has its last size
and places from the first byte on, and nothing is on disk twice. It is given the name by which it
is read, and its checksum, when all tensors are in it; its bytes are those `tensors.save` writes.
"""

import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from torch import Tensor

from engine import durable
from engine.errors import StoreError
from engine.store import tensors
from engine.store.tensors import Expected

_UNKNOWN = "0" * 32


class PartialSafetensors:
    """The file at `path`, or at `final` once it is sealed, with tensors as `expected`.

    `facts` say what they are, as in `tensors.save`. Makes nothing before the first `put`.
    """

    def __init__(
        self, path: Path, final: Path, expected: Mapping[str, Expected], facts: Mapping[str, str]
    ) -> None:
        self.path, self.final = path, final
        self._expected, self._facts = expected, facts
        header, self._places = tensors.layout(expected, facts, _UNKNOWN)
        self._start = len(header)
        self._header = header
        self.num_bytes = self._start + max((last for _, last in self._places.values()), default=0)
        self._exists = False
        self.is_sealed = False

    def find(self, *, may_be_sealed: bool) -> None:
        """Goes on with the file that is there. Raises StoreError if it is not one of ours.

        One that is sealed is held against its checksum. Of another's tensors nothing is said:
        whoever put them knows their checksums. What stands before them is never read, and `seal`
        writes it.
        """
        if self._exists:
            return
        self.is_sealed = may_be_sealed and not os.path.lexists(self.path)
        path = self.final if self.is_sealed else self.path
        plain_file(path, self.num_bytes, may_have_names=self.is_sealed)
        if self.is_sealed:
            tensors.load(path, self._expected, self._facts)
        self._exists = True

    def put(self, name: str, tensor: Tensor) -> memoryview:
        """Writes one tensor to its place, unless that is sealed; returns its bytes."""
        content = tensors.content(tensor.detach().cpu().contiguous())
        if not self.is_sealed:
            first, last = self._places[name]
            assert len(content) == last - first, name
            self._create()
            durable.put(self.path, self._start + first, content)
        return content

    def get(self, name: str) -> Tensor:
        """One tensor, as pages of the file that cannot be written to."""
        first, last = self._places[name]
        want = self._expected[name]
        return self._content[first:last].view(want.dtype).view(want.shape)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self._expected if name.startswith(prefix))

    def sync(self) -> None:
        """Returns when what was put is on disk."""
        if self._exists and not self.is_sealed:
            durable.sync_file(self.path)

    def seal(self) -> None:
        """Gives the file its checksum and its name. All tensors were put."""
        if self.is_sealed:
            return
        found = {name: self.get(name) for name in self._expected}
        checksum = tensors.checksum(found, self._facts)
        durable.put(self.path, 0, tensors.layout(self._expected, self._facts, checksum)[0])
        durable.sync_file(self.path)
        self.path.replace(self.final)
        self.is_sealed = True

    def _create(self) -> None:
        if self._exists:
            return
        self.path.unlink(missing_ok=True)  # of a layer that was not finished
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(self.path, flags, 0o600))
        durable.put(self.path, 0, self._header)
        os.truncate(self.path, self.num_bytes)
        self._exists = True

    @cached_property
    def _content(self) -> Tensor:
        """All bytes behind the header, mapped once: before Python 3.13 it holds a descriptor."""
        return tensors.pages(self.final if self.is_sealed else self.path)[self._start :]


def plain_file(path: Path, num_bytes: int, *, may_have_names: bool = False) -> None:
    """Raises StoreError if there is no file of this size at `path`, or one that is elsewhere too
    and so must not be written to."""
    try:
        status = path.lstat()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size != num_bytes:
        raise StoreError(f"{path}: damaged: no plain file of {num_bytes:,} bytes")
    if status.st_nlink != 1 and not may_have_names:
        raise StoreError(f"{path}: has another name, and must not be written to")

"""Tensors read by their offsets in safetensors shards, into memory that is there already.

Files are read, not mapped: through a mapping a cloud disk gave 0.2 to 0.8 GB/s, `preadv` 1.3 and
more. What is large goes past the system's page cache (O_DIRECT) where that is possible: the cache
cannot keep what is larger than memory, and copying out of it takes 0.6 to 1.2 s of a processor per
GB, which matmuls want at the same time, against 0.05. Nothing read here counts as this process's
memory but the buffers it is given.
"""

import ctypes
import json
import os
from contextlib import suppress
from pathlib import Path

from engine.checkpoint import Checkpoint
from engine.errors import CheckpointError
from engine.placement.weight_bytes import PAGE_BYTES, is_large

_STEP_BYTES = 8 << 20  # per call, so that a read can be given up in between
_DIRECT_STEP_BYTES = 64 << 20  # nothing is read ahead of it: 8 MB a call are 15 to 20 % slower
_LARGEST_HEADER = 100_000_000  # as the safetensors library has it


class DirectReader:
    """Raw bytes of a checkpoint's tensors; its shards stay open. Any thread may read.

    `checkpoint` has held the headers against the files: names, dtypes, shapes, bounds.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._places: dict[str, tuple[int, int, int]] = {}  # file, offset, bytes
        self._paths: dict[int, Path] = {}
        self._direct: dict[int, int] = {}  # of a file, the same past the page cache
        try:
            for shard in sorted({info.shard for info in checkpoint.tensors.values()}):
                self._open(checkpoint.directory / shard, shard, checkpoint)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise CheckpointError(f"{checkpoint.directory}: cannot be read ({error})") from None

    def _open(self, path: Path, shard: str, checkpoint: Checkpoint) -> None:
        file = os.open(path, os.O_RDONLY)
        self._paths[file] = path
        if hasattr(os, "O_DIRECT"):
            with suppress(OSError):  # not every file system has it
                self._direct[file] = os.open(path, os.O_RDONLY | os.O_DIRECT)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        header_bytes = int.from_bytes(os.pread(file, 8, 0), "little")
        if header_bytes > _LARGEST_HEADER:
            raise ValueError(f"{shard}: a header of {header_bytes} bytes")
        header = json.loads(os.pread(file, header_bytes, 8))
        for name, entry in header.items():
            if name in checkpoint.tensors and checkpoint.tensors[name].shard == shard:
                first, last = entry["data_offsets"]
                self._places[name] = (file, 8 + header_bytes + first, last - first)

    def _place(self, name: str) -> tuple[int, int, int]:
        info = self._checkpoint.info(name)
        if info.rows_of is None:
            return self._places[self._checkpoint.stored_name(name)]
        stack, expert, row = info.rows_of
        file, offset, num_bytes = self._places[self._checkpoint.stored_name(stack)]
        num_experts, num_rows, _ = self._checkpoint.info(stack).shape
        row_bytes = num_bytes // (num_experts * num_rows)
        first = offset + (expert * num_rows + row) * row_bytes
        return file, first, info.shape[0] * row_bytes

    def num_bytes(self, name: str) -> int:
        return self._place(name)[2]

    def bypasses_page_cache(self, name: str) -> int:
        """How far behind a page's border the tensor begins: where memory does too, reading is
        direct."""
        return self._place(name)[1] % PAGE_BYTES

    def read_into(self, name: str, target: memoryview) -> None:
        """Fills `target`, which is as long as the tensor. Raises CheckpointError if it cannot."""
        file, offset, num_bytes = self._place(name)
        assert len(target) == num_bytes, name
        head = -offset % PAGE_BYTES
        if (
            is_large(num_bytes)
            and file in self._direct
            and (_address(target) - offset) % PAGE_BYTES == 0
        ):
            self._read_buffered(file, offset, target[:head])
            done = head + self._read_direct(file, offset + head, target[head:])
        else:
            done = 0
        self._read_buffered(file, offset + done, target[done:])

    def _read_direct(self, file: int, offset: int, target: memoryview) -> int:
        """Reads whole pages, and returns how many bytes; fewer than there are if it fails."""
        wanted, done = len(target) // PAGE_BYTES * PAGE_BYTES, 0
        while done < wanted:
            step = target[done : min(done + _DIRECT_STEP_BYTES, wanted)]
            try:
                count = os.preadv(self._direct[file], [step], offset + done)
            except OSError:
                break  # the other way works, or has a better error
            done += count // PAGE_BYTES * PAGE_BYTES
            if count < PAGE_BYTES:
                break
        return done

    def _read_buffered(self, file: int, offset: int, target: memoryview) -> None:
        done = 0
        while done < len(target):
            try:
                count = os.preadv(file, [target[done : done + _STEP_BYTES]], offset + done)
            except OSError as error:
                raise CheckpointError(f"{self._paths[file]}: cannot be read ({error})") from None
            if not count:
                raise CheckpointError(f"{self._paths[file]}: was cut while in use; fetch it again")
            done += count

    def close(self) -> None:
        for file in (*self._paths, *self._direct.values()):
            os.close(file)
        self._paths.clear()
        self._direct.clear()

    def __del__(self) -> None:
        self.close()


def _address(memory: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))

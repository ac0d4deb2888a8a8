"""The file of `mm1 map`: a line that says what was asked, one for each document, one at the end.

A line is written whole, so whoever is killed leaves at most one that is cut, and that is dropped
when the same command goes on. What stands there is not done again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO, Self

import filelock

from mm1cli.errors import InputError, UsageError
from mm1cli.output.events import plain
from mm1cli.sink import SCHEMA_VERSION

MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count`, from 1. Which one a document is in depends on its name alone."""

    number: int = 1
    count: int = 1

    @classmethod
    def of(cls, text: str) -> "Shard":
        """Of "3/16". Raises UsageError."""
        number, _, count = text.partition("/")
        try:
            shard = cls(int(number), int(count))
        except ValueError:
            shard = cls(0, 0)
        if not 1 <= shard.number <= shard.count <= 1_000_000:
            raise UsageError(f"--shard {text!r} is no part; write 3/16 for the third of sixteen")
        return shard

    def holds(self, name: str) -> bool:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


@dataclass(frozen=True, slots=True)
class Header:
    """What all documents of a run are asked, by what."""

    questions: tuple[str, ...]
    schema: Any
    model: str
    fingerprint: str
    group_by: str
    shard: Shard

    def as_json(self) -> dict[str, Any]:
        return {"type": "map", "schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Header":
        """Raises ValueError for what is none."""
        try:
            if told["type"] != "map" or told["schema_version"] != SCHEMA_VERSION:
                raise ValueError(told["type"])
            shard = Shard(int(told["shard"]["number"]), int(told["shard"]["count"]))
            questions = tuple(map(str, told["questions"]))
            model, fingerprint = str(told["model"]), str(told["fingerprint"])
            group_by = str(told["group_by"])
            return cls(questions, told["schema"], model, fingerprint, group_by, shard)
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


class MapFile:
    """`path`, opened to go on. Raises InputError where another run writes it or it is no file of
    `mm1 map`, UsageError where something else was asked in it."""

    def __init__(self, path: Path, header: Header) -> None:
        self._lock = filelock.FileLock(f"{path}.lock")
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise InputError(f"{path}: another mm1 writes it; give each --shard its own") from None
        self.done: set[str] = set()
        try:
            whole = self._read(path, header) if path.exists() else 0
            self._file: BinaryIO = path.open("r+b" if path.exists() else "wb")
            self._file.truncate(whole)
            self._file.seek(whole)
            if not whole:
                self.append(header.as_json())
        except BaseException:
            self._let_go()
            raise

    def _read(self, path: Path, header: Header) -> int:
        """What is done, and where the last whole line ends."""
        end = 0
        for told, size in lines(path):
            if end == 0:
                _require_same(path, told, header)
            elif told.get("type") in {"document", "left out"}:
                self.done.add(str(told.get("name")))
            if told.get("type") == "end":
                break  # of a run that goes on now
            end += size
        if end == 0:
            _require_begun(path, header)
        return end

    def append(self, told: Mapping[str, Any]) -> None:
        self._file.write(_line(told))
        self._file.flush()
        if told.get("type") in {"document", "left out"}:
            self.done.add(str(told["name"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._let_go()

    def _let_go(self) -> None:
        with suppress(OSError):  # Windows removes nothing that is open
            Path(self._lock.lock_file).unlink()  # while it is held: the next one makes its own
        self._lock.release()


def _line(told: Mapping[str, Any]) -> bytes:
    line = json.dumps(plain(dict(told)), ensure_ascii=False, allow_nan=False) + "\n"
    return line.encode()


def lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line and its bytes. Raises InputError for a file that is none of `mm1 map`."""
    try:
        with path.open("rb") as file:
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                told = json.loads(line)
                if not isinstance(told, dict):
                    raise ValueError("no object")
                yield told, len(line)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: has a line that `mm1 map` did not write") from None


def header_of(path: Path, told: Mapping[str, Any]) -> Header:
    """Raises InputError."""
    try:
        return Header.of(told)
    except ValueError:
        raise InputError(f"{path}: does not begin as a file of `mm1 map` does") from None


def folder_of(name: str) -> str:
    return str(PurePath(name).parent)


def _require_begun(path: Path, header: Header) -> None:
    """Of a file without a whole line: what a kill left of the first one, and nothing else's."""
    line = _line(header.as_json())
    with path.open("rb") as file:
        begun = file.read(len(line))
    if not line.startswith(begun):
        raise InputError(f"{path}: does not begin as a file of `mm1 map` does; name another file")


def _require_same(path: Path, told: Mapping[str, Any], header: Header) -> None:
    if header_of(path, told) != header:
        raise UsageError(
            f"{path}: has answers to other questions, of another model or shard; name another file"
        )

"""What a parser in the child process says of one file, and the check of its message."""

from dataclasses import dataclass
from typing import Any

from mm1cli.ingest.wire_format import line_from, whole_from

MAX_KEPT = 20_000  # definitions, and as many imports, of one file
MAX_NAME_CHARS = 200
MAX_MODULE_CHARS = 400
MAX_NAMES = 500  # taken from one module in one statement
MAX_SCOPE = 16


@dataclass(frozen=True, slots=True)
class RawDefinition:
    name: str
    kind: str
    first: int
    last: int
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawImport:
    """`kind` is the grammar's word: "", "from", "quoted", "mod", ...; `within` are the inline
    modules around it."""

    kind: str
    module: str
    names: tuple[str, ...]
    line: int
    is_deferred: bool
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawEntry:
    kind: str
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """`declares` are names by which other files may call this one: ("package", "org.x")."""

    definitions: tuple[RawDefinition, ...] = ()
    imports: tuple[RawImport, ...] = ()
    entries: tuple[RawEntry, ...] = ()
    declares: tuple[tuple[str, str], ...] = ()
    first_error: int | None = None
    num_cut: int = 0

    def declared(self, what: str) -> tuple[str, ...]:
        return tuple(name for key, name in self.declares if key == what)


def parsed_from(message: dict[str, Any]) -> Parsed:
    """Raises KeyError, TypeError or ValueError if it is no message of `asdict(Parsed)`."""
    error = message["first_error"]
    return Parsed(
        definitions=tuple(
            RawDefinition(
                line_from(entry["name"]),
                line_from(entry["kind"]),
                *_range(entry["first"], entry["last"]),
                _lines(entry["scope"]),
            )
            for entry in message["definitions"]
        ),
        imports=tuple(
            RawImport(
                line_from(entry["kind"]),
                line_from(entry["module"]),
                _lines(entry["names"]),
                whole_from(entry["line"]),
                entry["is_deferred"] is True,
                _lines(entry["within"]),
            )
            for entry in message["imports"]
        ),
        entries=tuple(
            RawEntry(line_from(entry["kind"]), line_from(entry["name"]), whole_from(entry["line"]))
            for entry in message["entries"]
        ),
        declares=tuple((line_from(key), line_from(name)) for key, name in message["declares"]),
        first_error=None if error is None else whole_from(error),
        num_cut=whole_from(message["num_cut"]),
    )


def _lines(message: list[str]) -> tuple[str, ...]:
    return tuple(map(line_from, message))


def _range(first: object, last: object) -> tuple[int, int]:
    start, end = whole_from(first), whole_from(last)
    if not 1 <= start <= end:
        raise ValueError(first)
    return start, end

"""A `Reading` as JSON: from the sandbox's child, and in the cache. Both are taken as hostile."""

from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any, get_args

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason, Unit, Unread
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.locator import PlaceKind
from mm1cli.ingest.readers.reader import MAX_MEMBERS, Member, ReadError, Reading

_UNITS = frozenset(get_args(Unit))
_UNREAD = {kind.__name__: kind for kind in (Unread, Damaged)}
_PLACES = frozenset(get_args(PlaceKind))
_MOST = 2**53  # what JSON numbers hold exactly
# A reader promises not to give these; a reply that has them comes from no reader of ours.
_REFUSED = "\0\r"


def reply_of(reading: Reading) -> tuple[dict[str, object], bytes]:
    """The message, and the bytes of the members, which follow it."""
    message = {entry.name: getattr(reading, entry.name) for entry in fields(reading)}
    message["warnings"] = [warning_of(warning) for warning in reading.warnings]
    message["blocks"] = [asdict(block) for block in reading.blocks]
    message["members"] = [
        {
            "name": member.name,
            "num_bytes": len(member.data),
            "refusal": member.refusal and refusal_of(member.refusal),
            "damage": member.damage,
        }
        for member in reading.members
    ]
    return message, b"".join(member.data for member in reading.members)


def refusal_of(error: ReadError) -> dict[str, object]:
    return {"reason": error.reason.name, "detail": error.detail}


def reading_from(message: dict[str, Any]) -> Reading:
    """The reading in `message`, whose members have their bytes as "data".

    Raises ReadError if the message is a refusal, KeyError, TypeError or ValueError if it is no
    message of `reply_of`.
    """
    if "reason" in message:
        raise refusal_from(message)
    if len(message["members"]) > MAX_MEMBERS:
        raise ValueError(f"more than {MAX_MEMBERS} members")
    return Reading(
        blocks=tuple(map(block_from, message["blocks"])),
        warnings=tuple(map(warning_from, message["warnings"])),
        library=line_from(message["library"]),
        encoding=line_from(message["encoding"]),
        members=tuple(
            Member(
                line_from(member["name"]),
                member["data"],
                refusal_from(member["refusal"]) if member["refusal"] else None,
                line_from(member["damage"]),
            )
            for member in message["members"]
        ),
    )


def refusal_from(message: dict[str, Any]) -> ReadError:
    return ReadError(Reason[message["reason"]], line_from(message["detail"]))


def block_from(message: dict[str, Any]) -> Block:
    text, unit = message["text"], message["unit"]
    if type(text) is not str or any(character in text for character in _REFUSED):
        raise ValueError("text")
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError
    if unit not in _UNITS:
        raise ValueError(unit)
    source = _points(message["source"])
    if source and (source[0][0] != 0 or source[-1][0] > len(text)):
        raise ValueError("source")
    outline = [(whole_from(at), tuple(map(line_from, path))) for at, path in message["outline"]]
    if any(before[0] > after[0] for before, after in pairwise(outline)):
        raise ValueError("outline")
    return Block(
        text=text,
        unit=unit,
        first=whole_from(message["first"]),
        place=_place(message["place"]),
        headings=tuple(map(line_from, message["headings"])),
        columns=_columns(message["columns"]),
        mark=line_from(message["mark"]),
        source=source,
        outline=tuple(outline),
    )


def warning_of(warning: str) -> str | list[str]:
    """What it says, and before it what it is, if that is more than a remark."""
    return [type(warning).__name__, warning] if isinstance(warning, Unread) else warning


def warning_from(message: str | list[str]) -> str:
    if isinstance(message, str):
        return line_from(message)
    kind, text = message
    return _UNREAD[kind](line_from(text))


def _columns(message: list[str] | None) -> tuple[str, str] | None:
    if message is None:
        return None
    first, last = message
    return line_from(first), line_from(last)


def _place(message: dict[str, Any] | None) -> Place | None:
    if message is None:
        return None
    if message["kind"] not in _PLACES:
        raise ValueError(message["kind"])
    return Place(message["kind"], whole_from(message["index"]), line_from(message["label"]))


def _points(message: list[list[int]]) -> tuple[tuple[int, int], ...]:
    points = tuple((whole_from(at), whole_from(source)) for at, source in message)
    for before, after in pairwise(points):
        if before[0] >= after[0] or before[1] > after[1]:
            raise ValueError("source")
    return points


def whole_from(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(value)
    return value


def line_from(value: object) -> str:
    if type(value) is not str:
        raise TypeError(type(value).__name__)
    return one_line(value)

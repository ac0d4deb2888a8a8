"""What `--schema` takes: a file with a JSON Schema, or a short form of one.

    name, year int, tags [str], risk low|medium|high, note str?

Fields are separated by commas or lines. A field is a name, then what it holds: `str` (also when
nothing is said), `int`, `float`, `bool`, `date`, words with `|` between them for a choice, a type
in brackets for a list of it, fields in braces for an object. `?` behind it allows null. A text
behind a colon tells the model what is meant: `year int: when it was signed`. A short form that
begins with a bracket is a list: `[name, year int]` is a list of objects.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import GrammarError, check_schema
from mm1cli.errors import UsageError
from mm1cli.prompts import prompt

Schema = Mapping[str, Any]

_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
}
_MAX_BYTES = 1024 * 1024
_MAX_NESTING = 16
_TOKEN = re.compile(r"[ \t]*(?:(?P<sign>[,\n\[\]{}|?:])|(?P<word>[^\W\d][\w-]*)|(?P<end>$))")


def load(text: str) -> Schema:
    """The schema that `text` names or spells, checked. Raises UsageError in one line."""
    schema = _from_file(Path(text)) if _is_path(text) else parse(text)
    try:
        check_schema(schema)
    except GrammarError as error:
        raise UsageError(f"--schema {_shown(text)}: cannot be followed: {error}") from None
    return schema


def parse(text: str) -> dict[str, Any]:
    """The JSON Schema that the short form `text` stands for. Raises UsageError, with a caret."""
    return _Parser(text).whole()


def question_with_schema(question: str, schema: Schema | None) -> str:
    """The question as the model reads it: with the schema, where there is one."""
    if schema is None:
        return question
    return f"{question}\n{prompt('schema')} {json.dumps(schema, ensure_ascii=False)}"


def values(value: object) -> Iterator[str]:
    """The texts and numbers in parsed JSON, as words of an answer."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from values(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def values_as_text(text: str) -> str:
    """What the JSON `text` says, a line for each value: numbers digit by digit as written."""
    return "\n".join(_words(text))


def _words(text: str) -> Iterator[str]:
    return values(json.loads(text, parse_int=str, parse_float=str))


def _is_path(text: str) -> bool:
    if text.lower().endswith(".json") or "/" in text:
        return True
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--schema {path}: cannot be read ({error.strerror})") from None
    if len(content) > _MAX_BYTES:
        raise UsageError(f"--schema {path}: over {_MAX_BYTES:,} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"--schema {path}: is not JSON ({reason})") from None
    if not isinstance(value, dict):
        raise UsageError(f"--schema {path}: a JSON Schema is an object, this is something else")
    return value


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60] + "…"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word", "end", or the sign itself
    text: str
    at: int


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._token = self._read()

    def whole(self) -> dict[str, Any]:
        self._skip_lines()
        schema = self._list() if self._token.kind == "[" else self._fields("end")
        self._skip_lines()
        if self._token.kind != "end":
            raise self._error("nothing may follow here")
        return schema

    def _read(self) -> _Token:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            while self._text[self._at : self._at + 1] in {" ", "\t"}:
                self._at += 1
            self._token = _Token("", self._text[self._at], self._at)
            raise self._error("a name begins with a letter; no quotes are needed")
        self._at = match.end()
        kind = match.lastgroup or ""
        text = match.group(kind)
        return _Token(text if kind == "sign" else kind, text, match.start(kind))

    def _next(self) -> _Token:
        token, self._token = self._token, self._read()
        return token

    def _skip_lines(self) -> None:
        while self._token.kind == "\n":
            self._next()

    def _fields(self, end: str) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        while True:
            while self._token.kind in {",", "\n"} and (properties or self._token.kind == "\n"):
                self._next()
            if self._token.kind == end and properties:
                break
            if self._token.kind != "word":
                raise self._error("a field's name belongs here")
            if self._token.text in properties:
                raise self._error("this name has been used")
            name = self._next().text
            properties[name] = self._field()
            if self._token.kind not in {",", "\n", end}:
                raise self._error("a comma belongs between fields")
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def _field(self) -> dict[str, Any]:
        schema = self._type() if self._token.kind in {"word", "[", "{"} else dict(_TYPES["str"])
        if self._token.kind == "?":
            self._next()
            schema = {"anyOf": [schema, {"type": "null"}]}
        if self._token.kind == ":":
            # Up to the next comma, line or bracket all is prose.
            match = re.compile(r"[^,\n\]}]*").match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            schema = schema | {"description": match.group().strip()}
            self._token = self._read()
        return schema

    def _type(self) -> dict[str, Any]:
        if self._token.kind == "[":
            return self._list()
        if self._token.kind == "{":
            with_braces = self._nested()
            self._next()
            schema = self._fields("}")
            self._next()
            self._depth = with_braces
            return schema
        if self._token.kind != "word":
            raise self._error("a type belongs here: str, int, float, bool, date, a|b, [..], {..}")
        word = self._next()
        choices = [word.text]
        while self._token.kind == "|":
            self._next()
            if self._token.kind != "word":
                raise self._error("a word of the choice belongs here")
            choices.append(self._next().text)
        if len(choices) > 1:
            return {"enum": list(dict.fromkeys(choices))}
        if word.text not in _TYPES:
            self._token = word
            raise self._error(f"no such type; there are {', '.join(_TYPES)}, a|b, [..] and {{..}}")
        return dict(_TYPES[word.text])

    def _list(self) -> dict[str, Any]:
        depth = self._nested()
        self._next()
        self._skip_lines()
        if self._token.kind == "word" and self._token.text not in _TYPES and not self._is_choice():
            items = self._fields("]")
        else:
            items = self._type()
            self._skip_lines()
        if self._token.kind != "]":
            raise self._error("a ] belongs here")
        self._next()
        self._depth = depth
        return {"type": "array", "items": items}

    def _is_choice(self) -> bool:
        return self._text[self._at :].lstrip(" \t").startswith("|")

    def _nested(self) -> int:
        depth, self._depth = self._depth, self._depth + 1
        if self._depth > _MAX_NESTING:
            raise self._error(f"nested deeper than {_MAX_NESTING}")
        return depth

    def _error(self, message: str) -> UsageError:
        """Points at the token: a window of one line, which an error must be."""
        at = self._token.at
        before = self._text[max(0, at - 30) : at].replace("\n", " ")
        after = self._text[at : at + 20].replace("\n", " ")
        pointer = f"{before}▸{after}" if after else f"{before}▸"
        return UsageError(f"--schema, character {at + 1}: {message}: {pointer}")

"""The tools that a model may call while it answers: which are allowed, what they take, and what
came of each call.

A call is refused that was made before, or that comes after the last allowed one, so that a model
that goes round in circles comes to an end.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mm1cli.errors import Mm1Error, UsageError
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.tools import calculator
from mm1cli.tools.corpus_tools import CorpusTools
from mm1cli.tools.formats import Call

CALC = "calc"
NAMES = (CALC, "search", "open", "count")
NONE = "none"
_MOST_RESULT_CHARS = 6_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """`parameters` is a JSON Schema; `run` takes what follows it."""

    name: str
    description: str
    parameters: Json
    run: Callable[..., str]
    is_outside: bool = False  # of another program, which checks arguments itself

    def as_json(self) -> Json:
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call and what the model was told of it."""

    call: Call
    result: str
    is_error: bool = False

    @property
    def document(self) -> Document:
        """The result as one, to be quoted and cited."""
        given = self.call.arguments.values()
        told = ", ".join(one if isinstance(one, str) else json.dumps(one) for one in given)
        path = f"tool:{self.call.name} {told}"
        return Document(path, "tool", len(self.result), "", "tool", (Block(self.result),))

    @property
    def operands(self) -> list[str]:
        """The figures that it was computed from."""
        is_computed = self.call.name == CALC and not self.is_error
        return calculator.operands(self.call.arguments["expression"]) if is_computed else []


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """Which tools a run may use, from its flags alone: no file enables one. `names` is None where
    nothing was said of them."""

    names: tuple[str, ...] | None = None
    most_calls: int = 8
    approve: Callable[[Call], bool] = lambda _: True
    outside: tuple[Tool, ...] = ()

    def of(self, corpus: Corpus, quotable: QuoteIndex) -> "list[Tool]":
        """Raises UsageError for a name that is none."""
        if not self.names:
            return [*self.outside]
        return [*chosen(self.names, CorpusTools(corpus, quotable)), *self.outside]


NO_TOOLS = ToolOptions()


def chosen(names: Sequence[str], documents: CorpusTools) -> list[Tool]:
    """The tools of those names. Raises UsageError for a name that is none."""
    there = {tool.name: tool for tool in _all(documents)}
    for name in names:
        if name not in (*there, NONE):
            raise UsageError(f"--tool {name}: there is {', '.join(NAMES)}, and {NONE}")
    return [there[name] for name in dict.fromkeys(names) if name != NONE]


class Toolbox:
    """The tools of one question."""

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        most_calls: int,
        approve: Callable[[Call], bool] = lambda _: True,
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._left, self._approve = most_calls, approve
        self._made: set[str] = set()

    @property
    def names(self) -> list[str]:
        return list(self._tools)

    @property
    def schema(self) -> Json:
        """Of one call of one of the tools."""
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "name": {"const": tool.name},
                        "arguments": tool.parameters,
                    },
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
                for tool in self._tools.values()
            ]
        }

    def use(self, call: Call) -> ToolUse:
        """What comes of it. No tool fails a run: what is wrong is told to the model."""
        spelled = json.dumps([call.name, call.arguments], sort_keys=True)
        if self._left < 1:
            return ToolUse(call, "no more calls; answer with what you have", True)
        self._left -= 1
        if spelled in self._made:
            self._left = 0
            return ToolUse(call, "this call was made before; answer with what you have", True)
        self._made.add(spelled)
        tool = self._tools.get(call.name)
        if tool is None:
            return ToolUse(call, f"there is no tool {call.name!r}", True)
        if not tool.is_outside and (wrong := _wrong(call.arguments, tool.parameters)):
            return ToolUse(call, wrong, True)
        if not self._approve(call):
            return ToolUse(call, "the user does not allow this call", True)
        try:
            result = tool.run(**call.arguments)
        except Mm1Error as error:
            return ToolUse(call, str(error), True)
        if len(result) > _MOST_RESULT_CHARS:
            result = f"{result[:_MOST_RESULT_CHARS]} ... (cut)"
        return ToolUse(call, result)


def _wrong(arguments: Mapping[str, Any], parameters: Json) -> str:
    """What of `arguments` does not follow the schema; "" if all does. Ours are flat."""
    kinds = {"string": str, "integer": int}
    known = parameters["properties"]
    for name in parameters.get("required", ()):
        if name not in arguments:
            return f"{name!r} is missing"
    for name, value in arguments.items():
        if name not in known:
            return f"there is no argument {name!r}"
        if type(value) is not kinds[known[name]["type"]]:
            return f"{name!r} must be of type {known[name]['type']}"
    return ""


def _all(documents: CorpusTools) -> list[Tool]:
    def search(query: str, limit: int = 4) -> str:
        found = documents.search(query, limit)["passages"]
        return "\n\n".join(f"{p['path']}, {p['place']}:\n{p['text']}" for p in found) or "nothing"

    def open_(path: str, first: int = 1, last: int = 40) -> str:
        return "\n".join(documents.open(path, first, last)["lines"])

    def count(words: str) -> str:
        told = documents.count(words)
        each = "; ".join(f"{one['path']}: {one['count']}" for one in told["documents"])
        without = ", ".join(told["without"][:50])
        return f"{told['total']} in all. {each}. Never in: {without or 'none'}"

    text, number = {"type": "string"}, {"type": "integer"}
    return [
        Tool(
            CALC,
            "Exact arithmetic of numbers and dates: (48.2 - 45) / 45, "
            "days(date(2024,3,1), date(2024,12,24)), add_months(date(2024,1,31), 3)",
            _object({"expression": text}, "expression"),
            calculator.equation,
        ),
        Tool(
            "search",
            "Passages of the documents that have these words",
            _object({"query": text, "limit": number}, "query"),
            search,
        ),
        Tool(
            "open",
            "Lines of a document, by its path",
            _object({"path": text, "first": number, "last": number}, "path"),
            open_,
        ),
        Tool(
            "count",
            "How often words stand in each document, and which documents never have them",
            _object({"words": text}, "words"),
            count,
        ),
    ]


def _object(properties: Json, *required: str) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }

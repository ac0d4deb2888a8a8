"""How a family of models is told of tools, calls them, and is told what came of it.

A call is a JSON object of a name and its arguments between the family's markers
(`engine.chat_markers`): one a pair of markers where Qwen and its kin have it (Hermes), one a line
between them where MiniMax-M1 does.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api import Markers, Tokenizer, tool_call_markers

_HERMES = Markers("<tool_call>", "</tool_call>")
_MINIMAX = Markers("<tool_calls>", "</tool_calls>")
# What models write before a call's name that were seldom shown their family's marker.
_BARE = re.compile(r"(?:```\w*|<\w+>)?\s*\[?\s*\{\s*\Z")


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: Mapping[str, Any]

    def as_json(self) -> str:
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToolFormat:
    markers: Markers

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "ToolFormat":
        """The model's own, or that of Hermes for a model that has none."""
        return cls(tool_call_markers(tokenizer) or _HERMES)

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """`tools` are functions with `name`, `description` and `parameters`, a JSON Schema."""
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        example = (
            self.told([Call("NAME", {})]).replace('"NAME"', "<name>").replace("{}", "<object>")
        )
        return (
            "You may call one or more functions to assist with the user query.\n\n"
            f"<tools>\n{listed}\n</tools>\n\nTo call a function, write:\n{example}"
        )

    def begins(self, names: Sequence[str]) -> tuple[str, ...]:
        """The texts at which a call of one of these tools begins: the marker, or its name."""
        bare = (f'"name":{space}"{name}"' for name in names for space in (" ", ""))
        return (self.markers.begin, *bare)

    def before_call(self, text: str) -> str:
        """What was said in `text`, which ends where a call begins."""
        return _BARE.sub("", text)

    def told(self, calls: Sequence[Call]) -> str:
        """The calls as the model writes them."""
        begin, end = self.markers.begin, self.markers.end
        objects = [call.as_json() for call in calls]
        if self.markers == _MINIMAX:
            return "\n".join([begin, *objects, end])
        return "\n".join(f"{begin}\n{one}\n{end}".rstrip() for one in objects)

    def result(self, content: str) -> str:
        return f"<tool_response>\n{content}\n</tool_response>"

    def parse(self, text: str, known: Sequence[str]) -> tuple[str, list[Call]]:
        """What `text` says beside its calls, and the calls of tools in `known`. What is no whole
        call of one of these stays text."""
        begin, end = self.markers.begin, self.markers.end
        if begin not in text:
            return text, []
        before, *parts = text.split(begin)
        said, calls = before, []
        for part in parts:
            inside, _, after = part.partition(end) if end else (part, "", "")
            found = [_call(one, known) for one in _objects(inside)]
            if not found or None in found:
                said += begin + part
                continue
            calls += [one for one in found if one is not None]
            said += after
        return said.strip() if calls else text, calls


def _objects(text: str) -> list[Any]:
    """JSON values that follow each other, or a list of them; [] where anything else stands."""
    decoder, at, found = json.JSONDecoder(), 0, []
    text = text.strip()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        found += value if isinstance(value, list) else [value]
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
    return found


def _call(value: object, known: Sequence[str]) -> Call | None:
    if not isinstance(value, dict) or value.get("name") not in known:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return Call(value["name"], arguments) if isinstance(arguments, dict) else None

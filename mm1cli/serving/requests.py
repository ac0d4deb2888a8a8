"""What a request asks for, checked: hostile until then. Errors are what OpenAI's clients expect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mm1cli.settings import Settings

_MOST_STOPS = 16
_MOST_MESSAGES = 2_000
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class RequestError(Exception):
    """`status` is HTTP's; `str(error)` says what is wrong."""

    def __init__(
        self, message: str, status: int = 400, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str
    calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """What both kinds of completion share."""

    settings: Settings
    stops: tuple[str, ...]
    schema: Mapping[str, Any] | None
    has_logprobs: bool
    is_streamed: bool
    has_usage: bool  # in a stream
    has_progress: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    tools: tuple[Mapping[str, Any], ...] = ()


def chat_request(body: object, settings: Settings) -> ChatRequest:
    """Raises RequestError."""
    fields = _object(body, "the body")
    messages = fields.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= _MOST_MESSAGES:
        raise RequestError(f"messages: a list of 1 to {_MOST_MESSAGES:,} is needed")
    if _whole(fields, "n", 1) != 1:
        raise RequestError("n: one answer at a time")
    return ChatRequest(
        _text(fields, "model", ""),
        tuple(map(_message, messages)),
        sampling(fields, settings),
        _tools(fields),
    )


def sampling(fields: Mapping[str, Any], settings: Settings) -> Sampling:
    most = fields.get("max_completion_tokens", fields.get("max_tokens"))
    changes: dict[str, Any] = {"think": "show"}
    if most is not None:
        changes["max_tokens"] = _whole({"max_tokens": most}, "max_tokens", 0, low=0)
    for name, low, high in (("temperature", 0.0, 100.0), ("top_p", 0.0, 1.0)):
        if (value := fields.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RequestError(f"{name}: a number is needed")
            if not low <= value <= high:
                raise RequestError(f"{name}: from {low:g} to {high:g}")
            changes[name] = float(value) or (1e-6 if name == "top_p" else 0.0)
    if fields.get("seed") is not None:
        changes["seed"] = _whole(fields, "seed", 0, low=0)
    logprobs = fields.get("logprobs")
    options = fields.get("stream_options") or {}
    return Sampling(
        replace(settings, **changes),
        _stops(fields.get("stop")),
        _schema(fields.get("response_format")),
        has_logprobs=logprobs is not None and logprobs is not False,
        is_streamed=fields.get("stream") is True,
        has_usage=isinstance(options, dict) and options.get("include_usage") is True,
        has_progress=fields.get("return_progress") is True,
    )


def prompts(fields: Mapping[str, Any]) -> list[str | list[int]]:
    """Of `/v1/completions`: texts, or tokens by their ids."""
    prompt = fields.get("prompt", "")
    if isinstance(prompt, str) or (prompt and all(_is_id(one) for one in _list(prompt))):
        prompt = [prompt]
    found: list[str | list[int]] = []
    for one in _list(prompt):
        if not isinstance(one, str) and not (isinstance(one, list) and all(map(_is_id, one))):
            raise RequestError("prompt: texts or lists of token ids are needed")
        found.append(one)
    if len(found) != 1:
        raise RequestError("prompt: one at a time")
    return found


def text_of(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{name}: a text is needed")
    return value


def _is_id(value: object) -> bool:
    return type(value) is int and value >= 0


def _list(value: object, what: str = "prompt") -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(f"{what}: a list is needed")
    return value


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{what}: an object is needed")
    return value


def _text(fields: Mapping[str, Any], name: str, default: str) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise RequestError(f"{name}: a text is needed")
    return value


def _whole(fields: Mapping[str, Any], name: str, default: int, low: int = 1) -> int:
    value = fields.get(name, default)
    if type(value) is not int or not low <= value < 2**63:
        raise RequestError(f"{name}: a whole number from {low} on is needed")
    return value


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS:
        raise RequestError(f"stop: a text, or at most {_MOST_STOPS} of them")
    if not all(isinstance(one, str) and one for one in stops):
        raise RequestError("stop: a text, or at most 16 of them")
    return tuple(stops)


def _schema(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    form = _object(value, "response_format")
    match form.get("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            named = _object(form.get("json_schema"), "response_format.json_schema")
            return _object(named.get("schema"), "response_format.json_schema.schema")
    raise RequestError("response_format.type: text, json_object or json_schema")


def _tools(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    if fields.get("tool_choice") == "none":
        return ()
    found = []
    for tool in _list(fields.get("tools") or [], "tools"):
        function = _object(_object(tool, "tools").get("function"), "tools.function")
        if not isinstance(function.get("name"), str):
            raise RequestError("tools.function.name: a text is needed")
        names = ("name", "description", "parameters")
        found.append({name: function[name] for name in names if name in function})
    return tuple(found)


def _message(value: object) -> Message:
    fields = _object(value, "messages")
    role = fields.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(f"messages.role: one of {', '.join(sorted(_ROLES))}")
    calls = _list(fields.get("tool_calls") or [], "tool_calls")
    functions = tuple(
        _object(_object(one, "tool_calls").get("function"), "function") for one in calls
    )
    return Message("system" if role == "developer" else role, _content(fields), functions)


def _content(fields: Mapping[str, Any]) -> str:
    content = fields.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise RequestError("messages.content: a text, or parts of text")
    parts = []
    for part in content:
        one = _object(part, "messages.content")
        if one.get("type") not in {"text", "input_text"} or not isinstance(one.get("text"), str):
            raise RequestError("messages.content: only parts of type text can be read")
        parts.append(one["text"])
    return "".join(parts)

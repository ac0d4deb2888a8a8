"""Renders a model's chat template: a program from a hostile file, in a sandbox, within limits.

Templates see what Hugging Face gives them: `messages`, `add_generation_prompt`, the named tokens,
`tools` and `documents` (none), `raise_exception`, `strftime_now`. What a family decides by other
variables, such as `enable_thinking`, is left at the family's default.
"""

import ctypes
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TokenizerError

MAX_TEMPLATE_CHARS: Final = 256 * 1024
MAX_TEXT_CHARS: Final = 1024 * 1024  # of the output, and of each text on the way to it
MAX_RENDER_S: Final = 2.0
# The date that templates ask for. It stays the same, so that the same documents make the same
# context every day, and it is the one that Llama 3's own template falls back on.
TODAY: Final = datetime(2024, 7, 26, 12, 0, 0)

_MOST_ITEMS: Final = 100_000
_DATE_FORMAT: Final = re.compile(r"(?:[^%]|%-?[a-zA-Z%]){0,64}", re.DOTALL)
_FILTERS: Final = frozenset(
    {
        *(
            "abs",
            "capitalize",
            "count",
            "d",
            "default",
            "dictsort",
            "e",
            "escape",
            "first",
            "float",
        ),
        *("int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject"),
        *("rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "sort"),
        *("string", "sum", "title", "tojson", "trim", "unique", "upper"),
    }
)
_TEXT_METHODS: Final = frozenset(
    {
        *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit"),
        *("islower", "isspace", "isupper", "join", "lower", "lstrip", "removeprefix"),
        *("removesuffix", "replace", "rfind", "rsplit", "rstrip", "split", "splitlines"),
        *("startswith", "strip", "title", "upper"),
    }
)


class TemplateRefusalError(TokenizerError):
    """The template raises an error of its own."""


class ChatTemplate:
    """Raises TokenizerError where it is too large."""

    def __init__(self, source: str, named_tokens: Mapping[str, str]) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TokenizerError(f"the chat template has over {MAX_TEMPLATE_CHARS:,} characters")
        self.source = source
        self._named_tokens = {"bos_token": "", "eos_token": "", **named_tokens}
        self._template: Template | None = None

    def render(self, messages: list[dict[str, Any]], *, reply: bool) -> str:
        """Raises TemplateRefusalError if the template raises an error of its own, TokenizerError
        for every other failure."""
        try:
            with _time_limit(MAX_RENDER_S):
                if self._template is None:
                    self._template = _environment().from_string(self.source)
                return self._template.render(
                    messages=messages,
                    add_generation_prompt=reply,
                    tools=None,
                    documents=None,
                    **self._named_tokens,
                )
        except _RefusalError as error:
            raise TemplateRefusalError(str(error)) from None
        except Exception as error:  # a template is a program: it can raise anything
            raise TokenizerError(f"{error!s:.300}") from None


class _RefusalError(TemplateError):
    pass


class _TooLongError(Exception):
    def __str__(self) -> str:
        return f"it takes over {MAX_RENDER_S:g} s"


class _TooLargeError(Exception):
    def __str__(self) -> str:
        return "what it writes is too large"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _TooLongError within the body when the time is over: between two bytecodes, so the
    body must not spend long within one."""
    thread_id, lock, is_over = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread_id), ctypes.py_object(_TooLongError)
                )

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_over = True
        timer.cancel()


class _Environment(ImmutableSandboxedEnvironment):
    """Bounds each text and list that a template makes; what could make large ones unseen is out."""

    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        if operator == "+":
            _fits(_size(left) + _size(right))
        elif operator == "*" and (isinstance(left, int | float) and isinstance(right, int | float)):
            _fits(max(abs(left), abs(right)) // 2**62)
        elif operator == "*":
            times, text = (left, right) if isinstance(left, int) else (right, left)
            _fits(_size(text) * times if isinstance(times, int) else 0)
        elif operator == "**" or isinstance(left, str):
            raise TemplateError(f"{operator} is not allowed")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        text = getattr(obj, "__self__", None)
        if isinstance(text, str):
            name = getattr(obj, "__name__", "")
            if name == "replace":
                return _replace(text, *args, **kwargs)
            if name == "join":
                return _join(args[0], text)
        return super().call(context, obj, *args, **kwargs)

    @staticmethod
    def concat(parts: Iterable[object]) -> str:
        """What blocks, macros and `~` are joined with."""
        return _join(parts, "")


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja's name
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Generation(Extension):
    """{% generation %} marks what an assistant wrote, for training; it changes no text."""

    tags = {"generation"}  # noqa: RUF012 - as jinja has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # a template's constants are not computed before it runs
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.code_generator_class = _Generator
    known: dict[str, Callable[..., Any]] = dict(environment.filters)
    environment.filters = {name: known[name] for name in _FILTERS}
    environment.filters |= {"tojson": _to_json, "replace": _replace, "join": _join}
    environment.globals = {
        name: environment.globals[name] for name in ("range", "dict", "namespace")
    } | {"raise_exception": _raise, "strftime_now": _strftime_now}
    return environment


def _raise(message: object) -> None:
    raise _RefusalError(f"{message!s:.300}")


def _strftime_now(form: str) -> str:
    if not (isinstance(form, str) and _DATE_FORMAT.fullmatch(form)):
        raise TemplateError("strftime_now of an unusual format")
    return TODAY.strftime(form)


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent if indent in range(9) else None)


def _replace(text: object, old: object, new: object, count: int = -1) -> str:
    whole, before, after = str(text), str(old), str(new)
    found = len(whole) + 1 if not before else whole.count(before)
    _fits(len(whole) + found * len(after))
    return whole.replace(before, after, -1 if count is None else count)


def _join(parts: Iterable[object], d: object = "", attribute: None = None) -> str:
    if attribute is not None:
        raise TemplateError("join with an attribute is not allowed")
    separator, texts, size = str(d), [], 0
    for part in parts:
        text = str(part)
        size += len(text) + len(separator) + 1
        _fits(size)
        texts.append(text)
    return separator.join(texts)


def _size(value: object) -> int:
    if isinstance(value, list | tuple | dict):
        return len(value) * (MAX_TEXT_CHARS // _MOST_ITEMS)
    return len(value) if isinstance(value, str) else 0


def _fits(size: float) -> None:
    if size > MAX_TEXT_CHARS:
        raise _TooLargeError

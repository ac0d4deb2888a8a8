"""Renders a model's chat template: a program from a hostile file, in a sandbox, within limits.

Time is limited between two steps of the template; so no step may be long, or make much: each text
and list is bounded, all that one rendering makes is counted, and what could take long or make
large ones unseen is out. That holds on every system, and costs no process.

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
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, Final, cast

from jinja2 import Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.filters import do_round
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TokenizerError

MAX_TEMPLATE_CHARS: Final = 256 * 1024
MAX_TEXT_CHARS: Final = 1024 * 1024  # of the output, and of each text on the way to it
MAX_MADE_CHARS: Final = 64 * 1024 * 1024  # of all texts on the way; a Python text has 1 to 4 bytes
MAX_RENDER_S: Final = 2.0
# The date that templates ask for. It stays the same, so that the same documents make the same
# context every day, and it is the one that Llama 3's own template falls back on.
TODAY: Final = datetime(2024, 7, 26, 12, 0, 0)

_MOST_ITEMS: Final = 20_000  # of a list and all in it, a text of 50 characters counting as one
_DEEPEST: Final = 100
_ITEM_CHARS: Final = 16  # what an item of a list counts as, of MAX_MADE_CHARS
_MOST_STEPS: Final = 64 * 1024 * 1024  # of comparing characters in one operation
_MOST_DIGITS: Final = 32
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
_ENDS: Final = {"strip": str.strip, "lstrip": str.lstrip, "rstrip": str.rstrip}
_FROM_THE_RIGHT: Final = frozenset({"rfind", "rsplit"})

_made_chars: ContextVar[list[int]] = ContextVar("made_chars")  # of this rendering, so far


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
        _made_chars.set([0])
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

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.finalize = self.bounded

    def bounded(self, value: Any) -> Any:  # noqa: ANN401
        """`value`, if writing it down or comparing it costs little: a list can hold itself many
        times over without being large itself."""
        _num_items(value, {}, 0)
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        if operator == "+":
            _fits(_size(left) + _size(right))
            return _made(self.bounded(super().call_binop(context, operator, left, right)))
        if operator == "*" and (isinstance(left, int | float) and isinstance(right, int | float)):
            _fits(max(abs(left), abs(right)) // 2**62)
        elif operator == "*":
            times, text = (left, right) if isinstance(left, int) else (right, left)
            _fits(_size(text) * times if isinstance(times, int) else 0)
            return _made(self.bounded(super().call_binop(context, operator, left, right)))
        elif operator == "**" or isinstance(left, str):
            raise TemplateError(f"{operator} is not allowed")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        if isinstance(obj, dict):
            return attr in ("get", "items", "keys", "values")
        if isinstance(obj, int | float | list | tuple | range):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:  # noqa: ANN401
        """No format: a few characters of one make gigabytes."""

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        text = getattr(obj, "__self__", None)
        if isinstance(text, str):
            name = getattr(obj, "__name__", "")
            if name == "replace":
                return _replace(text, *args, **kwargs)
            if name == "join":
                return _join(args[0], text)
            if name in _ENDS and args:
                return _strip(text, args[0], name)
            if name in _FROM_THE_RIGHT and args and isinstance(args[0], str):
                _is_quick(len(text) * len(args[0]))
        return _made(super().call(context, obj, *args, **kwargs))

    @staticmethod
    def made(value: Any) -> Any:  # noqa: ANN401
        """`value`, which the template has just made."""
        return _made(value)

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

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        is_slice = isinstance(node.arg, nodes.Slice)
        self.write("environment.made(" if is_slice else "(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._write_bounded(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._write_bounded(super().visit_Dict, node, frame)

    def _write_bounded(self, write: Callable[..., None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.bounded(environment.made(")
        write(node, frame)
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
    environment.filters |= {"round": _round, "sum": _sum, "trim": _strip}
    environment.filters = {
        name: _of_bounded(environment, filter_) for name, filter_ in environment.filters.items()
    }
    environment.globals = {name: environment.globals[name] for name in ("dict", "namespace")} | {
        "range": _range,
        "raise_exception": _of_bounded(environment, _raise),
        "strftime_now": _strftime_now,
    }
    return environment


def _of_bounded(environment: _Environment, filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def checked(*values: Any, **options: Any) -> Any:  # noqa: ANN401
        for value in (*values, *options.values()):
            environment.bounded(value)
        return _made(filter_(*values, **options))

    return checked


def _num_items(value: object, known: dict[int, int], depth: int) -> int:
    """In `value` and all it holds. Raises _TooLargeError early."""
    if isinstance(value, str):
        return 1 + len(value) // (MAX_TEXT_CHARS // _MOST_ITEMS)
    if not isinstance(value, list | tuple | dict):
        return 1
    if id(value) in known:
        return known[id(value)]
    if depth > _DEEPEST:
        raise _TooLargeError
    total = 1
    for part in value.values() if isinstance(value, dict) else value:
        total += _num_items(part, known, depth + 1)
        if total > _MOST_ITEMS:
            raise _TooLargeError
    known[id(value)] = total
    return total


def _made(value: Any) -> Any:  # noqa: ANN401
    """`value`, counted. Raises _TooLargeError where it is one too many."""
    if isinstance(value, str | list | tuple | dict):
        made = _made_chars.get()
        made[0] += len(value) * (1 if isinstance(value, str) else _ITEM_CHARS)
        if made[0] > MAX_MADE_CHARS:
            raise _TooLargeError
    return value


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
    return cast(str, _made(whole.replace(before, after, -1 if count is None else count)))


def _join(parts: Iterable[object], d: object = "", attribute: None = None) -> str:
    if attribute is not None:
        raise TemplateError("join with an attribute is not allowed")
    separator, texts, size = str(d), [], 0
    for part in parts:
        text = str(part)
        size += len(text) + len(separator) + 1
        _fits(size)
        texts.append(text)
    return cast(str, _made(separator.join(texts)))


def _strip(value: object, chars: object = None, name: str = "strip") -> str:
    text = str(value)
    ends = None if chars is None else str(chars)
    _is_quick(len(text) * len(ends or ""))  # each character of the text is looked for in them
    return cast(str, _made(_ENDS[name](text, ends)))


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not (isinstance(precision, int) and abs(precision) <= _MOST_DIGITS):
        raise TemplateError(f"round to over {_MOST_DIGITS} digits is not allowed")
    return do_round(value, precision, method)  # type: ignore[arg-type]


def _sum(numbers: Iterable[Any], attribute: None = None, start: float = 0) -> float:
    """Of numbers alone: lists would be copied once for each of them."""
    if attribute is not None or not isinstance(start, int | float):
        raise TemplateError("sum of anything but numbers is not allowed")
    return sum(numbers, start)


def _range(*bounds: int) -> range:
    found = range(*bounds)
    _fits(len(found) * (MAX_TEXT_CHARS // _MOST_ITEMS))
    return found


def _size(value: object) -> int:
    if isinstance(value, list | tuple | dict):
        return len(value) * (MAX_TEXT_CHARS // _MOST_ITEMS)
    return len(value) if isinstance(value, str) else 0


def _is_quick(num_steps: int) -> None:
    if num_steps > _MOST_STEPS:
        raise _TooLargeError


def _fits(size: float) -> None:
    if size > MAX_TEXT_CHARS:
        raise _TooLargeError

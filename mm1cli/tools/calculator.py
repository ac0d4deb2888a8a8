"""Exact arithmetic of decimals and dates: what a model must not do in its head.

An expression is Python's, of numbers, + - * / // % **, comparisons, brackets and a few functions;
nothing else has a meaning, and every number is bounded before it is computed.
"""

import ast
import calendar
import operator
import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Any

from mm1cli.errors import InputError

MOST_CHARS = 500
_MOST_NODES = 200
_MOST_SHOWN, _ROUNDED_DIGITS = 16, 12
_DIGITS = 50
_MOST_EXPONENT = 400
# Of months, days, hours, a count of things or a percentage: no figures that a text must have.
_CONSTANTS = frozenset(map(Decimal, (*range(13), 24, 30, 31, 52, 60, 100, 365, 366, 1000)))

_WRITTEN = re.compile(
    r"(?<![\w.,(])\(*[£$€]?\d[\d.,]*\)*"
    r"(?:\s*[-+*/×÷−]\s*\(*[£$€]?\d[\d.,]*\)*)+\s*\Z"
)
_NO_FIGURE = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|[£$€]")

Value = Decimal | date | timedelta | bool

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def calculate(expression: str) -> str:
    """The value, exact to 50 digits. Raises InputError, one line that says what is wrong."""
    text = _python(expression)
    if not text or len(text) > MOST_CHARS:
        raise InputError(f"calc: an expression of 1 to {MOST_CHARS} characters is needed")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(
            f"calc: {expression!r} is no expression; such as (48.2 - 45) / 45"
        ) from None
    if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
        raise InputError("calc: the expression is too long")
    try:
        with localcontext(Context(prec=_DIGITS, Emax=_MOST_EXPONENT, Emin=-_MOST_EXPONENT)):
            return _told(_value(tree.body, text))
    except ZeroDivisionError:
        raise InputError("calc: a division by zero") from None
    except (DecimalException, OverflowError):
        raise InputError("calc: the result is too large, or there is none") from None
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"calc: {expression!r} mixes what cannot be computed together") from None


def equation(expression: str) -> str:
    """The expression with its value; one that has no end is rounded, and said to be."""
    value = calculate(expression)
    if len(value) <= _MOST_SHOWN or not re.fullmatch(r"-?\d+\.\d+", value):
        return f"{expression} = {value}"
    rounded = Context(prec=_ROUNDED_DIGITS).create_decimal(value)
    return f"{expression} ≈ {rounded:f}"


def written_at_end(text: str) -> str:
    """The sum that `text` ends with and that is not worked out yet: "84,971 - 84,917" of "That is
    84,971 - 84,917"; "" for none."""
    found = _WRITTEN.search(text)
    if found is None:
        return ""
    expression = _NO_FIGURE.sub("", found[0]).strip()
    try:
        calculate(expression)
    except InputError:
        return ""
    return expression


def operands(expression: str) -> list[str]:
    """The figures that an expression was computed from: numbers, but plain ones such as 12 and 100,
    and dates, as ISO writes them. Of one that `calculate` takes."""
    found: list[str] = []
    left: list[ast.AST] = [ast.parse(_python(expression), mode="eval")]
    while left:
        match left.pop():
            case ast.Constant(value=str() as written):
                found.append(written.strip())
            case ast.Constant(value=int() | float() as number):
                if Decimal(str(number)) not in _CONSTANTS:
                    found.append(format(Decimal(str(number)), "f"))
            case ast.Call(func=ast.Name(id="date"), args=[*parts]) if (
                numbers := [x.value for x in parts if isinstance(x, ast.Constant)]
            ) and len(numbers) == len(parts):
                year, month, day = (int(str(number)) for number in numbers)
                found.append(date(year, month, day).isoformat())
            case node:
                left += reversed(list(ast.iter_child_nodes(node)))
    return found


def _python(expression: str) -> str:
    text = expression.strip().replace("×", "*").replace("÷", "/").replace("−", "-")
    return text.replace("^", "**").removeprefix("=").strip()


def _value(node: ast.expr, text: str) -> Value:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float()):
            # As it is written: 0.1 is a tenth.
            return Decimal((ast.get_source_segment(text, node) or "").replace("_", ""))
        case ast.Constant(value=str() as written):
            return date.fromisoformat(written.strip())
        case ast.UnaryOp(op=ast.USub()):
            value: Any = _value(node.operand, text)
            return -value  # type: ignore[no-any-return]
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, text)
        case ast.BinOp(op=op) if type(op) in _BINARY:
            return _computed(type(op), _value(node.left, text), _value(node.right, text))
        case ast.Compare(ops=[op], comparators=[other]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](_value(node.left, text), _value(other, text))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            computed: Value = _FUNCTIONS[name](*(_value(one, text) for one in node.args))
            return computed
    raise InputError(
        "calc: numbers, + - * / // % **, comparisons, brackets, and " + ", ".join(_FUNCTIONS)
    )


def _computed(op: type[ast.operator], one: Value, other: Value) -> Value:
    if isinstance(one, date) and isinstance(other, Decimal):
        other = timedelta(days=int(other))  # a date and a number: days
    if op is ast.Pow and isinstance(other, Decimal) and abs(other) > _MOST_EXPONENT:
        raise OverflowError
    value: Value = _BINARY[op](one, other)
    return value


def _days(first: date, last: date) -> Decimal:
    return Decimal((last - first).days)


def _add_months(day: date, months: Decimal) -> date:
    """The same day of the month, or its last."""
    number = day.year * 12 + day.month - 1 + int(months)
    year, month = divmod(number, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _round(number: Decimal, digits: Decimal = Decimal(0)) -> Decimal:
    return round(number, int(digits))


def _sum(*numbers: Decimal) -> Decimal:
    return sum(numbers, Decimal(0))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "sum": _sum,
    "round": _round,
    "sqrt": lambda number: number.sqrt(),
    "date": lambda *parts: date(*map(int, parts)),
    "days": _days,
    "add_months": _add_months,
}


def _told(value: Value) -> str:
    if isinstance(value, Decimal):
        plain = format(value.normalize(), "f")
        return plain if len(plain) <= 2 * _DIGITS else str(value)
    if isinstance(value, timedelta):
        return f"{value.days} days"
    return str(value).lower() if isinstance(value, bool) else value.isoformat()

"""Bugs that people write, put into functions that work.

A mutation changes one line, or takes out a whole statement. It is made from the syntax tree's
positions, so the rest of the file keeps every character.
"""

import ast
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

Function = ast.FunctionDef | ast.AsyncFunctionDef

_SYMMETRIC = frozenset({"max", "min", "gcd", "isclose", "hypot"})  # swapping changes nothing
_OTHER_OPERATORS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "/",
    "&": "|",
    "|": "&",
    "<<": ">>",
    ">>": "<<",
    "and": "or",
    "or": "and",
    "==": "!=",
    "!=": "==",
    "is": "is not",
    "is not": "is",
    "in": "not in",
    "not in": "in",
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
}
_OFF_BY_ONE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """Line `line` (from 1) has its bytes `start` to `end` replaced by `new`; or, if `num_removed`,
    that many lines from `line` on are gone, and the bug is seen at old line `seen_at`.
    """

    kind: str
    line: int
    start: int = 0
    end: int = 0
    new: str = ""
    num_removed: int = 0
    seen_at: int = 0

    @property
    def original_line(self) -> int:
        """Where the bug is seen, in lines of the file before any change."""
        return self.seen_at or self.line


def apply(lines: list[str], mutations: list[Mutation]) -> tuple[list[str], list[int]]:
    """The changed file, and the line of each bug in it."""
    changed: list[str | None] = list(lines)
    for mutation in mutations:
        if mutation.num_removed:
            for at in range(mutation.line, mutation.line + mutation.num_removed):
                changed[at - 1] = None
            continue
        whole = lines[mutation.line - 1].encode()
        text = whole[: mutation.start] + mutation.new.encode() + whole[mutation.end :]
        changed[mutation.line - 1] = text.decode()
    gone = [at for at, line in enumerate(changed, 1) if line is None]
    seen = [m.original_line - sum(at < m.original_line for at in gone) for m in mutations]
    return [line for line in changed if line is not None], seen


def is_real(before: str, after: str) -> bool:
    """Whether `after` is another program than `before`, and one that parses."""
    try:
        return ast.dump(parse(after)) != ast.dump(parse(before))
    except (SyntaxError, ValueError, RecursionError):
        return False


def parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a mutant looks like is its own affair
        return ast.parse(text)


def mutations(
    function: Function, lines: list[str], draw: random.Random
) -> dict[str, list[Mutation]]:
    """Every mutation of a function by kind; `draw` chooses how a place goes wrong."""
    inside = Places(function, lines)
    return {kind: list(find(inside, draw)) for kind, find in KINDS.items()}


class Places:
    """The nodes of a function, docstring excluded, and the text between them."""

    def __init__(self, function: Function, lines: list[str]) -> None:
        self.function, self.lines = function, lines
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        self.statements = body
        self.nodes = [node for statement in body for node in _walk(statement)]

    def text(self, node: ast.expr) -> str | None:
        """None if the node spans lines."""
        if node.lineno != node.end_lineno:
            return None
        return self.lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()

    def between(self, left: ast.expr, right: ast.expr) -> tuple[int, int, int, str] | None:
        """(line, start, end, operator) of what stands alone between two nodes of one line."""
        if left.end_lineno != right.lineno or left.end_col_offset is None:
            return None
        line = self.lines[right.lineno - 1].encode()
        gap = line[left.end_col_offset : right.col_offset].decode()
        if not gap.strip() or "#" in gap or not gap.isascii():
            return None
        start = left.end_col_offset + len(gap) - len(gap.lstrip())
        return right.lineno, start, start + len(gap.strip()), gap.strip()

    def operators(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        """Operands that stand beside each other."""
        for node in self.nodes:
            if isinstance(node, ast.BinOp) and not isinstance(
                node.left, ast.Constant | ast.JoinedStr
            ):
                yield node.left, node.right
            elif isinstance(node, ast.BoolOp):
                yield from pairwise(node.values)
            elif isinstance(node, ast.Compare):
                yield from pairwise([node.left, *node.comparators])

    def blocks(self) -> Iterator[list[ast.stmt]]:
        yield self.statements
        for node in self.nodes:
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list):
                    yield block


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Without what is inside formatted strings, whose positions are not to be relied on."""
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _swapped_arguments(inside: Places, _: random.Random) -> Iterator[Mutation]:
    for node in inside.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        for left, right in pairwise(node.args):
            texts = inside.text(left), inside.text(right)
            if texts[0] is None or texts[1] is None or left.lineno != right.lineno:
                continue
            is_same = texts[0] == texts[1] or name in _SYMMETRIC
            if is_same or isinstance(left, ast.Starred) or isinstance(right, ast.Starred):
                continue
            line = inside.lines[left.lineno - 1].encode()
            middle = line[left.end_col_offset : right.col_offset].decode()
            new = f"{texts[1]}{middle}{texts[0]}"
            yield Mutation(
                "swapped arguments", left.lineno, left.col_offset, right.end_col_offset or 0, new
            )


def _off_by_one(inside: Places, draw: random.Random) -> Iterator[Mutation]:
    kind = "off by one"
    for left, right in inside.operators():
        if (found := inside.between(left, right)) and found[3] in _OFF_BY_ONE:
            yield Mutation(kind, *found[:3], _OFF_BY_ONE[found[3]])
    holders = (ast.BinOp, ast.Compare, ast.Subscript, ast.Slice, ast.UnaryOp)
    for node in inside.nodes:
        is_range = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range"
        if not (isinstance(node, holders) or is_range):
            continue
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.Constant) and type(part.value) is int:
                text = inside.text(part)
                if text is not None and text.isdigit():
                    step = draw.choice((-1, 1)) if part.value > 0 else 1
                    yield Mutation(
                        kind,
                        part.lineno,
                        part.col_offset,
                        part.end_col_offset or 0,
                        str(part.value + step),
                    )


def _wrong_operator(inside: Places, _: random.Random) -> Iterator[Mutation]:
    for left, right in inside.operators():
        if (found := inside.between(left, right)) and found[3] in _OTHER_OPERATORS:
            yield Mutation("wrong operator", *found[:3], _OTHER_OPERATORS[found[3]])


def _wrong_variable(inside: Places, draw: random.Random) -> Iterator[Mutation]:
    arguments = inside.function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = {argument.arg: 0 for argument in every}
    for node in inside.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = min(bound.get(node.id, node.lineno), node.lineno)
    for node in inside.nodes:
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if node.id not in bound or node.id in {"self", "cls"}:
            continue
        others = [
            name
            for name, line in sorted(bound.items())
            if name not in {node.id, "self", "cls", "_"} and line < node.lineno
        ]
        if others:
            new = draw.choice(others)
            yield Mutation(
                "wrong variable", node.lineno, node.col_offset, node.end_col_offset or 0, new
            )


def _removed_check(inside: Places, _: random.Random) -> Iterator[Mutation]:
    leaves = (ast.Return, ast.Raise, ast.Continue, ast.Break)
    for block in inside.blocks():
        for statement, following in pairwise(block):
            if isinstance(statement, ast.If):
                if statement.orelse or not isinstance(statement.body[-1], leaves):
                    continue
            elif not isinstance(statement, ast.Assert):
                continue
            last = statement.end_lineno or statement.lineno
            decorated = getattr(following, "decorator_list", None)
            if following.lineno <= last or decorated:
                continue
            yield Mutation(
                "removed check",
                statement.lineno,
                num_removed=last - statement.lineno + 1,
                seen_at=following.lineno,
            )


KINDS: dict[str, Callable[[Places, random.Random], Iterator[Mutation]]] = {
    "swapped arguments": _swapped_arguments,
    "off by one": _off_by_one,
    "wrong operator": _wrong_operator,
    "wrong variable": _wrong_variable,
    "removed check": _removed_check,
}

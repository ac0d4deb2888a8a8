"""From source bytes to definitions, imports and entry points, by a grammar and its query.

Runs in the child process only: the parser is native code, and some inputs (a million open
brackets) keep it busy for hours without asking its progress callback, so the limits of the
process are the bound. Nothing here recurses, and the tree is never walked node by node in Python.

The captures of a query are its contract: `@definition.KIND` with `@name`, `@import.KIND` with
`@module`, `@entry.KIND`, `@declare.KEY`, and `@deferred` for a block that runs later. Of patterns
that match one node, the later one counts.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mm1cli.code.grammars import load
from mm1cli.code.parsed import (
    MAX_KEPT,
    MAX_MODULE_CHARS,
    MAX_NAME_CHARS,
    MAX_NAMES,
    MAX_SCOPE,
    Parsed,
    RawDefinition,
    RawEntry,
    RawImport,
)
from mm1cli.ingest.display_names import one_line

if TYPE_CHECKING:
    from tree_sitter import Node

_HOLDS_METHODS = frozenset({"class", "struct", "interface", "trait", "impl"})
_WRAPPERS = frozenset({"parenthesized_declarator", "reference_declarator"})
_FUNCTIONS = frozenset({"function", "method"})
_MOST_INDENTED = 256  # bytes before a comment
_DECLARATORS = 64  # around a C function's name, at most: pointers to pointers, parentheses

_Captures = dict[str, list["Node"]]
_Place = tuple[int, int]


def parse(grammar_name: str, data: bytes) -> Parsed:
    """`data` is UTF-8. Invalid syntax is no error: what can be read around it is given."""
    from tree_sitter import Parser, QueryCursor

    grammar = load(grammar_name)
    root = Parser(grammar.language).parse(data).root_node
    found = _Found(data)
    matches = QueryCursor(grammar.query).matches(root)
    for _, captures in sorted(matches, key=lambda match: match[0]):
        for label, nodes in captures.items():
            what, _, kind = label.partition(".")
            match what:
                case "definition":
                    found.add_definition(nodes[0], kind, captures)
                case "import":
                    found.add_import(nodes[0], kind, captures["module"][0])
                case "entry":
                    found.entries.append(RawEntry(kind, kind, _line(nodes[0])))
                case "declare":
                    found.declares.append((kind, found.text(nodes[0])))
                case "deferred":
                    found.spans += [(_place(node), "deferred", "") for node in nodes]
    return found.parsed(_first_error(root))


class _Found:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._definitions: dict[_Place, RawDefinition] = {}
        self._imports: dict[tuple[_Place, _Place], tuple[RawImport, ...]] = {}
        self.entries: list[RawEntry] = []
        self.declares: list[tuple[str, str]] = []
        self.spans: list[tuple[_Place, str, str]] = []  # place, kind, name

    def text(self, node: "Node", most: int = MAX_NAME_CHARS) -> str:
        """On one line, without the white space a statement may be broken by."""
        end = min(node.end_byte, node.start_byte + 4 * most)
        text = self._data[node.start_byte : end].decode("utf-8", "replace")
        return one_line(" ".join(text.split())[:most])

    def add_definition(self, node: "Node", kind: str, captures: _Captures) -> None:
        named = captures["name"][0] if "name" in captures else _declared_name(node)
        if named is None:
            return
        receiver = tuple(map(self.text, captures.get("receiver", ())))
        last = max(self._last_line(node), _line(node))
        definition = RawDefinition(self.text(named), kind, _line(node), last, receiver)
        self._definitions[_place(node)] = definition

    def _last_line(self, node: "Node") -> int:
        """Without the comments that follow a Python block, which its grammar counts to it."""
        while self._ends_in_comment(node):
            inner = next((c for c in reversed(node.children) if c.type != "comment"), None)
            if inner is None:
                break
            node = inner
        row, column = node.end_point
        # A node that ends at the start of a line does not reach into that line.
        return row + (1 if column else 0)

    def _ends_in_comment(self, node: "Node") -> bool:
        start = node.end_byte - node.end_point[1]  # of the line; it may be megabytes long
        return self._data[start : start + _MOST_INDENTED].lstrip().startswith(b"#")

    def add_import(self, node: "Node", kind: str, module: "Node") -> None:
        line = _line(node)
        if kind == "use":
            imports = tuple(
                RawImport(kind, path, (), line, False) for path in self._use_paths(module)
            )
        else:
            text = self._module(module)
            is_deferred = kind in ("deferred", "mod", "dynamic")
            imports = (RawImport(kind, text, self._names(node), line, is_deferred),)
        self._imports[_place(node), _place(module)] = imports

    def _module(self, node: "Node") -> str:
        """Without quotes; white space counts only inside of them."""
        if "string" not in node.type:
            return self._joined(node)
        end = min(node.end_byte, node.start_byte + 4 * MAX_MODULE_CHARS)
        text = self._data[node.start_byte : end].decode("utf-8", "replace")
        return one_line(text.strip("\"'`<>")[:MAX_MODULE_CHARS])

    def _names(self, node: "Node") -> tuple[str, ...]:
        match node.type:
            case "import_from_statement" | "future_import_statement":
                names = []
                for child in node.children_by_field_name("name")[:MAX_NAMES]:
                    named = child.child_by_field_name("name") or child
                    names.append(self.text(named))
                return tuple(names) or ("*",)
            case "import_declaration":
                return ("*",) if any(child.type == "asterisk" for child in node.children) else ()
        return ()

    def _use_paths(self, argument: "Node") -> Iterator[str]:
        """The paths that `use a::{b, c::*};` stands for: a::b, a::c::*."""
        waiting = [("", argument)]
        num_given = 0
        while waiting and num_given < MAX_KEPT:
            prefix, node = waiting.pop()
            match node.type:
                case "use_list":
                    waiting += [(prefix, child) for child in reversed(node.named_children)]
                case "scoped_use_list":
                    path = node.child_by_field_name("path")
                    inner = node.child_by_field_name("list")
                    if path is not None:
                        prefix = f"{prefix}{self._joined(path)}::"[:MAX_MODULE_CHARS]
                    if inner is not None:
                        waiting.append((prefix, inner))
                case "use_as_clause":
                    path = node.child_by_field_name("path")
                    if path is not None:
                        waiting.append((prefix, path))
                case "line_comment" | "block_comment":
                    continue
                case _:
                    num_given += 1
                    yield f"{prefix}{self._joined(node)}"[:MAX_MODULE_CHARS]

    def _joined(self, node: "Node") -> str:
        return "".join(self.text(node, MAX_MODULE_CHARS).split())

    def parsed(self, first_error: int | None) -> Parsed:
        """Puts everything in order and in its scope."""
        self.spans += [(place, d.kind, d.name) for place, d in self._definitions.items()]
        stack: list[tuple[int, str, str]] = []  # end, kind, name
        definitions: list[RawDefinition] = []
        imports: list[RawImport] = []
        spans = [(start, -end, 0, kind, name) for (start, end), kind, name in self.spans]
        places = [(start, -end, 1, "", "") for (start, end), _ in self._imports]
        by_start: dict[_Place, list[RawImport]] = {}
        for (place, _), group in self._imports.items():
            by_start.setdefault(place, []).extend(group)
        for start, minus_end, _, kind, name in sorted(set(spans + places)):
            end = -minus_end
            while stack and stack[-1][0] < end:
                stack.pop()
            if not kind:
                imports += (_in_scope(entry, stack) for entry in by_start[start, end])
                continue
            if kind != "deferred":
                definitions.append(_with_scope(self._definitions[start, end], stack))
            stack.append((end, kind, name))
        num_cut = max(len(definitions) - MAX_KEPT, 0) + max(len(imports) - MAX_KEPT, 0)
        return Parsed(
            tuple(definitions[:MAX_KEPT]),
            tuple(imports[:MAX_KEPT]),
            tuple(sorted(self.entries, key=lambda entry: entry.line)[:MAX_KEPT]),
            tuple(self.declares[:MAX_NAMES]),
            first_error,
            num_cut,
        )


def _with_scope(definition: RawDefinition, stack: list[tuple[int, str, str]]) -> RawDefinition:
    around = [(kind, name) for _, kind, name in stack[-MAX_SCOPE:] if kind != "deferred"]
    is_method = definition.kind == "function" and bool(around) and around[-1][0] in _HOLDS_METHODS
    return replace(
        definition,
        kind="method" if is_method else definition.kind,
        scope=definition.scope or tuple(name for _, name in around),
    )


def _in_scope(entry: RawImport, stack: list[tuple[int, str, str]]) -> RawImport:
    is_later = any(kind == "deferred" or kind in _FUNCTIONS for _, kind, _ in stack[-MAX_SCOPE:])
    within = tuple(name for _, kind, name in stack[-MAX_SCOPE:] if kind == "module")
    return replace(entry, is_deferred=entry.is_deferred or is_later, within=within)


def _declared_name(node: "Node") -> "Node | None":
    """The name inside a C declarator: `f` of `static char **(*f)(int)`."""
    declarator = node.child_by_field_name("declarator")
    for _ in range(_DECLARATORS):
        if declarator is None:
            return None
        inner = declarator.child_by_field_name("declarator")
        if inner is None and declarator.type in _WRAPPERS:
            inner = next(iter(declarator.named_children), None)
        if inner is None:
            return declarator
        declarator = inner
    return None


def _first_error(root: "Node") -> int | None:
    """The line of the first place that the grammar could not read."""
    if not root.has_error:
        return None
    cursor = root.walk()
    while (node := cursor.node) is not None and not (node.is_error or node.is_missing):
        if not cursor.goto_first_child():
            break
        while (inner := cursor.node) is not None and not (inner.has_error or inner.is_missing):
            if not cursor.goto_next_sibling():
                break
    return _line(cursor.node) if cursor.node is not None else None


def _place(node: "Node") -> _Place:
    return node.start_byte, node.end_byte


def _line(node: "Node") -> int:
    return node.start_point[0] + 1

"""Against Python's own parser, on the standard library as it is installed here."""

import ast
import sysconfig
import warnings
from pathlib import Path

import pytest

from mm1cli.code import index_of
from mm1cli.code.repo_index import Definition
from mm1cli.ingest import read_corpus

STDLIB = Path(sysconfig.get_paths()["stdlib"])
NUM_FILES = 200
MOST_BYTES = 60_000


def sample() -> list[Path]:
    """Every nth file, so that each package has its share; the same on every machine."""
    own = [
        path
        for path in sorted(STDLIB.rglob("*.py"))
        if not {"site-packages", "lib2to3", "__pycache__"} & set(path.relative_to(STDLIB).parts)
        and 0 < path.stat().st_size < MOST_BYTES
        and "bad" not in path.name
    ]
    return own[:: max(len(own) // NUM_FILES, 1)][:NUM_FILES]


class Expected(ast.NodeVisitor):
    def __init__(self, path: str) -> None:
        self.path = path
        self.scope: tuple[str, ...] = ()
        self.kinds: tuple[str, ...] = ()
        self.definitions: set[Definition] = set()
        self.imports: set[tuple[int, str, tuple[str, ...]]] = set()

    def visit_FunctionDef(self, node) -> None:
        kind = "method" if self.kinds[-1:] == ("class",) else "function"
        self.enter(node, kind)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node) -> None:
        self.enter(node, "class")

    def enter(self, node, kind) -> None:
        self.definitions.add(
            Definition(self.path, node.name, kind, node.lineno, node.end_lineno, self.scope)
        )
        outer = self.scope, self.kinds
        self.scope, self.kinds = (*self.scope, node.name), (*self.kinds, kind)
        self.generic_visit(node)
        self.scope, self.kinds = outer

    def visit_Import(self, node) -> None:
        self.imports |= {(node.lineno, alias.name, ()) for alias in node.names}

    def visit_ImportFrom(self, node) -> None:
        module = "." * node.level + (node.module or "")
        names = tuple(alias.name for alias in node.names)
        self.imports.add((node.lineno, module, names))


@pytest.fixture(scope="module")
def read():
    corpus = read_corpus([str(path) for path in sample()])
    return corpus, index_of(corpus)


@pytest.fixture(scope="module")
def expected(read):
    """By path; files that Python or the grammar refuses, which both say so, are left out."""
    refused = {file.path for file in read[1].files if file.first_error}
    assert len(refused) < 0.05 * len(read[0].documents)
    found = {}
    for document in read[0].documents:
        if document.path in refused:
            continue
        text = "\n".join(block.text for block in document.blocks)
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        found[document.path] = Expected(document.path)
        found[document.path].visit(tree)
    return found


def test_the_sample_is_worth_it(read, expected):
    """Red: nothing was compared."""
    assert len(expected) > 100
    assert sum(len(entry.definitions) for entry in expected.values()) > 1_000
    assert not [file.path for file in read[1].files if file.unparsed]


def test_the_same_functions_classes_and_line_ranges(read, expected):
    """Red: a finding names a function, a nesting or lines that Python does not see."""
    found = {path: set() for path in expected}
    for definition in read[1].definitions:
        if definition.path in found:
            found[definition.path].add(definition)
    for path, entry in expected.items():
        assert found[path] == entry.definitions, path


def test_the_same_imports(read, expected):
    """Red: an import is missed, or taken from a string."""
    found = {path: set() for path in expected}
    for entry in read[1].imports:
        if entry.path in found:
            found[entry.path].add((entry.line, entry.module, entry.names))
    for path, entry in expected.items():
        assert found[path] == entry.imports, path

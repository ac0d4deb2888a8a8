"""Which grammar reads which file, and its query. A grammar is imported when a file needs it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Document

if TYPE_CHECKING:
    from tree_sitter import Language, Query

# By kind of document.
_GRAMMARS = {
    "python": "python",
    "javascript": "javascript",
    "typescript": "typescript",
    "go": "go",
    "rust": "rust",
    "java": "java",
    "c": "c",
    "cpp": "cpp",
    "cuda": "cpp",
    "csharp": "c_sharp",
    "ruby": "ruby",
    "shell": "bash",
}
# Of grammars that share rules; the others have a file of their own name.
_QUERIES = {
    "cpp": ("c", "cpp"),
    "javascript": ("ecmascript", "javascript"),
    "typescript": ("ecmascript", "typescript"),
    "tsx": ("ecmascript", "typescript"),
}
_WITHOUT_GRAMMAR = frozenset(
    (
        *("kotlin", "scala", "swift", "php", "perl", "lua", "r", "julia", "haskell", "elixir"),
        *("erlang", "clojure", "ocaml", "zig", "nim", "dart", "fortran", "assembly"),
        *("powershell", "batch", "sql", "vue", "svelte"),
    )
)


def is_code(document: Document) -> bool:
    kind = document.kind.removeprefix("minified ")
    return kind in _GRAMMARS or kind in _WITHOUT_GRAMMAR


def grammar_of(document: Document, *, has_cpp: bool) -> str:
    """The name of the grammar for a source file; "" if there is none for its kind.

    A header is C++ where the corpus has C++, since C reads by that grammar, too.
    """
    suffix = PurePosixPath(document.path.lower()).suffix
    if suffix == ".fish":  # no shell of that family
        return ""
    if suffix == ".tsx":
        return "tsx"
    if suffix == ".h" and has_cpp:
        return "cpp"
    return _GRAMMARS.get(document.kind, "")


@dataclass(frozen=True, slots=True)
class Grammar:
    language: "Language"
    query: "Query"


@cache
def load(name: str) -> Grammar:
    """Only in the child process: this imports the parser. Raises KeyError for no grammar."""
    from tree_sitter import Language, Query

    language = Language(_LANGUAGES[name]())
    folder = files("mm1cli.code").joinpath("queries")
    parts = _QUERIES.get(name, (name,))
    source = "\n".join(folder.joinpath(f"{part}.scm").read_text("utf-8") for part in parts)
    return Grammar(language, Query(language, source))


def _python() -> object:
    import tree_sitter_python

    return tree_sitter_python.language()


def _javascript() -> object:
    import tree_sitter_javascript

    return tree_sitter_javascript.language()


def _typescript() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_typescript()


def _tsx() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_tsx()


def _go() -> object:
    import tree_sitter_go

    return tree_sitter_go.language()


def _rust() -> object:
    import tree_sitter_rust

    return tree_sitter_rust.language()


def _java() -> object:
    import tree_sitter_java

    return tree_sitter_java.language()


def _c() -> object:
    import tree_sitter_c

    return tree_sitter_c.language()


def _cpp() -> object:
    import tree_sitter_cpp

    return tree_sitter_cpp.language()


def _c_sharp() -> object:
    import tree_sitter_c_sharp

    return tree_sitter_c_sharp.language()


def _ruby() -> object:
    import tree_sitter_ruby

    return tree_sitter_ruby.language()


def _bash() -> object:
    import tree_sitter_bash

    return tree_sitter_bash.language()


_LANGUAGES: dict[str, Callable[[], object]] = {
    "python": _python,
    "javascript": _javascript,
    "typescript": _typescript,
    "tsx": _tsx,
    "go": _go,
    "rust": _rust,
    "java": _java,
    "c": _c,
    "cpp": _cpp,
    "c_sharp": _c_sharp,
    "ruby": _ruby,
    "bash": _bash,
}
NAMES = tuple(_LANGUAGES)

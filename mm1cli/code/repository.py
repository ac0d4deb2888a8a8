"""From a corpus to the facts of its repository. No model is asked, nothing is guessed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from mm1cli.code.classify import classify
from mm1cli.code.grammars import grammar_of, is_code
from mm1cli.code.graph import Graph
from mm1cli.code.imports import Resolution, Resolver, Tree, resolver_for
from mm1cli.code.manifests import DECLARED
from mm1cli.code.parsed import Parsed
from mm1cli.code.parsing import LIMITS, Outcome, Unparsed, parse_all, source_text
from mm1cli.code.repo_index import (
    Definition,
    EntryPoint,
    FileFacts,
    Import,
    RepoIndex,
    Status,
    by_path,
    path_key,
)
from mm1cli.ingest.corpus import Corpus, Document, Reason
from mm1cli.ingest.display_names import one_line, shown_path
from mm1cli.ingest.sandbox import Limits

_GITMODULES = ".gitmodules"
_MAX_GITMODULES_BYTES = 1 << 20
_SHEBANG_CHARS = 120


def index_of(
    corpus: Corpus,
    *,
    paths: Sequence[str] = (),
    limits: Limits = LIMITS,
    num_workers: int | None = None,
) -> RepoIndex:
    """What stands where in `corpus`. The same corpus gives the same facts.

    `paths` are what the user named: their `.gitmodules`, which is hidden and so not in the corpus,
    is read for the names of submodules that were not checked out. Source files are parsed in
    child processes under `limits` each; one that cannot be parsed has its reason in `unparsed`.
    """
    has_cpp = any(document.kind in ("cpp", "cuda") for document in corpus.documents)
    tasks = [_task(document, has_cpp=has_cpp) for document in corpus.documents]
    jobs = [(d, task) for d, task in zip(corpus.documents, tasks, strict=True) if task]
    outcomes: dict[str, Outcome] = {}
    for (document, _), outcome in zip(
        jobs, parse_all(jobs, limits=limits, num_workers=num_workers), strict=True
    ):
        outcomes.setdefault(document.path, outcome)
    parsed = {path: found for path, found in outcomes.items() if isinstance(found, Parsed)}
    grammars = {document.path: task for document, task in jobs}
    inside = frozenset(document.path for document in corpus.documents)
    beside = (omission.path for omission in corpus.omissions if omission.path[-1:] != "/")
    empty = (omission.path for omission in corpus.omissions if omission.reason is Reason.EMPTY)
    tree = Tree(inside.union(beside), parsed, frozenset(empty))
    imports = _resolved(parsed, grammars, tree, inside)
    return RepoIndex(
        files=tuple(
            _file(document, task, outcomes.get(document.path))
            for document, task in zip(corpus.documents, tasks, strict=True)
        ),
        definitions=tuple(
            Definition(path, raw.name, raw.kind, raw.first, raw.last, raw.scope)
            for path in by_path(parsed)
            for raw in parsed[path].definitions
        ),
        imports=imports,
        entry_points=tuple(_entry_points(corpus, parsed)),
        submodules=_submodules(corpus, parsed, paths),
        graph=graph_of(imports),
    )


def graph_of(imports: Sequence[Import]) -> Graph:
    now: dict[str, set[str]] = {}
    later: dict[str, set[str]] = {}
    for entry in imports:
        into = later if entry.is_deferred else now
        into.setdefault(entry.path, set()).update(entry.targets)
    for path, targets in now.items():
        targets.discard(path)
        later.get(path, set()).difference_update(targets)
    for path, targets in later.items():
        targets.discard(path)
    return Graph(
        {path: by_path(targets) for path, targets in now.items() if targets},
        {path: by_path(targets) for path, targets in later.items() if targets},
    )


def _task(document: Document, *, has_cpp: bool) -> str:
    """What the child process is to make of it: a grammar, a declaration, or nothing."""
    name = PurePosixPath(document.path.lower()).name
    if name in DECLARED:
        return name
    if name in ("gnumakefile", "bsdmakefile") or name.endswith(".mk"):
        return "makefile"
    if name == "containerfile" or name.startswith("dockerfile.") or name.endswith(".dockerfile"):
        return "dockerfile"
    return grammar_of(document, has_cpp=has_cpp)


def _file(document: Document, task: str, outcome: Outcome | None) -> FileFacts:
    code = is_code(document)
    text = source_text(document)
    unparsed = ""
    if isinstance(outcome, Unparsed):
        unparsed = outcome.why
    elif code and outcome is None:
        unparsed = "minified" if document.kind.startswith("minified ") else "no grammar"
    parsed = outcome if isinstance(outcome, Parsed) else Parsed()
    if task in DECLARED and parsed.first_error:
        parsed, unparsed = Parsed(), "not valid"
    return FileFacts(
        path=document.path,
        language=document.kind,
        num_lines=text.count("\n") + bool(text and not text.endswith("\n")),
        num_bytes=document.num_bytes,
        marks=classify(document, is_code=code),
        is_code=code,
        unparsed=unparsed,
        first_error=parsed.first_error,
        num_cut=parsed.num_cut,
    )


def _resolved(
    parsed: Mapping[str, Parsed],
    grammars: Mapping[str, str],
    tree: Tree,
    inside: frozenset[str],
) -> tuple[Import, ...]:
    resolvers: dict[str, Resolver | None] = {}
    found = []
    for path in by_path(parsed):
        grammar = grammars[path]
        if grammar not in resolvers:
            resolvers[grammar] = resolver_for(grammar, tree)
        resolver = resolvers[grammar]
        for raw in parsed[path].imports:
            resolution = resolver.resolve(path, raw) if resolver else Resolution(Status.EXTERNAL)
            found.append(
                Import(
                    path,
                    raw.line,
                    raw.module,
                    raw.names,
                    resolution.status,
                    tuple(target for target in resolution.targets if target in inside),
                    raw.is_deferred,
                )
            )
    return tuple(found)


def _entry_points(corpus: Corpus, parsed: Mapping[str, Parsed]) -> list[EntryPoint]:
    found = set()
    for document in corpus.documents:
        path = document.path
        found |= {
            EntryPoint(path, raw.line, raw.kind, raw.name)
            for raw in parsed.get(path, Parsed()).entries
        }
        if path.rpartition("/")[2] == "__main__.py":
            found.add(EntryPoint(path, 1, "main", "__main__"))
        if document.blocks and document.blocks[0].text.startswith("#!"):
            line = document.blocks[0].text[:_SHEBANG_CHARS].partition("\n")[0]
            if not line.startswith("#!["):  # an attribute of a Rust crate
                found.add(EntryPoint(path, 1, "script", one_line(line)))
    return sorted(found, key=lambda e: (path_key(e.path), e.line, e.kind, e.name))


def _submodules(
    corpus: Corpus, parsed: Mapping[str, Parsed], paths: Sequence[str]
) -> tuple[str, ...]:
    """Folders inside the corpus that are repositories of their own, read or not."""
    found = set()
    roots = set()
    for path in paths:
        shown = shown_path(path)
        prefix = "" if shown == "." else f"{shown.rstrip('/')}/"
        roots.add(prefix)
        found |= {f"{prefix}{name}" for name in _declared_submodules(path)}
    for path in by_path(parsed):
        if path.rpartition("/")[2] == _GITMODULES:
            folder = path.removesuffix(_GITMODULES)
            found |= {f"{folder}{name}" for name in parsed[path].declared("submodule")}
    for omission in corpus.omissions:
        path = omission.path.rstrip("/")
        if omission.reason is Reason.HIDDEN and path.endswith("/.git"):
            folder = path.removesuffix(".git")
            is_root = folder in roots if roots else _holds_all(folder, corpus)
            if not is_root:
                found.add(folder)
    return by_path(path.rstrip("/") for path in found)


def _holds_all(folder: str, corpus: Corpus) -> bool:
    return all(document.path.startswith(folder) for document in corpus.documents)


def _declared_submodules(path: str) -> tuple[str, ...]:
    """As the `.gitmodules` in the folder `path` has them; a link there is not followed."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(Path(path, _GITMODULES), flags)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_MAX_GITMODULES_BYTES)
    except OSError:
        return ()
    return DECLARED[_GITMODULES](data).declared("submodule")

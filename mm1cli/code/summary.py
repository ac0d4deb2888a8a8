"""The facts as JSON, and as a text of bounded length for a model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mm1cli.code.repo_index import Definition, FileFacts, Mark, RepoIndex, path_key

# Lines of a section, the first that fits; -1 is no sections, only the totals.
_MOST_LINES = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1, 0, -1)
_TARGETS_SHOWN = 8


def as_json(facts: RepoIndex, *, definitions: bool = False) -> dict[str, Any]:
    """For `--json`: everything but the definitions, which are asked for by `definitions`.

    Keys and lists have a fixed order. Lines count from 1, ranges include their last line.
    """
    result: dict[str, Any] = {
        "totals": {
            "files": len(facts.files),
            "lines": sum(file.num_lines for file in facts.files),
            "bytes": sum(file.num_bytes for file in facts.files),
            "source_files": sum(file.is_code for file in facts.files),
            "definitions": len(facts.definitions),
        },
        "languages": [
            {
                "language": total.language,
                "files": total.num_files,
                "lines": total.num_lines,
                "bytes": total.num_bytes,
                "is_code": total.is_code,
            }
            for total in facts.languages
        ],
        "files": [_file_json(file) for file in facts.files],
        "entry_points": [asdict(entry) for entry in facts.entry_points],
        "imports": {
            "counts": {status.value: count for status, count in facts.import_counts.items()},
            "unresolved": [
                {"path": entry.path, "line": entry.line, "module": entry.module}
                for entry in facts.imports
                if entry.status == "unresolved"
            ],
            "graph": {path: list(targets) for path, targets in _sorted(facts.graph.uses)},
            "deferred": {path: list(targets) for path, targets in _sorted(facts.graph.deferred)},
            "cycles": [list(cycle) for cycle in facts.graph.cycles()],
        },
        "largest_functions": [_definition_json(d) for d in facts.largest_functions],
        "largest_files": [
            {"path": file.path, "lines": file.num_lines} for file in facts.largest_files
        ],
        "submodules": list(facts.submodules),
    }
    if definitions:
        result["definitions"] = [_definition_json(d) for d in facts.definitions]
    return result


def _file_json(file: FileFacts) -> dict[str, Any]:
    return {
        "path": file.path,
        "language": file.language,
        "lines": file.num_lines,
        "bytes": file.num_bytes,
        "is_code": file.is_code,
        "marks": [mark.value for mark in file.marks],
        "unparsed": file.unparsed or None,
        "first_error": file.first_error,
        "cut": file.num_cut,
    }


def _definition_json(definition: Definition) -> dict[str, Any]:
    return {
        "path": definition.path,
        "name": definition.qualified_name,
        "kind": definition.kind,
        "first": definition.first,
        "last": definition.last,
    }


def model_text(facts: RepoIndex, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The repository's map in at most `max_tokens`, or "" if not even its totals fit.

    Sections are cut alike, the longest first, and each says how many lines it does not show.
    """
    for most in _MOST_LINES:
        text = _model_text(facts, most)
        if count_tokens(text) <= max_tokens:
            return text
    return ""


def _model_text(facts: RepoIndex, most: int) -> str:
    paragraphs = [f"{title}\n" for title in _totals(facts)]
    for title, lines in _sections(facts):
        if lines and most >= 0:
            paragraphs.append(_section(title, lines, most))
    return "".join(paragraphs)


def _totals(facts: RepoIndex) -> list[str]:
    code = [file for file in facts.files if file.is_code]
    marks = [f"{len(marked)} {mark}" for mark in Mark if (marked := facts.marked(mark))]
    languages = ", ".join(
        f"{t.language} {t.num_files} files {t.num_lines} lines" for t in facts.languages[:8]
    )
    counts = ", ".join(f"{count} {status}" for status, count in facts.import_counts.items())
    return [
        f"Repository: {len(facts.files)} files, {len(code)} of them source with"
        f" {sum(file.num_lines for file in code)} lines"
        + (f" ({', '.join(marks)})" if marks else ""),
        f"Languages: {languages}",
        f"Imports: {counts}",
    ]


def _sections(facts: RepoIndex) -> Iterable[tuple[str, list[str]]]:
    yield "Entry points", [f"{e.path}:{e.line} {e.kind}: {e.name}" for e in facts.entry_points]
    yield (
        "Imports between files",
        [f"{path} -> {_listed(targets)}" for path, targets in _sorted(facts.graph.uses)],
    )
    yield "Import cycles", [_listed(cycle) for cycle in facts.graph.cycles()]
    yield "Most imported files", [f"{path} by {count}" for path, count in facts.most_used]
    yield (
        "Largest functions",
        [
            f"{d.path}:{d.first}-{d.last} {d.qualified_name} ({d.num_lines} lines)"
            for d in facts.largest_functions
        ],
    )
    yield "Submodules", list(facts.submodules)
    not_own = [file for file in facts.files if not file.is_own]
    yield "Not written here", [f"{file.path} ({', '.join(file.marks)})" for file in not_own]
    yield "Not parsed", [f"{file.path} ({file.unparsed})" for file in facts.unparsed]


def _section(title: str, lines: Sequence[str], most: int) -> str:
    shown = "".join(f"- {line}\n" for line in lines[:most])
    more = len(lines) - most
    if not shown:
        return f"{title}: {len(lines)}\n"
    return f"{title}:\n{shown}" + (f"- and {more} more\n" if more > 0 else "")


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - _TARGETS_SHOWN
    return ", ".join(paths[:_TARGETS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _sorted(edges: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted(edges.items(), key=lambda pair: path_key(pair[0]))

"""What the model is asked about, a chunk at a time, and what else it reads for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mm1cli.code import RepoIndex
from mm1cli.code.repo_index import FileFacts, Mark
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.review.changes import Change, Hunk
from mm1cli.review.finding import Category

MAX_LINE_CHARS = 2_000
_DOCUMENT_KINDS = frozenset({"markdown", "text", "rst", "restructuredtext"})
_MAX_HEAD_CHARS = 200
_AROUND_LINES = 20  # of a hunk, above and below


class Encoder(Protocol):
    def encode_batch(self, texts: list[str]) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `first` to `last` of a document, as `text` with their numbers, in `num_tokens`."""

    document: Document
    first: int
    last: int
    text: str
    num_tokens: int


def reviewed(
    corpus: Corpus, facts: RepoIndex, categories: Sequence[Category], change: Change | None
) -> tuple[list[Document], list[tuple[str, str]]]:
    """The documents that are reviewed, in corpus order, and (path, why) of those that are not.

    A whole repository: source that people wrote here, with its documentation if that is named in
    `categories`. A change: every text file it touches that people wrote here.
    """
    by_path = {file.path: file for file in facts.files}
    chosen, left = [], []
    for document in corpus.documents:
        if change is not None and document.path not in change.hunks:
            continue
        why = _why_not(document, by_path[document.path], categories, is_changed=change is not None)
        if why:
            left.append((document.path, why))
        else:
            chosen.append(document)
    if change is not None:
        left += change.elsewhere
    return chosen, left


def _why_not(
    document: Document, file: FileFacts, categories: Sequence[Category], *, is_changed: bool
) -> str:
    not_own = [mark.value for mark in file.marks if mark is not Mark.TEST]
    if not_own:
        return not_own[0]
    if len(document.blocks) != 1 or document.blocks[0].unit != "line":
        return "not plain text"
    if is_changed or file.is_code:
        return ""
    if document.kind in _DOCUMENT_KINDS and Category.DOCS in categories:
        return ""
    return "not source code"


def chunks(
    document: Document,
    facts: RepoIndex,
    change: Change | None,
    encoder: Encoder,
    max_tokens: int,
) -> Iterator[Chunk]:
    """Chunks of at most `max_tokens`; a line that is longer alone is shown cut. They end before a
    definition where one begins in their last half."""
    lines = document.blocks[0].text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        return
    added = {line for hunk in changed(change, document.path) for line in hunk.added}
    room = min(MAX_LINE_CHARS, max_tokens)
    shown = [
        f"{number:5}{'+' if number in added else ' '}|{line[:room]}\n"
        for number, line in enumerate(lines, 1)
    ]
    ranges = [(1, len(lines))] if change is None else _ranges(change, document.path, len(lines))
    for first, last in ranges:
        counts = [len(ids) for ids in encoder.encode_batch(shown[first - 1 : last])]
        borders = {d.first for d in facts.definitions_in.get(document.path, ())}
        begin = first
        while begin <= last:
            end, total = begin, counts[begin - first]
            while end < last and total + counts[end + 1 - first] <= max_tokens:
                end += 1
                total += counts[end - first]
            if end < last:
                inside = [b for b in borders if begin + (end - begin) // 2 < b <= end]
                end = max(inside) - 1 if inside else end
            total = sum(counts[begin - first : end + 1 - first])
            yield Chunk(document, begin, end, "".join(shown[begin - 1 : end]), total)
            begin = end + 1


def changed(change: Change | None, path: str) -> tuple[Hunk, ...]:
    return () if change is None else change.hunks.get(path, ())


def _ranges(change: Change, path: str, num_lines: int) -> list[tuple[int, int]]:
    """The lines around the hunks; those that meet are one."""
    ranges: list[tuple[int, int]] = []
    for hunk in sorted(change.hunks[path], key=lambda hunk: hunk.first):
        first = max(hunk.first - _AROUND_LINES, 1)
        last = min(hunk.last + _AROUND_LINES, num_lines)
        if first > last:
            first = last
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    return ranges


def imported_heads(
    path: str,
    facts: RepoIndex,
    documents: Mapping[str, Document],
    encoder: Encoder,
    max_tokens: int,
) -> str:
    """The first lines of what the files that `path` imports define, for a model that cannot read
    them whole."""
    heads = ""
    targets = [*facts.graph.uses.get(path, ()), *facts.graph.deferred.get(path, ())]
    for target in targets:
        document = documents.get(target)
        if document is None or len(document.blocks) != 1:
            continue
        lines = document.blocks[0].text.split("\n")
        defining = [
            lines[d.first - 1].rstrip()[:_MAX_HEAD_CHARS]
            for d in facts.definitions_in.get(target, ())
            if d.first <= len(lines)
        ]
        longer = heads + "".join(f"{line}\n" for line in (f"Defined in {target}:", *defining))
        if defining and len(encoder.encode_batch([longer])[0]) <= max_tokens:
            heads = longer
    return heads

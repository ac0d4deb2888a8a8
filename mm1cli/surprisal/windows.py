"""What is read at once: as many whole files as fit, else line spans of one file behind its heads.

Every token of every file is scored in exactly one window. A window begins with the heads (imports,
definitions) of the files that the first one imports; a later stretch of a long file begins with
the heads of what stands above it and repeats the lines just before it, which are not scored again.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mm1cli.ingest.corpus import Document
from mm1cli.ingest.pack import Packed, Span

HEADS_SHARE = 1 / 8  # of a window, at most
REPEATED_SHARE = 1 / 4


@dataclass(frozen=True, slots=True)
class Head:
    """A line that says what a file takes or gives; `offset` is where it begins in its block."""

    offset: int
    text: str
    is_import: bool


Heads = Callable[[Document], list[Head]]
"""The heads of a document's only block, in order."""

_IMPORT = r"(?:import|from|use|using|require|include|\#\s*include|package|extern crate)\b"
_MODIFIERS = (
    r"(?:(?:async|pub(?:\([a-z]+\))?|public|private|protected|internal|static|final|abstract|export"
    r"|default|override|virtual|inline|const|unsafe|extern)[ \t]+)*"
)
_DEFINITION = (
    r"(?:def|class|func|fn|function|fun|interface|trait|impl|struct|enum|type|module|object"
    r"|namespace|sub|record|protocol)\b"
)
_HEAD = re.compile(rf"^[ \t]*(?:(?P<take>{_IMPORT})|{_MODIFIERS}{_DEFINITION})[^\n]*", re.MULTILINE)


def heads(document: Document) -> list[Head]:
    """A `Heads`: by the words a line begins with, in any language."""
    if not document.blocks:
        return []
    return [
        Head(match.start(), match.group().rstrip(), match["take"] is not None)
        for match in _HEAD.finditer(document.blocks[0].text)
    ]


@dataclass(frozen=True, slots=True)
class LineSpan:
    """Tokens `first` to `last` of document `number`; those before `scored` are only read."""

    number: int
    first: int
    scored: int
    last: int


@dataclass(frozen=True, slots=True)
class Window:
    """`head_ids`, then the tokens of `hunks`. `head_paths` are the files the heads are from."""

    head_ids: tuple[int, ...]
    head_paths: tuple[str, ...]
    spans: tuple[LineSpan, ...]

    def ids(self, packed: Packed) -> list[int]:
        found = list(self.head_ids)
        for stretch in self.spans:
            found += packed.token_ids[stretch.number][stretch.first : stretch.last]
        return found


@dataclass
class Planner:
    """Plans windows of at most `limit` tokens. `imports`: paths by the path that imports them."""

    packed: Packed
    limit: int
    imports: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: Heads = heads

    def __post_init__(self) -> None:
        if self.limit < 64:
            raise ValueError(f"a window of {self.limit} tokens holds no program text; 64 or more")
        self._by_path = {document.path: document for document in self.packed.corpus.documents}
        self._spans: tuple[int, list[Span | None]] = (-1, [])

    def spans(self, number: int) -> list[Span | None]:
        """`Packed.spans`, remembered for one document: they are asked for in turn."""
        if self._spans[0] != number:
            self._spans = (number, self.packed.spans(number))
        return self._spans[1]

    def windows(self, numbers: Sequence[int]) -> Iterator[Window]:
        """Windows that score documents `numbers`, in this order."""
        head_ids: tuple[int, ...] = ()
        head_paths: tuple[str, ...] = ()
        spans: list[LineSpan] = []
        room = 0
        for number in numbers:
            size = len(self.packed.token_ids[number])
            if size > room:
                if spans:
                    yield Window(head_ids, head_paths, tuple(spans))
                document = self.packed.corpus.documents[number]
                head_ids, head_paths = self.heads_of_imports(document)
                *done, last = self._cut(number, len(head_ids))
                for stretch in done:
                    yield self._window(document, stretch, head_ids, head_paths)
                if last.first:
                    window = self._window(document, last, head_ids, head_paths)
                    head_ids, head_paths = window.head_ids, window.head_paths
                spans = [last]
                room = self.limit - len(head_ids) - (last.last - last.first)
            else:
                spans.append(LineSpan(number, 0, 0, size))
                room -= size
        if spans:
            yield Window(head_ids, head_paths, tuple(spans))

    def _window(
        self,
        document: Document,
        stretch: LineSpan,
        head_ids: tuple[int, ...],
        head_paths: tuple[str, ...],
    ) -> Window:
        if not stretch.first:
            return Window(head_ids, head_paths, (stretch,))
        return Window(self._heads_above(document, stretch), (document.path,), (stretch,))

    def _cut(self, number: int, num_heads: int) -> list[LineSpan]:
        """The spans of one document; borders are at beginnings of lines where there are any."""
        size = len(self.packed.token_ids[number])
        if num_heads + size <= self.limit:
            return [LineSpan(number, 0, 0, size)]
        spans = self.spans(number)
        room = self.limit - max(num_heads, int(self.limit * HEADS_SHARE))
        found, first, scored = [], 0, 0
        while first + room < size:
            last = _line_before(spans, first + room, first + room - room // 4)
            found.append(LineSpan(number, first, scored, last))
            scored = last
            first = _line_before(spans, last - int(room * REPEATED_SHARE), last - room // 2)
        return [*found, LineSpan(number, first, scored, size)]

    def heads_of_imports(self, document: Document) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The tokens a window of this file begins with, and the files they are from."""
        budget = int(self.limit * HEADS_SHARE)
        ids: list[int] = []
        paths: list[str] = []
        for path in self.imports.get(document.path, ()):
            if (other := self._by_path.get(path)) is None or other is document:
                continue
            given = [head.text for head in self.heads(other) if not head.is_import]
            lines = self._encoded(path, given)
            if len(lines) < 2 or len(ids) + len(lines[0]) + len(lines[1]) > budget:
                continue
            paths.append(path)
            for line in lines:
                if len(ids) + len(line) <= budget:
                    ids += line
        return tuple(ids), tuple(paths)

    def _heads_above(self, document: Document, stretch: LineSpan) -> tuple[int, ...]:
        """Title, imports and the last definitions above the stretch, as many as have room."""
        span = next(s for s in self.spans(stretch.number)[stretch.first :] if s is not None)
        above = [head for head in self.heads(document) if head.offset < span.start]
        taken = [head for head in above if head.is_import]
        given = [head for head in above if not head.is_import]
        budget = int(self.limit * HEADS_SHARE)
        title, *lines = self._encoded(document.path, [head.text for head in (*taken, *given)])
        ids = [*title]
        for line in lines[: len(taken)]:
            if len(ids) + len(line) <= budget // 2:
                ids += line
        kept: list[list[int]] = []
        for line in reversed(lines[len(taken) :]):
            if len(ids) + sum(map(len, kept)) + len(line) > budget:
                break
            kept.append(line)
        return tuple(ids[:budget] + [i for line in reversed(kept) for i in line])

    def _encoded(self, path: str, lines: Sequence[str]) -> list[list[int]]:
        """A title as documents have it, then each line."""
        texts = [f"Document: {path}\n\n", *(f"{line}\n" for line in lines)]
        return self.packed.encoder.encode_batch(texts)


def _line_before(spans: Sequence[Span | None], at: int, least: int) -> int:
    """The last token up to `at`, from `least` on, that begins a line; `at` where none does."""
    for index in range(at, least - 1, -1):
        span = spans[index]
        if span is None:
            continue
        text = span.block.text
        if text[span.start] == "\n" and index < at:
            return index + 1
        if span.start == 0 or text[span.start - 1] == "\n":
            return index
    return at

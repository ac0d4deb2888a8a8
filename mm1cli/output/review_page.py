"""A review as the report shows it: findings by file, the surprise map beside the code, facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from mm1cli.output import facts
from mm1cli.output.citation_context import Sources
from mm1cli.output.code_view import LINE_CHARS, CodeView, Row, share_words, telling
from mm1cli.output.review import totals
from mm1cli.review.finding import Finding, Review

if TYPE_CHECKING:
    from mm1cli.surprisal import LineSurprisal

MOST_WHOLE_LINES = 3_000  # of all files that are shown whole
MOST_LISTED = 3_000
_MARKED_LINES = 60  # of one finding


@dataclass(frozen=True, slots=True)
class ShownFinding:
    finding: Finding
    rows: list[Row]
    num_cut: int  # of its lines
    patch: list[tuple[str, str]]  # (kind, line)


@dataclass(frozen=True, slots=True)
class OddLine:
    line: "LineSurprisal"
    anchor: str
    words: str
    tokens: list[str]


@dataclass(frozen=True, slots=True)
class FileHeat:
    """A file with improbable lines; `whole` is empty where there was no room for all of it."""

    path: str
    num_odd: int
    num_ranked: int
    num_lines: int
    rows: list[Row]
    whole: list[Row]


@dataclass(frozen=True, slots=True)
class FactsTable:
    titles: facts.Row
    are_numbers: list[bool]
    rows: list[facts.Row]
    more: int


@dataclass
class ReviewPage:
    review: Review
    sources: Sources | None
    _views: dict[str, CodeView] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        review = self.review
        what = "a change" if review.is_change else "a repository"
        if review.is_written:
            count = len(review.findings)
            return f"{count:,} {'finding' if count == 1 else 'findings'} in {what}"
        return f"Improbable lines in {what}"

    @property
    def sentences(self) -> list[str]:
        return list(totals(self.review))

    @cached_property
    def files(self) -> list[tuple[str, list[ShownFinding]]]:
        ordered = sorted(self.review.findings, key=lambda f: (f.path, f.first, f.order))
        by_file = groupby(ordered, key=lambda f: f.path)
        return [(path, [self._shown(finding) for finding in group]) for path, group in by_file]

    def _shown(self, finding: Finding) -> ShownFinding:
        last = min(finding.last, finding.first + _MARKED_LINES - 1)
        return ShownFinding(
            finding,
            self._view(finding.path).around([(finding.first, last)]),
            finding.last - last,
            list(_patch(finding.patch or "")),
        )

    @cached_property
    def odd_lines(self) -> list[OddLine]:
        numbers = self._file_numbers
        return [
            OddLine(
                line,
                f"f{numbers[line.path]}-{line.line}",
                share_words(line.rank_share),
                telling(line),
            )
            for line in self.review.surprising
        ]

    @cached_property
    def heat(self) -> list[FileHeat]:
        """The files of the improbable lines, that of the most improbable one first."""
        found = []
        room = MOST_WHOLE_LINES
        for path, number in self._file_numbers.items():
            view = self._view(path)
            places = sorted((line, line) for line in view.odd)
            whole = []
            if len(view.lines) <= room:
                whole = view.whole()
                room -= len(view.lines)
            rows = view.around(places, f"f{number}-")
            found.append(
                FileHeat(path, len(places), len(view.shares), len(view.lines), rows, whole)
            )
        return found

    @cached_property
    def _file_numbers(self) -> dict[str, int]:
        paths = dict.fromkeys(line.path for line in self.review.surprising)
        return {path: number for number, path in enumerate(paths, 1)}

    @property
    def not_ranked(self) -> list[tuple[str, str]]:
        return [] if self.review.surprise is None else list(self.review.surprise.left_out)

    @cached_property
    def not_reviewed(self) -> list[tuple[str, list[str]]]:
        """(why, paths), at most `MOST_LISTED` of them."""
        ordered = sorted(self.review.not_reviewed, key=lambda pair: pair[1])[:MOST_LISTED]
        groups = groupby(ordered, key=lambda pair: pair[1])
        return [(why, [path for path, _ in group]) for why, group in groups]

    @property
    def more_not_reviewed(self) -> int:
        return max(len(self.review.not_reviewed) - MOST_LISTED, 0)

    @property
    def facts(self) -> str:
        return "" if self.review.facts is None else facts.totals(self.review.facts)

    @property
    def tables(self) -> Iterator[FactsTable]:
        """Those of the terminal."""
        found = facts.tables(self.review.facts) if self.review.facts is not None else ()
        for titles, rows in found:
            if rows:
                are_numbers = [cell[:1].isdigit() for cell in rows[0]]
                more = max(len(rows) - facts.MOST, 0)
                yield FactsTable(titles, are_numbers, rows[: facts.MOST], more)

    @property
    def groups(self) -> Iterator[tuple[str, Sequence[str], int]]:
        """(what, names, how many more)."""
        told = self.review.facts
        if told is None:
            return
        unparsed = [f"{file.path} ({file.unparsed})" for file in told.unparsed]
        for what, names in (*facts.groups(told), *([("not parsed", unparsed)] if unparsed else ())):
            yield what, names[: facts.MOST], max(len(names) - facts.MOST, 0)

    def _view(self, path: str) -> CodeView:
        if path not in self._views:
            surprise = self.review.surprise
            odd = {line.line: line for line in self.review.surprising if line.path == path}
            self._views[path] = CodeView(
                self._lines(path),
                {} if surprise is None else surprise.shares(path),
                self.review.added.get(path, frozenset()),
                odd,
            )
        return self._views[path]

    def _lines(self, path: str) -> list[str]:
        numbers = self.sources.numbers(path) if self.sources is not None else []
        for number in numbers:
            blocks = self.sources.documents[number].blocks if self.sources is not None else ()
            if len(blocks) == 1:
                lines = blocks[0].text.split("\n")
                return lines[:-1] if lines and not lines[-1] else lines
        return []


def _patch(patch: str) -> Iterator[tuple[str, str]]:
    kinds = {"+": "gained", "-": "lost", "@": "place"}
    for line in patch.splitlines()[2:]:
        shown = line[:LINE_CHARS].expandtabs() + (" …" if len(line) > LINE_CHARS else "")
        yield kinds.get(line[:1], ""), shown

"""The surprise map: every line of program text, by how improbable the model finds it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from mm1cli.surprisal.lexer import Kind
from mm1cli.surprisal.lines import KINDS, FileLines, Floats, Recipe, rank_shares


@dataclass(frozen=True, slots=True)
class TokenSurprisal:
    """`nats` is -log p, `expected_nats` the entropy there; `excess` what counted for the line.

    `column` counts characters from 1.
    """

    text: str
    column: int
    kind: Kind
    nats: float
    expected_nats: float
    excess: float


@dataclass(frozen=True, slots=True)
class LineSurprisal:
    """`rank_share` is the share of ranked lines that are as surprising or more, 0.01 the top 1 %.

    `tokens` are those that counted, in the order of the text.
    """

    path: str
    line: int
    score: float
    rank_share: float
    text: str
    tokens: tuple[TokenSurprisal, ...]


@dataclass(frozen=True, slots=True)
class WindowRead:
    """What was read at once: `paths` with lines that were scored, behind the heads of others."""

    paths: tuple[str, ...]
    heads_of: tuple[str, ...]
    num_tokens: int


@dataclass(frozen=True)
class SurprisalMap:
    """`left_out` are (path, reason) of documents whose lines are not ranked."""

    files: tuple[FileLines, ...]
    recipe: Recipe
    windows: tuple[WindowRead, ...]
    window_tokens: int
    reused_tokens: int
    left_out: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        """Of ranked lines."""
        return sum(len(file.lines) for file in self.files)

    @property
    def read_tokens(self) -> int:
        return sum(window.num_tokens for window in self.windows)

    def top(self, count: int | None = None) -> list[LineSurprisal]:
        """The most surprising lines, first among equals the one that stands first."""
        order = np.argsort(-self._scores, kind="stable")[:count]
        return [self._line(int(index)) for index in order]

    def shares(self, path: str) -> dict[int, float]:
        """For each ranked line of a file its `rank_share`."""
        for number, file in enumerate(self.files):
            if file.tokens.document.path == path:
                shares = self._shares[self._borders[number] : self._borders[number + 1]]
                return dict(zip(map(int, file.lines), map(float, shares), strict=True))
        return {}

    def heat(self, path: str) -> dict[int, float]:
        """For each ranked line of a file how surprising it is among all lines: 1 most, 0 least."""
        least = 1 / max(len(self), 1)
        return {line: 1 - share + least for line, share in self.shares(path).items()}

    def as_json(self, count: int | None = 50) -> dict[str, object]:
        """The first `count` lines, and what was read for all of them."""
        return {
            "lines": [_rounded(asdict(line)) for line in self.top(count)],
            "totals": {
                "files": len(self.files),
                "ranked_lines": len(self),
                "read_tokens": self.read_tokens,
                "reused_tokens": self.reused_tokens,
            },
            "score": str(self.recipe),
            "window_tokens": self.window_tokens,
            "windows": [asdict(window) for window in self.windows],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
        }

    @cached_property
    def _scores(self) -> Floats:
        return np.concatenate([np.empty(0, np.float32), *(file.scores for file in self.files)])

    @cached_property
    def _shares(self) -> Floats:
        return rank_shares(self._scores)

    @cached_property
    def _borders(self) -> Sequence[int]:
        """Where each file's lines begin among all, and where they end."""
        return [0, *map(int, np.cumsum([len(file.lines) for file in self.files]))]

    def _line(self, index: int) -> LineSurprisal:
        number = int(np.searchsorted(self._borders, index, "right")) - 1
        file = self.files[number]
        line = int(file.lines[index - self._borders[number]])
        document = file.tokens.document
        block = document.blocks[0]
        return LineSurprisal(
            path=document.path,
            line=line,
            score=float(self._scores[index]),
            rank_share=float(self._shares[index]),
            text=block.text.split("\n")[line - block.first],
            tokens=tuple(_tokens(file, line)),
        )


def _tokens(file: FileLines, line: int) -> Iterator[TokenSurprisal]:
    tokens = file.tokens
    text = tokens.document.blocks[0].text
    for index in np.flatnonzero((tokens.lines == line) & ~np.isnan(file.excess)):
        start, end = int(tokens.starts[index]), int(tokens.ends[index])
        shown = text[start:end].strip()
        start = text.index(shown, start)
        yield TokenSurprisal(
            text=shown,
            column=start - text.rfind("\n", 0, start),
            kind=KINDS[int(tokens.kinds[index])],
            nats=-float(tokens.scores[0, index]),
            expected_nats=float(tokens.scores[1, index]),
            excess=float(file.excess[index]),
        )


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value

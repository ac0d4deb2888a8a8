"""From the scores of tokens to the scores of lines.

A token's measure says how improbable it was, its excess how much more than is normal for its kind
in its file (median, MAD). A line's score sums up the excesses of its tokens; comments and white
space do not count. A name is a kind of its own where its file first mentions it, as any name is
surprising there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mm1cli.ingest.corpus import Document
from mm1cli.ingest.pack import Span
from mm1cli.surprisal.lexer import Kind, Lexeme, Lexer
from mm1cli.surprisal.reading import Scores

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

KINDS = tuple(Kind)
_UNRANKED = [KINDS.index(Kind.COMMENT), KINDS.index(Kind.SPACE)]
_BORROWED_TOKENS = 32  # what a file's own tokens of a kind weigh as much as all files' tokens
_LEAST_SPREAD_NATS = 0.5
_MAD_TO_SIGMA = 1.4826  # for a normal distribution


@dataclass(frozen=True, slots=True)
class FileTokens:
    """The tokens of a document that stand in its text: arrays [T] in order.

    `lines` count as in the document's locators, `kinds` index `KINDS`, `starts` and `ends` are
    offsets in its only block. A token that spans lines belongs to that of its first visible
    character, white space to the line it ends.
    """

    document: Document
    scores: Scores  # [3, T]
    starts: Ints
    ends: Ints
    lines: Ints
    kinds: Ints

    @property
    def ranked(self) -> npt.NDArray[np.bool_]:
        """Which tokens count for the score of their line."""
        found: npt.NDArray[np.bool_] = np.isin(self.kinds, _UNRANKED) | np.isnan(self.scores[0])
        return ~found


def file_tokens(
    document: Document, spans: Sequence[Span | None], scores: Scores, lexer: Lexer
) -> FileTokens:
    """`spans` and `scores` are of all tokens of a document with one block."""
    block = document.blocks[0]
    text = block.text
    inside = [index for index, span in enumerate(spans) if span is not None]
    kept = [span for span in spans if span is not None]
    starts = np.array([span.start for span in kept], np.int64)
    ends = np.array([span.end for span in kept], np.int64)
    blanks = [len(piece) - len(piece.lstrip()) for piece in (text[s.start : s.end] for s in kept)]
    is_blank = np.array(blanks, np.int64) == ends - starts
    anchors = starts + np.where(is_blank, 0, blanks)
    newlines = np.array([at for at, char in enumerate(text) if char == "\n"], np.int64)
    lexemes = lexer(text, document.kind)
    found = np.searchsorted(np.array([x.start for x in lexemes], np.int64), anchors, "right") - 1
    # -1, before the first lexeme, finds the one appended here.
    kinds = np.array([*_kinds(text, lexemes), KINDS.index(Kind.SPACE)], np.int64)
    return FileTokens(
        document,
        scores[:, inside],
        starts,
        ends,
        block.first + np.searchsorted(newlines, anchors, "left"),
        np.where(is_blank, KINDS.index(Kind.SPACE), kinds[found]),
    )


def _kinds(text: str, lexemes: Sequence[Lexeme]) -> Iterator[int]:
    """Indices of `KINDS`, the first mention of each identifier told apart."""
    names: set[str] = set()
    for lexeme in lexemes:
        kind, name = lexeme.kind, text[lexeme.start : lexeme.end]
        if kind is Kind.IDENTIFIER and name not in names:
            kind = Kind.FIRST_MENTION
            names.add(name)
        yield KINDS.index(kind)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a line gets its score.

    measure: `nats` is -log p; `unexpected` that less the entropy, so what was uncertain anyway does
    not count; `margin` how far the token is behind the likeliest one.
    normal: subtract the median of the token's kind in its file (`centred`), and also divide by the
    spread (`scaled`), or neither (`raw`).
    over: `mean`, `max`, `top3` (sum of the three largest) or `sum` over the line's tokens.
    """

    measure: Literal["nats", "unexpected", "margin"]
    normal: Literal["raw", "centred", "scaled"]
    over: Literal["mean", "max", "top3", "sum"]

    def __str__(self) -> str:
        return f"{self.measure}/{self.normal}/{self.over}"


SHIPPED = Recipe("unexpected", "scaled", "max")


@dataclass(frozen=True, slots=True)
class FileLines:
    """Lines of a file that have a score, ascending, and the excess of each of its tokens."""

    tokens: FileTokens
    excess: Floats  # [T], NaN for tokens that do not count
    lines: Ints
    scores: Floats


def surprisals(scores: Scores, measure: str) -> Floats:
    log_p, entropy, best = scores
    expected = {"nats": np.zeros_like(log_p), "unexpected": entropy, "margin": -best}[measure]
    found: Floats = -log_p - expected
    return found


def score_lines(files: Sequence[FileTokens], recipe: Recipe = SHIPPED) -> list[FileLines]:
    """The lines of each file; what is normal is learned from the files, so give all at once."""
    values = [np.where(f.ranked, surprisals(f.scores, recipe.measure), np.nan) for f in files]
    together = _Normal.of(values, files)
    found = []
    for tokens, value in zip(files, values, strict=True):
        excess = value
        if recipe.normal != "raw":
            normal = _Normal.of([value], [tokens]).borrowing(together)
            excess = value - normal.centre[tokens.kinds]
            if recipe.normal == "scaled":
                excess = excess / np.maximum(normal.spread[tokens.kinds], _LEAST_SPREAD_NATS)
        found.append(_summed_up(tokens, excess.astype(np.float32), recipe.over))
    return found


@dataclass(frozen=True, slots=True)
class _Normal:
    """What is normal for each kind: the median of its tokens and their spread."""

    count: Floats  # [kinds]
    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, values: Sequence[Floats], files: Sequence[FileTokens]) -> "_Normal":
        value = np.concatenate([np.empty(0, np.float32), *values])
        kind = np.concatenate([np.empty(0, np.int64), *(tokens.kinds for tokens in files)])
        count, centre, spread = np.zeros((3, len(KINDS)), np.float32)
        for index in range(len(KINDS)):
            own = value[(kind == index) & ~np.isnan(value)]
            if len(own):
                count[index], centre[index] = len(own), np.median(own)
                spread[index] = _MAD_TO_SIGMA * np.median(np.abs(own - centre[index]))
        return cls(count, centre, spread)

    def borrowing(self, other: "_Normal") -> "_Normal":
        """Drawn to `other`, the more so the fewer tokens there are."""
        weight = self.count / (self.count + _BORROWED_TOKENS)
        centre = weight * self.centre + (1 - weight) * other.centre
        return _Normal(self.count, centre, weight * self.spread + (1 - weight) * other.spread)


def _summed_up(tokens: FileTokens, excess: Floats, over: str) -> FileLines:
    counted = ~np.isnan(excess)
    line, value = tokens.lines[counted], excess[counted]
    lines, starts, counts = np.unique(line, return_index=True, return_counts=True)
    if over == "max":
        scores = np.maximum.reduceat(value, starts) if len(lines) else value
    elif over == "top3":
        ends = starts + counts
        top = (np.sort(value[a:b])[-3:].sum() for a, b in zip(starts, ends, strict=True))
        scores = np.fromiter(top, np.float32, len(lines))
    else:
        scores = np.add.reduceat(value, starts) if len(lines) else value
        if over == "mean":
            scores = scores / counts
    return FileLines(tokens, excess, lines, scores.astype(np.float32))


def rank_shares(scores: Iterable[float]) -> Floats:
    """For each score the share of all scores that are as high or higher: small is surprising."""
    values = np.array(list(scores), np.float64)
    ascending = np.sort(values)
    above = len(values) - np.searchsorted(ascending, values, "left")
    return (above / max(len(values), 1)).astype(np.float32)

"""Seeded bugs in real Python: how many are among the most surprising lines of their file?

    python -m benchmarks.surprisal [--bugs 200] [--model mini] [--minutes M]

Each piece is a stretch of one file, read by itself, with up to five bugs in functions of their own.
One half of the pieces chooses how lines are scored, the other half is reported; the pieces of the
other half are also read without bugs, as the same lines may be surprising anyway. What was read is
kept under --cache, so the same command goes on after a stop and more --bugs add to what is there.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks import machine
from benchmarks.quality import subject
from benchmarks.quality.table import Table
from benchmarks.surprisal import ngram
from benchmarks.surprisal.mutations import KINDS
from benchmarks.surprisal.pieces import Piece, pieces
from benchmarks.surprisal.ranks import (
    LENGTH,
    RANDOM,
    RECIPES,
    TOPS,
    Standing,
    best,
    by_length,
    by_recipe,
    chance,
    measures,
    standings,
)
from engine.engine import Engine
from mm1cli.ingest.pack import Packed
from mm1cli.output.progress import Progress
from mm1cli.output.text import Channel
from mm1cli.surprisal import ScoreCache, lex, read_tokens
from mm1cli.surprisal.lines import SHIPPED, FileTokens, Recipe, file_tokens
from mm1cli.surprisal.reading import ScoreReader
from mm1cli.surprisal.windows import LineSpan, Window

UNBROKEN = "same line, unbroken"
TRIGRAMS = "trigrams"
UNIGRAMS = "unigrams"
_COUNTED = Recipe("nats", "centred", "max")
_SHOWN = 8  # recipes of the tuning half


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    (model,) = subject.load([options.model], options.threads)
    engine = model.engine
    chosen = _enough(pieces(engine.tokenizer, options.piece_tokens, options.seed), options.bugs)
    run = Run(engine, chosen, options.cache, options.seed)
    run.read(None if options.minutes is None else time.monotonic() + 60 * options.minutes)
    if not run.has_both_halves:
        raise SystemExit("nothing was read in one of the halves; raise --bugs or --minutes")
    tables = [run.tuning(), run.test(), run.by_kind(), run.by_source()]
    print("\n\n".join(table.as_text() for table in tables))
    rows = [table.as_json() for table in tables]
    if options.out is not None:
        options.out.write_text("\n\n".join(t.as_markdown() for t in tables) + "\n", "utf-8")
    machine.print_result("surprise", rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.surprisal", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--bugs", type=int, default=200, help="seeded, both halves together")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--piece-tokens", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no piece after so many")
    parser.add_argument("--cache", type=Path, default=Path(".cache/surprise"))
    parser.add_argument("--out", type=Path, help="the tables as Markdown")
    return parser


def _enough(found: Iterator[Piece], num_bugs: int) -> list[Piece]:
    chosen: list[Piece] = []
    for piece in found:
        if sum(len(one.bugs) for one in chosen) >= num_bugs:
            break
        chosen.append(piece)
    return chosen


class Run:
    """Pieces, and the tokens of those that were read."""

    def __init__(self, engine: Engine, chosen: Sequence[Piece], cache: Path, seed: int) -> None:
        self._engine, self._chosen, self._seed = engine, list(chosen), seed
        self._reader = ScoreReader(engine, ScoreCache(cache))
        self._tokens: dict[tuple[str, bool], FileTokens] = {}
        self._packed: dict[tuple[str, bool], Packed] = {}

    def read(self, deadline: float | None) -> None:
        channel = Channel.from_environment(sys.stderr, os.environ)
        progress = Progress(channel, time.monotonic, 2.0)
        work = [(piece, True) for piece in self._chosen]
        work += [(piece, False) for piece in self._chosen if piece.is_test]
        for done, (piece, with_bugs) in enumerate(work):
            if deadline is not None and time.monotonic() >= deadline:
                break
            progress.update("reading", done, len(work), "pieces")
            packed = piece.packed(self._engine.tokenizer, with_bugs=with_bugs)
            window = Window((), (), (LineSpan(0, 0, 0, len(packed.token_ids[0])),))
            (tokens,) = read_tokens(self._reader, packed, [window], lex)
            self._packed[piece.path, with_bugs] = packed
            self._tokens[piece.path, with_bugs] = tokens
        progress.stop()
        self._chosen = [piece for piece in self._chosen if (piece.path, True) in self._tokens]

    @property
    def has_both_halves(self) -> bool:
        return {piece.is_test for piece in self._chosen} == {False, True}

    def tuning(self) -> Table:
        table = Table("tuning", "Tuning half: ways to score a line")
        half = [piece for piece in self._chosen if not piece.is_test]
        found = {str(recipe): self._by(half, recipe) for recipe in RECIPES}
        chosen = best(found)
        ordered = sorted(found, key=lambda name: -_hits(found[name]))
        for name in dict.fromkeys([*ordered[:_SHOWN], str(SHIPPED), "nats/raw/mean"]):
            for measure, estimate in measures(found[name], self._seed).items():
                table.put({}, name, measure, estimate)
        table.note(self._described(half))
        table.note(f"Best of {len(found)}: {chosen}. Shipped: {SHIPPED}.")
        return table

    def test(self) -> Table:
        table = Table("test", "Test half: shipped score against what needs no model")
        half = self._half()
        columns = self._columns(half)
        for name, found in columns.items():
            for measure, estimate in measures(found, self._seed).items() if found else ():
                table.put({}, name, measure, estimate)
        for measure, value in chance(columns[str(SHIPPED)]).items():
            table.put({}, RANDOM, measure, value)
        table.note(self._described(half))
        unbroken = columns[UNBROKEN]
        table.note(
            f"{UNBROKEN}: the line a bug is put into, ranked in the piece without bugs; "
            f"read for {len(unbroken)} of {len(columns[LENGTH])}. {self._raised(half)}"
        )
        return table

    def by_kind(self) -> Table:
        return self._split("kind", "Test half by kind of bug", list(KINDS))

    def by_source(self) -> Table:
        sources = list(dict.fromkeys(piece.source for piece in self._half()))
        return self._split("source", "Test half by where the file is from", sources)

    def _split(self, by: str, title: str, values: Sequence[str]) -> Table:
        table = Table(f"by {by}", title)
        columns = self._columns(self._half())
        for value in values:
            for name, found in columns.items():
                some = [one for one in found if getattr(one, by) == value]
                for measure, estimate in measures(some, self._seed).items() if some else ():
                    table.put({by: value}, name, measure, estimate)
        return table

    def _half(self) -> list[Piece]:
        return [piece for piece in self._chosen if piece.is_test]

    def _columns(self, half: Sequence[Piece]) -> dict[str, list[Standing]]:
        length: list[Standing] = []
        for piece in half:
            lines, _ = by_recipe(self._tokens[piece.path, True], SHIPPED)
            length += standings(piece, by_length(piece, piece.after, lines), with_bugs=True)
        return {
            str(SHIPPED): self._by(half, SHIPPED),
            UNBROKEN: self._by(half, SHIPPED, with_bugs=False),
            LENGTH: length,
            UNIGRAMS: self._counted(half, 1),
            TRIGRAMS: self._counted(half, ngram.ORDER),
        }

    def _by(
        self, half: Sequence[Piece], recipe: Recipe, *, with_bugs: bool = True
    ) -> list[Standing]:
        found = []
        for piece in half:
            if (tokens := self._tokens.get((piece.path, with_bugs))) is not None:
                found += standings(piece, by_recipe(tokens, recipe), with_bugs=with_bugs)
        return found

    def _raised(self, half: Sequence[Piece]) -> str:
        """In how many pairs the line stands higher with the bug than without."""
        both = [piece for piece in half if (piece.path, False) in self._tokens]
        broken = [one.percentile for one in self._by(both, SHIPPED)]
        whole = [one.percentile for one in self._by(both, SHIPPED, with_bugs=False)]
        pairs = list(zip(broken, whole, strict=True))
        higher, lower = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        return f"Of these the bug raises {higher} and lowers {lower}."

    def _counted(self, half: Sequence[Piece], order: int) -> list[Standing]:
        """By counts of the other half's pieces, and of the piece so far."""
        texts = [
            packed.token_ids[0]
            for piece in self._chosen
            if piece.is_test != half[0].is_test
            for packed in [self._packed[piece.path, True]]
        ]
        others = ngram.trained(texts, self._engine.tokenizer.vocab_size)
        found = []
        for piece in half:
            packed = self._packed[piece.path, True]
            scores = ngram.scores(packed.token_ids[0], others, order)
            tokens = file_tokens(packed.corpus.documents[0], packed.spans(0), scores, lex)
            found += standings(piece, by_recipe(tokens, _COUNTED), with_bugs=True)
        return found

    def _described(self, half: Sequence[Piece]) -> str:
        ranked = [len(by_recipe(self._tokens[piece.path, True], SHIPPED)[0]) for piece in half]
        sources = [
            f"{len(list(group))} of {source}"
            for source, group in groupby(sorted(piece.source for piece in half))
        ]
        return (
            f"{sum(len(piece.bugs) for piece in half)} bugs in {len(half)} pieces "
            f"({', '.join(sources)}) of {min(ranked)} to {max(ranked)} ranked lines, "
            f"{sum(ranked) / len(ranked):.0f} on average."
        )


def _hits(found: Sequence[Standing]) -> int:
    return sum(one.is_in(top) for one in found for top in TOPS)


if __name__ == "__main__":
    main()

"""Does a seeded bug stand out more when the model has read the rest of the repository before?

    python -m benchmarks.surprisal.context [--bugs 80] [--context-tokens 4096] [--minutes M]

Each piece of mm1, which is younger than the model, is read three times: alone; behind the heads of
what its file imports; behind whole files, those it imports (and what they import) and then their
neighbours, in reading order, as many as the tokens hold. The same bugs are ranked among the same
lines each time. What was read is kept under --cache, so the same command goes on after a stop.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.quality import subject
from benchmarks.quality.stats import bootstrap_mean
from benchmarks.quality.table import Table
from benchmarks.surprisal.pieces import Piece, files, pieces
from benchmarks.surprisal.ranks import Standing, by_recipe, measures, standings
from engine.tokenizer import Tokenizer
from mm1cli.code import index_of, reading_order, reordered
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output.progress import Progress
from mm1cli.output.text import Channel
from mm1cli.surprisal import ScoreCache, lex, read_tokens
from mm1cli.surprisal.lines import SHIPPED
from mm1cli.surprisal.reading import ScoreReader
from mm1cli.surprisal.windows import LineSpan, Planner, Window

SOURCE = "mm1"
ALONE, HEADS, FILES = "alone", "heads of imports", "whole files"
WAYS = (ALONE, HEADS, FILES)
_WINDOW_TOKENS = 8192  # heads take an eighth of a window


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.surprisal.context", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--bugs", type=int, default=80)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--piece-tokens", type=int, default=2400)
    parser.add_argument("--context-tokens", type=int, default=4096, help="of whole files, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin no piece after so many")
    parser.add_argument("--cache", type=Path, default=Path(".cache/surprise"))
    options = parser.parse_args(arguments)
    (model,) = subject.load([options.model], options.threads)
    tokenizer = model.engine.tokenizer
    reader = ScoreReader(model.engine, ScoreCache(options.cache))
    repository = Repository.of(SOURCE, tokenizer)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    channel = Channel.from_environment(sys.stderr, os.environ)
    progress = Progress(channel, time.monotonic, 2.0)
    run = Run(options.seed)
    for piece in pieces(tokenizer, options.piece_tokens, options.seed, (SOURCE,)):
        if run.num_bugs >= options.bugs or (deadline and time.monotonic() >= deadline):
            break
        progress.update("reading", run.num_bugs, options.bugs, "bugs")
        run.add(piece, tokenizer, repository, options.context_tokens, reader)
    progress.stop()
    if not run.num_bugs:
        raise SystemExit("nothing was read; raise --bugs or --minutes")
    table = run.table()
    print(table.as_text())
    machine.print_result("surprise.context", [table.as_json()])


@dataclass(frozen=True)
class Repository:
    """The files of a source in reading order, and which imports which."""

    packed: Packed
    uses: Mapping[str, tuple[str, ...]]
    number: Mapping[str, int]

    @classmethod
    def of(cls, source: str, tokenizer: Tokenizer) -> "Repository":
        corpus = Corpus(tuple(_document(name, path) for name, path in files(source)))
        graph = index_of(corpus, num_workers=1).graph
        corpus = reordered(corpus, reading_order(corpus, graph))
        number = {document.path: at for at, document in enumerate(corpus.documents)}
        return cls(pack(corpus, tokenizer), graph.uses, number)

    def before(self, path: str, max_tokens: int) -> list[int]:
        """Numbers of whole files in reading order: what `path` imports, near before far, then what
        stands right before it, while they fit."""
        chosen: list[int] = []
        for number in dict.fromkeys([*self._imported(path), *self._preceding(path)]):
            size = len(self.packed.token_ids[number])
            if size <= max_tokens:
                chosen.append(number)
                max_tokens -= size
        return sorted(chosen)

    def _imported(self, path: str) -> Iterator[int]:
        found, near = {path}, [path]
        while near:
            near = [one for user in near for one in self.uses.get(user, ()) if one not in found]
            near = list(dict.fromkeys(near))
            found |= set(near)
            yield from (self.number[one] for one in near)

    def _preceding(self, path: str) -> Iterator[int]:
        return reversed(range(self.number[path]))


@dataclass
class Run:
    seed: int
    found: dict[str, list[Standing]] = field(default_factory=lambda: {way: [] for way in WAYS})
    num_read: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))
    num_pieces: int = 0

    @property
    def num_bugs(self) -> int:
        return len(self.found[ALONE])

    def add(
        self,
        piece: Piece,
        tokenizer: Tokenizer,
        repository: Repository,
        max_tokens: int,
        reader: ScoreReader,
    ) -> None:
        packed = piece.packed(tokenizer, with_bugs=True)
        size = len(packed.token_ids[0])
        for way in WAYS:
            before = _before(way, piece, repository, max_tokens)
            window = Window(tuple(before), (), (LineSpan(0, 0, 0, size),))
            (tokens,) = read_tokens(reader, packed, [window], lex)
            self.found[way] += standings(piece, by_recipe(tokens, SHIPPED), with_bugs=True)
            self.num_read[way] += len(before) + size
        self.num_pieces += 1

    def table(self) -> Table:
        table = Table("context", "Shipped score, by what was read before the piece")
        alone = [one.percentile for one in self.found[ALONE]]
        for way in WAYS:
            for measure, estimate in measures(self.found[way], self.seed).items():
                table.put({}, way, measure, estimate)
            if way != ALONE:
                now = [one.percentile for one in self.found[way]]
                moved = np.array(now) - np.array(alone)
                table.put({}, way, "moved", bootstrap_mean(list(moved), self.seed, "score"))
                higher, lower = int(np.sum(moved > 0)), int(np.sum(moved < 0))
                table.note(
                    f"{way}: {higher} of {len(moved)} bugs stand higher than {ALONE}, "
                    f"{lower} lower."
                )
        read = ", ".join(
            f"{way} {count / self.num_pieces:,.0f}" for way, count in self.num_read.items()
        )
        table.note(f"{self.num_bugs} bugs in {self.num_pieces} pieces; tokens a piece: {read}.")
        return table


def _before(way: str, piece: Piece, repository: Repository, max_tokens: int) -> list[int]:
    if way == ALONE:
        return []
    if way == FILES:
        numbers = repository.before(piece.path, max_tokens)
        return [i for number in numbers for i in repository.packed.token_ids[number]]
    document = repository.packed.corpus.documents[repository.number[piece.path]]
    planner = Planner(repository.packed, _WINDOW_TOKENS, repository.uses)
    return list(planner.heads_of_imports(document)[0])


def _document(name: str, path: Path) -> Document:
    text = path.read_text(encoding="utf-8")
    return Document(name, "python", len(text.encode()), "", "text", (Block(text),))


if __name__ == "__main__":
    main()

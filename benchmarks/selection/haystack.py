"""Texts with things hidden in them, as the tokens of one context, and where those stand.

Of texts that are longer than a context what is nearest to the facts asked for is read, in order.
"""

import gzip
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from benchmarks.quality.baselines import corpus
from benchmarks.selection.questions import Hidden
from engine.api import Tokenizer
from mm1cli.answering.prompt import question_prompt
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, passages

ROOM_TOKENS = 1000  # for a question, a block that is read once more, and the answer
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["”’)]))\s+(?=["“‘(]?[A-Z])""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something begins: token `token` of the context, character `char` of its text; and
    `passage`, what says it."""

    token: int
    char: int
    passage: str


@dataclass(frozen=True)
class Haystack:
    """Documents begin at token `first` of `token_ids` and read `text`; `places` are by the name of
    what is hidden, one for each of its texts."""

    token_ids: list[int]
    first: int
    text: str
    places: dict[str, list[Place]]

    @cached_property
    def index(self) -> Bm25Index:
        """The product's own, over the documents."""
        return Bm25Index(passages(corpus({"documents.txt": self.text})))


class Library:
    """`texts` by sentences, each with its tokens counted and how far it is from the next fact."""

    def __init__(
        self, tokenizer: Tokenizer, texts: Sequence[str], hidden: Sequence[Hidden]
    ) -> None:
        self._tokenizer, self._hidden = tokenizer, hidden
        self._pieces: list[str] = []
        self._facts: dict[int, list[tuple[Hidden, int]]] = {}  # by piece, and where in it
        distances: list[int] = []
        for text in texts:
            before = len(self._pieces)
            for piece, facts in _pieces(text, hidden):
                if facts:
                    self._facts[len(self._pieces)] = facts
                self._pieces.append(piece)
            near = [at - before for at in self._facts if at >= before] or [0]
            distances += _distances(self._pieces[before:], near)
        self._counts = [len(ids) for ids in tokenizer.encode_batch(self._pieces)]
        self._nearest = sorted(range(len(distances)), key=lambda at: distances[at])

    @property
    def num_tokens(self) -> int:
        return sum(self._counts)

    def haystack(self, num_tokens: int) -> Haystack:
        """For a context of at most `num_tokens`, questions included. Raises ValueError where the
        texts are too short."""
        put_in = sorted(
            (depth, text, one)
            for one in self._hidden
            for depth, text in zip(one.depths, one.texts, strict=False)
        )
        head = question_prompt(self._tokenizer, (), "").head.token_ids
        sentences = self._tokenizer.encode_batch([f"{text}\n\n" for _, text, _ in put_in])
        room = num_tokens - ROOM_TOKENS - len(head) - sum(map(len, sentences))
        if room > self.num_tokens:
            raise ValueError(
                f"the texts have {self.num_tokens:,} tokens, {room:,} are wanted: name more of "
                "them with --text"
            )
        kept = self._kept(room)
        before = _spread([depth for depth, _, _ in put_in], [self._counts[at] for at in kept])
        pieces = list(self._laid(kept, {p: put_in[n][1:] for n, p in enumerate(before)}))
        encoded = self._tokenizer.encode_batch([text for text, _ in pieces])
        places: dict[str, list[tuple[int, Place]]] = {}
        token, char = len(head), 0
        for (text, found), ids in zip(pieces, encoded, strict=True):
            for one, number, offset in found:
                ends = (end for _, end in self._tokenizer.offsets(text))
                at = next(number for number, end in enumerate(ends) if end > offset)
                place = Place(token + at, char + offset, _passage(text, offset))
                places.setdefault(one.name, []).append((number, place))
            token, char = token + len(ids), char + len(text)
        in_order = {name: [place for _, place in sorted(found)] for name, found in places.items()}
        ids = [*head, *(token_id for piece in encoded for token_id in piece)]
        return Haystack(ids, len(head), "".join(text for text, _ in pieces), in_order)

    def _kept(self, room: int) -> list[int]:
        """The pieces nearest to facts, in order, as many as there is room for."""
        kept = []
        for at in self._nearest:
            room -= self._counts[at]
            if room < 0:
                break
            kept.append(at)
        return sorted(kept)

    def _laid(
        self, kept: Sequence[int], put_in: dict[int, tuple[str, Hidden]]
    ) -> Iterator[tuple[str, list[tuple[Hidden, int, int]]]]:
        """Texts, each with what is hidden in it: its number among what belongs together, and where.
        `put_in` are sentences by the number of the kept piece that they stand before."""
        plain = ""
        for number, at in enumerate(kept):
            facts, sentence = self._facts.get(at, []), put_in.get(number)
            if plain and (facts or sentence):
                yield plain, []
            if sentence:
                text, one = sentence
                # A paragraph of its own.
                apart = "\n\n" if plain and not plain.endswith("\n\n") else ""
                yield f"{apart}{text}\n\n", [(one, one.texts.index(text), len(apart))]
            if facts or sentence:
                plain = ""
            if facts:
                yield self._pieces[at], [(one, 0, offset) for one, offset in facts]
            else:
                plain += self._pieces[at]
        if plain:
            yield plain, []


def read(path: Path) -> str:
    """A text in UTF-8, plain or compressed by gzip."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return "\n".join(text.splitlines())


def language_reference() -> str:
    """That comes with Python."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def _pieces(text: str, hidden: Sequence[Hidden]) -> Iterator[tuple[str, list[tuple[Hidden, int]]]]:
    """Paragraphs with a fact, and the sentences of all others; each fact is where it stands first,
    with its first character."""
    paragraphs = [one.strip("\n") + "\n\n" for one in _PARAGRAPH.split(text) if one.strip()]
    whole = "".join(paragraphs)
    places: list[tuple[int, Hidden]] = []
    for one in hidden:
        words = map(re.escape, one.texts[0].split())
        if not one.depths and (match := re.search(r"\s+".join(words), whole)):
            places.append((match.start(), one))
    start = 0
    for paragraph in paragraphs:
        end = start + len(paragraph)
        if facts := [(one, at - start) for at, one in places if start <= at < end]:
            yield paragraph, facts
        else:
            first = 0
            for border in [*(m.end() for m in _SENTENCE.finditer(paragraph)), len(paragraph)]:
                yield paragraph[first:border], []
                first = border
        start = end


def _distances(pieces: Sequence[str], facts: Sequence[int]) -> list[int]:
    """Characters between where each piece begins and where the nearest of `facts` does."""
    starts = list(accumulate(map(len, pieces), initial=0))[:-1]
    return [min(abs(start - starts[fact]) for fact in facts) for start in starts]


def _spread(depths: Sequence[float], counts: Sequence[int]) -> list[int]:
    """For each of `depths`, ascending, another piece to stand before, near its share of the
    tokens. Raises ValueError where there are fewer pieces."""
    if len(counts) < len(depths):
        raise ValueError(f"{len(counts)} pieces of text are too few for {len(depths)} sentences")
    starts = list(accumulate(counts, initial=0))[:-1]
    total, found, lowest = sum(counts), list[int](), 0
    for number, depth in enumerate(depths):
        highest = len(counts) - (len(depths) - number)
        at = min(max(bisect_left(starts, depth * total), lowest), highest)
        found.append(at)
        lowest = at + 1
    return found


def _passage(text: str, offset: int) -> str:
    """The product's own that holds character `offset`."""
    found: list[Passage] = passages(corpus({"documents.txt": text}))
    return next(one.text for one in reversed(found) if one.start <= offset)

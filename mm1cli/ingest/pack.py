"""Documents as the model reads them: a list of contents, then a marked-up text each, in tokens.

Every token leads back to its file and the place in it; the way back is only worked out for the
documents that are asked about.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator, Omission

MAX_CONTENTS_TOKENS = 10_000
_BATCH_CHARS = 1 << 18


class Encoder(Protocol):
    def encode_batch(self, texts: list[str]) -> list[list[int]]: ...

    def offsets(self, text: str) -> list[tuple[int, int]]: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a token is from, and the piece of the document's text that it stands for.

    A token that spells a part of a character has the whole character. For the marks between the
    document's text `locator` is None and `text` is "".
    """

    document: Document
    locator: Locator | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `block.text[start:end]` that a token stands for, which are not none."""

    block: Block
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.block.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Packed:
    """`token_ids[i]` are those of document i, its marks included, in corpus order.

    `contents_ids` stand before them all; there are none unless two documents have text.
    """

    corpus: Corpus
    token_ids: tuple[tuple[int, ...], ...]
    contents_ids: tuple[int, ...]
    encoder: Encoder = field(repr=False, compare=False)
    _offsets: dict[int, list[tuple[int, int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _spans: dict[int, list[Span | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _ends: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def num_tokens(self) -> int:
        """Of the documents alone."""
        return sum(map(len, self.token_ids))

    def apart(self) -> Iterator["Packed"]:
        """Each document as a corpus of its own."""
        for document, ids in zip(self.corpus.documents, self.token_ids, strict=True):
            yield Packed(Corpus((document,)), (ids,), (), self.encoder)

    def ids(self) -> list[int]:
        """All of them, as they stand in the context."""
        return [*self.contents_ids, *(i for ids in self.token_ids for i in ids)]

    def locate(self, index: int) -> Origin | None:
        """Where token `index` of `ids()` is from; None for the list of contents.

        Raises IndexError for no token. The first question about a document encodes it again.
        """
        at = index - len(self.contents_ids)
        if not self._ends:
            self._ends.extend(accumulate(map(len, self.token_ids)))
        if index < 0 or at >= (self._ends[-1] if self._ends else 0):
            raise IndexError(index)
        if at < 0:
            return None
        number = bisect_right(self._ends, at)
        document, num_tokens = self.corpus.documents[number], len(self.token_ids[number])
        if number not in self._spans:
            self._spans[number] = self.spans(number)
        spans = self._spans[number]
        if len(spans) != num_tokens:
            # Saved ids that are not those of this text: no place would be the right one.
            return Origin(document, None)
        span = spans[at - self._ends[number] + num_tokens]
        if span is None:
            return Origin(document, None)
        return Origin(document, span.block.locate(span.start, span.end), span.text)

    def spans(self, number: int) -> list[Span | None]:
        """What each token of document `number` stands for; None for marks between its text.

        Encodes the document again, once for all its tokens. A token that ends one block and begins
        the next belongs to the first.
        """
        document = self.corpus.documents[number]
        layout = list(_layout(document))
        starts = [start for start, _ in layout]
        found: list[Span | None] = []
        for start, end in self._offsets_of(number):
            span = None
            for at in range(max(bisect_right(starts, start) - 1, 0), len(layout)):
                block_start, block = layout[at]
                begin, inside = max(start - block_start, 0), min(end - block_start, len(block.text))
                if begin < inside:
                    span = Span(block, begin, inside)
                if span is not None or block_start >= end:
                    break
            found.append(span)
        return found

    def tokens(self, document: Document, block: Block, start: int, end: int) -> range:
        """The tokens of `ids()` that hold `block.text[start:end]`: `locate` the other way.

        Raises ValueError for a block that is not one of `document`, or a document not packed.
        """
        number = self._index(document)
        before = len(self.contents_ids) + sum(map(len, self.token_ids[:number]))
        at = next((at for at, one in _layout(document) if one is block), None)
        if at is None:
            raise ValueError(f"the block is not of {document.path}")
        offsets = self._offsets_of(number)
        first = bisect_right(offsets, at + start, key=lambda span: span[1])
        last = bisect_left(offsets, at + end, key=lambda span: span[0])
        return range(before + first, before + last)

    def _index(self, document: Document) -> int:
        for number, one in enumerate(self.corpus.documents):
            if one is document:
                return number
        raise ValueError(f"{document.path} is not packed")

    def _offsets_of(self, number: int) -> list[tuple[int, int]]:
        if number not in self._offsets:
            text = document_text(self.corpus.documents[number])
            self._offsets[number] = self.encoder.offsets(text)
        return self._offsets[number]


class Packer:
    """Encodes documents in batches as they come, so that reading goes on meanwhile.

    The list of contents has at most `max_contents_tokens`; where it names only the first
    documents, it says how many more there are.
    """

    def __init__(self, encoder: Encoder, max_contents_tokens: int) -> None:
        self._encoder = encoder
        self._max_contents_tokens = max_contents_tokens
        self._documents: list[Document] = []
        self._token_ids: list[tuple[int, ...]] = []
        self._waiting: list[str] = []

    def add(self, document: Document) -> None:
        self._documents.append(document)
        self._waiting.append(document_text(document))
        if sum(map(len, self._waiting)) >= _BATCH_CHARS:
            self._encode()

    def finish(self, omissions: Sequence[Omission] = ()) -> Packed:
        self._encode()
        corpus = Corpus(tuple(self._documents), tuple(omissions))
        return Packed(corpus, tuple(self._token_ids), self._contents(), self._encoder)

    def _contents(self) -> tuple[int, ...]:
        most = sum(1 for document in self._documents if document.blocks)
        while most > 1:
            (ids,) = self._encoder.encode_batch([contents_text(self._documents, most)])
            if len(ids) <= self._max_contents_tokens:
                return tuple(ids)
            most //= 2
        return ()

    def _encode(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._token_ids += map(tuple, self._encoder.encode_batch(waiting))


def pack(corpus: Corpus, encoder: Encoder) -> Packed:
    return pack_all([*corpus.documents, *corpus.omissions], encoder)


def pack_all(
    outcomes: Iterable[Document | Omission],
    encoder: Encoder,
    max_contents_tokens: int = MAX_CONTENTS_TOKENS,
) -> Packed:
    packer = Packer(encoder, max_contents_tokens)
    omissions = []
    for outcome in outcomes:
        if isinstance(outcome, Document):
            packer.add(outcome)
        else:
            omissions.append(outcome)
    return packer.finish(omissions)


def contents_text(documents: Sequence[Document], most: int) -> str:
    """The first `most` of the documents that have text, as a list; "" for fewer than two."""
    paths = [document.path for document in documents if document.blocks]
    if len(paths) < 2:
        return ""
    listed = "".join(f"{number}. {path}\n" for number, path in enumerate(paths[:most], 1))
    if len(paths) > most:
        listed += f"and {len(paths) - most:,} more\n"
    return f"Contents: {len(paths):,} documents\n{listed}\n"


def document_text(document: Document) -> str:
    """A title line, then the blocks, each place named as a citation would name it.

    A container without text of its own is not packed.
    """
    if not document.blocks:
        return ""
    texts = "".join(_block_texts(document.blocks))
    return f"{_title(document)}{texts}{_closing(document.blocks[-1])}\n"


def _title(document: Document) -> str:
    return f"Document: {document.path}\n\n"


def _layout(document: Document) -> Iterator[tuple[int, Block]]:
    """Each block, and where its text begins in `document_text`."""
    at = len(_title(document))
    for block, text in zip(document.blocks, _block_texts(document.blocks), strict=True):
        yield at + len(text) - 1 - len(block.text), block
        at += len(text)


def _block_texts(blocks: Sequence[Block]) -> Iterator[str]:
    """Each block below its mark, if it has another than the one before it, whose end it shows."""
    before, closing = "", ""
    for block in blocks:
        now = _mark(block)
        if now == before:
            yield f"{block.text}\n"
        else:
            yield f"{closing}{now}{block.text}\n"
        before, closing = now, _closing(block)


def _mark(block: Block) -> str:
    """[page ii], [slide 3], [chapter 2: Storms], [hidden sheet: Budget], [sheet S, A2:C101]."""
    place = block.place
    named = []
    if place is not None and place.kind == "page":
        named.append(f"page {place.label or place.index + 1}")
    elif place is not None and place.kind == "sheet" and place.label:
        named.append(f"sheet {place.label}")
    elif place is not None:
        named.append(
            f"{place.kind} {place.index + 1}" + (f": {place.label}" if place.label else "")
        )
    if block.columns is not None:
        named.append(block.cell_range())
    if block.mark:
        named.append(block.mark)
    return f"[{', '.join(named)}]\n" if named else ""


def _closing(block: Block) -> str:
    """Where a mark ends: what follows [footnote 2] is no footnote. Those of sheets hold a block."""
    if not block.mark or block.unit == "row":
        return ""
    return f"[/{block.mark.rstrip('0123456789 ')}]\n"

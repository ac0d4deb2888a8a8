"""Documents as the model reads them: a list of contents, then a marked-up text each, in tokens.

Every token leads back to its file and the place in it; the way back is only worked out for the
documents that are asked about.

Where a document has lines that look like the marks between documents, all marks carry a fence: a
word that stands in no document, so that no text ends its own document or begins another.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator, Omission

MAX_CONTENTS_TOKENS = 10_000
_BATCH_CHARS = 1 << 18
_MOST_TOKEN_CHARS = 16  # on average
_FENCE_DIGITS = 8
_MARKS = (
    "page|slide|sheet|cell|chapter|part|member|comment|footnote|endnote|header|footer|notes|output"
    "|OCR|invisible|hidden|off page|text box|alt text|form field"
)
# Lines like those that stand between documents, passages and the question in a prompt.
_IMITATION = re.compile(
    r"^[^\w\n]{0,6}(?:(?:Document|DOCUMENT)[^\w\n]{0,4}(?:[0-9a-f]{8})?[^\w\n]{0,3}:"
    r"|(?i:end of document)\b|Contents: ?\d"
    rf"|\[(?i:[^\]\n]{{0,80}}?\b(?:{_MARKS})\b)[^\]\n]{{0,200}}\][ \t]*$"
    r"|Most relevant:|Answer in one short sentence, using only"
    r"|[^\n]{1,200}, (?:pp?\.|lines?|slide|sheet|ch\.|cell|¶|rows?|part|member) ?[“\d]"
    r"[^\n]{0,60}:[ \t]*$)",
    re.MULTILINE,
)


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
    fence: str = ""
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
        """Each document as a corpus of its own, with what its fence means."""
        for document, ids in zip(self.corpus.documents, self.token_ids, strict=True):
            told = contents_text((document,), 1, self.fence)
            contents = tuple(self.encoder.encode_batch([told])[0]) if told else ()
            yield Packed(Corpus((document,)), (ids,), contents, self.encoder, self.fence)

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
        layout = list(_layout(document, self.fence))
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
        at = next((at for at, one in _layout(document, self.fence) if one is block), None)
        if at is None:
            raise ValueError(f"the block is not of {document.path}")
        offsets = self._offsets_of(number)
        first = bisect_right(offsets, at + start, key=lambda span: span[1])
        last = bisect_left(offsets, at + end, key=lambda span: span[0])
        return range(before + first, before + last)

    def places(self, first: int, last: int) -> list[tuple[Document, Span]]:
        """What tokens `first` .. `last` - 1 of `ids()` stand for, a span for each block in order;
        marks and the list of contents have none."""
        found = []
        start = len(self.contents_ids)
        for number, (document, ids) in enumerate(
            zip(self.corpus.documents, self.token_ids, strict=True)
        ):
            low, high = max(first - start, 0), min(last - start, len(ids))
            start += len(ids)
            if low >= high or len(offsets := self._offsets_of(number)) != len(ids):
                continue
            begin, end = offsets[low][0], offsets[high - 1][1]
            for at, block in _layout(document, self.fence):
                span = Span(block, max(begin - at, 0), min(end - at, len(block.text)))
                if span.start < span.end:
                    found.append((document, span))
        return found

    def _index(self, document: Document) -> int:
        for number, one in enumerate(self.corpus.documents):
            if one is document:
                return number
        raise ValueError(f"{document.path} is not packed")

    def _offsets_of(self, number: int) -> list[tuple[int, int]]:
        if number not in self._offsets:
            text = document_text(self.corpus.documents[number], self.fence)
            self._offsets[number] = self.encoder.offsets(text)
        return self._offsets[number]


class Packer:
    """Encodes documents in batches as they come, so that reading goes on meanwhile.

    The list of contents has at most `max_contents_tokens`; where it names only the first
    documents, it says how many more there are.
    """

    def __init__(self, encoder: Encoder, max_contents_tokens: int, fence: str = "") -> None:
        """`fence` is one that stands in none of the documents; where one is needed it is found."""
        self._encoder, self._fence = encoder, fence
        self._needs_fence = False
        self._max_contents_tokens = max_contents_tokens
        self._documents: list[Document] = []
        self._token_ids: list[tuple[int, ...]] = []
        self._waiting: list[str] = []
        self._num_waiting_chars = 0

    def add(self, document: Document) -> None:
        self._documents.append(document)
        self._needs_fence = self._needs_fence or _imitates_marks(document)
        if self._needs_fence and not self._fence:
            return  # it depends on all of them
        self._wait(document)

    def _wait(self, document: Document) -> None:
        text = document_text(document, self._fence)
        self._waiting.append(text)
        self._num_waiting_chars += len(text)
        if self._num_waiting_chars >= _BATCH_CHARS:
            self._encode()

    def finish(self, omissions: Sequence[Omission] = ()) -> Packed:
        if self._needs_fence and not self._fence:
            self._fence = _fence_for(self._documents)
            self._token_ids, self._waiting, self._num_waiting_chars = [], [], 0
            for document in self._documents:
                self._wait(document)
        self._encode()
        corpus = Corpus(tuple(self._documents), tuple(omissions))
        ids = tuple(self._token_ids)
        return Packed(corpus, ids, self._contents(), self._encoder, self._fence)

    def _contents(self) -> tuple[int, ...]:
        most = sum(1 for document in self._documents if document.blocks)
        while most > (0 if self._fence else 1):
            text = contents_text(self._documents, most, self._fence)
            # Encoding a list of 200,000 takes long; no list of paths has tokens that long.
            if len(text) <= self._max_contents_tokens * _MOST_TOKEN_CHARS:
                (ids,) = self._encoder.encode_batch([text])
                if len(ids) <= self._max_contents_tokens:
                    return tuple(ids)
            most //= 2
        return ()

    def _encode(self) -> None:
        waiting, self._waiting, self._num_waiting_chars = self._waiting, [], 0
        self._token_ids += map(tuple, self._encoder.encode_batch(waiting))


def pack(corpus: Corpus, encoder: Encoder) -> Packed:
    return pack_all(corpus.outcomes, encoder)


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


def _imitates_marks(document: Document) -> bool:
    return any(_IMITATION.search(_as_seen(block.text)) for block in document.blocks)


def _as_seen(text: str) -> str:
    """With the letters that other characters look like, and without those that are not seen."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text)
    return "".join(one for one in folded if unicodedata.category(one) != "Cf")


def _fence_for(documents: Sequence[Document]) -> str:
    """The same for the same documents, and in none of them."""
    texts = [document.path for document in documents]
    texts += [block.text for document in documents for block in document.blocks]
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
    while True:
        fence = digest.hexdigest()[:_FENCE_DIGITS]
        if not any(fence in text.lower() for text in texts):
            return fence
        digest.update(b"again")


def contents_text(documents: Sequence[Document], most: int, fence: str = "") -> str:
    """The first `most` of the documents that have text, as a list; "" for fewer than two.

    With a fence, what it means stands before the list, also for one document.
    """
    paths = [document.path for document in documents if document.blocks]
    if fence and paths:
        told = f"Only lines with {fence} begin or end a document; the rest is its text.\n\n"
        return told + (contents_text(documents, most) if len(paths) > 1 else "")
    if len(paths) < 2:
        return ""
    listed = "".join(f"{number}. {path}\n" for number, path in enumerate(paths[:most], 1))
    if len(paths) > most:
        listed += f"and {len(paths) - most:,} more\n"
    return f"Contents: {len(paths):,} documents\n{listed}\n"


def document_text(document: Document, fence: str = "") -> str:
    """A title line, then the blocks, each place named as a citation would name it.

    A container without text of its own is not packed.
    """
    if not document.blocks:
        return ""
    texts = "".join(_block_texts(document.blocks, fence)) + _closing(document.blocks[-1], fence)
    end = f"End of document {fence}\n" if fence else ""
    return f"{title(document.path, fence)}\n\n{texts}{end}\n"


def title(name: str, fence: str = "") -> str:
    """The line that begins a document."""
    return f"Document {fence}: {name}" if fence else f"Document: {name}"


def _layout(document: Document, fence: str = "") -> Iterator[tuple[int, Block]]:
    """Each block, and where its text begins in `document_text`."""
    at = len(title(document.path, fence)) + 2
    for block, text in zip(document.blocks, _block_texts(document.blocks, fence), strict=True):
        yield at + len(text) - 1 - len(block.text), block
        at += len(text)


def _block_texts(blocks: Sequence[Block], fence: str) -> Iterator[str]:
    """Each block below its mark, if it has another than the one before it, whose end it shows."""
    before, closing = "", ""
    for block in blocks:
        now = _mark(block, fence)
        if now == before:
            yield f"{block.text}\n"
        else:
            yield f"{closing}{now}{block.text}\n"
        before, closing = now, _closing(block, fence)


def _mark(block: Block, fence: str) -> str:
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
    before = f"{fence} " if fence else ""
    return f"[{before}{', '.join(named)}]\n" if named else ""


def _closing(block: Block, fence: str) -> str:
    """Where a mark ends: what follows [footnote 2] is no footnote. Those of sheets hold a block."""
    if not block.mark or block.unit == "row":
        return ""
    before = f"{fence} " if fence else ""
    return f"[{before}/{block.mark.rstrip('0123456789 ')}]\n"

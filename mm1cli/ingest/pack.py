"""Documents as the model reads them: a marked-up text each, and its exact tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mm1cli.ingest.corpus import Block, Corpus, Document, Place


class Encoder(Protocol):
    def encode_batch(self, texts: list[str]) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """`token_ids[i]` are those of document i, its marks included, in corpus order."""

    corpus: Corpus
    token_ids: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.token_ids))


def pack(corpus: Corpus, encoder: Encoder) -> Packed:
    texts = [document_text(document) for document in corpus.documents]
    return Packed(corpus, tuple(tuple(ids) for ids in encoder.encode_batch(texts)))


def document_text(document: Document) -> str:
    """A title line, then the blocks, each place named as a citation would name it.

    A container without text of its own is not packed.
    """
    if not document.blocks:
        return ""
    return f"Document: {document.path}\n\n{''.join(_block_texts(document.blocks))}\n"


def _block_texts(blocks: Sequence[Block]) -> Iterator[str]:
    before: tuple[Place | None, str] = (None, "")
    for block in blocks:
        now = (block.place, block.mark)
        yield f"{block.text}\n" if now == before else f"{_mark(block)}{block.text}\n"
        before = now


def _mark(block: Block) -> str:
    """[page ii], [slide 3], [chapter 2: Storms], [hidden sheet: Budget]."""
    if block.place is None:
        return f"[{block.mark}]\n" if block.mark else ""
    place = block.place
    if place.kind == "page":
        name = f"page {place.label or place.index + 1}"
    elif place.kind == "sheet" and place.label:
        name = f"sheet {place.label}"
    else:
        name = f"{place.kind} {place.index + 1}" + (f": {place.label}" if place.label else "")
    return f"[{name}, {block.mark}]\n" if block.mark else f"[{name}]\n"

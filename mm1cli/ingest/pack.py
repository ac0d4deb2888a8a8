"""Documents as the model reads them: a marked-up text each, and its exact tokens."""

from dataclasses import dataclass
from typing import Protocol

from mm1cli.ingest.corpus import Block, Corpus, Document


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
    """A title line, then the blocks; pages carry the label that is printed on them."""
    return f"Document: {document.path}\n\n{''.join(map(_block_text, document.blocks))}\n"


def _block_text(block: Block) -> str:
    if block.page is None:
        return f"{block.text}\n"
    return f"[page {block.page_label or block.page + 1}]\n{block.text}\n"

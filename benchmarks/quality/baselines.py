"""What a model is held against: bm25 alone, as the product searches, and "first 2K tokens only"."""

import hashlib
from collections.abc import Sequence

from engine.tokenizer import Tokenizer
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, passages

BM25 = "bm25 alone"
FIRST = "first 2K tokens only"
FIRST_TOKENS = 2048


def document(path: str, text: str) -> Document:
    """A text as a document of the product."""
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    return Document(path, "text", len(data), sha256, "text", (Block(text),))


def corpus(texts: dict[str, str]) -> Corpus:
    return Corpus(tuple(document(path, text) for path, text in texts.items()))


class ScoredIndex(Bm25Index):
    """The product's index, which also tells how well the best passage fits."""

    def best_score(self, question: str) -> float:
        """bm25 of the best passage, higher is better; 0 where no word of the question stands."""
        found = self.scored(question, 1)
        return found[0].score if found else 0.0


def first(
    found: Sequence[Passage], tokenizer: Tokenizer, limit: int = FIRST_TOKENS
) -> list[Passage]:
    """The passages that lie whole in the first `limit` tokens."""
    kept: list[Passage] = []
    room = limit
    for passage, ids in zip(found, tokenizer.encode_batch([p.text for p in found]), strict=True):
        room -= len(ids)
        if room < 0:
            break
        kept.append(passage)
    return kept


def bm25_holds(text: str, question: str, wanted: str) -> bool:
    """Whether the passage that bm25 puts first holds `wanted`."""
    best = Bm25Index(passages(corpus({"text": text}))).search(question, 1)
    return bool(best) and wanted in best[0].text

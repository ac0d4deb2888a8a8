"""Documents without a model: list, read, search, count, find a quotation, check sentences.

Everything is answered from text that was read before; no file is opened, and no path leads
anywhere. What comes back is plain JSON, with the place of each text.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from mm1cli.errors import InputError
from mm1cli.grounding import citations, claims
from mm1cli.grounding.claims import Candidate
from mm1cli.grounding.normalize import normalize
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.ingest.pack import document_text
from mm1cli.output.events import plain
from mm1cli.result import Claim, Mark
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.definitions import outlines
from mm1cli.retrieval.passages import Passage, passages, with_heading

Json = dict[str, Any]

MOST_CHARS = 20_000  # of one answer of `read`
MOST_PASSAGES = 50
MOST_CLAIM_CHARS = 50_000
_LOOKED_AT = 8  # passages that could carry a sentence
_MOST_PLACES = 100
_NAMED = 3  # documents, where another was asked for


class CorpusTools:
    def __init__(self, corpus: Corpus, quotable: QuoteIndex | None = None) -> None:
        self.corpus = corpus
        self._quotable = quotable or QuoteIndex(corpus)
        self._documents: dict[str, Document] = {}
        for document in corpus.documents:
            self._documents.setdefault(document.path, document)

    @cached_property
    def _index(self) -> Bm25Index:
        return Bm25Index(passages(self.corpus, outlines(self.corpus)))

    def list_documents(self) -> Json:
        """Those that were read, and what was left out with its reason."""
        return {
            "documents": [
                {
                    "path": document.path,
                    "kind": document.kind,
                    "bytes": document.num_bytes,
                    "chars": sum(len(block.text) for block in document.blocks),
                    "sha256": document.sha256,
                    "warnings": list(document.warnings),
                }
                for document in self.corpus.documents
            ],
            "left_out": [
                {"path": one.path, "reason": str(one.reason), "detail": one.detail}
                for one in self.corpus.omissions
            ],
        }

    def read(self, path: str, start: int = 0, max_chars: int = MOST_CHARS) -> Json:
        """The text of one document from character `start` on, each page, sheet and slide named."""
        document = self._document(path)
        text = document_text(document)
        max_chars = min(max(max_chars, 1), MOST_CHARS)
        start = min(max(start, 0), len(text))
        end = min(start + max_chars, len(text))
        following = end if end < len(text) else None
        return {
            "path": document.path,
            "text": text[start:end],
            "chars": len(text),
            "next_start": following,
        }

    def search(self, query: str, limit: int = 5) -> Json:
        """The passages that share most with the words of `query`, best first."""
        limit = min(max(limit, 1), MOST_PASSAGES)
        found = [one for one in self._index.scored(query, limit) if one.score > 0]
        return {
            "passages": [{**_passage(one.passage), "score": round(one.score, 3)} for one in found]
        }

    def count(self, words: str) -> Json:
        """How often `words` stand in each document, whole words in any case, and where they never
        do."""
        wanted = normalize(words).casefold().strip()
        if not wanted:
            raise InputError("nothing to count: give a word or words that follow each other")
        pattern = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
        counts = {
            document.path: sum(
                len(pattern.findall(normalize(block.text).casefold())) for block in document.blocks
            )
            for document in self.corpus.documents
        }
        return {
            "words": words,
            "total": sum(counts.values()),
            "documents": [{"path": path, "count": n} for path, n in counts.items() if n],
            "without": [path for path, n in counts.items() if not n],
        }

    def find_quote(self, quote: str) -> Json:
        """Whether `quote` stands in the documents: letter for letter (exact), or after NFKC and
        with white space as one space (normalised), or not; and where."""
        found = self._quotable.find(quote) or self._quotable.find_anywhere(quote)
        if found is None:
            nearest = self.search(quote, 1)["passages"]
            return {"status": "not found", "quote": quote, "nearest": (nearest or [None])[0]}
        places = [found]
        for one in self._quotable.find_all(quote):
            if len(places) >= _MOST_PLACES:
                break
            if (one.block, one.start) != (found.block, found.start):
                places.append(one)
        return {
            "status": str(found.status),
            "quote": quote,
            "text": found.text,
            "places": [
                {
                    "path": one.document.path,
                    "place": str(one.locator),
                    "locator": plain(one.locator),
                }
                for one in places
            ],
        }

    def check_claims(self, text: str) -> Json:
        """Each sentence of `text`: carried by a passage, contradicted, or neither, and by what.

        Words decide: every name, number, date, unit and negation must be borne out. A sentence that
        says the same in other words is not carried: no model is asked.
        """
        if len(text) > MOST_CLAIM_CHARS:
            raise InputError(f"at most {MOST_CLAIM_CHARS:,} characters at once; give it in parts")
        told = []
        for claim in claims.claims(text, ()):
            sentence = text[claim.start : claim.end]
            near = [
                one.passage for one in self._index.scored(sentence, _LOOKED_AT) if one.score > 0
            ]
            spans = [span for one in near for span in (*one.spans(1), one)]
            told.append(_checked(sentence, spans))
        quotes = [self.find_quote(quote) for quote in citations.quotations(text)]
        return {"sentences": told, "quotes": quotes}

    def _document(self, path: str) -> Document:
        """The one of that path, or the only one whose path ends so."""
        if path in self._documents:
            return self._documents[path]
        ending = [one for one in self._documents if one.endswith(f"/{path.removeprefix('./')}")]
        if len(ending) == 1:
            return self._documents[ending[0]]
        near = ending or get_close_matches(path, self._documents, _NAMED) or [*self._documents]
        raise InputError(
            f"{path!r}: no such document; there is {', '.join(near[:_NAMED]) or 'none'}"
        )

    def open(self, path: str, first: int = 1, last: int = 40) -> Json:
        """Lines, paragraphs or rows `first` to `last` of a document, counted through all of it."""
        document = self._document(path)
        lines = list(_lines(document.blocks))
        first, last = max(first, 1), min(last, first + 199)
        shown = lines[first - 1 : last]
        return {"path": document.path, "lines": shown, "first": first, "of": len(lines)}


def _lines(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        yield from block.text.split("\n")


def _passage(passage: Passage) -> Json:
    return {
        "path": passage.document.path,
        "place": str(passage.locator),
        "caption": passage.caption,
        "text": passage.text,
    }


def _checked(sentence: str, spans: Sequence[Passage]) -> Json:
    candidates = [Candidate(at, with_heading(one)) for at, one in enumerate(spans)]
    found = claims.claims(sentence, candidates)
    claim = found[0] if found else Claim(0, len(sentence), ())
    by = claim.against if claim.mark is Mark.CONTRADICTED else claim.citations
    best = min(by, key=lambda at: len(spans[at].text), default=None)
    told: Json = {"sentence": sentence, "mark": str(claim.mark)}
    return told if best is None else {**told, "by": _passage(spans[best])}

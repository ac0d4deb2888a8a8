"""Years, shares and names of a question that stand in no document: it asks about something else,
however well a passage fits the rest of it.

Other numbers may be instructions ("in 50 words"), and so may names in what is no question.
"""

import re

from mm1cli.grounding.citations import contains_number
from mm1cli.ingest.corpus import Corpus

_NUMBER = re.compile(r"\b(?:19|20)\d\d\b|\d+(?:[.,]\d+)*(?=\s?%)")
_ASKS = re.compile(r"\W*(?:who|whom|whose|what|which|when|where|why|how)\b.*\?\W*$", re.I | re.S)
# A capital at the beginning of a sentence names nothing.
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)(?<!^[\"“‘'(])\b[A-ZÀ-ÖØ-Þ][^\W\d_]{2,}")
_FORMS = "English German French Italian Spanish Polish Dutch Markdown JSON"
_LANGUAGES = frozenset(_FORMS.split())


def unknown_terms(question: str, corpus: Corpus) -> tuple[str, ...]:
    """In the question's order, each once. A path may name what a text does not."""
    found = list(_NUMBER.finditer(question))
    if _ASKS.match(question):
        found += [match for match in _NAME.finditer(question) if match[0] not in _LANGUAGES]
    missing = {match[0] for match in found}
    for document in corpus.documents:
        for text in (document.path, *(block.text for block in document.blocks)):
            if not missing:
                return ()
            missing = {term for term in missing if not _stands_in(term, text)}
    found.sort(key=lambda match: match.start())
    return tuple(dict.fromkeys(match[0] for match in found if match[0] in missing))


def _stands_in(term: str, text: str) -> bool:
    if term[:1].isdigit():
        return contains_number(text, term)
    return re.search(rf"\b{re.escape(term)}\w{{0,2}}\b", text, re.IGNORECASE) is not None

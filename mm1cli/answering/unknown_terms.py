"""Years, shares, names and counted things of a question that stand in no document: it asks about
something else, however well a passage fits the rest of it.

Other numbers may be instructions ("in 50 words"), and so may names in what is no question.
"""

import re

from mm1cli.grounding.citations import contains_number
from mm1cli.ingest.corpus import Corpus

_NUMBER = re.compile(r"\b(?:19|20)\d\d\b|\d+(?:[.,]\d+)*(?=\s?%)")
_ASKS = re.compile(r"\W*(?:who|whom|whose|what|which|when|where|why|how)\b.*\?\W*$", re.I | re.S)
# A capital at the beginning of a sentence names nothing.
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)(?<!^[\"“‘'(])\b[A-ZÀ-ÖØ-Þ][^\W\d_]{2,}")
_COUNTED = re.compile(r"\bhow\s+many\s+(?P<noun>[^\W\d_]{4,})\b", re.IGNORECASE)
# Counted without being named: "Eleven came", "it seats twelve", "twice".
_GENERIC = frozenset(
    (
        "people",
        "persons",
        "times",
        "things",
        "items",
        "more",
        "other",
        "different",
        "kinds",
        "types",
    )
)
_ENDING = r"(?:['’]?s|es|n|en)?"  # of a name; "fire" does not name the room Fir
_PLURAL = re.compile(r"(?:ies|es|s)$")
_FORMS = "English German French Italian Spanish Polish Dutch Markdown JSON"
_LANGUAGES = frozenset(_FORMS.split())


def unknown_terms(question: str, corpus: Corpus) -> tuple[str, ...]:
    """In the question's order, each once. A path may name what a text does not."""
    found = list(_NUMBER.finditer(question))
    if _ASKS.match(question):
        found += [match for match in _NAME.finditer(question) if match[0] not in _LANGUAGES]
    missing = {match[0] for match in found}
    counted = _counted(question, corpus)
    for document in corpus.documents:
        for text in (document.path, *(block.text for block in document.blocks)):
            if not missing:
                return counted
            missing = {term for term in missing if not _stands_in(term, text)}
    found.sort(key=lambda match: match.start())
    return tuple(dict.fromkeys([*(one[0] for one in found if one[0] in missing), *counted]))


def _counted(question: str, corpus: Corpus) -> tuple[str, ...]:
    """What `question` asks the number of, where no document has a word like it."""
    match = _COUNTED.search(question)
    if match is None or match["noun"].lower() in _GENERIC:
        return ()
    root = _PLURAL.sub("", match["noun"].lower())
    texts = (text for one in corpus.documents for text in (one.path, *(b.text for b in one.blocks)))
    return () if any(root in text.lower() for text in texts) else (match["noun"],)


def _stands_in(term: str, text: str) -> bool:
    if term[:1].isdigit():
        return contains_number(text, term)
    return re.search(rf"\b{re.escape(term)}{_ENDING}\b", text, re.IGNORECASE) is not None

"""Red here means that a question about another year or person is answered without a word, or that
instructions are taken for names."""

import pytest

from mm1cli.answering.unknown_terms import unknown_terms
from mm1cli.ingest.corpus import Block, Corpus, Document

TEXT = "In 2019 Ms Arden paid 40 % of the fence in Mill Lane."
CORPUS = Corpus((Document("rules-2020.txt", "text", 1, "0", "r", (Block(TEXT),)),))


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("Who paid the fence in 2019?", ()),
        ("Who paid the fence in 2018?", ("2018",)),
        ("What do the rules of 2020 say?", ()),  # a path names it
        ("What did Mr Feld and Arden pay of 30 %?", ("Feld", "30")),
        ("Where is arden's fence in Mill Lane?", ()),
        ("How many fences and lanes were paid in 2019?", ()),
        ("How many beehives has Ms Arden?", ("beehives",)),
        ("How many people did Ms Arden pay?", ()),  # counted without being named
        ("What did Fen pay?", ("Fen",)),  # "fence" does not name Fen
        # A capital that begins a sentence, an instruction, a language, a number of words.
        ("Fences? Who paid?", ()),
        ("Summarise it for Anna in 50 words.", ()),
        ("What is this called in German?", ()),
    ],
)
def test_what_no_document_names(question, missing):
    assert unknown_terms(question, CORPUS) == missing

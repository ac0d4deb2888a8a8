"""Red here means that evidence is measured against gold that is not there, or is given away."""

import hashlib
from collections import Counter

import pytest

from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Document
from tests.evidence import corpus

# Of all documents: numbers measured on other texts cannot be compared.
DIGEST = "a579df48b192b867"


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> dict[str, Document]:
    """As the product reads them."""
    folder = tmp_path_factory.mktemp("evidence")
    corpus.write(folder)
    read = read_corpus([str(folder)])
    assert not read.omissions
    return {document.path.removeprefix(f"{folder}/"): document for document in read.documents}


def test_the_documents_are_the_same_everywhere():
    texts = corpus.texts()
    assert texts == corpus.texts()
    assert len(texts) == 40
    assert hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16] == DIGEST


def test_every_gold_passage_stands_once_in_the_document_it_names(documents):
    for question in corpus.questions():
        for gold in question.gold:
            times = [block.text.count(gold.text) for block in documents[gold.path].blocks]
            assert sum(times) == 1, f"{question.text}: {gold}"


def test_questions_are_unique_and_stand_in_no_document(documents):
    asked = [question.text for question in corpus.questions()]
    assert len(set(asked)) == len(asked) == 60
    text = "\n".join(block.text for document in documents.values() for block in document.blocks)
    assert not [question for question in asked if question.lower() in text.lower()]


def test_every_kind_of_difficulty_is_there_and_only_answerable_questions_have_gold():
    kinds = Counter(question.kind for question in corpus.questions())
    wanted = {"plain", "twin", "digit", "table", "negation", "contradiction", "nowhere"}
    assert set(kinds) == wanted and min(kinds.values()) >= 5
    for question in corpus.questions():
        assert bool(question.gold) == bool(question.answer) == (question.kind != "nowhere")
        if question.kind == "contradiction":
            assert len(question.gold) > 1


def test_fillers_are_drawn_anew_in_every_document(documents):
    """Red: the haystack is one paragraph many times, and nothing has to be found in it."""
    lines = [
        line
        for document in documents.values()
        for block in document.blocks
        for line in block.text.splitlines()
        if len(line) > 200
    ]
    assert len(lines) > 400
    assert len(set(lines)) > 0.99 * len(lines)

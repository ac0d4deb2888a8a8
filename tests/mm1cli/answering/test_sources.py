"""Red here means that what an answer says is called unsupported though a document says it."""

from corpora import corpus

from mm1cli.answering.sources import sources
from mm1cli.result import Claim
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import passages


def found(question: str, answer: str, *texts: str) -> list[str]:
    index = Bm25Index(passages(corpus(*texts)))
    claim = Claim(0, len(answer), (), ())
    return [one.passage.text for one in sources(question, answer, [claim], [], index.search)]


PRICE = "The crossing cost 48.2 million crowns."
MEALS = "A yearly fee of 980 is billed in January."


def test_the_sentence_is_looked_for_by_its_own_words():
    assert found("How much did the crossing cost?", "48.2 million crowns", MEALS, PRICE) == [PRICE]
    assert found("How much did the crossing cost?", "48.3 million crowns", MEALS, PRICE) == []


def test_what_does_not_speak_of_the_question_is_no_source():
    """Red: a true sentence about something else stands there as the answer, with its source."""
    fee = "The yearly fee of 980 is billed in January."
    assert found("What interest does the loan carry?", fee, MEALS, PRICE) == []


def test_what_names_nothing_is_not_looked_for():
    assert found("How is it?", "It is good.", "It is good.") == []

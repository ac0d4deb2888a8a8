"""Red here means that what somebody asks for by its name is not found by it."""

import pytest
from corpora import document

from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.definitions import outlines
from mm1cli.retrieval.passages import passages
from mm1cli.retrieval.terms import query_terms, without_stop_words

CODE = "class {name}:\n    def {method}(self):\n        # what is it, and who is it for?\n"


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("parseHttpHeader?", ["parsehttpheader", "parse", "http", "header"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("tide_model.py", ["tide_model", "tide", "model", "py"]),
        ("港の歴史", ["港の", "の歴", "歴史"]),
        ("K2 is it", ["k2", "is", "it"]),
        ("港 of Unit7", ["港", "of", "unit7"]),
    ],
)
def test_a_question_is_cut_into_what_can_be_looked_for(question: str, terms: list[str]):
    """Red: a name is found only where it is spelled as in the question, or every letter counts."""
    assert query_terms(question) == terms


def test_words_of_an_identifier_find_it_and_the_whole_finds_it_first():
    """Red: "how is the header of http parsed" misses parseHttpHeader."""
    files = [
        document(f"def {name}(text):\n    return text\n", f"{n}.py", "python")
        for n, name in enumerate(("openFile", "parseHttpHeader", "parse_http_body", "http2"))
    ]
    index = Bm25Index(passages(Corpus(tuple(files))))
    assert "parseHttpHeader" in index.search("parse a header", 1)[0].text
    assert "parse_http_body" in index.search("where does it parse the body?", 1)[0].text
    assert "parseHttpHeader" in index.search("parseHttpHeader", 1)[0].text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("大桥是谁建造的?", "这座大桥由李建国建造。"),
        ("港の歴史は?", "港の歴史は古い。"),
        ("서울의 인구는?", "서울시 인구는 많다."),
    ],
)
def test_text_without_spaces_is_found_by_what_it_says(question: str, answer: str):
    """Red: Chinese, Japanese and Korean passages come in reading order, whatever is asked."""
    texts = ["天气很好。", "今日は雨です。", "오늘은 비가 온다.", answer]
    files = tuple(document(text, f"{n}.txt", "text") for n, text in enumerate(texts))
    (best,) = Bm25Index(passages(Corpus(files))).search(question, 1)
    assert best.text == answer


def test_stop_words_count_in_prose_alone_and_only_beside_others():
    """Red: a comment full of "what is it" is found instead of the name that was asked for."""
    files = (
        document(CODE.format(name="Comment", method="run"), "a.py", "python"),
        document("class Signal:\n    def tide(self): ...\n", "b.py", "python"),
    )
    index = Bm25Index(passages(Corpus(files), outlines(Corpus(files))))
    assert "Signal" in index.search("what is it that the tide is for, and who is it?", 1)[0].text
    assert "Comment" in index.search("what is it?", 1)[0].text
    assert without_stop_words(["what", "is", "tide"]) == ["tide"]
    assert without_stop_words(["what", "is"]) == ["what", "is"]
    prose = [document(text, f"{n}.md") for n, text in enumerate(("It was up.", "Up to 42 crowns."))]
    found = Bm25Index(passages(Corpus(tuple(prose)))).search("up to what?", 1)
    assert found[0].text == "Up to 42 crowns."

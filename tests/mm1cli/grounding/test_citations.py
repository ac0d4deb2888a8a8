import unicodedata

import pytest
from corpora import corpora, corpus, document
from hypothesis import assume, given
from hypothesis import strategies as st

from mm1cli.grounding.citations import numbers, quotations, unfinished
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Corpus, Place
from mm1cli.result import CitationStatus

SENTENCE = "The ﬁrst bridge was not built by Calder & Vane until 1904."
WORDS = ("the", "bridge", "was", "not", "built", "twice", "café", "office")
words = st.lists(st.sampled_from(WORDS), min_size=3, max_size=12)


@given(corpora(), st.data())
def test_whatever_stands_in_a_document_is_found_exactly(corpus: Corpus, data):
    """Red: a true quote is called unverified."""
    texts = [block.text for doc in corpus.documents for block in doc.blocks if block.text]
    assume(texts)
    text = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, len(text) - 1))
    quote = text[start : data.draw(st.integers(start + 1, len(text)))]
    found = QuoteIndex(corpus).find_anywhere(quote)
    assert found is not None and found.status is CitationStatus.EXACT
    assert found.text == quote and found.block.text[found.start : found.end] == quote
    assert found.locator.first == found.block.first + found.block.text[: found.start].count("\n")


@given(corpora(), st.text(max_size=6))
def test_what_is_found_says_the_same_as_the_quote(corpus: Corpus, quote: str):
    """Red: the program vouches for words that are not there."""
    found = QuoteIndex(corpus).find_anywhere(quote)
    if found is not None:
        assert " ".join(unicodedata.normalize("NFKC", quote).split()) in " ".join(
            unicodedata.normalize("NFKC", found.text).split()
        )


@given(words, st.sampled_from(["\n", "  ", "\u00a0", "\t\n ", "\u2009"]), st.booleans())
def test_spacing_and_letter_forms_do_not_matter(quoted: list[str], space: str, decomposed: bool):
    """Red: a quote over a line break of a PDF, with a ligature or accent, is called invented."""
    text = space.join(quoted).replace("ffi", "ﬃ")
    text = unicodedata.normalize("NFD", text) if decomposed else text
    found = QuoteIndex(corpus("Before.", f"So: {text}, it says.")).find_anywhere(" ".join(quoted))
    assert found is not None
    assert found.text == text
    assert found.document.path == "1.md"
    expected = CitationStatus.EXACT if text == " ".join(quoted) else CitationStatus.NORMALISED
    assert found.status is expected


@pytest.mark.parametrize(
    "quote",
    [
        "The first bridge was built by Calder & Vane until 1904.",
        "The first bridge was not built by calder & vane until 1904.",
        "The first bridge was not built by Calder & Vane until 1905.",
        "The first bridge was not built by Calder & Vane until 1904!",
        "bridge was notbuilt by",
        "",
        " \n",
    ],
)
def test_another_word_case_number_or_mark_is_not_found(quote: str):
    """Red: a dropped "not" passes as a quote."""
    assert QuoteIndex(corpus(SENTENCE)).find_anywhere(quote) is None


def test_an_exact_match_later_on_beats_a_normalised_one():
    """Red: the user is told that the spacing differs, though it does not."""
    found = QuoteIndex(corpus("the\nold quay", "at the old quay")).find_anywhere("the old quay")
    assert found is not None
    assert (found.document.path, found.status) == ("1.md", CitationStatus.EXACT)


def test_a_locator_counts_from_where_its_block_begins():
    """Red: citations of page 3 say line 2 of the document."""
    source = QuoteIndex(Corpus((document("one\ntwo\nthree\n", first=10, place=Place("page", 2)),)))
    found = source.find_anywhere("two three")
    assert found is not None
    assert (found.locator.first, found.locator.last, found.locator.place.index) == (11, 12, 2)


@pytest.mark.parametrize(
    ("number", "text", "is_there"),
    [
        ("8.2", "It cost 48.2 million.", False),
        ("48.2", "It cost 48.2 million.", True),
        ("48", "It cost 48.2 million.", False),
        ("2", "It cost 48.2 million.", False),
        ("1,904", "There were 1,904 people.", True),
        ("904", "There were 1,904 people.", False),
        ("1904", "There were 1,904 people.", False),
        ("190", "in 1904", False),
        ("1904", "in 1904.", True),
        ("1904", "in 1904, or later", True),
        ("12", "see p.12", True),
        ("5", "it grew by .5 percent", False),
        ("12", "１２ boats", True),
        ("7", "", False),
    ],
)
def test_a_number_stands_only_where_it_stands_alone(number: str, text: str, is_there: bool):
    """Red: an invented figure is vouched for, or a true one is called invented."""
    assert QuoteIndex(corpus(text)).has_number(number) is is_there


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_is_found_among_others_only_if_it_is_one_of_them(number: int, other: int):
    """Red: a part of another number passes as the number."""
    assert QuoteIndex(corpus(f"From {other:,} to x.")).has_number(f"{number:,}") is (
        number == other
    )


def test_quotations_are_what_stands_in_marks_and_has_three_words():
    """Red: titles are checked as quotes, or quotes are not checked."""
    text = 'He said “it was not built”, "nor was it paid" and «il ne fut pas» in "The Times".'
    assert quotations(text) == ["it was not built", "nor was it paid", "il ne fut pas"]
    assert quotations('An "unclosed quote of many words') == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It says “the cat sat on the ma", "the cat sat on the"),
        ("“one two three” and “the cat sat on", "the cat sat"),
        ("“one two three four five”", ""),
        ("“the cat", ""),
        ("", ""),
    ],
)
def test_a_quotation_cut_by_the_end_is_known_up_to_its_last_word(text: str, expected: str):
    """Red: an answer that runs out of tokens inside a quotation loses its citation."""
    assert unfinished(text) == expected


def test_numbers_come_once_each_and_whole():
    """Red: 48.2 is checked as 48 and 2, which stand elsewhere."""
    assert numbers("48.2 and 1,904, then 48.2 on 3/4 at 12:30. Ends in 7.") == [
        "48.2", "1,904", "3/4", "12:30", "7",
    ]  # fmt: skip
    assert numbers("none") == []


def test_the_marks_of_a_numbered_list_are_no_claims():
    assert numbers("1. The bridge cost 48.2 million.\n2) It has 5 spans.") == ["48.2", "5"]

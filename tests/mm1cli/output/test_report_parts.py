"""The parts of the report: where passages stand, what surrounds them, how an answer is cut."""

from dataclasses import replace

import pytest
import sample_run
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Corpus, Document, Place
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import document_text
from mm1cli.output.answer_text import AnswerText, blocks
from mm1cli.output.citation_context import (
    AROUND_CHARS,
    QUOTE_CHARS,
    Sources,
    Spot,
    around,
    flowing,
    head_of,
)
from mm1cli.output.context_map import lane, segments
from mm1cli.output.value_view import ValueView, value_view
from mm1cli.result import Answer, Citation, CitationKind, CitationStatus, PassageRead

texts = st.text(st.sampled_from("ab \n"), min_size=1, max_size=40)
places = st.sampled_from([None, Place("page", 0), Place("page", 1)])


def document(path: str, parts: list[tuple[str, Place | None]]) -> Document:
    found = tuple(Block(text, place=place) for text, place in parts)
    return Document(path, "text", 1, "0", "r", found)


def cited(one: Document, block: int, start: int, end: int, **fields: object) -> Citation:
    at = one.blocks[block]
    values = {"block": block, "start": start, "end": end} | fields
    return Citation(
        1, one.path, at.locate(start, end), at.text[start:end], CitationStatus.EXACT, -1.0, **values
    )  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
def test_the_strip_holds_every_document_once_and_in_proportion(tokens: list[int]):
    """Red: the map leaves a document out, or shows it in another place or width."""
    documents = tuple(document(f"{n}", [("x", None)]) for n in range(len(tokens)))
    strip = segments(Sources(Corpus(documents), tokens))
    whole = sum(tokens)
    at = 0.0
    for segment in strip:
        assert segment.start == pytest.approx(at, abs=1e-6)
        part = sum(tokens[segment.first : segment.last + 1])
        assert segment.width == pytest.approx(100 * part / whole, abs=1e-6)
        at += segment.width
    assert at == pytest.approx(100 if whole else 0, abs=1e-6)


def test_many_small_documents_share_segments():
    documents = tuple(document(f"{n}", [("x", None)]) for n in range(20_000))
    strip = segments(Sources(Corpus(documents), [1] * 20_000))
    assert 800 < len(strip) < 1_800
    assert strip[0].title.startswith("13 documents, 0 to 12: 13 tokens")


@given(
    st.lists(st.lists(st.tuples(texts, places), min_size=1, max_size=4), min_size=1, max_size=3),
    st.data(),
)
def test_a_mark_stands_where_its_text_stands(parts, data):
    """Red: the heat on the map points at another part of the context."""
    documents = tuple(document(f"d{n}", one) for n, one in enumerate(parts))
    # A token per character: then the true position is known.
    tokens = [sum(len(text) + 1 for text, _ in one) for one in parts]
    sources = Sources(Corpus(documents), tokens)
    number = data.draw(st.integers(0, len(documents) - 1))
    block = data.draw(st.integers(0, len(parts[number]) - 1))
    text = parts[number][block][0]
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    citation = cited(documents[number], block, start, end)
    answer = replace(sample_run.ANSWER, citations=(citation,), read=())
    (mark,) = lane(sources, answer).marks
    before = sum(tokens[:number]) + sum(len(one) + 1 for one, _ in parts[number][:block]) + start
    assert mark.start == pytest.approx(100 * before / sum(tokens))
    assert mark.width == pytest.approx(100 * (end - start) / sum(tokens))
    # Without the offsets, the locator alone leads to the same words on the same line.
    spot = sources.find(replace(citation, block=None, start=None, end=None))
    assert spot is not None
    found = documents[spot.number].blocks[spot.block]
    assert found.text[spot.start : spot.end] == citation.text
    assert found.locate(spot.start, spot.end).first == citation.locator.first


def test_focus_shows_the_parts_that_were_read():
    pages = [("one\ntwo\nthree", Place("page", 0)), ("four\nfive", Place("page", 1))]
    one, other = document("a", pages), document("b", [("x" * 30, None)])
    sources = Sources(Corpus((one, other)), [24, 31])
    read = (
        PassageRead("a", one.blocks[0].locate(4, 7), 1),  # two
        PassageRead("a", one.blocks[1].locate(0, 9), 2),  # the second page
        PassageRead("b", None, 31),
        PassageRead("gone", one.blocks[1].locate(0, 9), 2),
    )
    answer = replace(sample_run.ANSWER, plan=ReadingPlan.RETRIEVAL, read=read, citations=())
    spans = [(s.start * 0.55, (s.start + s.width) * 0.55) for s in lane(sources, answer).read]
    assert [tuple(map(round, span)) for span in spans] == [(4, 8), (14, 23), (24, 55)]


def heats(*values: tuple[float, float | None]) -> list[int]:
    one = document("a", [("word " * 20, None)])
    citations = tuple(
        replace(cited(one, 0, n, n + 1, gain=gain), number=n + 1, score=score)
        for n, (score, gain) in enumerate(values)
    )
    answer = replace(sample_run.ANSWER, citations=citations, read=())
    return [mark.heat for mark in lane(Sources(Corpus((one,)), [9]), answer).marks]


def test_heat_follows_the_order_that_is_shown_whatever_was_measured():
    """Red: the map calls [1] weak and [3] strong, which is the opposite of the page."""
    assert heats((-1.0, None), (-2.0, None), (-4.0, None)) == [4, 2, 1]
    assert heats((-1.0, 0.1), (-9.0, 0.7), (-9.0, None)) == [4, 2, 1]
    assert heats((-3.0, None)) == [4]
    assert heats((float("nan"), None), (-1.0, None)) == [4, 1]
    one = document("a", [("word", None)])
    quote = cited(one, 0, 0, 4, kind=CitationKind.QUOTE)
    answer = replace(sample_run.ANSWER, citations=(quote,), read=())
    assert [mark.heat for mark in lane(Sources(Corpus((one,)), [1]), answer).marks] == [0]


@given(st.lists(st.tuples(texts, places), min_size=1, max_size=5), st.data())
def test_surroundings_are_the_document_itself(parts, data):
    """Red: the text around a quote is from another page, or is not what the file says."""
    one = document("d", parts)
    block = data.draw(st.integers(0, len(parts) - 1))
    start = data.draw(st.integers(0, len(parts[block][0]) - 1))
    end = data.draw(st.integers(start + 1, len(parts[block][0])))
    shown = around(Spot(0, one, block, start, end))
    assert shown.quote == parts[block][0][start:end]
    whole = f"{shown.before}{shown.quote}{shown.after}"
    assert whole in "\n".join(text for text, _ in parts)
    same = [text for text, place in parts if place == parts[block][1]]
    assert set(whole.split("\n")) <= set("\n".join(same).split("\n"))
    assert set(whole.split("\n")) <= set(document_text(one).split("\n"))


def test_surroundings_of_a_line_of_a_megabyte_are_short():
    text = "x" * 500_000 + "QUOTE" + "y" * 500_000
    one = document("d", [(text, None)])
    shown = around(Spot(0, one, 0, 500_000, 500_005))
    assert shown.quote == "QUOTE"
    assert shown.before == "… " + "x" * AROUND_CHARS and shown.after == "y" * AROUND_CHARS + " …"
    assert len(around(Spot(0, one, 0, 0, 999_999)).quote) <= QUOTE_CHARS + 2


def test_a_cut_is_at_white_space_where_there_is_some():
    words = "word " * 100
    assert head_of(words, 202) == "word " * 39 + "word …"
    assert head_of("short", 5) == "short"


@given(st.lists(st.sampled_from([*"ab. \n-1A", "x" * 70]), max_size=30).map("".join))
def test_text_that_flows_keeps_every_word(text: str):
    """Red: making a quote fit a screen changes more than its line breaks."""
    shown = flowing(text)
    assert shown.split() == text.split()
    assert shown.count("\n\n") == text.count("\n\n")


def test_text_flows_over_broken_lines_and_stops_at_headings_and_items():
    text = "What it cost\n" + "The crossing is a lift bridge over the harbour mouth of Port\n"
    text += "Ellery, for\n48 million\ncrowns.\n- one\n- two\n2. three\n\nNew."
    flowed = (
        "What it cost\nThe crossing is a lift bridge over the harbour mouth of Port Ellery, for "
    )
    assert flowing(text) == flowed + "48 million crowns.\n- one\n- two\n2. three\n\nNew."


markdown = st.text(st.sampled_from("ab|-*#`1. \n\t\\[]"), max_size=80)


@given(markdown)
def test_no_character_of_an_answer_is_lost_or_said_twice(text: str):
    """Red: the page leaves out or repeats a part of the model's text."""
    covered = [0] * len(text)
    for block in blocks(text):
        for row in block.rows:
            for start, end in row:
                assert 0 <= start <= end <= len(text)
                for at in range(start, end):
                    covered[at] += 1
    assert max(covered, default=0) <= 1
    lost = "".join(char for char, count in zip(text, covered, strict=True) if not count)
    assert not set(lost) - set("|-*#`1. \n\t") or "```" in text or "~~~" in text, lost


def pieces(answer: Answer) -> list[tuple[str, list[str], list[int], str]]:
    return [
        (piece.text, piece.classes, piece.refs, piece.flag)
        for _, rows in AnswerText(answer).layout()
        for row in rows
        for cell in row
        for piece in cell
    ]


def test_a_number_that_stands_nowhere_is_marked_only_as_a_number_of_its_own():
    answer = replace(
        sample_run.ANSWER, text="8.2 of 48.2 and 8.25", claims=(), unverified=("8.2",), citations=()
    )
    assert [one[0] for one in pieces(answer) if "unverified" in one[1]] == ["8.2"]


@pytest.mark.parametrize("status", CitationStatus)
def test_a_quotation_is_marked_by_how_it_was_found(status: CitationStatus):
    """Red: a quote that is in no document looks like one that is."""
    quote = replace(sample_run.CITATIONS[4], status=status, text="More  than 4,000 people")
    text = "They say “More than\n4,000 people” came."
    answer = replace(sample_run.ANSWER, text=text, claims=(), unverified=(), citations=(quote,))
    (marked,) = (one for one in pieces(answer) if one[1])
    is_missing = status is CitationStatus.NOT_FOUND
    assert marked == (
        "“More than\n4,000 people”",
        [f"quote-{status.replace(' ', '-')}"],
        [5],
        "not in the documents" if is_missing else "",
    )


def test_a_length_in_inches_does_not_begin_a_quotation():
    """Red: the page pairs other quotation marks than the check of quotes did."""
    quote = replace(sample_run.CITATIONS[4], text="the small one")
    text = 'A 5" pipe is "the small one".'
    answer = replace(sample_run.ANSWER, text=text, claims=(), unverified=(), citations=(quote,))
    assert [one[0] for one in pieces(answer) if one[1]] == ['"the small one"']


def test_values_are_laid_out_by_their_shape():
    assert value_view({"a": None}) == ValueView("fields", "", ("a",), ((ValueView("text", "–"),),))
    table = value_view([{"a": 1}, {"b": True}])
    assert (table.shape, table.names) == ("table", ("a", "b"))
    assert [[cell.text for cell in row] for row in table.rows] == [["1", "–"], ["–", "true"]]
    assert value_view([{"a": 1}]).shape == "list" and value_view([]).text == "[]"

"""Quotations as citations: from a place in the suffix array to a document, block and offsets."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from commandline import NOTES, SHORT, write_files
from corpora import corpora, corpus, document
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.suffix_array import SuffixArray
from engine.constraints.word_boundaries import word_boundaries
from engine.engine import Engine
from mm1cli import output
from mm1cli.answering.answer import Answerer
from mm1cli.answering.question import Question
from mm1cli.grounding import quote_index
from mm1cli.grounding.normalize import normalize
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Corpus, Place
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import pack
from mm1cli.result import CitationKind, CitationStatus
from mm1cli.settings import Settings


@given(corpora(), st.integers(0, 2**32 - 1))
def test_whatever_may_be_quoted_is_found_where_it_stands(corpus: Corpus, seed: int):
    """Red: a quotation written under the mask is not cited, or cited from another place."""
    draw = random.Random(seed)
    blocks = [block for each in corpus.documents for block in each.blocks if normalize(block.text)]
    if not blocks:
        return
    text = normalize(draw.choice(blocks).text)
    begins, ends = word_boundaries(text)
    starts = [at for at in range(len(text)) if begins[at]]
    if not starts:
        return
    start = draw.choice(starts)
    stops = [at for at in range(start + 1, len(text) + 1) if ends[at]]
    if not stops:
        return
    quote = text[start : draw.choice(stops)]
    found = QuoteIndex(corpus).find(quote)
    assert found is not None
    assert any(found.block is block for block in found.document.blocks)
    assert found.text == found.block.text[found.start : found.end]
    assert quote in normalize(found.text)
    assert (found.status is CitationStatus.EXACT) == (found.text == quote)
    assert found.locator.first == found.block.first + found.block.text[: found.start].count("\n")


@given(corpora(), st.text(max_size=8))
def test_what_is_found_says_what_was_quoted(corpus: Corpus, quote: str):
    """Red: the program vouches for words that are not there."""
    found = QuoteIndex(corpus).find(quote)
    assert found is None or normalize(quote) in normalize(found.text)


def test_no_quotation_crosses_a_page_or_a_document():
    """Red: two sentences that never stood together are quoted as one."""
    parts = [replace(document("the cat", place=Place("page", 0)).blocks[0], text=text)
             for text in ("the cat sat", "on the mat")]  # fmt: skip
    both = Corpus((replace(document(""), blocks=tuple(parts)), document("and the hat")))
    quotable = QuoteIndex(both)
    for quote in ("sat on", "mat and", "cat sat on the mat"):
        assert quotable.find(quote) is None
    assert quotable.find("cat sat") is not None


def test_a_word_is_not_quoted_from_inside_another_and_exact_places_come_first():
    """Red: “able to swim” is vouched for by "unable to swim"."""
    index = QuoteIndex(corpus("unable to swim, it costs 48.2 million"))
    assert index.find("able to swim") is None
    assert index.find_anywhere("able to swim") is not None, "for what was decoded without the mask"
    found = QuoteIndex(corpus("un-able", "able to\nswim", "able to swim")).find("able to swim")
    assert found is not None
    assert (found.document.path, found.status) == ("2.md", CitationStatus.EXACT)
    found = QuoteIndex(corpus("unable", "able to\nswim")).find("able to swim")
    assert found is not None
    assert (found.status, found.locator.last) == (CitationStatus.NORMALISED, 2)


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_saved_quotes_that_were_changed_find_nothing_false(junk: bytes, at: int, byte: int):
    """Red: a context that somebody shared makes false quotes look true."""
    texts = corpus("the cat sat on the mat", "the cat was not there; the mat was")
    saved = bytearray(QuoteIndex(texts).dump())
    saved[at % len(saved)] = byte
    for content in (junk, bytes(saved), bytes(saved[: at % len(saved)])):
        quotable = QuoteIndex(texts, content)
        found = quotable.find("the mat")
        assert found is None or found.text == "the mat"
        assert quotable.find("the cat was there") is None


class Quoting:
    """Implements `Constraint`: what `Verbatim` allows, but it opens a quotation when it can."""

    def __init__(self, verbatim, mark_id: int, tick_id: int) -> None:
        self.verbatim, self._last = verbatim, -1
        self._mark_id, self._tick_id = mark_id, tick_id

    def allowed(self):
        allowed = self.verbatim.allowed()
        if not self.verbatim.is_open:
            allowed = allowed.clone()
            allowed[self._tick_id] = False  # in code quotation marks are free
            if self._last != self._mark_id:
                allowed[:] = False
                allowed[self._mark_id] = True
        return allowed

    def push(self, token_id: int) -> None:
        self._last = token_id
        self.verbatim.push(token_id)


@pytest.mark.parametrize("plan", list(ReadingPlan))
def test_an_answer_cites_what_it_quotes(llama, tmp_path, monkeypatch, plan: ReadingPlan):
    """Red: quotes come without a place, from another place, or are called unverified."""
    write_files(tmp_path / "notes", NOTES)
    monkeypatch.chdir(tmp_path)
    engine = Engine(llama, chunk_tokens=64, threads=1)
    (mark_id,), (tick_id,) = engine.tokenizer.encode_batch(['"', "`"])
    verbatim = engine.verbatim
    monkeypatch.setattr(
        engine, "verbatim", lambda *given: Quoting(verbatim(*given), mark_id, tick_id)
    )
    packed = pack(read_corpus(["notes"]), engine.tokenizer)
    settings = Settings(max_tokens=120, temperature=2.0, seed=3, quiet=True)
    reader = Answerer(engine, packed, plan, settings, output.make_sink("text", True))
    answer = reader.answer(Question("where is the rat?"))
    quoted = [one for one in answer.citations if one.kind is CitationKind.QUOTE]
    assert quoted, answer.text
    documents = {each.path: each for each in packed.corpus.documents}
    for one in answer.citations:
        block = documents[one.path].blocks[one.block]
        assert block.text[one.start : one.end] == one.text
        located = block.locate(one.start, one.end)
        # Evidence in code stands under its definitions, too.
        assert one.locator.headings[: len(located.headings)] == located.headings
        assert replace(one.locator, headings=located.headings) == located
    for one in quoted:
        assert f'"{normalize(one.text)}"' in answer.text
        assert one.status in {CitationStatus.EXACT, CitationStatus.NORMALISED}
    assert all(claim.replace(".", "").isdigit() for claim in answer.unverified), "free text only"


def test_quotes_are_saved_with_a_context_and_used_from_there(mm1, llama, notes, monkeypatch):
    """Red: the array is built again for every question, or a damaged one ends the run."""
    built = []
    build = SuffixArray.build
    monkeypatch.setattr(
        SuffixArray, "build", lambda texts: built.append(len(texts)) or build(texts)
    )
    assert mm1("context", "build", notes, "-o", "c", "--model", llama).code == 0
    assert len(built) == 1
    (file,) = Path("c/attachments").glob(f"*-{quote_index.NAME}")
    ask = ("ask", "c", "where is the rat?", "--model", llama, *SHORT)
    first = mm1(*ask, "--json")
    assert first.code == 0
    file.write_bytes(file.read_bytes()[::-1])
    again = mm1(*ask, "--json")
    assert again.code == 0 and again.json["answer"] == first.json["answer"]


@pytest.mark.parametrize(
    ("quote", "code"),
    [
        ("The cat sat on the bridge", 0),
        ("where the rat ate that.", 0),
        ("The cat sat on the mat", 6),
        ("The cat never sat on the bridge", 6),
    ],
)
def test_strict_citations_is_6_for_a_quote_that_is_nowhere(
    mm1, llama, notes, monkeypatch, quote, code
):
    """Red: an invented quote passes --strict-citations, or a true one does not."""

    class Saying:
        token_ids = (1, 2)
        stop_reason, num_drafted, num_accepted = "end", 0, 0

        def __iter__(self):
            return iter([f"It says “{quote}”, as we know."])

    monkeypatch.setattr(Engine, "decode", lambda *_, **__: Saying())
    ran = mm1("analyze", notes, "--ask", "why?", "--model", llama, "--strict-citations", "--json")
    assert ran.code == code
    cited = [one for one in ran.json["answers"][0]["citations"] if one["kind"] == "quote"]
    assert [one["text"] for one in cited] == ([quote] if code == 0 else [])
    assert ran.json["answers"][0]["unverified"] == ([] if code == 0 else [quote])

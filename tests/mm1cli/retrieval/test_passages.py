import itertools

from corpora import corpora, corpus, document
from hypothesis import example, given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Corpus, Document, Place
from mm1cli.retrieval.passages import PASSAGE_CHARS, Passage, passages, sentences


@given(corpora())
def test_every_character_that_is_not_blank_is_in_exactly_one_passage(corpus: Corpus):
    """Red: text that no question can find, or that is ranked twice."""
    times = {
        (id(document), id(block)): [0] * len(block.text)
        for document in corpus.documents
        for block in document.blocks
    }
    for passage in passages(corpus):
        count = times[id(passage.document), id(passage.block)]
        for at in range(passage.start, passage.end):
            count[at] += 1
    for doc in corpus.documents:
        for block in doc.blocks:
            for character, count in zip(block.text, times[id(doc), id(block)], strict=True):
                assert count == 1 or (count == 0 and character.isspace())


def test_blocks_that_are_equal_are_still_two():
    """Red: a page that says the same as another is lost."""
    both = Document(
        "a",
        "text",
        1,
        "0",
        "r",
        (Block("Same.", place=Place("page", 0)), Block("Same.", place=Place("page", 1))),
    )
    assert [passage.locator.place.index for passage in passages(Corpus((both,)))] == [0, 1]


@given(corpora(), st.integers(1, 4))
def test_passages_and_their_spans_are_whole_sentences_of_the_source(corpus: Corpus, count: int):
    """Red: a quote that starts in the middle of a sentence, or does not stand in the source."""
    for passage in passages(corpus):
        assert passage.text == passage.text.strip() != ""
        sentences = passage.spans(1)
        assert sentences[0].start == passage.start and sentences[-1].end == passage.end
        between = itertools.pairwise(sentences)
        assert all(not passage.block.text[a.end : b.start].strip() for a, b in between)
        spans = passage.spans(count)
        assert len(spans) == max(len(sentences) - count + 1, 1)
        for at, span in enumerate(spans):
            last = sentences[min(at + count, len(sentences)) - 1]
            assert (span.start, span.end) == (sentences[at].start, last.end)


@given(corpora())
@example(corpus("It cost forty-eight million crowns. " * 60))
@example(corpus(f"It cost {'very ' * 200} much. Too much."))
def test_a_passage_is_as_long_as_allowed_unless_one_sentence_is_longer(corpus: Corpus):
    """Red: the judge's contexts grow without bound."""
    for passage in passages(corpus):
        assert len(passage.text) <= PASSAGE_CHARS or len(passage.spans(1)) == 1


@given(corpora())
def test_locators_point_at_the_lines_the_text_stands_in(corpus: Corpus):
    """Red: citations send people to the wrong line."""
    for passage in passages(corpus):
        numbered = list(enumerate(passage.block.text.split("\n"), passage.block.first))
        locator = passage.locator
        lines = [line for number, line in numbered if locator.first <= number <= locator.last]
        shown = passage.text.split("\n")
        assert len(lines) == len(shown)
        assert lines[0].endswith(shown[0]) or (len(shown) == 1 and shown[0] in lines[0])
        assert lines[-1].startswith(shown[-1]) or len(shown) == 1
        assert lines[1:-1] == shown[1:-1]
        assert (locator.place, locator.unit) == (passage.block.place, passage.block.unit)


def test_prose_is_cut_at_sentences_and_code_at_lines():
    """Red: "It cost 3.5 million." becomes two quotes, or a statement of code half a one."""
    prose = 'It cost 3.5 million crowns. "Too much," said e.g. the council. Work began\nin May.'
    (passage,) = passages(corpus(prose))
    assert [span.text for span in passage.spans(1)] == [
        "It cost 3.5 million crowns.",
        '"Too much," said e.g. the council.',
        "Work began\nin May.",
    ]
    code = "def f(x):\n    return x. Y\n"
    (passage,) = passages(Corpus((document(code, "a.py", "python"),)))
    assert [span.text for span in passage.spans(1)] == ["def f(x):", "    return x. Y"]


def test_a_passage_of_code_ends_behind_a_statement():
    """Red: a call is cut between its arguments, and the next passage begins with a bracket."""
    call = "    send(\n        who,\n        what,\n    )\n"
    cut = passages(Corpus((document("def f():\n" + call * 40, "a.py", "python"),)))
    assert len(cut) > 2
    assert all(passage.text.endswith("\n    )") for passage in cut)
    assert all(passage.text.startswith("    send(\n") for passage in cut[1:])


def test_only_passages_of_one_block_overlap():
    """Red: evidence from page 2 hides that from page 1."""
    block, other = Block("abcdef", place=Place("page", 0)), Block("abcdef", place=Place("page", 1))
    both = Document("a", "text", 1, "0", "r", (block, other))
    first = Passage(both, block, 0, 3)
    assert first.overlaps(Passage(both, block, 2, 4))
    assert not first.overlaps(Passage(both, block, 3, 6))
    assert not first.overlaps(Passage(both, other, 0, 3))


def test_a_line_without_an_end_is_cut():
    """Red: one minified line is judged whole, and takes more than the model's context."""
    text = "x=1;" * 5_000
    line = Document("a.js", "javascript", len(text), "0" * 64, "reader", (Block(text),))
    found = passages(Corpus((line,)))
    assert "".join(passage.text for passage in found) == text
    assert max(len(passage.text) for passage in found) <= 2000


def test_paragraphs_of_other_formats_are_cut_into_sentences_too():
    """Red: a quote from a web page or a docx file is two whole paragraphs."""
    page = document("One is here. Two is there.\nThree is last.", kind="html", unit="paragraph")
    (passage,) = passages(Corpus((page,)))
    texts = [span.text for span in passage.spans(1)]
    assert texts == ["One is here.", "Two is there.", "Three is last."]


def test_a_passage_says_under_what_it_stands():
    """Red: the judge cannot tell a clause of one contract from the same clause of another."""
    outline = ((0, ()), (20, ("Rent",)))
    text = "Lease of unit 7.\n\n\n" + "The rent is 5 crowns. " * 40
    found = passages(Corpus((document(text, "home/me/leases/7.md", outline=outline),)))
    assert found[-1].heading == "leases/7.md: Lease of unit 7.: Rent"
    assert found[0].heading.startswith("leases/7.md: Lease of unit 7.")


@given(corpora())
def test_sentences_hold_all_that_is_not_blank(corpus: Corpus):
    """Red: a part of an answer belongs to no claim."""
    for doc in corpus.documents:
        for block in doc.blocks:
            spans = sentences(block.text)
            held = "".join(block.text[start:end] for start, end in spans)
            assert "".join(held.split()) == "".join(block.text.split())
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))

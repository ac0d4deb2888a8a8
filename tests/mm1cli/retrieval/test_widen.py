"""Red here means that the sentence after the one that was found is not read, though it fits."""

from corpora import corpora, corpus, document
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.passages import Passage, passages
from mm1cli.retrieval.widen import select

SENTENCE = "The {} sentence is here and it is of the usual length, as so many are. "
TEXT = "".join(SENTENCE.format(f"{n:02}") for n in range(60))


def cost(passage: Passage) -> int:
    return passage.end - passage.start


def chosen(ranked, room: int, **options) -> tuple[Passage, ...]:
    return select(ranked, room, cost, **options).passages


def test_a_passage_is_read_with_the_sentences_beside_it_the_best_first():
    """Red: the answer stands one sentence further than what is read."""
    every = passages(corpus(TEXT, TEXT))
    best, other = every[3], every[-1]
    first, second = chosen([best, other], 2 * (cost(best) + 700))
    assert first.start < best.start and best.end < first.end and first.document is best.document
    assert second.start < other.start and second.end == other.end
    assert first.text.startswith("The ") and first.text.endswith(".")


def test_what_has_no_room_wide_is_read_as_it_is_and_what_has_none_is_told():
    """Red: a small context reads one wide passage where it could have had two, or loses one."""
    every = passages(corpus(TEXT, TEXT, TEXT))
    ranked = [every[1], every[9], every[17]]
    found = select(ranked, cost(ranked[0]) * 2 + 50, cost, beside_chars=0)
    assert found.passages == tuple(ranked[:2]) and found.left == (ranked[2],)
    assert found.num_tokens == sum(map(cost, ranked[:2]))
    assert select(ranked, 10, cost).passages == ()


def test_a_section_is_not_left():
    """Red: a lease is read with the first lines of the next one, as if they were its own."""
    parts = ["# A\n\n" + TEXT[:900], "# B\n\n" + TEXT[:900], "# C\n\n" + TEXT[:900]]
    text = "\n\n".join(parts)
    starts = [text.index(f"# {name}") for name in "ABC"]
    outline = tuple((at, (name,)) for at, name in zip(starts, "ABC", strict=True))
    every = passages(Corpus((document(text, outline=outline),)))
    inside = next(p for p in every if starts[1] <= p.start and p.end <= starts[2])
    (wide,) = chosen([inside], 100_000)
    assert (wide.start, wide.end) == (starts[1], len(text[: starts[2]].rstrip()))


def test_what_is_left_of_the_room_widens_again_until_the_text_ends():
    """Red: a large model reads a few sentences of a document that would fit whole."""
    every = passages(corpus(TEXT))
    (whole,) = chosen([every[3]], 100_000)
    assert whole.text == TEXT.strip()
    assert len(chosen([every[3], every[0]], 100_000)) == 1, "they have come to touch"
    assert chosen([every[3], every[0]], 100_000, most=1) == (whole,)


@given(corpora(), st.integers(0, 4000), st.integers(0, 900), st.randoms(use_true_random=False))
def test_what_is_read_never_overlaps_nor_overflows(texts: Corpus, room, beside, random):
    """Red: text is read twice, or more of it than fits."""
    ranked = passages(texts)
    random.shuffle(ranked)
    found = select(ranked, room, cost, beside_chars=beside)
    assert sum(map(cost, found.passages)) == found.num_tokens <= room
    for number, one in enumerate(found.passages):
        assert not any(one.overlaps(other) for other in found.passages[number + 1 :])
    for one in ranked:
        held = [o for o in found.passages if o.block is one.block and o.document is one.document]
        is_read = any(o.start <= one.start and one.end <= o.end for o in held)
        assert is_read != (one in found.left)

"""The suffix array against a plain search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.allowed_tokens import allowed_tokens
from engine.constraints.suffix_array import Range, SuffixArray
from engine.constraints.vocabulary import Vocabulary
from engine.errors import StoreError

pieces = st.sampled_from(
    ["the ", "cat ", "a", "b", "-", "'", "4", ".", "“", "”", "é", "港", "\\", " "]
)
lines = st.lists(pieces, max_size=25).map("".join) | st.text(max_size=12).map(
    lambda text: " ".join(text.split())
)
text_lists = st.lists(lines, max_size=6)


def places(suffixes: SuffixArray, wanted: bytes) -> list[int]:
    """Where `wanted` begins, by looking everywhere."""
    found = np.flatnonzero(suffixes.begins).tolist()
    return [at for at in found if suffixes.text.startswith(wanted, at)]


@given(text_lists)
def test_the_order_is_that_of_a_plain_sort(texts: list[str]):
    """Red: binary searches miss text that is there."""
    suffixes = SuffixArray.build(texts)
    begins = np.flatnonzero(suffixes.begins).tolist()
    assert suffixes.order.tolist() == sorted(begins, key=lambda at: suffixes.text[at:])
    assert suffixes.text.decode() == "".join(f"\n{text}" for text in texts or [""]) + "\n"


@given(text_lists, st.data())
def test_a_range_is_all_places_and_only_those(texts: list[str], data):
    """Red: a quotation that stands in the corpus is masked, or one that does not is allowed."""
    suffixes = SuffixArray.build(texts)
    text = suffixes.text
    start = data.draw(st.integers(0, len(text) - 1))
    wanted = text[start : start + data.draw(st.integers(0, 12))]
    wanted = wanted.replace(b"\n", b"") + data.draw(st.sampled_from([b"", b"a", b"\xff", b" "]))
    range = suffixes.find(wanted)
    found = sorted(suffixes.order[range.first : range.last].tolist())
    assert found == places(suffixes, wanted)
    may_end = [at for at in found if suffixes.ends[at + len(wanted)]]
    assert suffixes.places(range).tolist() == may_end
    assert suffixes.places(range, most=1).tolist() or not may_end
    one = suffixes.end(range)
    assert (one is not None) == bool(may_end)
    assert one is None or suffixes.order[one] in may_end


@given(text_lists, st.lists(st.binary(min_size=1, max_size=4), max_size=20), st.data())
def test_continuations_are_the_tokens_that_come_next_somewhere(texts, words, data):
    """Red: the mask forbids a token that goes on as the corpus does, or allows another."""
    suffixes = SuffixArray.build(texts)
    text = suffixes.text
    cut = st.integers(0, len(text) - 1)
    for _ in range(10):
        start = data.draw(cut)
        words.append(text[start : start + data.draw(st.integers(1, 5))])
    vocabulary = Vocabulary.build([word.replace(b"\n", b"") for word in words])
    start = data.draw(cut)
    begun = text[start : start + data.draw(st.integers(0, 3))].replace(b"\n", b"")
    nodes = allowed_tokens(suffixes, vocabulary, suffixes.find(begun))
    ids = {int(i) for i in vocabulary.token_at[nodes] if i >= 0}
    assert {vocabulary.words[i] for i in ids} == {
        word for word in vocabulary.words if word and places(suffixes, begun + word)
    }


def test_many_places_are_not_read_one_by_one(monkeypatch):
    """Red: the cost of a token grows with the corpus."""
    reads = []
    bytes_at = SuffixArray.bytes_at

    def counted(self, at):
        reads.append(len(at))
        return bytes_at(self, at)

    monkeypatch.setattr(SuffixArray, "bytes_at", counted)
    vocabulary = Vocabulary.build([b"t", b"th", b"the", b" ", b" cat", b" mat", b" c"])
    totals = []
    for times in (100, 10_000):
        suffixes = SuffixArray.build(["the cat and the mat " * times])
        reads.clear()
        nodes = allowed_tokens(suffixes, vocabulary, suffixes.find(b"the"))
        assert {vocabulary.words[i] for i in vocabulary.token_at[nodes] if i >= 0} == {
            b" ", b" c", b" cat", b" mat",
        }  # fmt: skip
        totals.append(sum(reads))
    assert totals[1] < 3 * totals[0] < 3000, totals


@given(text_lists)
def test_what_was_saved_comes_back(texts: list[str]):
    """Red: a saved array is never used."""
    suffixes = SuffixArray.build(texts)
    loaded = SuffixArray.load(suffixes.dump(), texts)
    assert loaded.order.tolist() == suffixes.order.tolist()
    assert loaded.find(b"the") == suffixes.find(b"the")


TEXTS = ["the cat sat on the mat", "the rat ate that, and the cat was not there"]


@pytest.mark.parametrize(
    "change", ["swap", "outside", "negative", "twice", "cut", "longer", "empty"]
)
def test_a_saved_array_that_is_no_order_of_the_words_is_refused(change: str):
    """Red: a shared context crashes whoever opens it, or hides text."""
    suffixes = SuffixArray.build(TEXTS)
    header = len(suffixes.dump()) - suffixes.order.nbytes
    order = suffixes.order.copy()
    match change:
        case "swap":
            order[[2, -2]] = order[[-2, 2]]
        case "outside":
            order[3] = 2**31 - 1
        case "negative":
            order[3] = -1
        case "twice":
            order[3] = order[4]
    content = suffixes.dump()[:header] + order.astype("<i4").tobytes()
    content = {"cut": content[:-1], "longer": content + b"\0\0\0\0", "empty": b""}.get(
        change, content
    )
    with pytest.raises(StoreError):
        SuffixArray.load(content, TEXTS)


def test_an_array_of_another_text_is_refused():
    """Red: quotations are looked for where another corpus had them."""
    with pytest.raises(StoreError, match="another text"):
        SuffixArray.load(SuffixArray.build(TEXTS).dump(), TEXTS[::-1])


@given(st.permutations(range(30)), st.binary(max_size=6))
def test_an_order_that_is_wrong_far_on_finds_nothing_false_and_raises_nothing(order, wanted):
    """Red: an array that passed the check reads outside of the text."""
    texts = [f"{'x' * 20} {i}" for i in range(15)]
    right = SuffixArray.build(texts)
    wrong = SuffixArray(right.text, right.order[np.array(order)], right.begins, right.ends)
    for range_ in (wrong.find(wanted), wrong.find(b"x" * 20 + b" 1"), Range(0, 30, 400)):
        wrong.end(range_)
        wrong.places(range_)
        allowed_tokens(wrong, Vocabulary.build([b"x", b" 1", b"1"]), range_)

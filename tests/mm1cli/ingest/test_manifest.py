import json
from collections import Counter

import pytest
from corpora import corpora
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Corpus, Document, Omission, Place, Reason
from mm1cli.ingest.manifest import ReadingPlan, build


@given(corpora(), st.data(), st.integers(0, 300))
def test_every_file_is_there_once_and_the_totals_add_up(corpus: Corpus, data, budget: int):
    """Red: a file is dropped in silence."""
    count = len(corpus.documents)
    tokens = data.draw(st.lists(st.integers(0, 100), min_size=count, max_size=count))
    manifest = build(corpus, tokens, budget)
    seen = [*corpus.documents, *corpus.omissions]
    assert Counter(entry.path for entry in manifest.entries) == Counter(one.path for one in seen)
    assert [entry.path for entry in manifest.entries] == sorted(one.path for one in seen)
    assert {e.path: e.tokens for e in manifest.read} == {
        doc.path: n for doc, n in zip(corpus.documents, tokens, strict=True)
    }
    assert {e.path: e.reason for e in manifest.left_out} == {
        omission.path: omission.reason for omission in corpus.omissions
    }
    told = json.loads(json.dumps(manifest.as_json()))
    totals = told["totals"]
    assert totals["seen"] == totals["read"] + totals["left_out"] == len(told["files"])
    assert totals["tokens"] == sum(entry["tokens"] for entry in told["files"]) == sum(tokens)
    assert told["fits"] is (sum(tokens) <= budget)
    assert told["plan"] == ("whole" if told["fits"] else "retrieval")


def test_the_same_path_twice_is_two_entries():
    """Red: of two files that are shown alike, one is lost."""
    same = (
        Document("stdin", "text", 1, "0", "r", (Block("x"),)),
        Document("stdin", "text", 2, "1", "r", (Block("y"),)),
    )
    manifest = build(Corpus(same, (Omission("stdin", Reason.DUPLICATE),)), [3, 4], 10)
    assert (len(manifest.entries), manifest.tokens) == (3, 7)


def test_a_count_for_each_document_or_none_at_all():
    """Red: tokens are counted for the wrong file."""
    with pytest.raises(ValueError):
        build(Corpus((Document("a", "text", 1, "0", "r", ()),)), [], 10)


@pytest.mark.parametrize(
    ("tokens", "plan"),
    [(10, ReadingPlan.WHOLE), (11, ReadingPlan.RETRIEVAL), (0, ReadingPlan.WHOLE)],
)
def test_a_corpus_that_fits_is_read_whole(tokens: int, plan: ReadingPlan):
    """Red: one token too many overflows the context, or one to spare is not used."""
    corpus = Corpus((Document("a", "text", 1, "0", "r", ()),))
    assert build(corpus, [tokens], 10).plan is plan


def test_the_largest_are_told_first_with_their_pages_and_encoding():
    """Red: people cannot see what eats the context."""
    blocks = tuple(Block("x", place=Place("page", index)) for index in (0, 0, 4))
    documents = (
        Document("a", "text", 1, "0", "r", (Block("x"),), encoding="cp1252"),
        Document("b", "pdf", 1, "0", "r", blocks),
    )
    manifest = build(Corpus(documents), [3, 40], 100, "head")
    assert [entry.path for entry in manifest.largest] == ["b", "a"]
    by_path = {entry["path"]: entry for entry in manifest.as_json()["files"]}
    assert (by_path["b"]["num_pages"], by_path["b"]["num_blocks"]) == (2, 3)
    assert (by_path["a"]["encoding"], by_path["a"]["num_pages"]) == ("cp1252", 0)
    assert manifest.as_json()["fit"] == "head"

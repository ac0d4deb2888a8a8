"""What each policy keeps, and that it says so."""

from collections import Counter

import pytest
from corpora import corpora, corpus
from hypothesis import given
from hypothesis import strategies as st

from engine.tokenizer import Tokenizer
from mm1cli.errors import BudgetError
from mm1cli.ingest.budget_policy import POLICIES, fit
from mm1cli.ingest.corpus import Corpus, Omission, Reason
from mm1cli.ingest.pack import pack


@pytest.fixture(scope="module")
def tokenizer(llama) -> Tokenizer:
    return Tokenizer(llama)


@given(corpora(), st.integers(0, 400), st.sampled_from(["drop-largest", "head"]))
def test_what_is_kept_fits_and_what_goes_is_named(tokenizer, documents: Corpus, budget, policy):
    """Red: the budget is overrun, or documents are dropped in silence."""
    packed = pack(documents, tokenizer)
    kept = fit(packed, budget, policy, tokenizer)
    assert kept.num_tokens <= budget or (kept is packed and packed.num_tokens <= budget)
    seen = Counter(one.path for one in (*documents.documents, *documents.omissions))
    now = Counter(one.path for one in (*kept.corpus.documents, *kept.corpus.omissions))
    assert now == seen
    gone = [one for one in kept.corpus.omissions if one not in documents.omissions]
    assert all(one.reason is Reason.OVER_BUDGET for one in gone)
    for document in kept.corpus.documents:
        if document in documents.documents:
            continue
        (whole,) = (one for one in documents.documents if one.path == document.path)
        assert policy == "head" and "--fit head" in document.warnings[-1]
        read, all_of_it = (
            "\n".join(block.text for block in one.blocks).rstrip("\n") for one in (document, whole)
        )
        assert all_of_it.startswith(read)


def test_the_largest_go_first_and_no_more_than_must(tokenizer):
    """Red: ten small files go where one large one would do."""
    documents = corpus("short one. " * 5, "much longer. " * 200, "short two. " * 5)
    packed = pack(documents, tokenizer)
    kept = fit(packed, packed.num_tokens - 1, "drop-largest", tokenizer)
    assert [one.path for one in kept.corpus.documents] == ["0.md", "2.md"]
    (omission,) = kept.corpus.omissions
    assert omission.path == "1.md" and "tokens, one of the largest" in omission.detail


def test_the_head_is_cut_at_a_line(tokenizer):
    """Red: a log that is too long is dropped whole, or cut inside a word."""
    text = "".join(f"line {number} of the log\n" for number in range(200))
    packed = pack(corpus(text, "after"), tokenizer)
    budget = packed.num_tokens // 2
    kept = fit(packed, budget, "head", tokenizer)
    (document,) = kept.corpus.documents
    lines = document.blocks[0].text.split("\n")
    assert lines == text.split("\n")[: len(lines)] and len(lines) > 80
    assert budget - 40 < kept.num_tokens <= budget
    assert f"cut after line {len(lines)} by --fit head" in document.warnings[0]
    assert kept.corpus.omissions == (
        Omission("1.md", Reason.OVER_BUDGET, kept.corpus.omissions[0].detail, 5),
    )


def test_fail_names_the_largest_and_what_to_exclude(tokenizer):
    """Red: people learn that it does not fit, and not what to do."""
    packed = pack(corpus("short. ", "much longer. " * 200, "short. "), tokenizer)
    with pytest.raises(BudgetError, match=r"largest: 1\.md \(\d.*--exclude '1\.md' is enough"):
        fit(packed, packed.num_tokens - 1, "fail", tokenizer)
    assert all(fit(packed, packed.num_tokens, policy, tokenizer) is packed for policy in POLICIES)
    assert fit(packed, 1, "focus", tokenizer) is packed

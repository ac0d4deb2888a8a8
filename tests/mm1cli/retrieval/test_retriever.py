from math import isnan

import pytest
import tiny
import torch
from corpora import corpora, corpus, document
from hypothesis import example, given
from hypothesis import strategies as st

from engine.api import Judged, RetrievalHead, Turn
from engine.context import Context
from engine.engine import Engine
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import pack
from mm1cli.models import ability
from mm1cli.models.ability import Ability
from mm1cli.prompts import prompt
from mm1cli.retrieval.attended import Attended
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, Ranked, passages, with_heading
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import (
    BM25_WEIGHT,
    NUM_CANDIDATES,
    NUM_JUDGED,
    NUM_PASSAGES,
    NUM_PIECES_JUDGED,
    Retriever,
    non_overlapping,
)

QUERY_SYNTAX = [
    '"',
    "AND",
    "NOT",
    "NEAR(a b)",
    "text:",
    "*",
    "^",
    "(",
    "a-b",
    "👍🏽",
    "_",
    "\0",
    "'",
]


@given(
    corpora(),
    st.text(max_size=30) | st.lists(st.sampled_from(QUERY_SYNTAX)).map(" ".join),
    st.integers(0, 5),
)
@example(corpus("a b"), " ".join(f"w{i}" for i in range(5000)), 3)
def test_any_question_gets_as_many_passages_as_there_are(corpus: Corpus, question: str, limit: int):
    """Red: a question with quotes or operators in it ends in an error, or in nothing to judge."""
    every = passages(corpus)
    found = Bm25Index(every).search(question, limit)
    assert len(found) == min(limit, len(every))
    assert len({id(passage) for passage in found}) == len(found)


def test_passages_that_share_words_come_first_whatever_their_accents_and_endings():
    """Red: the passage with the answer is never judged."""
    every = passages(corpus("Nothing here.", "Bakers rest.", "Cafés were BUILDING bridges."))
    first, *others = Bm25Index(every).search("who built a bridge near the cafe?", 3)
    assert first.text.startswith("Cafés")
    assert [other.document.path for other in others] == ["0.md", "1.md"]


def test_the_name_of_a_file_counts():
    """Red: "what does tide_model do" misses tide_model.py."""
    files = (document("x = 1", "other.py", "python"), document("y = 2", "tide_model.py", "python"))
    (best,) = Bm25Index(passages(Corpus(files))).search("what is in the tide_model?", 1)
    assert best.document.path == "tide_model.py"


@pytest.fixture(scope="module")
def engine(llama) -> Engine:
    return Engine(llama, chunk_tokens=64)


def test_the_judge_orders_by_the_likelihood_of_the_question(engine: Engine, llama):
    """Red: evidence is chosen by something else than the model's judgement."""
    question = "where did the cat sit?"
    candidates = passages(corpus("The mat.", "A hat and a rat, 1234567.", "the cat sat on the mat"))
    seen: list[tuple[int, int]] = []
    ranked = Reranker(engine).rank(question, candidates, lambda *progress: seen.append(progress))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)

    model, tokenizer = tiny.load_model(llama), engine.tokenizer
    asked = tokenizer.encode(question)
    for one in ranked:
        text = with_heading(one.passage)
        assert one.passage.text in text and one.passage.document.path in text
        before = tokenizer.encode_chat([Turn("user", (text, prompt("judge")))])
        log_p = torch.log_softmax(tiny.all_logits(model, before + asked, 64), dim=-1)
        rows = torch.arange(len(before) - 1, len(before) + len(asked) - 1)
        expected = log_p[rows, torch.tensor(asked)].mean()
        # A question of few tokens is read with weights in float16.
        assert one.score == pytest.approx(float(expected), abs=2e-3)
    assert len({round(one.score, 3) for one in ranked}) == 3, "the model must tell them apart"


def test_the_title_of_a_document_counts_in_all_its_passages():
    """Red: of two contracts that read alike, the one asked about is not found."""
    lease = "Lease of unit {}.\n\n" + "Nothing of note is said here. " * 30 + "The rent is {}."
    files = [document(lease.format(n, n * 100), f"{n}.md") for n in (3, 7, 5)]
    best = Bm25Index(passages(Corpus(tuple(files)))).search("what is the rent of unit 7?", 2)
    assert {one.document.path for one in best} == {"7.md"}


def test_evidence_is_found_and_judged_against_no_text_at_all(engine: Engine):
    """Red: what is shown is not the best, or a question nobody asked is answered."""
    texts = [f"The cat sat {n} times. It was fed on day {n}. A rat ran." for n in range(20)]
    finder = Retriever(engine, corpus(*texts))
    question = "how often did the cat sit?"
    found = finder.find(question, lambda *_: None)
    judge = Reranker(engine)
    assert len(found.passages) == NUM_CANDIDATES
    assert len(found.pieces) == NUM_PASSAGES, "of three sentences only two make a piece apart"
    assert list(found.pieces) == sorted(found.pieces, key=lambda one: -one.score)
    words = Bm25Index(passages(corpus(*texts))).scored(question, NUM_CANDIDATES)
    bm25 = {one.passage.text: one.score for one in words}
    judged, others = found.passages[:NUM_JUDGED], found.passages[NUM_JUDGED:]
    order = [one.score + BM25_WEIGHT * bm25[one.passage.text] for one in judged]
    assert order == sorted(order, reverse=True)
    assert all(isnan(one.score) for one in others)
    best = sorted(bm25.values(), reverse=True)
    assert sorted((bm25[one.passage.text] for one in judged), reverse=True) == best[:NUM_JUDGED]
    assert [bm25[one.passage.text] for one in others] == best[NUM_JUDGED:]
    assert all(any(p.passage.overlaps(q.passage) for q in found.passages) for p in found.pieces)
    lift = max(one.score for one in judged) - judge.baseline(question)
    assert found.score_margin == pytest.approx(lift, abs=1e-6)
    assert len(finder.find(question, lambda *_: None, num_passages=15).passages) == 15


ranges = st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(1, 10))


@given(st.lists(ranges, max_size=12), st.integers(0, 4))
def test_evidence_never_overlaps_and_the_best_is_always_in(spans, limit: int):
    """Red: the same sentence is shown twice as two pieces of evidence."""
    texts = corpus("x" * 40, "y" * 40)
    ranked = [
        Ranked(Passage(texts.documents[i], texts.documents[i].blocks[0], at, at + size), -rank)
        for rank, (i, at, size) in enumerate(spans)
    ]
    chosen = non_overlapping(ranked, limit)
    assert len(chosen) <= limit
    assert chosen[:1] == ranked[: min(limit, 1)]
    assert chosen == sorted(chosen, key=lambda one: -one.score)
    for i, one in enumerate(chosen):
        assert not any(one.passage.overlaps(other.passage) for other in chosen[i + 1 :])
    if len(chosen) < limit:  # whatever is left out overlaps something better
        for one in ranked:
            assert one in chosen or any(one.passage.overlaps(c.passage) for c in chosen)


def test_what_the_question_attends_to_is_judged_though_it_shares_no_word(engine, monkeypatch):
    """Red: the model answers from a block that is never shown as evidence."""
    texts = [f"the cat sat on mat {n}" for n in range(20)] + ["where the rat ate that."]
    read = corpus(*texts)
    monkeypatch.setattr(
        Reranker,
        "rank",
        lambda _, question, found, on_progress: sorted(
            (Ranked(one, float("rat" in one.text)) for one in found), key=lambda one: -one.score
        ),
    )
    finder = Retriever(engine, read)
    packed = pack(read, engine.tokenizer)
    shares = [0.0] * 3 + [1e-3] * len(packed.ids())
    passage = finder.find("rat", lambda *_: None).passages[0].passage
    block = read.documents[-1].blocks[0]
    tokens = packed.tokens(read.documents[-1], block, passage.start, passage.end)
    for at in tokens:
        shares[3 + at] = 0.5

    def attend(text: str) -> Attended:
        assert text == "cat sat?"
        return Attended(packed, shares, 3)

    plain = finder.find("cat sat?", lambda *_: None)
    found = finder.find("cat sat?", lambda *_: None, attend=attend)
    assert "rat ate" not in plain.passages[0].passage.text
    assert "rat ate" in found.passages[0].passage.text
    assert "rat ate" in found.pieces[0].passage.text
    by_words = Retriever(engine, read, search="bm25").find(
        "cat sat?", lambda *_: None, attend=attend
    )
    assert "rat ate" not in by_words.passages[0].passage.text
    assert "cat sat" in by_words.pieces[0].passage.text  # though the judge likes the other more
    assert len(found.passages) == len({id(one.passage) for one in found.passages})


def test_sentences_at_which_the_model_looks_are_judged_and_no_others(engine, monkeypatch):
    """Red: another sentence than the one that is looked at passes for the evidence, or all are
    judged."""
    lines = [f"Word {n} stands in line {n} here." for n in range(9)]
    read = corpus(" ".join(lines))
    (passage,) = passages(read)
    wanted = passage.block.text.index(lines[6])
    head = RetrievalHead(layer=0, kv_head=0, distance=5)
    monkeypatch.setattr(ability, "measured", lambda _: Ability("tiny", (), 1, 1, head=head))

    def judge(_, asked, given, by):
        """All attention goes to what stands in line 6."""
        assert by is head
        text = with_heading(passage)
        start = len(text) - len(passage.text) + wanted - passage.start
        offsets = engine.tokenizer.offsets(text)
        inside = [float(start <= at and end <= start + len(lines[6])) for at, end in offsets]
        shares = torch.tensor([*inside, *[0.0] * (len(given) - len(inside))])
        return Judged(torch.full((len(asked),), -1.0), shares / shares.sum())

    monkeypatch.setattr(Context, "judge", judge)
    (judged,) = Reranker(engine).judge("which word?", [passage], 1, lambda *_: None)
    shares = {piece.text: share for piece, share in judged.pieces}
    assert shares.pop(lines[6]) == pytest.approx(1) and len(shares) == 8
    assert max(shares.values()) == pytest.approx(0) and judged.passage.score == -1
    found = Retriever(engine, read).find("which word?", lambda *_: None)
    assert any(lines[6] in one.passage.text for one in found.pieces)
    told = []
    Retriever(engine, read).find("which word?", lambda *given: told.append(given))
    assert ("finding evidence", NUM_PIECES_JUDGED, NUM_PIECES_JUDGED, "quotes") in told

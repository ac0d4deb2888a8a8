"""Red here means passages are read again that were not asked for, or not read that were."""

from dataclasses import replace

import pytest
from commandline import ASK, SHORT, write_files

from engine.engine import Engine
from mm1cli import output
from mm1cli.answering import abstention
from mm1cli.answering.abstention import is_refusal, not_found
from mm1cli.answering.answer import Answerer
from mm1cli.answering.prompt import frame_tokens
from mm1cli.answering.question import Question
from mm1cli.ingest import read_corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import pack
from mm1cli.settings import Settings

SETTINGS = Settings(max_tokens=6, quiet=True)
LINE = "The {} sat {} times on the mat. "


class Watched(Engine):
    def decode(self, context, **options):
        self.before_answer = self.tokenizer.decode(context.token_ids)
        return super().decode(context, **options)


@pytest.fixture(scope="module")
def engine(llama) -> Watched:
    return Watched(llama, chunk_tokens=64, threads=1)


@pytest.fixture
def ask(engine, tmp_path, monkeypatch):
    """Answers a question about six short files, under a plan and settings."""
    texts = {f"{n}.txt": LINE.format("cat", n) + "Nothing else is known. " for n in range(6)}
    write_files(tmp_path / "cats", texts)
    monkeypatch.chdir(tmp_path)
    packed = pack(read_corpus(["cats"]), engine.tokenizer)

    def run(plan: ReadingPlan, **changes):
        settings = replace(SETTINGS, **changes)
        reader = Answerer(engine, packed, plan, settings, output.make_sink("text", True))
        return reader.answer(Question("how often did the cat sit?"))

    return run


def count(text: str) -> list[int]:
    return [text.count(LINE.format("cat", n).strip()) for n in range(6)]


def test_off_reads_nothing_again(ask, engine):
    ask(ReadingPlan.WHOLE, focus="off")
    assert count(engine.before_answer) == [1] * 6
    ask(ReadingPlan.RETRIEVAL, focus="off")
    assert count(engine.before_answer) == [1] * 6


@pytest.mark.parametrize(("focus", "num_again"), [("auto", 1), ("1", 1), ("4", 4), ("64", 6)])
def test_so_many_are_read_again_beside_the_whole_corpus(ask, engine, focus, num_again):
    answer = ask(ReadingPlan.WHOLE, focus=focus)
    assert sorted(count(engine.before_answer)) == [1] * (6 - num_again) + [2] * num_again
    again = engine.before_answer.rindex("sat")
    assert again < engine.before_answer.rindex("how often")
    best = answer.citations[0].text
    assert engine.before_answer.count(best) == 2
    if num_again < 6:
        last = engine.before_answer.rindex("sat")
        assert engine.before_answer.rindex(best.split(".")[0]) >= last - 20, "the best stands last"


def test_so_many_passages_are_read_where_not_everything_is(ask):
    """Red: room is left unused while the answer stands in what was not read, or --focus N reads
    more than N."""
    five = ask(ReadingPlan.RETRIEVAL, focus="5")
    assert len(five.read) == 5 and five.usage.unread_tokens > 0
    every = ask(ReadingPlan.RETRIEVAL, focus="auto")
    assert len(every.read) == 6 and every.usage.unread_tokens == 0


def test_a_slow_machine_reads_the_best_three_passages_and_says_what_would_fit(ask):
    """Red: a model of billions of weights is fed for minutes, or with nothing at all."""
    slow = ask(ReadingPlan.RETRIEVAL, read_seconds=1e-6)
    assert len(slow.read) == 3
    assert slow.usage.unread_tokens > slow.usage.read_tokens / 2


def test_fewer_are_read_again_rather_than_overflow(ask, engine):
    roomy = ask(ReadingPlan.WHOLE, focus="4")
    limit = roomy.usage.context_tokens + SETTINGS.max_tokens - 1
    tight = ask(ReadingPlan.WHOLE, focus="4", context_tokens=limit)
    assert sorted(count(engine.before_answer)) == [1] * 3 + [2] * 3
    assert tight.usage.context_tokens + SETTINGS.max_tokens <= limit


def test_room_is_set_aside_for_what_is_read_again(engine):
    frames = [frame_tokens(engine.tokenizer, ["why?"], focus) for focus in ("off", "auto", "10")]
    assert frames[0] < frames[1] < frames[2]


def test_without_focus_a_corpus_that_does_not_fit_is_refused(mm1, llama, notes):
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
    few = (*arguments, "--context-tokens", 420, "--json")
    assert mm1(*few, "--focus", "off").code == 4
    assert mm1(*arguments, "--focus", "many").code == 2
    assert mm1(*arguments, "--focus", "2", "--json").json["usage"]["read_tokens"] > 0


def test_what_no_passage_bears_out_is_not_found_and_the_models_words_are_kept(ask, monkeypatch):
    """Red: a question without an answer is answered, or the user cannot see what was withheld."""
    free = ask(ReadingPlan.WHOLE)
    assert free.is_found and not free.words
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", float("inf"))
    assert ask(ReadingPlan.WHOLE, always_answer=True).text == free.text
    answer = ask(ReadingPlan.WHOLE)
    tokens = answer.usage.corpus_tokens
    assert answer.text == f"Not found in the 6 documents read ({tokens:,} of {tokens:,} tokens)."
    assert answer.words == free.text and not answer.is_found and not answer.claims
    focus = ask(ReadingPlan.RETRIEVAL, focus="3")
    read = focus.usage.read_tokens
    assert focus.text == f"Not found in the 3 documents read ({read:,} of {tokens:,} tokens)."


def test_the_sentence_that_says_so_is_not_checked_as_if_it_were_a_claim(ask, monkeypatch):
    """Red: "914,220 of 914,220 tokens" stands in no document, and --strict-citations fails."""
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", float("inf"))
    answer = ask(ReadingPlan.WHOLE, think="only")
    assert not answer.is_found and not answer.words
    assert not answer.unverified and answer.citations


def test_a_refusal_is_known_and_the_numbers_are_written_out():
    assert is_refusal(" Not found in the documents.\n") and is_refusal("Not found in the documents")
    assert not is_refusal("Not found in the documents is the rent of unit 7.")
    told = not_found(312, 914_220, 914_220)
    assert told == "Not found in the 312 documents read (914,220 of 914,220 tokens)."
    assert not_found(1, 5, 5).startswith("Not found in the 1 document read")


def test_citations_carry_what_was_measured_of_them(ask):
    answer = ask(ReadingPlan.WHOLE, max_tokens=40)
    assert answer.text
    measured = [(one.gain, one.attention) for one in answer.citations]
    assert all(gain is not None and 0 < share < 1 for gain, share in measured), measured
    assert [claim.start for claim in answer.claims] == sorted(c.start for c in answer.claims)
    for one in answer.citations:
        assert (one.block, one.end - one.start) == (0, len(one.text))

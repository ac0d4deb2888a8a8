"""What is in the context when the answer begins, and what is reused for the next question."""

from dataclasses import replace

import pytest
from commandline import FAMILIES, NOTES, write_files
from corpora import corpus

from engine.engine import Engine
from mm1cli import output
from mm1cli.answering.answer import Answerer
from mm1cli.answering.prompt import frame_tokens
from mm1cli.answering.question import Question
from mm1cli.answering.read_facts import ReadFacts
from mm1cli.errors import BudgetError
from mm1cli.grounding.facts import unknown_facts
from mm1cli.ingest import read_corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import pack
from mm1cli.result import CitationKind
from mm1cli.retrieval.passages import passages
from mm1cli.settings import Settings

QUESTIONS = ("where is the rat?", "what did the bridge cost?", "who built it, and when?")
SETTINGS = Settings(max_tokens=6, quiet=True)


class Watched(Engine):
    """Keeps what was in the context when an answer began."""

    def decode(self, context, **options):
        self.before_answer = list(context.token_ids)
        return super().decode(context, **options)


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, checkpoints) -> Watched:
    return Watched(checkpoints[request.param], chunk_tokens=64, threads=1)


@pytest.fixture
def reader(engine, tmp_path, monkeypatch):
    """Makes a Reader of the notes; a new one has read nothing yet."""
    write_files(tmp_path / "notes", NOTES)
    monkeypatch.chdir(tmp_path)  # paths are in the prompt, so they must not change from run to run
    corpus = read_corpus(["notes"])

    def make(plan: ReadingPlan = ReadingPlan.WHOLE, settings: Settings = SETTINGS) -> Answerer:
        packed = pack(corpus, engine.tokenizer)
        make.packed = packed
        return Answerer(engine, packed, plan, settings, output.make_sink("text", True))

    return make


def told(answer):
    """All of an answer but what it cost."""
    return replace(answer, usage=None)


def test_the_corpus_is_read_once_and_every_answer_is_as_if_asked_alone(reader):
    """Red: a later question is answered from another state, or pays for the corpus again."""
    alone = {question: reader().answer(Question(question)) for question in QUESTIONS}
    for order in (QUESTIONS, QUESTIONS[::-1]):
        together = reader()
        for index, question in enumerate(order):
            answer = together.answer(Question(question))
            assert told(answer) == told(alone[question])
            usage = answer.usage
            if index == 0:
                assert usage.reused_tokens == 0
            else:
                assert usage.corpus_tokens <= usage.reused_tokens < usage.context_tokens
    assert len({answer.text for answer in alone.values()}) > 1, "the question must matter"


def test_a_streamed_model_answers_alike_and_says_what_it_read(checkpoints, tmp_path):
    """Red: weights come from disk unseen, or are counted for another question's answer."""
    write_files(tmp_path / "notes", NOTES)
    corpus, answers = read_corpus([str(tmp_path / "notes")]), []
    for pool_bytes in (None, 200_000):
        engine = Engine(checkpoints["minimax"], chunk_tokens=64, threads=1, pool_bytes=pool_bytes)
        packed = pack(corpus, engine.tokenizer)
        sink = output.make_sink("text", True)
        reader = Answerer(engine, packed, ReadingPlan.WHOLE, SETTINGS, sink)
        answers.append([reader.answer(Question(question)) for question in QUESTIONS[:2]])
    resident, streamed = answers
    assert [told(one) for one in streamed] == [told(one) for one in resident]
    assert all(one.usage.weights_read_bytes is None for one in resident)
    read = [one.usage.weights_read_bytes for one in streamed]
    assert all(read) and sum(read) <= engine.io_stats.read_bytes
    assert all(0 < one.usage.weights_hit_rate <= 1 for one in streamed)


def test_whole_means_every_token_of_every_document_in_order(reader, engine):
    """Red: the manifest counts tokens that the model never saw."""
    answer = reader().answer(Question(QUESTIONS[0]))
    packed = reader.packed
    documents = [token_id for ids in packed.token_ids for token_id in ids]
    context = engine.before_answer
    places = range(len(context) - len(documents) + 1)
    assert any(context[at : at + len(documents)] == documents for at in places)
    assert len(context) == answer.usage.context_tokens
    assert answer.usage.read_tokens == len(documents) == packed.num_tokens
    assert [part.tokens for part in answer.read] == [len(ids) for ids in packed.token_ids]
    rest = answer.usage.context_tokens - packed.num_tokens
    assert rest <= frame_tokens(engine.tokenizer, QUESTIONS), "the budget left too little room"


def test_the_question_is_read_after_the_documents(reader, engine):
    """Red: the model answers without having read the question, or before the documents."""
    reader().answer(Question(QUESTIONS[1]))
    text = engine.tokenizer.decode(engine.before_answer)
    assert text.rindex("rat ate that") < text.rindex(QUESTIONS[1])


def test_focus_reads_the_passages_it_names(reader, engine):
    """Red: `read` names text that was not in the context."""
    answer = reader(ReadingPlan.RETRIEVAL).answer(Question(QUESTIONS[1]))
    text = engine.tokenizer.decode(engine.before_answer)
    sources = {doc.path: doc.blocks[0].text.split("\n") for doc in reader.packed.corpus.documents}
    for part in answer.read:
        lines = sources[part.path][part.locator.first - 1 : part.locator.last]
        assert "\n".join(lines).strip() in text
        assert 0 < part.tokens < len(engine.before_answer)
    assert answer.usage.read_tokens == sum(part.tokens for part in answer.read)
    assert answer.usage.reused_tokens == 0


def test_focus_reads_fewer_passages_rather_than_overflow(reader, engine):
    """Red: a small context ends in an error, or is overrun."""
    roomy = reader(ReadingPlan.RETRIEVAL).answer(Question(QUESTIONS[0]))
    limit = roomy.usage.context_tokens + SETTINGS.max_tokens - 1
    tight = reader(ReadingPlan.RETRIEVAL, replace(SETTINGS, context_tokens=limit))
    answer = tight.answer(Question(QUESTIONS[0]))
    assert 0 < len(answer.read) < len(roomy.read)
    assert answer.usage.context_tokens + SETTINGS.max_tokens <= limit
    with pytest.raises(BudgetError, match="lower --max-tokens"):
        reader(ReadingPlan.RETRIEVAL, replace(SETTINGS, context_tokens=20)).answer(
            Question(QUESTIONS[0])
        )


class Saying:
    """A decoding that says what it is told to."""

    token_ids = (1, 2)
    stop_reason, num_drafted, num_accepted = "end", 0, 0

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self):
        return iter(self._text.partition(" "))


def test_what_the_answer_says_is_held_against_the_documents(reader, engine, monkeypatch):
    """Red: an invented quote or figure passes unmarked, or a true one is not cited."""
    text = "It cost 48.2 crowns, not 47: “the cat sat on the bridge” and “it fell into the sea”."
    text = text.replace("the cat sat", "The cat sat")
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying(text))
    answer = reader().answer(Question(QUESTIONS[1]))
    assert answer.text == text
    assert answer.unverified == ("it fell into the sea", "47")
    assert answer.citations[-1].text == "The cat sat on the bridge"
    assert answer.citations[-1].locator.first == 3
    (cited,) = [one for one in answer.citations if one.kind is CitationKind.QUOTE]
    assert cited == answer.citations[-1]
    text = "It says “The cat sat on the bri"
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying(text))
    answer = reader().answer(Question(QUESTIONS[1]))
    assert (answer.citations[-1].text, answer.unverified) == ("The cat sat on the", ())


def test_a_sum_that_is_right_is_told_and_not_warned_of(engine, monkeypatch):
    """Red: a right sum is warned of as invented, or a wrong one is not."""
    packed = pack(corpus("Class A has 21 pupils. Class B has 13 pupils."), engine.tokenizer)
    sink = output.make_sink("text", True)
    answerer = Answerer(engine, packed, ReadingPlan.WHOLE, replace(SETTINGS, write=True), sink)
    asked = Question("How many pupils are in class A and class B in total?")
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("34 pupils."))
    answer = answerer.answer(asked)
    assert (answer.computed, answer.unverified) == (("34 = 21 + 13, from [1]",), ())
    assert [(claim.citations, claim.against) for claim in answer.claims] == [((), ())]
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("35 pupils."))
    answer = answerer.answer(asked)
    assert (answer.computed, answer.unverified) == ((), ("35",))


def test_a_number_is_held_against_what_was_read_for_the_answer(reader, engine, monkeypatch):
    """Red: a wrong number passes because it stands in a part of the corpus that nobody read."""
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("It cost 48.2 crowns."))
    read = reader(ReadingPlan.RETRIEVAL)
    assert read.answer(Question(QUESTIONS[1])).unverified == ()
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("It cost 47 crowns."))
    assert read.answer(Question(QUESTIONS[1])).unverified == ("47 crowns",)


def test_what_was_read_beside_a_passage_counts_and_what_was_not_does_not(engine, monkeypatch):
    """Red: numbers of widened passages are called unread, or those of the whole corpus read."""
    lines = [f"Toll {1000 + number} was paid at the bridge." for number in range(300)]
    packed = pack(corpus("\n".join(lines)), engine.tokenizer)
    settings, sink = replace(SETTINGS, context_tokens=2000), output.make_sink("text", True)
    answerer = Answerer(engine, packed, ReadingPlan.RETRIEVAL, settings, sink)
    question = Question("which toll was paid?")
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("None."))
    answer = answerer.answer(question)
    places, shown = _lines(answer.read), _lines(answer.citations)
    assert places and len(places | shown) < len(lines) - 1
    # Line 0 stands for a heading beside each passage that is shown.
    first = next(at for at in range(1, len(lines)) if at not in places | shown)
    for there in (min(places), max(places)):
        text = f"Toll {1000 + there}, not {1000 + first}."
        monkeypatch.setattr(engine, "decode", lambda context, text=text, **options: Saying(text))
        assert answerer.answer(question).unverified == (str(1000 + first),)


def _lines(parts) -> set[int]:
    return {at for part in parts for at in range(part.locator.first - 1, part.locator.last)}


def test_only_passages_that_were_read_count():
    """Red: a passage that was found, but had no room, vouches for a number."""
    documents = corpus("The rent is 18,450.", "The rent is 19,999.")
    known = ReadFacts(documents)
    read = passages(documents)[:1]
    assert unknown_facts("18,450 or 19,999", lambda: known.of(read)) == ["19,999"]
    assert unknown_facts("18,450 or 19,999", lambda: known.of(None)) == []


def test_everything_that_was_read_is_parsed_only_for_what_the_evidence_lacks(engine, monkeypatch):
    """Red: each answer with a number parses a million tokens."""
    packed = pack(corpus("Toll 1001 was paid at the bridge."), engine.tokenizer)
    sink = output.make_sink("text", True)
    answerer = Answerer(engine, packed, ReadingPlan.WHOLE, SETTINGS, sink)
    monkeypatch.setattr(ReadFacts, "of", lambda *_: pytest.fail("parsed"))
    monkeypatch.setattr(engine, "decode", lambda context, **options: Saying("Toll 1001."))
    assert answerer.answer(Question(QUESTIONS[1])).unverified == ()

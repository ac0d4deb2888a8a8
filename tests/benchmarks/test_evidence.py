"""Red here means training may know a question it is judged by, or that evidence is misjudged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import abstention, evidence, quotes
from benchmarks.quality.baselines import ScoredIndex, corpus, first
from benchmarks.quality.evidence import reciprocal
from benchmarks.quality.heldout import QUESTIONS, from_file, holds, meetings, reading
from benchmarks.quality.subject import Subject
from benchmarks.quality.work import Work
from mm1cli.retrieval.passages import passages
from training.data import split
from training.prompt_patterns import parse

PASSAGE, QUESTION = 'He said: "No." It rained, and how!', "What did he say, again?"
WORDINGS = (
    'Given the following passage\n\n"{p}",\n\nanswer the following question. Note that the answer '
    "is present within the text.\n\nQuestion: {q}\n",
    "Extract the answer to the question from the following context.\nQuestion: {q}\nContext: {p}\n",
    'Question: "{q}"\n\nContext: "{p}"\n\nAnswer:\n',
    'I know that the answer to the question "{q}" is in "{p}". Can you tell me what it is?\n',
    "A friend asked me to answer this question: {q}, using the article: {p}, what would be the "
    "answer ?\n",
    "The following article contains an answer for the question: {q} , can you please find it? "
    "\n\n{p}\n",
    "Given the following context:\n\n{p}\n\nanswer the following question:\n\n{q}\n",
    "{q}\n\nAnswer the above question based on the context below:\n\n{p}\n",
    "Read the following paragraph and extract the answer for the question: {q}\n\n{p}\n",
    "This article: {p} contains an answer for the question: {q}, what is it ?\n",
)


@pytest.mark.parametrize("wording", WORDINGS)
def test_passage_and_question_are_parted(wording):
    assert parse(wording.format(p=PASSAGE, q=QUESTION)) == (PASSAGE, QUESTION)


def test_other_wordings_are_left_alone():
    assert parse("Summarise this: it rained.") is None


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("It cost  48\nmillion.", "48 Million", True),
        ("It cost 148 million.", "48 million", False),
        ("the cats", "cat", False),
        ("(cat)", "cat", True),
        ("anything", " ", False),
        ("C++ is old", "C++", True),
    ],
)
def test_whole_words_are_held(text, wanted, found):
    assert holds(text, wanted) == found


def test_reading_questions_are_held_out_and_their_evidence_is_there(shared):
    path = shared / QUESTIONS
    found = reading(path, 0)
    held = {parse(r["prompt"])[1] for r, is_held in split(path) if is_held and "prompt" in r}
    assert {question.text for question in found} == held
    assert len(held) >= 2
    for question in found:
        gold = [p for p in passages(corpus(question.documents)) if question.is_gold(p)]
        assert gold
        assert all(question.holds_answer(p.text) for p in gold)
        assert {p.document.path for p in gold} == {question.gold_path}
        assert len(question.documents) == len({q.gold_path for q in found}) + 100
        assert not question.seen
    assert reading(path, 0) == found != reading(path, 1)


def test_a_passage_that_training_reads_in_a_wording_not_known_is_marked(shared, tmp_path):
    record = next(r for r, is_held in split(shared / QUESTIONS) if is_held and "prompt" in r)
    passage, question = parse(record["prompt"])
    other = record | {"prompt": f"Tell me. {question} Look here: {passage}"}
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(map(json.dumps, [record, other])))
    assert [is_held for _, is_held in split(path)] == [True, False]  # not taken apart
    assert [q.seen for q in reading(path, 0)] == [True]


def test_meetings_are_held_out_and_gold_is_where_the_lines_are(shared):
    found = meetings(shared / QUESTIONS, 0)
    assert found
    records = [r for r, is_held in split(shared / QUESTIONS) if is_held and "meeting" in r]
    held = "".join(f"{line}\n" for record in records for line in record["meeting"])
    for question in found:
        number = question.text.split()[2]
        gold = [p for p in passages(corpus(question.documents)) if question.is_gold(p)]
        assert gold
        assert any(f"{number} 20" in p.text for p in gold)
        assert question.documents["meeting.txt"].startswith("Speaker 0: ")
        assert f" {number} 0\n" in held
        others = [p for p in passages(corpus(question.documents)) if not question.is_gold(p)]
        assert others
        assert not any(f"{number} 20\n" in p.text for p in others)


def test_a_file_of_questions_is_read_and_its_faults_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("It cost 48 million.")
    path = tmp_path / "mine.jsonl"
    good = {"question": "Cost?", "documents": ["a.txt"], "answers": ["48 million"]}
    inline = {"question": "Cost?", "text": "It cost 9.", "evidence": ["cost 9"]}
    path.write_text(f"{json.dumps(good)}\n\n{json.dumps(inline)}\n")
    one, two = from_file(path)
    assert (one.set, one.documents, one.answers) == (
        "mine",
        {"a.txt": "It cost 48 million."},
        ("48 million",),
    )
    assert two.is_gold(passages(corpus(two.documents))[0])
    for bad in ("[]", "{", '{"question": "x", "text": "y"}', '{"text": "y", "answers": ["y"]}'):
        path.write_text(f"{json.dumps(good)}\n{bad}\n")
        with pytest.raises(ValueError, match="line 2: not a question"):
            from_file(path)


@given(st.lists(st.booleans(), max_size=8))
def test_reciprocal_rank_is_that_of_the_first_hit(gold):
    expected = 1 / (gold.index(True) + 1) if True in gold else 0
    assert reciprocal(gold) == expected


def test_the_first_tokens_end_before_the_limit(tokenizer):
    found = passages(corpus({"t": "A cat sat on a mat that was wide. " * 80}))
    counts = [len(tokenizer.encode(p.text)) for p in found]
    assert len(first(found, tokenizer, sum(counts[:2]))) == 2
    assert len(first(found, tokenizer, sum(counts[:2]) - 1)) == 1


def test_the_best_score_of_search_falls_where_the_passage_is_gone():
    texts = {"a": "Box 7 weighs 9 grams.", "b": "The cat sat.", "c": "A rat ate that."}
    with_it = ScoredIndex(passages(corpus(texts)))
    without = ScoredIndex(passages(corpus({k: v for k, v in texts.items() if k != "a"})))
    question = "How much does box 7 weigh?"
    assert with_it.best_score(question) > without.best_score(question) == 0
    assert with_it.best_score("???") == 0


def options(command, shared, *words):
    return command.parser().parse_args(["--shared", str(shared), "--limit", "4", *words])


def cells(table, measure, column):
    return [row.cells[column] for row in table.rows if row.measure == measure]


def test_a_judge_who_knows_ranks_first_and_one_who_does_not_keeps_the_order(
    knowing, constant, shared
):
    given_options = options(evidence.COMMAND, shared, "--sets", "reading")
    table = evidence.build([knowing, constant], given_options, Work())
    assert [c.value for c in cells(table, "recall@1", "knowing")] == [1]
    assert [c.value for c in cells(table, "MRR", "knowing")] == [1]
    for measure in ("recall@1", "recall@5", "MRR"):
        # Python's sort is stable: with equal scores the search's order stands.
        same, plain = cells(table, measure, "constant")[0], cells(table, measure, "bm25 alone")[0]
        assert same.value == plain.value


def test_abstention_is_perfect_for_who_knows_and_even_for_who_does_not(knowing, constant, shared):
    table = abstention.build([knowing, constant], options(abstention.COMMAND, shared), Work())
    areas = {row.condition["signal"]: row.cells for row in table.rows if row.measure == "AUROC"}
    assert all(areas[signal]["knowing"].value == 1 for signal in abstention.SIGNALS)
    assert all(areas[signal]["constant"].value == 0.5 for signal in abstention.SIGNALS)
    assert "bm25 alone" in areas["bm25"]
    apart = [row.cells for row in table.rows if row.measure == "above its twin"]
    assert {c["constant"].value for c in apart if "constant" in c} == {0}
    assert any("best signal" in note and "AUROC 1.00" in note for note in table.notes)


def test_quotes_of_who_knows_hold_the_answer_and_invented_ones_are_found_out(
    tokenizer, knowing, shared
):
    def invent(text):
        return '"No document has ever said this" and "it rained".'

    liar = Subject("liar", type(knowing.engine)(tokenizer, invent))
    table = quotes.build([knowing, liar], options(quotes.COMMAND, shared), Work())
    assert cells(table, "quotations exact", "liar")[0].value == 0
    assert cells(table, "text says what no document says", "liar")[0].value == 1
    assert cells(table, "quotations exact", "knowing") == ["none written"]
    assert cells(table, "quotes exact", "knowing")[0].value == 1
    assert cells(table, "first quote holds the answer", "knowing")[0].value == 1
    assert cells(table, "has a quote", "knowing")[0].value == 1
    assert cells(table, "text holds the answer", "knowing")[0].value == 0

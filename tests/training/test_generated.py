"""Red here means a task is trained on whose answer is not the right one."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from mm1cli.prompts import prompt
from training import templates
from training.generated import Generator
from training.samples import samples_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["Ada", "Bert", "Carla", "Dora", "Emil"]
VERBS = ["painted", "repaired", "measured", "borrowed", "described"]


def prose(seed):
    """Paragraphs of sentences; some words are there once, most are not."""
    draw = random.Random(seed)
    sentences = [
        f"{draw.choice(NAMES)} {draw.choice(VERBS)} the {draw.choice('ABCDE')}house number "
        f"{draw.randrange(99)} and called it {''.join(draw.choices('aeiounrst', k=8))}."
        for _ in range(120)
    ]
    paragraphs = [" ".join(sentences[n : n + 6]) for n in range(0, 120, 6)]
    return "\n\n".join(paragraphs) + "\n\ndef code():\n    return 1\n"


TEXTS = [prose(n) for n in range(5)]
MAX = 6000


@pytest.fixture(scope="module")
def tasks():
    return list(islice(Generator(TEXTS, "7", MAX), 1500))


def test_the_seed_alone_decides(tasks):
    again = list(islice(Generator(TEXTS, "7", MAX), 200))
    other = list(islice(Generator(TEXTS, "8", MAX), 200))
    assert again == tasks[:200]
    assert other != again


def test_every_answer_but_a_refusal_is_in_its_document(tasks):
    refusals = [task for task in tasks if task.answer == templates.REFUSAL]
    assert 0.1 < len(refusals) / len(tasks) < 0.35
    for task in tasks:
        if task.answer != templates.REFUSAL:
            assert task.answer in task.prompt


def test_lengths_reach_from_short_to_the_longest(tasks):
    lengths = [len(task.prompt) + len(task.answer) + len(task.system) for task in tasks]
    assert max(lengths) <= MAX
    assert sum(length > 0.8 * MAX for length in lengths) > 0.05 * len(tasks)
    assert sum(length < 0.4 * MAX for length in lengths) > 0.2 * len(tasks)


KEY, VALUE = r"([\w-]+(?: [a-z]+)?)", r"([\w-]+(?: [a-z]+)?)"


def pattern(text):
    return re.escape(text).replace(r"\{key\}", KEY).replace(r"\{value\}", VALUE)


PATTERNS = [
    (re.compile(pattern(question)), re.compile(rf"(?:^|(?<=\s)){pattern(wording)}(?=\s|$)"))
    for wording, question in templates.FACTS
]


@pytest.fixture(scope="module")
def retrievals(tasks):
    """(task, key asked for, {key: value} stated) of the retrieval tasks."""
    found = []
    for task in tasks:
        for asking, stating in PATTERNS:
            asked = asking.search(task.prompt)
            if asked and (stated := stating.findall(task.prompt)):
                found.append((task, asked[1], dict(stated)))
                break
    return found


def test_retrieval_asks_for_one_of_several_statements_of_the_same_wording(retrievals):
    checked = refused = 0
    for task, key, stated in retrievals:
        if task.answer == templates.REFUSAL:
            refused += 1
            assert key not in stated
            assert stated
        else:
            checked += 1
            assert stated[key] == task.answer
            assert len(stated) >= 2
    assert checked > 300
    assert refused > 60


def test_statements_stand_at_all_depths(retrievals):
    depths = [
        task.prompt.index(task.answer) / len(task.prompt)
        for task, _, _ in retrievals
        if task.answer != templates.REFUSAL
    ]
    for tenth in range(10):
        assert any(tenth / 10 <= depth < (tenth + 1) / 10 for depth in depths)


def test_quotes_are_the_only_sentence_with_the_word(tasks):
    checked = refused = 0
    for task in tasks:
        for wording in templates.QUOTES:
            ask = re.escape(wording).replace(r"\{word\}", r"(\w+)")
            if not (asked := re.search(ask, task.prompt)):
                continue
            document = re.sub(ask, "", task.prompt)
            if task.answer == templates.REFUSAL:
                refused += 1
                assert asked[1].lower() not in document.lower()
            else:
                checked += 1
                assert document.lower().count(asked[1].lower()) == 1
                assert asked[1] in task.answer
                assert task.answer in document
    assert checked > 100
    assert refused > 20


def test_the_question_stands_before_after_and_around(retrievals):
    before = after = both = 0
    for task, key, _ in retrievals:
        questions = [question.format(key=key) for _, question in templates.FACTS]
        ends = (
            [task.prompt.endswith(q) for q in questions],
            [q in task.prompt[:200] for q in questions],
        )
        match any(ends[1]), any(ends[0]):
            case True, True:
                both += 1
            case True, False:
                before += 1
            case _:
                after += 1
    assert min(before, after, both) > 40


def test_some_tasks_are_asked_as_the_product_asks(tasks):
    asked = [task for task in tasks if prompt("question") in task.prompt]
    assert 0.2 < len(asked) / len(tasks) < 0.5
    assert all(task.system == prompt("system") for task in asked)
    assert templates.REFUSAL in prompt("system")


def test_no_wording_is_that_of_a_test_or_benchmark():
    """A needle found in words that were trained on says little."""
    wordings = [text for pair in templates.FACTS for text in pair]
    wordings += [*templates.QUOTES, *templates.FOLLOWING, *templates.AFTER, *templates.BEFORE]
    wordings += [*templates.BOTH, *templates.COPIES, *templates.LINES]
    runs = {
        run for text in wordings for part in re.split(r"\{\w+\}", text) for run in runs_of(part)
    }
    assert len(runs) > 50
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*")]:
        if path.is_file() and "training" not in path.parts and "__pycache__" not in path.parts:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not runs & set(runs_of(text)), path


def runs_of(text, count=4):
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[n : n + count]) for n in range(len(words) - count + 1)]


def test_a_text_without_words_is_refused():
    with pytest.raises(ValueError, match="no text"):
        Generator(["", "\n\n"], "0", MAX)


MEETING = {
    "meeting": [f"Speaker {n}: turn {n} {{disfmarker}} , said ." for n in range(40)],
    "queries": [
        {"query": "Why?", "answer": "Because.", "relevant_text_span": [["10", "12"], ["14", "15"]]},
        {"query": "All?", "answer": "Much.", "relevant_text_span": [["0", "39"]]},
        {"query": "Where?", "answer": "Nowhere.", "relevant_text_span": [["38", "99"]]},
        {"query": "What?", "answer": "Nothing.", "relevant_text_span": []},
    ],
}


def test_a_meeting_is_read_where_it_answers_and_no_longer_than_fits():
    (short,) = samples_of(MEETING, 400)
    assert short.answer == "Because."
    assert "turn 10, said." in short.prompt
    assert "turn 15, said." in short.prompt
    assert "turn 39" not in short.prompt
    assert 300 < len(short.prompt) <= 400
    assert [sample.answer for sample in samples_of(MEETING, 4000)] == ["Because.", "Much."]
    (text,) = samples_of(MEETING, 50)
    assert (text.prompt, text.answer.count("\n")) == ("", 39)


def test_a_story_is_asked_about_only_as_a_whole():
    questions = [{"q": "Who?", "a": ["Ada.", "Bert."]}, {"q": "", "a": []}]
    story = {"document": "\nOnce there was Ada. " * 20, "questions": questions}
    (asked,) = samples_of(story, 1000)
    assert asked.answer == "Ada."
    assert asked.prompt.startswith("Once there was")
    assert asked.prompt.endswith("Who?")
    (text,) = samples_of(story, 100)
    assert text.prompt == ""


@pytest.mark.parametrize(
    "record", [{}, {"text": ""}, {"prompt": "a", "answer": ""}, {"meeting": []}]
)
def test_a_record_that_says_nothing_gives_nothing(record):
    assert samples_of(record, 1000) == []

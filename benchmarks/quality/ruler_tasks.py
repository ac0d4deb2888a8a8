"""RULER's tasks, written from their definitions (arXiv 2404.06654, section 3 and appendix B).

Wording, filler and words are our own, there is no worked example in the prompt, and an answer may
be shorter than the paper's: scores are not to be held against published ones. Sizes are the
paper's: 4 keys, values and queries; 1 chain of 4 hops; 10 common words 30 times each among words
3 times each; 3 most frequent of words that follow a Zeta distribution with exponent 2.
"""

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.quality.heldout import Question
from benchmarks.quality.templates import REFERENCE, keys, needles, value

NUM_NEEDLES = 4
NUM_HOPS = 4
NUM_COMMON, COMMON_TIMES, UNCOMMON_TIMES = 10, 30, 3
NUM_FREQUENT, ZETA_2 = 3, 1.6449340668482264
NOISE = ("The river is slow.", "The fields are wide.", "Birds come and go.", "It is noon again.")


@dataclass(frozen=True, slots=True)
class Sources:
    """What samples are made of: sentences and words of books, questions about passages."""

    sentences: Sequence[str]
    words: Sequence[str]
    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Sample:
    text: str
    question: str
    answer_begins: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """`build(sources, seed, size)`: `size` counts units of filler; the rest depends on the seed.

    `any_reference`: one reference in the answer is enough, else each counts its share.
    `is_found`: the references stand in few places, so that search could find them.
    """

    name: str
    build: Callable[[Sources, int, int], Sample]
    answer_tokens: int
    any_reference: bool = False
    is_found: bool = True

    def score(self, answer: str, references: Sequence[str]) -> float:
        """String match, case aside: RULER's recall, from 0 to 1."""
        found = [reference.lower() in answer.lower() for reference in references]
        return float(any(found)) if self.any_reference else sum(found) / len(found)


def fit(
    task: Task, sources: Sources, count: Callable[[Sample], int], target: int, seed: int
) -> Sample | None:
    """The sample with the most filler for which `count` is `target` or less; None if none is."""

    def try_size(size: int) -> Sample | None:
        try:
            sample = task.build(sources, seed, size)
        except IndexError:  # the sources have no more filler
            return None
        return sample if count(sample) <= target else None

    low, best = 0, try_size(0)
    if best is None:
        return None
    step = 1
    while (sample := try_size(low + step)) is not None:
        low, best, step = low + step, sample, 2 * step
    while step > 1:
        step //= 2
        if (sample := try_size(low + step)) is not None:
            low, best = low + step, sample
    return best


def _strewn(filler: Sequence[str], items: Sequence[str], draw: random.Random) -> str:
    """`items`, in their order, at random places between the sentences of `filler`."""
    places = sorted(draw.randrange(len(filler) + 1) for _ in items)
    parts: list[str] = []
    start = 0
    for place, item in zip(places, items, strict=True):
        parts += [*filler[start:place], f"\n{item}\n"]
        start = place
    return " ".join([*parts, *filler[start:]])


def _take(source: Sequence[str], size: int) -> Sequence[str]:
    if size > len(source):
        raise IndexError(size)
    return source[:size]


def niah_single(sources: Sources, seed: int, size: int) -> Sample:
    return _one_of(sources, seed, size, 1)


def niah_multikey(sources: Sources, seed: int, size: int) -> Sample:
    return _one_of(sources, seed, size, NUM_NEEDLES)


def _one_of(sources: Sources, seed: int, size: int, count: int) -> Sample:
    placed = needles(seed, count)
    draw = random.Random(f"places {seed}")
    asked = draw.choice(placed)
    text = _strewn(_take(sources.sentences, size), [n.sentence for n in placed], draw)
    return Sample(text, asked.question, asked.answer_begins, (asked.value,))


def niah_multivalue(sources: Sources, seed: int, size: int) -> Sample:
    draw = random.Random(f"values {seed}")
    (key,) = keys(draw, 1)
    found = [REFERENCE.fill(key, number) for number in _numbers(draw, NUM_NEEDLES)]
    text = _strewn(_take(sources.sentences, size), [n.sentence for n in found], draw)
    values = tuple(n.value for n in found)
    return Sample(text, found[0].question, found[0].answer_begins, values)


def niah_multiquery(sources: Sources, seed: int, size: int) -> Sample:
    draw = random.Random(f"queries {seed}")
    numbers = _numbers(draw, NUM_NEEDLES)
    found = [
        REFERENCE.fill(key, number)
        for key, number in zip(keys(draw, NUM_NEEDLES), numbers, strict=True)
    ]
    text = _strewn(_take(sources.sentences, size), [n.sentence for n in found], draw)
    asked = "; ".join(n.key for n in found)
    question = f"Which reference numbers are filed under these: {asked}? Give one for each."
    return Sample(text, question, "The reference numbers are", tuple(n.value for n in found))


def variable_tracking(sources: Sources, seed: int, size: int) -> Sample:
    """A chain of assignments in noise: every variable of the chain has the first one's value."""
    del sources
    draw = random.Random(f"variables {seed}")
    names: dict[str, None] = {}
    while len(names) < NUM_HOPS + 1:
        names["".join(draw.choices(string.ascii_uppercase, k=5))] = None
    chain, number = list(names), str(draw.randrange(10_000, 100_000))
    items = [f"VAR {chain[0]} = {number}"]
    items += [f"VAR {new} = VAR {old}" for old, new in pairwise(chain)]
    text = _strewn([NOISE[n % len(NOISE)] for n in range(size)], items, draw)
    question = (
        f"Name every variable that has the value {number}: the one it is assigned to, and those "
        f"that take it over. There are {len(chain)}."
    )
    begins = f"The variables with the value {number} are VAR"
    return Sample(text, question, begins, tuple(chain))


def common_words(sources: Sources, seed: int, size: int) -> Sample:
    draw = random.Random(f"common {seed}")
    if NUM_COMMON + size > len(sources.words):
        raise IndexError(size)
    words = draw.sample(list(sources.words), len(sources.words))[: NUM_COMMON + size]
    common, rare = words[:NUM_COMMON], words[NUM_COMMON:]
    listed = common * COMMON_TIMES + rare * UNCOMMON_TIMES
    draw.shuffle(listed)
    text = " ".join(f"{number}. {word}" for number, word in enumerate(listed, 1))
    question = f"Which {NUM_COMMON} words stand most often in this numbered list?"
    return Sample(text, question, f"The {NUM_COMMON} most common words are:", tuple(common))


def frequent_words(sources: Sources, seed: int, size: int) -> Sample:
    """Ranks of made-up words by a Zeta distribution; the first rank is dots, which do not count."""
    del sources
    draw = random.Random(f"frequent {seed}")
    num_words = size + 50  # fewer do not tell the ranks apart
    counts: list[int] = []
    while (times := round(num_words / ZETA_2 / (len(counts) + 1) ** 2)) >= 1:
        counts.append(times)
    made: dict[str, None] = {"...": None}
    while len(made) < len(counts):
        made["".join(draw.choices(string.ascii_lowercase, k=6))] = None
    listed = [word for word, times in zip(made, counts, strict=True) for _ in range(times)]
    draw.shuffle(listed)
    question = (
        f"Which {NUM_FREQUENT} coded words stand most often in this text? The dots are no words."
    )
    begins = f"The {NUM_FREQUENT} most frequent words are:"
    return Sample(" ".join(listed), question, begins, tuple(list(made)[1 : NUM_FREQUENT + 1]))


def question_answering(sources: Sources, seed: int, size: int) -> Sample:
    """A passage with the answer among `size` others."""
    if not sources.questions:
        raise IndexError("no question")
    draw = random.Random(f"question {seed}")
    asked = sources.questions[seed % len(sources.questions)]
    assert asked.gold_path is not None
    others = [text for path, text in asked.documents.items() if path != asked.gold_path]
    draw.shuffle(others)
    shelf = list(_take(others, size))
    shelf.insert(draw.randrange(size + 1), asked.documents[asked.gold_path])
    text = "\n\n".join(f"Document {number}:\n{one}" for number, one in enumerate(shelf, 1))
    question = f"Answer in a few words, using only the documents above: {asked.text}"
    return Sample(text, question, "", asked.answers)


def _numbers(draw: random.Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[value(draw)] = None
    return list(found)


TASKS = (
    Task("niah_single", niah_single, 24),
    Task("niah_multikey", niah_multikey, 24),
    Task("niah_multivalue", niah_multivalue, 64),
    Task("niah_multiquery", niah_multiquery, 64),
    Task("variable_tracking", variable_tracking, 40),
    Task("common_words", common_words, 80, is_found=False),
    Task("frequent_words", frequent_words, 40, is_found=False),
    Task("question_answering", question_answering, 32, any_reference=True),
)

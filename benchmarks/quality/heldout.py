"""Questions with known evidence that training may not see, by training's own rule.

Reading comprehension: a passage, a question, an answer that stands in the passage. Meetings: lines
of speech, a question, the lines that answer it. Sets whose answers stand nowhere (ropes) and
summaries of whole stories are not used.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.work import digest
from mm1cli.retrieval.passages import Passage
from training.data import split
from training.decontamination import Overlap
from training.prompt_patterns import parse

TEXT = Path("train") / "text.jsonl.xz"
QUESTIONS = Path("train") / "qa.jsonl.xz"
READING, MEETINGS = "reading", "meetings"
WIDEST_GOLD_SHARE = 0.2  # a question about the whole meeting has no evidence to find
NUM_DISTRACTORS = 100


@dataclass(frozen=True, slots=True)
class Question:
    """`documents` by path. Evidence is a passage of the document `gold_path`, where it is given,
    that touches one of `gold_lines` (from 1, inclusive), or else holds one of `gold_texts`.

    `seen`: training reads the same passage in another record, the rule notwithstanding.
    """

    set: str
    text: str
    answers: tuple[str, ...]
    documents: Mapping[str, str] = field(repr=False)
    gold_path: str | None = None
    gold_lines: tuple[tuple[int, int], ...] = ()
    gold_texts: tuple[str, ...] = ()
    seen: bool = False

    @property
    def digest(self) -> str:
        """Of all that an answer to it depends on."""
        return digest([self.text, dict(self.documents), self.gold_path, self.gold_lines])

    def is_gold(self, passage: Passage) -> bool:
        if self.gold_path is not None and passage.document.path != self.gold_path:
            return False
        if self.gold_lines:
            place = passage.locator
            return any(
                place.first <= last and first <= place.last for first, last in self.gold_lines
            )
        return any(holds(passage.text, gold) for gold in self.gold_texts)

    def holds_answer(self, text: str) -> bool:
        return any(holds(text, answer) for answer in self.answers)


def holds(text: str, wanted: str) -> bool:
    """Whether `wanted` stands in `text` as whole words, white space and case aside."""
    flat = " ".join(wanted.split())
    pattern = rf"(?<!\w){re.escape(flat)}(?!\w)"
    return bool(flat) and re.search(pattern, " ".join(text.split()), re.IGNORECASE) is not None


def reading(path: Path, seed: int, num_distractors: int = NUM_DISTRACTORS) -> list[Question]:
    """Held-out questions, shuffled; every one is asked of all held-out passages and as many
    distractors, which are passages of other records."""
    held: dict[tuple[str, str], str] = {}  # (passage, question) -> answer
    others: dict[str, None] = {}
    trained: list[str] = []
    for record, is_held in split(path):
        prompt = record.get("prompt")
        if not isinstance(prompt, str):
            continue
        if not is_held:
            trained.append(prompt)
        if (parsed := parse(prompt)) is None:
            continue
        if is_held and holds(parsed[0], record["answer"]):
            held.setdefault(parsed, record["answer"])
        elif not is_held:
            others.setdefault(parsed[0])
    draw = random.Random(seed)
    passages = dict.fromkeys(passage for passage, _ in held)
    rest = [passage for passage in others if passage not in passages]
    shelf = [*passages, *draw.sample(rest, min(num_distractors, len(rest)))]
    draw.shuffle(shelf)
    paths = {passage: f"{number:03}.txt" for number, passage in enumerate(shelf)}
    documents = {name: passage for passage, name in paths.items()}
    in_training = Overlap(trained)
    found = [
        Question(
            READING,
            question,
            (answer,),
            documents,
            paths[passage],
            gold_texts=(answer,),
            seen=in_training.shares_with(passage),
        )
        for (passage, question), answer in held.items()
    ]
    draw.shuffle(found)
    return found


def meetings(path: Path, seed: int) -> list[Question]:
    """Questions about held-out meetings that a fifth of the meeting or less answers, shuffled."""
    found: dict[tuple[str, str], Question] = {}
    for record, is_held in split(path):
        if not is_held or not isinstance(record.get("meeting"), list):
            continue
        text = "\n".join(" ".join(line.split()) for line in record["meeting"])
        for query in record["queries"]:
            lines = tuple((int(a) + 1, int(b) + 1) for a, b in query["relevant_text_span"])
            num_gold = sum(last - first + 1 for first, last in lines)
            if lines and num_gold <= WIDEST_GOLD_SHARE * len(record["meeting"]):
                documents = {"meeting.txt": text}
                found[text, query["query"]] = Question(
                    MEETINGS, query["query"], (), documents, "meeting.txt", gold_lines=lines
                )
    shuffled = list(found.values())
    random.Random(seed).shuffle(shuffled)
    return shuffled


def from_file(path: Path) -> list[Question]:
    """JSON lines: "question", "answers" or "evidence" (texts of which one must be found), and
    "text" or "documents" (paths beside the file). Raises ValueError naming the line."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_from_record(json.loads(line), path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: not a question ({error})") from None
    return found


def _from_record(record: dict[str, Any], path: Path) -> Question:
    answers = tuple(map(str, record.get("answers", [])))
    gold = tuple(map(str, record.get("evidence", answers)))
    if not gold:
        raise ValueError("neither answers nor evidence")
    if "text" in record:
        documents = {"text": str(record["text"])}
    else:
        names: Sequence[str] = record["documents"]
        documents = {name: (path.parent / name).read_text(encoding="utf-8") for name in names}
    return Question(path.stem, str(record["question"]), answers, documents, gold_texts=gold)


def by_set(questions: Sequence[Question]) -> Iterator[tuple[str, list[Question]]]:
    for name in dict.fromkeys(question.set for question in questions):
        yield name, [question for question in questions if question.set == name]

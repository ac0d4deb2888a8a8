"""The corpus that evidence is measured on: 40 documents whose facts are written by hand.

`documents/` holds them as they read, but for lines `~ 4`: so many paragraphs (rows, in a table) of
dull text in their place, drawn from the sentences in `filler/` with a seed that is the document's
own path. So what is kept is small, and what is read is long. `questions.jsonl` holds the questions:

    {"question", "kind", "answer", "gold": [{"path", "text"}, ...]}

Each gold text stands word for word in its document and answers the question alone, or as one side
of a contradiction; where it is short, as a row of a table is, a piece of evidence need only touch
it. Questions without gold are answered by no document; then "answer" is null.
"""

import json
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SENTENCES = (4, 7)  # in a paragraph
_SLOT = re.compile(r"\{(\w+)\}")
_FILLER = re.compile(r"~ (\d+)")


@dataclass(frozen=True, slots=True)
class Gold:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` is what makes it hard: "plain", "twin", "digit", "table", "negation", ..."""

    text: str
    kind: str
    answer: str | None
    gold: tuple[Gold, ...]


def questions() -> list[Question]:
    """In the order of the file, which mixes documents and kinds: any first part is a fair one."""
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for record in map(json.loads, lines):
        gold = tuple(Gold(one["path"], one["text"]) for one in record["gold"])
        found.append(Question(record["question"], record["kind"], record["answer"], gold))
    return found


def write(folder: Path) -> None:
    """Writes the documents into `folder`; the same bytes every time."""
    for path, text in texts().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")


def texts() -> dict[str, str]:
    """The documents by path."""
    root = HERE / "documents"
    slots = tomllib.loads((HERE / "filler" / "slots.toml").read_text(encoding="utf-8"))
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix(): _expanded(file, slots) for file in files}


def _expanded(file: Path, slots: dict[str, list[str]]) -> str:
    draw = random.Random(f"{file.parent.name}/{file.name}")
    if file.suffix == ".csv":
        more = _rows(file.stem, draw, slots)
    else:
        paragraphs = _paragraphs(file.parent.name, draw, slots)
        markup = "<p>{}</p>" if file.suffix == ".html" else "\n{}\n"
        more = (markup.format(paragraph) for paragraph in paragraphs)
    lines: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := _FILLER.fullmatch(line):
            lines += [next(more) for _ in range(int(found[1]))]
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _paragraphs(kind: str, draw: random.Random, slots: dict[str, list[str]]) -> Iterator[str]:
    patterns = (HERE / "filler" / f"{kind}.txt").read_text(encoding="utf-8").splitlines()
    deck: list[str] = []
    while True:
        sentences = []
        for _ in range(draw.randint(*SENTENCES)):
            deck = deck or draw.sample(patterns, len(patterns))
            sentences.append(_filled(deck.pop(), draw, slots))
        yield " ".join(sentences)


def _filled(pattern: str, draw: random.Random, slots: dict[str, list[str]]) -> str:
    filled = _SLOT.sub(lambda match: draw.choice(slots[match[1]]), pattern)
    return filled[0].upper() + filled[1:]


def _rows(name: str, draw: random.Random, slots: dict[str, list[str]]) -> Iterator[str]:
    """Rows of the table of that name, numbers growing, none of them one written by hand."""

    def one(slot: str) -> str:
        return draw.choice(slots[slot])

    parts = ("hinge", "washer", "bearing", "clamp", "hose", "bracket", "terminal", "spring", "plug")
    vehicles = ("van", "lorry", "trailer", "pick-up", "tractor", "crane", "loader")
    number = {"stock": 2000, "invoices": 40200, "members": 1002}.get(name, 0)
    makers: dict[str, Callable[[int], str]] = {
        "stock": lambda n: (
            f"R-{n},{one('colour')} {draw.choice(parts)} {draw.randint(4, 90)} mm,"
            f"{one('letter')}{draw.randint(1, 9)},{draw.randint(4, 480)},{draw.randrange(5, 90, 5)}"
        ),
        "wend-levels": lambda n: (
            f"2022-{11 + n // 240}-{1 + n // 8 % 30:02},{one('place')},{draw.randint(40, 240)},"
        ),
        "fleet": lambda _: (
            f"FV{draw.randint(12, 16)} {''.join(draw.choices('ABCEGHJKPRS', k=3))},"
            f"{draw.choice(vehicles)},{one('person')},{draw.randint(4_000, 240_000)},"
            f"2025-{draw.randint(1, 12):02}-28"
        ),
        "invoices": lambda n: (
            f"{n},{one('firm')},2023-{draw.randint(1, 12):02}-{draw.randint(1, 28):02},"
            f"{draw.randint(20, 4000)}.{draw.randint(0, 99):02},{draw.choice(('paid', 'open'))}"
        ),
        "members": lambda n: (
            f"{n},{one('person')},{one('place')},{draw.randint(1972, 2023)},"
            f"{draw.choice(('annual', 'annual', 'family', 'junior'))}"
        ),
    }
    while True:
        number += 1
        yield makers[name](number)

"""Tasks whose answers are known, made from real text: retrieval, copies, quotes, and refusals.

All tasks follow from the texts and the seed. Retrieval hides made-up statements in a text, several
of the same wording with other keys beside the one that is asked for. Quotes ask for a sentence of
the text itself. Some of both are followed by their twin: the same document without the answer,
where the one right answer is `templates.REFUSAL`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mm1cli.prompts import prompt
from training import templates
from training.samples import Sample

TWIN_SHARE = 0.3
_KINDS, _KIND_WEIGHTS = ("retrieve", "quote", "copy"), (0.55, 0.3, 0.15)
_LAYOUTS, _LAYOUT_WEIGHTS = ("product", "after", "before", "both"), (0.35, 0.2, 0.15, 0.3)
_FEWEST_CHARACTERS = 1500  # about 512 tokens with the question
_LONGEST_COPY, _LONGEST_SENTENCE = 400, 300
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(A-Z])")
_WORD = re.compile(r"[A-Za-z]{6,}")


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or a paragraph, and what parts it from the next."""

    text: str
    after: str


class Generator:
    """Makes tasks out of `texts` (at least one of some words), none longer than `max_characters`.

    Iterating never ends and always gives the same tasks.
    """

    def __init__(self, texts: Sequence[str], seed: str, max_characters: int) -> None:
        self._texts = [units for text in texts if (units := _units(text))]
        if not self._texts:
            raise ValueError("no text to make tasks from")
        self._seed, self._max = seed, max_characters

    def __iter__(self) -> Iterator[Sample]:
        draw = random.Random(f"{self._seed} generated")
        makers = {"retrieve": self._retrieve, "quote": self._quote, "copy": self._copy}
        while True:
            kind = draw.choices(_KINDS, _KIND_WEIGHTS)[0]
            yield from makers[kind](draw)

    def _retrieve(self, draw: random.Random) -> list[Sample]:
        wording, question = draw.choice(templates.FACTS)
        count = draw.randint(2, max(2, min(9, self._max // 200)))
        keys, values = _keys(draw, count), _values(draw, count)
        statements = [
            wording.format(key=key, value=value) for key, value in zip(keys, values, strict=True)
        ]
        units = self._stretch(draw, sum(map(len, statements)))
        hidden = _hide(draw, units, statements)
        layout = _Layout.drawn(draw, question.format(key=keys[0]))
        found = [layout.sample(hidden, values[0])]
        if draw.random() < TWIN_SHARE:
            without = [unit for unit in hidden if unit.text != statements[0]]
            found.append(layout.sample(without, templates.REFUSAL))
        return found

    def _quote(self, draw: random.Random) -> list[Sample]:
        units = self._stretch(draw)
        places = [n for n, unit in enumerate(units) if _is_sentence(unit.text)]
        if not places:
            return []
        at = draw.choice(places)
        whole, sentence = _join(units), units[at].text
        if whole.count(sentence) != 1:
            return []
        words = [word for word in set(_WORD.findall(sentence)) if _occurs(word, whole) == 1]
        if words and draw.random() < 0.7:
            question = draw.choice(templates.QUOTES).format(word=draw.choice(sorted(words)))
            layout = _Layout.drawn(draw, question)
            found = [layout.sample(units, sentence)]
            if draw.random() < TWIN_SHARE:
                found.append(layout.sample(units[:at] + units[at + 1 :], templates.REFUSAL))
            return found
        if at + 1 not in places:
            return []
        following = units[at + 1].text
        question = draw.choice(templates.FOLLOWING).format(sentence=sentence)
        return [_Layout.drawn(draw, question).sample(units, following)]

    def _copy(self, draw: random.Random) -> list[Sample]:
        units = self._stretch(draw)
        if draw.random() < 0.5:
            room = min(_LONGEST_COPY, self._max // 3)
            passage = _join(units[: draw.randint(1, 4)])[:room].strip()
            return [Sample(draw.choice(templates.COPIES).format(document=passage), passage)]
        lines = [unit.text for unit in units if "\n" not in unit.text]
        lines = [line for line in lines if len(line) <= _LONGEST_SENTENCE][: draw.randint(3, 30)]
        if not lines:
            return []
        number = draw.randrange(len(lines))
        text = draw.choice(templates.LINES).format(document="\n".join(lines), number=number + 1)
        return [Sample(text, lines[number])]

    def _stretch(self, draw: random.Random, reserved: int = 0) -> list[Unit]:
        """Units that follow each other, of one text as long as it lasts.

        Their length is drawn evenly on a logarithmic scale.
        """
        room = max(self._max - reserved - len(prompt("system")) - 300, 80)
        least = min(_FEWEST_CHARACTERS, room)
        size = int(least * (room / least) ** draw.random())
        found: list[Unit] = []
        length = 0
        while length < size:
            text = draw.choice(self._texts)
            for unit in text[draw.randrange(len(text)) :]:
                if length + len(unit.text) > size:
                    return found or [Unit(unit.text[:size].strip(), "\n\n")]
                found.append(unit)
                length += len(unit.text) + len(unit.after)
        return found


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the question stands, the same for a task and its twin."""

    wording: str
    question: str
    system: str = ""

    @classmethod
    def drawn(cls, draw: random.Random, question: str) -> "_Layout":
        name = draw.choices(_LAYOUTS, _LAYOUT_WEIGHTS)[0]
        if name == "product":  # as mm1cli asks
            wording = "{document}" + prompt("question") + "{question}"
            return cls(wording, question, prompt("system"))
        choices = {"after": templates.AFTER, "before": templates.BEFORE, "both": templates.BOTH}
        system = prompt("system") if draw.random() < 0.5 else ""
        return cls(draw.choice(choices[name]), question, system)

    def sample(self, units: Sequence[Unit], answer: str) -> Sample:
        text = self.wording.format(document=_join(units), question=self.question)
        return Sample(text, answer, self.system)


def _units(text: str) -> list[Unit]:
    """Prose by sentences, its lines unwrapped; anything else by paragraphs."""
    units: list[Unit] = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").splitlines()
        if not paragraph.strip() or len(paragraph) > 20_000:
            continue
        if re.match(r"[A-Z\"']", lines[0]) and not any(x.startswith((" ", "\t")) for x in lines):
            sentences = _SENTENCE.split(" ".join(line.strip() for line in lines))
            units += [Unit(sentence, " ") for sentence in sentences]
        else:
            units += [Unit(line.rstrip(), "\n") for line in lines if line.strip()]
        units[-1] = replace(units[-1], after="\n\n")
    return units


def _join(units: Sequence[Unit]) -> str:
    return "".join(unit.text + unit.after for unit in units).rstrip()


def _is_sentence(text: str) -> bool:
    ends = text[:1].isupper() and text[-1:] in ".!?"
    return ends and 40 <= len(text) <= _LONGEST_SENTENCE and "\n" not in text


def _occurs(word: str, text: str) -> int:
    return len(re.findall(rf"{re.escape(word)}", text, re.IGNORECASE))


def _hide(draw: random.Random, units: Sequence[Unit], statements: Sequence[str]) -> list[Unit]:
    """The statements at drawn depths of the text, each where a unit ends."""
    hidden = list(units)
    for statement in statements:
        at = draw.randint(0, len(hidden))
        after = hidden[at - 1].after if at else "\n\n"
        hidden.insert(at, Unit(statement, after))
    return hidden


def _keys(draw: random.Random, count: int) -> list[str]:
    """Different keys of one kind, none of which is part of another."""
    kind = draw.randrange(3)
    keys: list[str] = []
    while len(keys) < count:
        if kind == 0:
            key = f"{draw.choice(templates.ADJECTIVES)} {draw.choice(templates.NOUNS)}"
        elif kind == 1:
            key = _name(draw)
        else:
            key = (
                f"{draw.choice('ABCDEFGHKLMNPRSTVWXZ')}{draw.randint(10, 99)}-{draw.randint(1, 9)}"
            )
        if not any(key in other or other in key for other in keys):
            keys.append(key)
    return keys


def _values(draw: random.Random, count: int) -> list[str]:
    """Different values of one kind: numbers of so many digits, words, or codes."""
    kind, digits = draw.randrange(4), draw.randint(3, 9)
    values: list[str] = []
    while len(values) < count:
        if kind <= 1:
            value = str(draw.randrange(10 ** (digits - 1), 10**digits))
        elif kind == 2:
            value = f"{draw.choice(templates.ADJECTIVES)} {draw.choice(templates.NOUNS)}"
        else:
            value = f"{_name(draw)[:4].upper()}-{draw.randint(100, 9999)}"
        if value not in values:
            values.append(value)
    return values


def _name(draw: random.Random) -> str:
    parts = (draw.choice(templates.SYLLABLES) for _ in range(draw.randint(2, 4)))
    return "".join(parts).capitalize()

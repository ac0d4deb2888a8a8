"""Needles in a text that lies on every machine: what `mm1 models calibrate` measures a model with.

The text is the language reference that comes with Python. The same model gets the same probe.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from engine.api import Tokenizer
from engine.model_files import Needle, Probe
from mm1cli.answering.prompt import question_prompt

NUM_TOKENS = 8_000
_DIGITS = 7
_CHARS_PER_TOKEN = 5  # more than a tokenizer needs for English
_NAMES = (
    "the lighthouse at Varn", "the vault of Ostrow", "the archive in Kelm",
    "the observatory of Tessin", "the mill at Dorrit", "the harbour office of Lunde",
    "the chapel on Skarholm", "the depot in Brack", "the nursery at Fenwick",
    "the tollhouse of Marre", "the printing house in Olsk", "the reservoir above Pell",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A needle with its question in words and its number."""

    needle: Needle
    question: str
    number: str


def make(tokenizer: Tokenizer, num_tokens: int = NUM_TOKENS) -> tuple[Probe, list[Asked]]:
    """The documents with all needles, and the needles in order."""
    chosen = random.Random(0)
    numbers = [str(chosen.randrange(10 ** (_DIGITS - 1), 10**_DIGITS)) for _ in _NAMES]
    said = [
        f"The registration number of {name} is {number}.\n\n"
        for name, number in zip(_NAMES, numbers, strict=True)
    ]
    pieces = _pieces(tokenizer, num_tokens, len(_NAMES) + 1)
    texts = [text for pair in zip(pieces, [*said, ""], strict=True) for text in pair if text]
    prompt = question_prompt(tokenizer, texts, "")
    head = len(prompt.head.token_ids)
    counts = [len(tokenizer.encode(text)) for text in texts]
    starts = [head, *accumulate(counts, initial=head)][1:]
    asked = []
    for index, (name, number) in enumerate(zip(_NAMES, numbers, strict=True)):
        question = f"What is the registration number of {name}? Answer with the number only."
        opening = f"The registration number of {name} is "
        answer = tokenizer.encode(opening + number)
        scored = len(answer) - _common(answer, tokenizer.encode(opening))
        rest = question_prompt(tokenizer, texts, question).rest.token_ids
        needle = Needle(starts[2 * index + 1], rest, answer, scored)
        asked.append(Asked(needle, question, number))
    return Probe(prompt.prefix, [one.needle for one in asked], head), asked


def _pieces(tokenizer: Tokenizer, num_tokens: int, count: int) -> list[str]:
    """`count` stretches of prose, in all about `num_tokens`."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))[: _CHARS_PER_TOKEN * num_tokens]
    num_chars = int(len(text) * min(1.0, num_tokens / len(tokenizer.encode(text))))
    size = num_chars // count
    return [text[at * size : (at + 1) * size] + "\n\n" for at in range(count)]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )

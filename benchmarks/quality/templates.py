"""Needle templates for TESTS. Training has others and must not use these."""

import random
from dataclasses import dataclass

_PLACES = (
    *("Ostrava", "Lugano", "Tromsø", "Cádiz", "Gdynia", "Aarhus", "Split", "Bergamo"),
    *("Odense", "Namur", "Perpignan", "Tampere", "Kaunas", "Varna", "Trieste", "Coimbra"),
)
_THINGS = ("heron", "lantern", "anchor", "walnut", "falcon", "copper", "saddle", "thistle")
NUM_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence that gives `value` for `key`, the question for it, and how the answer begins."""

    key: str
    value: str
    sentence: str
    question: str
    answer_begins: str


@dataclass(frozen=True, slots=True)
class Template:
    sentence: str
    question: str
    answer_begins: str

    def fill(self, key: str, value: str) -> Needle:
        return Needle(
            key,
            value,
            self.sentence.format(key=key, value=value),
            self.question.format(key=key),
            self.answer_begins.format(key=key),
        )


TEMPLATES = (
    Template(
        "The vault of the bank in {key} opens with the combination {value}.",
        "Which combination opens the vault of the bank in {key}?",
        "The vault of the bank in {key} opens with the combination",
    ),
    Template(
        "According to the register, the parcel sent from {key} has the tracking number {value}.",
        "What is the tracking number of the parcel sent from {key}?",
        "The parcel sent from {key} has the tracking number",
    ),
    Template(
        "Whoever calls the night desk in {key} should dial extension {value}.",
        "Which extension should one dial to call the night desk in {key}?",
        "To call the night desk in {key} one should dial extension",
    ),
    Template(
        "The serial number engraved on the clock in {key} reads {value}.",
        "What does the serial number engraved on the clock in {key} read?",
        "The serial number engraved on the clock in {key} reads",
    ),
)

# For keys with several values, and for several keys asked for at once.
REFERENCE = Template(
    "A reference number filed under {key} is {value}.",
    "Which reference numbers are filed under {key}? Give all of them.",
    "The reference numbers filed under {key} are",
)


def value(draw: random.Random) -> str:
    return str(draw.randrange(10 ** (NUM_DIGITS - 1), 10**NUM_DIGITS))


def keys(draw: random.Random, count: int) -> list[str]:
    """Distinct keys: places, or streets in places where more are wanted."""
    if count <= len(_PLACES):
        return draw.sample(_PLACES, count)
    streets = [f"{thing.capitalize()} Street, {place}" for place in _PLACES for thing in _THINGS]
    return draw.sample(streets, count)


def needles(seed: int, count: int = 1) -> list[Needle]:
    """`count` needles of one template with distinct keys and distinct values."""
    draw = random.Random(seed)
    template = TEMPLATES[seed % len(TEMPLATES)]
    values: dict[str, None] = {}
    while len(values) < count:
        values[value(draw)] = None
    return [template.fill(key, v) for key, v in zip(keys(draw, count), values, strict=True)]

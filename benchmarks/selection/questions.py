"""What is hidden and asked for, by kind; none of it was used to find a model's settings."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FACTS = Path(__file__).with_name("facts.jsonl")
NUM_SEEDS = 3
_DIGITS = 7


class Kind(StrEnum):
    NEEDLE = "needles"
    FOUR = "4 keys of one template"
    SIXTEEN = "16 keys of one template"
    TWO = "two needles at once"
    PARAPHRASED = "paraphrased"
    NATURAL = "natural facts"


@dataclass(frozen=True, slots=True)
class Hidden:
    """Something to be asked for. `texts` are sentences to put in at `depths` (0 to 1), or, without
    depths, quotes that stand somewhere in the texts. Right is an answer with all numbers, or with
    one of the words, in `answers`. Nothing answers `twin`, if there is one."""

    name: str
    kind: Kind
    texts: tuple[str, ...]
    depths: tuple[float, ...]
    question: str
    answers: tuple[str, ...]
    twin: str = ""

    def in_form(self, question: str) -> str:
        """`question`, which is its own or the twin, with what the answer is to be."""
        if self.kind is Kind.NATURAL:
            return question
        what = "two numbers" if self.kind is Kind.TWO else "number"
        return f"{question} Answer with the {what} only."


# A sentence and its question, three subjects, and one that nothing is said of.
_NEEDLES = (
    ("The parcel for {} was logged under waybill {}.",
     "Under which waybill was the parcel for {} logged?",
     ("Ingrid Solheim", "Tomas Aguirre", "Wen Ruolan", "Olga Brandt")),
    ("The pump house at {} draws power through meter {}.",
     "Through which meter does the pump house at {} draw power?",
     ("Kettle Weir", "Ashby Lock", "Danner Sluice", "Penrose Gate")),
    ("The ferry {} sails under licence {}.",
     "Under which licence does the ferry {} sail?",
     ("Kittiwake", "Old Margaret", "Sunniva", "Black Tern")),
    ("Tests of the vaccine {} are filed under protocol {}.",
     "Under which protocol are tests of the vaccine {} filed?",
     ("Orvaxin", "Beltamune", "Trisovar", "Lumecine")),
    ("The painting {} has the inventory number {}.",
     "Which inventory number does the painting {} have?",
     ("Woman with a Jug", "The Salt Road", "Three Herons", "Snow at Evening")),
    ("The insurance of {} runs under policy {}.",
     "Under which policy does the insurance of {} run?",
     ("Dobson's bakery", "the Calloway theatre", "Henrik's garage", "the Marlow stables")),
    ("The locomotive {} bears the works number {}.",
     "Which works number does the locomotive {} bear?",
     ("Saint Hubert", "Emperor Maple", "Lady Corwen", "Iron Duchess")),
    ("The seismograph on {} reports to station {}.",
     "To which station does the seismograph on {} report?",
     ("Mount Halder", "Cape Torrin", "Gull Island", "Mount Sable")),
    ("The grant for {} was booked to account {}.",
     "To which account was the grant for {} booked?",
     ("Professor Lindqvist", "Doctor Okafor", "the Tarn Institute", "Doctor Haverkamp")),
    ("The spare key of the villa {} hangs on hook {}.",
     "On which hook does the spare key of the villa {} hang?",
     ("Belmonte", "Sorrel", "Quintana", "Aurelia")),
)  # fmt: skip
_FOUR = (
    "The mailbox in {} is opened by code {}.",
    "Which code opens the mailbox in {}?",
    ("Tanner Row", "Lime Street", "Copper Lane", "Mill Court"),
    ("Abbot Square", "Fisher Alley"),
)
_SIXTEEN = (
    "The allotment of {} is entered as plot {}.",
    "As which plot is the allotment of {} entered?",
    ("Anders", "Barlow", "Cresswell", "Dunmore", "Ellery", "Farrow", "Gantry", "Hollis",
     "Ivers", "Jardine", "Kimble", "Latham", "Mercer", "Norland", "Osgood", "Pruitt"),
    ("Quayle", "Renshaw"),
)  # fmt: skip
_TWO_AT_ONCE = (
    ("The customs seal of the barge Halcyon is {}.",
     "The berth permit of the barge Meridian is {}.",
     "What are the customs seal of the barge Halcyon and the berth permit of the barge Meridian?"),
    ("The pilot Rasmussen holds certificate {}.",
     "The navigator Ferrand holds certificate {}.",
     "Which certificates do the pilot Rasmussen and the navigator Ferrand hold?"),
    ("The north reactor was inspected under order {}.",
     "The turbine hall was painted under order {}.",
     "Under which orders were the north reactor inspected and the turbine hall painted?"),
    ("The violin from Cremona was sold as lot {}.",
     "The cello from Mirecourt was sold as lot {}.",
     "As which lots were the violin from Cremona and the cello from Mirecourt sold?"),
    ("The botanist Iveson catalogued the fern as {}.",
     "The botanist Marchetti catalogued the moss as {}.",
     "As what did Iveson catalogue the fern, and Marchetti the moss?"),
)  # fmt: skip
# A sentence, a question that shares no word of content with it but the subject, and an absent one.
_PARAPHRASED = (
    ("{} can be rung up on {}.", "Which telephone line belongs to {}?",
     "Elvira Nagy", "Petra Voss"),
    ("{} changed hands for {} crowns.", "What price did a buyer pay for {}?",
     "Thornfield Lodge", "Harrow Lodge"),
    ("In {} some {} people live nowadays.", "How large is the population of {}?",
     "Marrowby", "Stanwick"),
    ("{} earns {} krone a year.", "How much salary does the firm pay to {}?",
     "Bruno Falk", "Mikkel Storm"),
    ("At {} one types {} to get into the vault.", "Which combination opens the safe of {}?",
     "Calder Brothers", "Winslow Brothers"),
    ("{} lies {} miles away from us.", "What is the distance to the asteroid {}?",
     "Ilmarinen", ""),
    ("{} has sold {} copies so far.", "How many books did readers buy from {}?",
     "Orlin Press", ""),
    ("{} flew {} passengers last season.", "How many travellers did {} carry?",
     "Veldt Airways", ""),
    ("The dam above {} holds {} litres.", "What is the capacity of the reservoir near {}?",
     "Oxmoor", ""),
    ("Prosecutors want {} to hand over {} francs.", "How big is the fine that {} faces?",
     "Lucan Steel", ""),
)  # fmt: skip


def hidden(num_seeds: int = NUM_SEEDS) -> list[Hidden]:
    """All of it, the same in every run. `num_seeds` of the needles at each of ten depths."""
    return [*_needles(num_seeds), *_keys(), *_two_at_once(), *_paraphrased(), *_facts()]


def _needles(num_seeds: int) -> Iterator[Hidden]:
    numbers = _numbers("needles")
    for depth, (sentence, question, subjects) in enumerate(_NEEDLES):
        for seed in range(NUM_SEEDS):
            number = next(numbers)
            if seed < num_seeds:
                yield Hidden(
                    f"needle {depth}.{seed}",
                    Kind.NEEDLE,
                    (sentence.format(subjects[seed], number),),
                    ((depth + (seed + 0.5) / NUM_SEEDS) / len(_NEEDLES),),
                    question.format(subjects[seed]),
                    (number,),
                    "" if seed else question.format(subjects[-1]),
                )


def _keys() -> Iterator[Hidden]:
    for kind, (sentence, question, names, absent) in ((Kind.FOUR, _FOUR), (Kind.SIXTEEN, _SIXTEEN)):
        numbers = _numbers(kind)
        for at, name in enumerate(names):
            number = next(numbers)
            yield Hidden(
                f"{kind} {at}",
                kind,
                (sentence.format(name, number),),
                ((at + 0.3) / len(names),),
                question.format(name),
                (number,),
                question.format(absent[at]) if at < len(absent) else "",
            )


def _two_at_once() -> Iterator[Hidden]:
    numbers = _numbers(Kind.TWO)
    for at, (one, other, question) in enumerate(_TWO_AT_ONCE):
        answers = (next(numbers), next(numbers))
        texts = (one.format(answers[0]), other.format(answers[1]))
        near = (at + 0.6) / (2 * len(_TWO_AT_ONCE))
        name = f"{Kind.TWO} {at}"
        yield Hidden(name, Kind.TWO, texts, (near, near + 0.5), question, answers)


def _paraphrased() -> Iterator[Hidden]:
    numbers = _numbers(Kind.PARAPHRASED)
    for at, (sentence, question, subject, absent) in enumerate(_PARAPHRASED):
        number = next(numbers)
        yield Hidden(
            f"{Kind.PARAPHRASED} {at}",
            Kind.PARAPHRASED,
            (sentence.format(subject, number),),
            ((at + 0.8) / len(_PARAPHRASED),),
            question.format(subject),
            (number,),
            question.format(absent) if absent else "",
        )


def _facts() -> Iterator[Hidden]:
    for at, line in enumerate(FACTS.read_text(encoding="utf-8").splitlines()):
        fact = json.loads(line)
        quote, answers = (fact["quote"],), tuple(fact["answers"])
        question, twin = fact["question"], fact["twin"]
        yield Hidden(f"{Kind.NATURAL} {at}", Kind.NATURAL, quote, (), question, answers, twin)


def _numbers(seed: str) -> Iterator[str]:
    draw = random.Random(seed)
    while True:
        yield str(draw.randrange(10 ** (_DIGITS - 1), 10**_DIGITS))

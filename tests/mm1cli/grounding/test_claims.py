"""Red here means that a wrong sentence stands beside evidence as if it were proven."""

import pytest

from mm1cli.grounding.attribution import LogProbGain
from mm1cli.grounding.claims import Candidate, claims
from mm1cli.grounding.judgement import UNMEASURED, ByAnswer, Weights
from mm1cli.grounding.support import judge
from mm1cli.result import Claim, Mark
from tests.evidence.claims import SPLITS, pairs

PRICE = "Alder GmbH keeps the old price until 30 September under its frame contract. Ines"
PRICES = "notes.md: Bridges\ncity bridge cost\n| Hask | South crossing | 7.1 million crowns |"
ROWS = "vehicle plate driver kilometres\nvan\tA1\tMs Orr\t120\nvan\tA7\tMr Ray\t900"


def marks(sentence: str, *quotes: str, gain: float | None = None) -> Claim:
    scored = None if gain is None else LogProbGain((gain,), (len(sentence),))
    found = [Candidate(number, text, scored) for number, text in enumerate(quotes, 1)]
    (claim,) = claims(sentence, found)
    return claim


@pytest.mark.parametrize(
    ("quote", "sentence", "gain", "mark"),
    [
        ("It ends on 31 January 2027.", "It ends on 31 January 2027.", -9.0, Mark.CARRIED),
        ("The MSA expires on 31 January 2027.", "The MSA ends on 2027-01-31.", 0.9, Mark.CARRIED),
        ("The rent is 18,450.", "The rent is 18,540.", 9.0, Mark.CONTRADICTED),
        ("The rent is 118,450.", "The rent is 18,450.", 9.0, Mark.CONTRADICTED),
        ("The rent is 18,450.", "It costs a lot.", 9.0, Mark.NOT_CARRIED),
        (PRICE, "Alder GmbH keeps the old price.", 0.9, Mark.CARRIED),
        (PRICE, "Ines keeps the old price.", 9.0, Mark.NOT_CARRIED),
        ("It was linked to more equality.", "It was linked to inequality.", 9.0, Mark.CONTRADICTED),
        ("The bridge has not opened.", "The bridge opened in full.", 9.0, Mark.CONTRADICTED),
        ("A fine of EUR 5 is due.", "A fine of USD 5 is due.", 9.0, Mark.CONTRADICTED),
        ("The term is two years.", "The term is 24 months.", 0.9, Mark.CARRIED),
        ("Humidity never fell below 70 %.", "Humidity was at least 70 %.", None, Mark.CARRIED),
        ("Files expire unless pinned.", "Pinned files expire.", 9.0, Mark.CONTRADICTED),
        ("Nine of the wells are deep.", "All the wells are deep.", 9.0, Mark.CONTRADICTED),
        ("5 in the old hall, 7 in the new hall.", "7 in the old hall.", 9.0, Mark.CONTRADICTED),
        ("Vera sold it to Jan.", "Jan bought it of Vera.", None, Mark.CARRIED),
        ("Vera sold it to Jan.", "Vera bought it of Jan.", 9.0, Mark.CONTRADICTED),
        ("It took an hour and a half.", "It took 90 minutes.", None, Mark.CARRIED),
        ("Dr. Roe, who came in 2016, left.", "Dr. Roe came in 2016.", None, Mark.CARRIED),
        ("Ada is lighter than Eve.", "Eve is heavier than Ada.", None, Mark.CARRIED),
        ("Ada is lighter than Eve.", "Eve is lighter than Ada.", 9.0, Mark.CONTRADICTED),
        ("It runs every half hour.", "It runs every 30 minutes.", None, Mark.CARRIED),
        ("We checked 64 of 310 bills.", "We checked 310 bills.", None, Mark.NOT_CARRIED),
        ("It holds only for even n.", "It holds for all n.", 9.0, Mark.CONTRADICTED),
        ("Ada gave the club a boat.", "The club gave Ada a boat.", 9.0, Mark.CONTRADICTED),
        (ROWS, "Van A7 has 900 kilometres.", None, Mark.CARRIED),
        (PRICES, "The South crossing cost 7.1 million crowns.", None, Mark.CARRIED),
        (PRICES, "The South crossing cost 9 million crowns.", None, Mark.CONTRADICTED),
        (ROWS, "Van A7 has 120 kilometres.", 9.0, Mark.CONTRADICTED),
        (ROWS, "Ms Orr drives van A7.", 9.0, Mark.CONTRADICTED),
        ("The bid of Orr Ltd was refused.", "Orr Ltd refused the bid.", 9.0, Mark.NOT_CARRIED),
        ("The bid was refused by Orr Ltd.", "Orr Ltd refused the bid.", None, Mark.CARRIED),
        ("The door is 94 cm high.", "The door is 94 cm wide.", 9.0, Mark.NOT_CARRIED),
        ("No dog may  be kept here.", "It says “dog may be kept here”.", -9.0, Mark.CARRIED),
        ("No dog may be kept here.", "It says “a dog may be kept here”.", -9.0, Mark.CONTRADICTED),
    ],
)
def test_a_quote_carries_what_it_says_and_not_what_it_denies(quote, sentence, gain, mark):
    """Red: an opposite, another number, unit or subject passes, or a restatement does not."""
    assert marks(sentence, quote, gain=gain).mark is mark


HUT = "The hut cost 12.5 million crowns. The council spent 3.5 million crowns on schools in 1998."


@pytest.mark.parametrize(
    ("question", "answer", "mark"),
    [
        ("What did the hut cost?", "12.5 million crowns", Mark.CARRIED),
        ("How much did the hut cost?", "12.5 million.", Mark.CARRIED),
        ("What did the hut cost?", "3.5 million crowns.", Mark.CONTRADICTED),
        ("What did the bridge cost?", "12.5 million crowns.", Mark.NOT_CARRIED),
        ("What did the council spend on schools?", "12.5 million crowns", Mark.CONTRADICTED),
        ("When was the hut sold?", "in 1998", Mark.NOT_CARRIED),
        ("Who spent 3.5 million crowns on schools in 1998?", "The council.", Mark.CARRIED),
        ("What did it cost?", "The hut cost 12.5 million crowns.", Mark.CARRIED),
        ("", "12.5 million crowns", Mark.CARRIED),
    ],
)
def test_a_figure_is_judged_as_the_answer_to_its_question(question, answer, mark):
    """Red: a true figure of another thing is carried, or the right one has no evidence."""
    (claim,) = claims(answer, [Candidate(1, HUT)], question=question)
    assert claim.mark is mark


def test_figures_of_several_things_are_judged_one_by_one():
    """Red: "21 pupils in class A and 13 in class B" is contradicted by the text it is from."""
    quote = Candidate(1, "Class A has 21 pupils. Class B has 13 pupils.")
    asked = "How many pupils are in class A and class B?"
    (claim,) = claims("21 pupils in class A and 13 pupils in class B.", [quote], question=asked)
    assert claim.mark is Mark.CARRIED
    (claim,) = claims("13 pupils in class A and 21 pupils in class B.", [quote], question=asked)
    assert claim.mark is Mark.CONTRADICTED


def test_what_words_leave_open_needs_the_model():
    """Red: a paraphrase is carried without anybody having judged it, or never."""
    quote = "The bridge cost 5 crowns to build."
    sentence = "The cost to build the bridge was merely 5 crowns."
    assert judge(sentence, quote).mark is None
    assert marks(sentence, quote).mark is Mark.NOT_CARRIED
    assert marks(sentence, quote, gain=UNMEASURED.gain - 0.1).mark is Mark.NOT_CARRIED
    assert marks(sentence, quote, gain=UNMEASURED.gain + 0.1).mark is Mark.CARRIED


@pytest.mark.parametrize(
    ("sentence", "says", "mark"),
    [
        ("The bridge cost merely 5 crowns.", 3.0, Mark.CARRIED),
        ("The bridge cost merely 5 crowns.", -3.0, Mark.NOT_CARRIED),
        ("It cost 5 crowns to build the bridge.", -3.0, Mark.NOT_CARRIED),
        ("The bridge cost 6 crowns.", 3.0, Mark.CONTRADICTED),
        ("The bridge cost 5 crowns to build", -3.0, Mark.CARRIED),
    ],
)
def test_a_model_is_asked_of_all_that_no_number_decides(sentence, says, mark):
    """Red: an answer of the model is not heard, or outweighs a number, or the sentence itself."""
    weights = Weights(carried=1, open=0, contradicted=-1, says=1, coverage=0)
    asked = ByAnswer(weights, lambda _, texts: [says] * len(texts))
    (claim,) = claims(sentence, [Candidate(1, "The bridge cost 5 crowns to build.")], asked)
    assert claim.mark is mark


def test_every_sentence_is_a_claim_and_names_what_carries_it():
    """Red: an invented sentence stands beside a proven one and looks like it."""
    answer = "The cat sat down. It cost 5 crowns."
    pieces = [Candidate(1, "The cat sat down."), Candidate(2, "It cost 5 crowns.")]
    assert claims(answer, pieces) == (Claim(0, 17, (1,)), Claim(18, 35, (2,)))
    assert claims("", pieces) == claims(" \n", pieces) == ()
    assert claims(answer, []) == (Claim(0, 17, ()), Claim(18, 35, ()))


def test_a_second_quote_that_says_otherwise_is_named():
    """Red: of two amendments the older one carries the answer, and nobody hears of the newer."""
    claim = marks(
        "The term ends on 30 June 2026.",
        *(f"The term ends on {date}." for date in ("30 June 2026", "31 December 2026")),
    )
    assert (claim.citations, claim.against, claim.mark) == ((1,), (2,), Mark.CONTRADICTED)
    other = marks(
        "The term ends on 30 June 2026.",
        "The term ends on 30 June 2026.",
        "The rent of the flat is due on 3 May 2026.",
    )
    assert other.mark is Mark.CARRIED


LEASE = (
    "LEASE AGREEMENT 2\nLandlord: Anna Berg\nTenant: Tom Li",
    "The notice period is three months to the end of a month.",
    "The rent is EUR 1,450 a month.",
)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("The landlord is Anna Berg and the notice period is three months.", [(1, 2)]),
        ("The landlord is Tom Li and the notice period is three months.", [()]),
        ("The landlord is Anna Berg; the rent is EUR 1,450 a month.", [(1, 3)]),
        ("According to the lease, the notice period is three months.", [(2,)]),
        ("The lease names:\n- Landlord: Anna Berg\n- Notice period: three months", [(1,), (2,)]),
    ],
)
def test_what_is_said_in_two_quotes_is_carried_by_both(answer, told):
    """Red: a right answer of two parts, or a list, is called unproven, or a wrong part passes."""
    found = claims(answer, [Candidate(number, text) for number, text in enumerate(LEASE, 1)])
    assert [claim.citations for claim in found] == told
    assert not any(claim.against for claim in found)


def test_a_part_that_a_quote_denies_and_a_heading_that_says_nothing():
    """Red: half of a sentence is wrong and nobody hears of it, or a title's number is."""
    half = marks("The landlord is Anna Berg and the notice period is six months.", *LEASE)
    assert (half.citations, half.against) == ((), (2,))
    assert marks("LEASE AGREEMENT 1", *LEASE).mark is Mark.NOT_CARRIED


def test_the_set_is_what_its_numbers_say():
    """Red: precision and recall are published of a set that is not there, or is one-sided."""
    assert len({(one.sentence, one.quote) for one in pairs()}) == len(pairs()) >= 200
    hard = {"negation", "subject", "swapped", "year", "unit"}
    assert sum(one.kind in hard for one in pairs()) >= len(pairs()) / 3
    quotes = [{one.quote for one in pairs() if one.split == split} for split in SPLITS]
    assert all(quotes) and sum(map(len, quotes)) == len(set().union(*quotes))


def test_words_alone_are_right_about_the_set():
    """Red: a change lets opposites pass, or restatements fail, without anybody noticing."""
    dev = [one for one in pairs() if one.split == "dev"]
    told = [one for one in dev if judge(one.sentence, one.quote).mark is Mark.CARRIED]
    right = sum(one.mark is Mark.CARRIED for one in told)
    assert right >= 0.9 * len(told) and right >= 50

"""Red here means that a wrong sentence stands beside evidence as if it were proven."""

import pytest

from mm1cli.grounding.attribution import LogProbGain
from mm1cli.grounding.claims import Candidate, claims
from mm1cli.grounding.support import judge
from mm1cli.grounding.thresholds import UNMEASURED
from mm1cli.result import Claim, Mark
from tests.evidence.claims import pairs

PRICE = "Alder GmbH keeps the old price until 30 September under its frame contract. Ines"


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
        ("No dog may  be kept here.", "It says “dog may be kept here”.", -9.0, Mark.CARRIED),
        ("No dog may be kept here.", "It says “a dog may be kept here”.", -9.0, Mark.CONTRADICTED),
    ],
)
def test_a_quote_carries_what_it_says_and_not_what_it_denies(quote, sentence, gain, mark):
    """Red: an opposite, another number, unit or subject passes, or a restatement does not."""
    assert marks(sentence, quote, gain=gain).mark is mark


def test_what_words_leave_open_needs_the_model():
    """Red: a paraphrase is carried without anybody having judged it, or never."""
    quote = "The bridge cost 5 crowns to build."
    sentence = "The cost to build the bridge was merely 5 crowns."
    assert judge(sentence, quote).mark is None
    assert marks(sentence, quote).mark is Mark.NOT_CARRIED
    assert marks(sentence, quote, gain=UNMEASURED.gain - 0.1).mark is Mark.NOT_CARRIED
    assert marks(sentence, quote, gain=UNMEASURED.gain + 0.1).mark is Mark.CARRIED


def test_every_sentence_is_a_claim_and_names_what_carries_it():
    """Red: an invented sentence stands beside a proven one and looks like it."""
    answer = "The cat sat down. It cost 5 crowns."
    pieces = [Candidate(1, "The cat sat down."), Candidate(2, "It cost 5 crowns.")]
    assert claims(answer, pieces) == (Claim(0, 17, (1,)), Claim(18, 35, (2,)))
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


def test_the_set_is_what_its_numbers_say():
    """Red: precision and recall are published of a set that is not there, or is one-sided."""
    assert len({(one.sentence, one.quote) for one in pairs()}) == len(pairs()) >= 200
    hard = {"negation", "subject", "swapped", "year", "unit"}
    assert sum(one.kind in hard for one in pairs()) >= len(pairs()) / 3
    dev, held_out = (
        {one.quote for one in pairs() if one.split == split} for split in ("dev", "held out")
    )
    assert dev and held_out and not dev & held_out


def test_words_alone_are_right_about_the_set():
    """Red: a change lets opposites pass, or restatements fail, without anybody noticing."""
    told = [one for one in pairs() if judge(one.sentence, one.quote).mark is Mark.CARRIED]
    right = sum(one.mark is Mark.CARRIED for one in told)
    assert right >= 0.9 * len(told) and right >= 50

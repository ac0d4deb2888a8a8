"""Red here means that warnings come from a threshold nobody measured, or not where they must."""

import pytest

from mm1cli.answering import doubts
from mm1cli.models.ability import ABILITIES, Ability
from mm1cli.result import WarningKind

KNOWN = Ability("known", "k", num_right=1, num_wrong=1, min_margin=1.0)
UNTRIED = Ability("untried", "u", num_right=1, num_wrong=1)


@pytest.mark.parametrize(
    ("margin", "ability", "is_carried", "wanted"),
    [
        (0.9, KNOWN, False, True),
        (0.9, KNOWN, True, False),  # something carries it
        (1.0, KNOWN, False, False),  # the evidence fits
        (-9.0, UNTRIED, False, False),
        (-9.0, None, False, False),
    ],
)
def test_both_signs_are_needed_and_a_measured_threshold(margin, ability, is_carried, wanted):
    """Red: an answer with evidence is doubted, or a model is judged by another's threshold."""
    assert doubts.is_doubtful(margin, ability, is_carried=is_carried) is wanted


def test_a_refusal_against_the_evidence_points_at_the_best_piece():
    """Red: a needless refusal leaves the reader with nothing."""
    found = doubts.refused_in_doubt(1.0, KNOWN)
    assert found is not None
    assert found.kind is WarningKind.MAY_BE_ANSWERED and found.citations == (1,)
    for margin, ability in ((0.9, KNOWN), (9.0, UNTRIED), (9.0, None)):
        assert doubts.refused_in_doubt(margin, ability) is None


def test_figures_of_models_are_shares():
    """Red: the table of abilities has an entry that nothing can be read from."""
    known = [each for one in ABILITIES for each in one.fingerprints]
    assert len(set(known)) == len(known) and all(len(each) == 64 for each in known)
    for one in ABILITIES:
        assert 0 <= one.reliability <= 1

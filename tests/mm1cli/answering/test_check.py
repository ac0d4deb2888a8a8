"""Red here means that a passage is said to carry what stands elsewhere in its document."""

from corpora import corpus

from mm1cli.answering.check import claims_of, is_carried
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.citations import cite
from mm1cli.grounding.judgement import UNMEASURED
from mm1cli.result import CitationKind, CitationStatus, Mark
from mm1cli.retrieval.passages import passages


def test_a_first_line_of_running_text_carries_nothing_for_other_passages():
    """Red: each passage of a letter carries its first sentence; or a lease's title is not seen."""
    letter = "The boat was built in 1928. It is raced.\n\nIts mast is new."
    lease = "Lease of unit 9\n\nThe rent is 740 a month."
    found = [one for passage in passages(corpus(letter, lease)) for one in passage.spans(1)]
    evidence = [Attributed(one, 0.0, None, None) for one in found]
    cited = [
        cite(n, one, CitationStatus.EXACT, CitationKind.EVIDENCE) for n, one in enumerate(found, 1)
    ]

    def carrying(sentence: str) -> list[str]:
        (claim,) = claims_of("", sentence, cited, evidence, UNMEASURED)
        return [found[number - 1].text for number in claim.citations]

    assert carrying("The boat was built in 1928.") == ["The boat was built in 1928."]
    assert carrying("The rent of unit 9 is 740 a month.") == ["The rent is 740 a month."]


def test_a_true_sentence_about_something_else_is_no_answer():
    """Red: the doubt whether the documents answer at all is silenced by what they say of meals."""
    (piece,) = (
        one
        for passage in passages(corpus("Meals are paid back up to 38 a day."))
        for one in passage.spans(1)
    )
    evidence = [Attributed(piece, 0.0, None, None)]
    cited = [cite(1, piece, CitationStatus.EXACT, CitationKind.EVIDENCE)]

    def carried(question: str) -> bool:
        claims = claims_of(question, piece.text, cited, evidence, UNMEASURED)
        assert [claim.mark for claim in claims] == [Mark.CARRIED]
        return is_carried(question, claims, cited, evidence)

    assert carried("How much is paid back for meals?")
    assert not carried("What does a parking place cost?")

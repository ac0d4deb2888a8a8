"""Red here means that a passage is said to carry what stands elsewhere in its document."""

from corpora import corpus

from mm1cli.answering.check import claims_of
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.citations import cite
from mm1cli.grounding.judgement import UNMEASURED
from mm1cli.result import CitationKind, CitationStatus
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

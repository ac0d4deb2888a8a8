"""Where what a model wrote stands, if no evidence carries it: found by the words of the sentence
itself, which are closer to those of its source than the question is."""

from collections.abc import Callable, Sequence
from math import nan

from mm1cli.answering.check import text_held
from mm1cli.grounding import replies
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.claims import words_say
from mm1cli.grounding.facts import facts
from mm1cli.grounding.statements import answering
from mm1cli.grounding.words import words
from mm1cli.result import Claim, Mark
from mm1cli.retrieval.passages import Passage
from mm1cli.retrieval.retriever import PIECE_SENTENCES

NUM_PASSAGES = 4  # looked through for a sentence

Search = Callable[[str, int], Sequence[Passage]]  # the passages nearest in words, so many


def sources(
    question: str, text: str, claims: Sequence[Claim], shown: Sequence[Attributed], search: Search
) -> list[Attributed]:
    """Pieces that carry by their words those `claims` of `text` that none of `shown` carries, one
    for each. What has neither number nor name stands in too many places to be looked for."""
    found: list[Attributed] = []
    for claim in claims:
        sentence = text[claim.start : claim.end]
        said = answering(question, sentence) if len(claims) == 1 else sentence
        is_particular = bool(facts(said)) or any(word.is_name for word in words(f"x {said}")[1:])
        if claim.mark is Mark.CARRIED or not is_particular or replies.says_nothing(question, said):
            continue
        wanted = {word.stem for word in words(said) if word.is_content}
        spans = (
            span
            for passage in search(said, NUM_PASSAGES)
            for span in passage.spans(PIECE_SENTENCES)
            if not any(span == one.passage for one in (*shown, *found))
        )
        carrying = (one for one in spans if _carries(question, said, wanted, text_held(one)))
        if (piece := next(carrying, None)) is not None:
            found.append(Attributed(piece, nan, None, None))
    return found


def _carries(question: str, said: str, wanted: set[str], text: str) -> bool:
    """What lacks half of the stems that are `wanted` is not judged, which takes much longer."""
    if 2 * len(wanted & {word.stem for word in words(text)}) < len(wanted):
        return False
    return words_say(said, text).mark is Mark.CARRIED and replies.speak_of(question, [text])

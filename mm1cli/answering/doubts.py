"""When an answer comes with a warning, and what it says.

That no document answers shows in two ways at once: the best passage makes the question hardly
likelier than no passage does, and nothing that was read carries the model's sentence. The threshold
is the model's own, measured (docs/models.md); where it was not, there is no such warning. A
question that names what no document names is doubted whatever the model.
"""

from collections.abc import Sequence
from pathlib import PurePath

from mm1cli.grounding.conflicts import Conflict, Side
from mm1cli.models.ability import Ability
from mm1cli.result import AnswerWarning, WarningKind, in_quotes


def is_doubtful(margin: float, ability: Ability | None, *, is_carried: bool) -> bool:
    """Whether the documents may not answer the question, though a sentence was written."""
    threshold = None if ability is None else ability.min_margin
    return threshold is not None and margin < threshold and not is_carried


def may_be_unanswered() -> AnswerWarning:
    return AnswerWarning(
        WarningKind.MAY_BE_UNANSWERED,
        "the documents may not answer this: little in them fits the question, and nothing carries "
        "what the model writes",
    )


def not_named(terms: Sequence[str]) -> AnswerWarning:
    """`terms` of the question stand in no document."""
    named = in_quotes(terms)
    text = f"the documents may not answer this: none of them names {named}"
    return AnswerWarning(WarningKind.MAY_BE_UNANSWERED, text)


def refused_in_doubt(margin: float, ability: Ability | None) -> AnswerWarning | None:
    """For a model that says it found nothing, where the evidence says otherwise."""
    threshold = None if ability is None else ability.min_margin
    if threshold is None or margin < threshold:
        return None
    text = "the model found nothing, but the first passage below may answer this"
    return AnswerWarning(WarningKind.MAY_BE_ANSWERED, text, (1,))


def disagree(conflict: Conflict) -> AnswerWarning:
    """The sides are the first citations, in their order."""
    said = [_said(number, side) for number, side in enumerate(conflict.sides, 1)]
    if conflict.known_by:
        end = f"; the first is later, by {conflict.known_by}"
    else:
        end = "; which is later is not known"
    numbers = tuple(range(1, len(said) + 1))
    return AnswerWarning(
        WarningKind.DISAGREE, f"the documents disagree: {', '.join(said)}{end}", numbers
    )


def _said(number: int, side: Side) -> str:
    date = f", {side.age.date}" if side.age.date is not None else ""
    name = PurePath(side.piece.passage.document.path).name
    return f"“{side.value}” [{number}] ({name}{date})"

"""What leads in an answer: the model's sentence, or the best piece of evidence word for word.

A small model finds what it cannot say: of `mini` the best piece is right twice as often as the
sentence (benchmarks/LOG.md). So a sentence leads where those of this very model were measured to be
right often enough. A model that nobody measured is not trusted, and the run says so.
"""

from mm1cli.answering.question import Question
from mm1cli.models.ability import Ability, measured
from mm1cli.result import Form
from mm1cli.settings import Settings

LEAST_RELIABILITY = 0.7  # of its sentences, right ones
UNMEASURED = 0.0


def leading(settings: Settings, ability: Ability | None, question: Question) -> Form:
    is_wanted = settings.write or question.schema is not None or question.is_instruction
    reliability = UNMEASURED if ability is None else ability.reliability
    return Form.WRITTEN if is_wanted or reliability >= LEAST_RELIABILITY else Form.EXTRACT


def sentences_lead(settings: Settings, fingerprint: str) -> bool:
    """Whether the model's own sentences are the answers to plain questions."""
    return leading(settings, measured(fingerprint), Question("?")) is Form.WRITTEN

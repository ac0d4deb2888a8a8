"""Which tokens see everything where layers have windows for document tokens.

The engine is told where documents end and a question begins (`Context.end_of_documents`). Training
data is packed end to end and knows answers only, so the tokens before an answer stand for its
question, which in a prompt of mm1 comes last.
"""

import torch
from torch import Tensor

from engine.layers.kv_cache import DifferentiableKV
from engine.model import LayerState

QUESTION_TOKENS = 64  # instruction, question and markup of a turn in mm1's own prompt


def border(prompt_tokens: int) -> int:
    """From where on the tokens of one prompt see everything."""
    return max(prompt_tokens - QUESTION_TOKENS, 0)


def global_mask(is_answer: Tensor) -> Tensor:
    """Whether each token is of an answer or at most `QUESTION_TOKENS` before one.

    `is_answer` [T] or [T, B] bool, a sequence in each column; the result is shaped alike.
    """
    before = torch.cat([torch.zeros_like(is_answer[:1], dtype=torch.int64), is_answer.cumsum(0)])
    ends = torch.arange(len(is_answer), device=is_answer.device) + QUESTION_TOKENS + 1
    return before[ends.clamp(max=len(is_answer))] > before[:-1]


def mark(states: list[LayerState], is_answer: Tensor) -> None:
    """Tells fresh `states` for training which of the tokens to come see everything."""
    mask = global_mask(is_answer)
    for state in states:
        if isinstance(state, DifferentiableKV):
            state.global_mask = mask

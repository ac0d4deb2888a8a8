"""What may be written next: a mask over token ids that follows the text as it grows."""

from typing import Protocol

from torch import Tensor


class Constraint(Protocol):
    """Follows one answer. Ids that end the answer are masked like all others, so a constraint
    also says when the answer may end; it allows at least one id at any time."""

    def allowed(self) -> Tensor | None:
        """The ids that may come next, [vocab] bool; None for all. Not changed by the caller."""

    def push(self, token_id: int) -> None:
        """`token_id` was written; it was allowed."""

"""What may be written next: a mask over token ids that follows the text as it grows."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Constraint(Protocol):
    """Follows one answer. Ids that end the answer are masked like all others, so a constraint
    also says when the answer may end; it allows at least one id at any time."""

    def allowed(self) -> Tensor | None:
        """The ids that may come next, [vocab] bool; None for all. Not changed by the caller."""

    def push(self, token_id: int) -> None:
        """`token_id` was written; it was allowed."""


@runtime_checkable
class CompletableConstraint(Constraint, Protocol):
    """A constraint that always knows a way to the end which fits the tokens that are left."""

    def begin(self, max_tokens: int) -> None:
        """Before the first token: how many may be written. Raises RoomError if no whole answer is
        that short."""

    def rejects(self, token_id: int) -> bool:
        """Whether an allowed id would leave too few tokens for the end. It is then no longer
        allowed; another one is."""

    def force_completion(self) -> None:
        """From now on only the way to the end is allowed."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer ends here."""

    @property
    def is_cut(self) -> bool:
        """Whether the end came because the tokens ran out."""

"""A context on a server: its tokens are here; what of them the server keeps is its own affair."""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError
from engine.protocols import (
    Judged,
    Numbers,
    OnProgress,
    OnScores,
    RetrievalHead,
    SelectedBlock,
)

if TYPE_CHECKING:
    from engine.remote.dialect import Dialect

FEWEST_WARMED_TOKENS: Final = 256  # fewer are read with whatever comes behind them


class RemoteContext:
    """Nothing is sent before an answer or a score is asked for, but of a long stretch whose reading
    is watched: then the server reads exactly that, and what comes behind finds it read."""

    def __init__(self, dialect: "Dialect", token_ids: Sequence[int] = ()) -> None:
        self.dialect = dialect
        self._ids = list(token_ids)
        self._told: list[int | None] = [None]  # shared by forks until one reads on

    @property
    def token_ids(self) -> Sequence[int]:
        return self._ids

    @property
    def reused_tokens(self) -> int | None:
        return self._told[0]

    def note_reused(self, num_tokens: int | None) -> None:
        if num_tokens is not None:
            self._told[0] = num_tokens

    def __len__(self) -> int:
        return len(self._ids)

    def extend(
        self,
        token_ids: Sequence[int],
        on_progress: OnProgress | None = None,
        on_scores: OnScores | None = None,
    ) -> None:
        if on_scores is not None:
            raise EngineError("a server does not tell how likely each token of a text was")
        start = len(self._ids)
        self._ids += token_ids
        self._told = [self._told[0]]
        if on_progress is None or len(token_ids) < FEWEST_WARMED_TOKENS:
            return
        total = len(token_ids)
        reused = self.dialect.warm(
            self._ids, lambda done, _: on_progress(min(max(done - start, 0), total), total)
        )
        self.note_reused(reused)

    def append(self, token_ids: Sequence[int]) -> None:
        """What was written behind it."""
        self._ids += token_ids

    def fork(self) -> "RemoteContext":
        twin = RemoteContext(self.dialect, self._ids)
        twin._told = self._told
        return twin

    def end_of_documents(self) -> None:
        """Servers read all alike."""

    def select(self, token_ids: Sequence[int], first: int = 0) -> Sequence[SelectedBlock]:
        del token_ids, first
        return ()

    def search(self, token_ids: Sequence[int], first: int = 0) -> None:
        """Not told by any server."""
        del token_ids, first

    def score(self, token_ids: Sequence[int], given: Sequence[int] = ()) -> Numbers:
        if not token_ids:
            return array("d")
        return array("d", self.dialect.score([*self._ids, *given], token_ids))

    def judge(self, token_ids: Sequence[int], given: Sequence[int], head: RetrievalHead) -> Judged:
        """Not told by any server."""
        del token_ids, given, head
        raise EngineError("a server does not tell what its model looks at")

    def attention(self, token_ids: Sequence[int]) -> None:
        """Not told by any server."""
        del token_ids

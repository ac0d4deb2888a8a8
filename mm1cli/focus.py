"""The prompt, and what is read once more in it close to the question: far text fades.

--focus off: nothing. auto: the best piece of evidence, two sentences. N: the best N passages,
also when the whole corpus is in the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.engine import Turn
from mm1cli.evidence import NUM_PASSAGES, Evidence
from mm1cli.passages import Passage
from mm1cli.prompts import prompt

ROOM_TOKENS = 512  # set aside for them
PASSAGE_TOKENS = 288  # set aside for each of N passages; fewer are read where they are longer


@dataclass(frozen=True, slots=True)
class Focus:
    """`num_passages` is N, None for auto, 0 for off."""

    num_passages: int | None

    @classmethod
    def of(cls, setting: str) -> "Focus":
        return cls({"off": 0, "auto": None}[setting] if not setting.isdigit() else int(setting))

    @property
    def is_off(self) -> bool:
        return self.num_passages == 0

    @property
    def room_tokens(self) -> int:
        """What to set aside for it beside the documents."""
        if self.num_passages is None:
            return ROOM_TOKENS
        return self.num_passages * PASSAGE_TOKENS

    @property
    def num_read(self) -> int:
        """How many passages are read where the documents do not fit."""
        return self.num_passages or NUM_PASSAGES

    def texts(self, evidence: Evidence, *, are_passages_read: bool) -> list[str]:
        """What to read again, the best last, next to the question.

        `are_passages_read`: the best passages stand right before, so that only pieces follow.
        """
        if self.is_off:
            return []
        if self.num_passages is None or are_passages_read:
            return [one.passage.text for one in evidence.pieces[:1]]  # more is worse: docs/log.md
        best = evidence.passages[: self.num_passages]
        return [as_read(one.passage) for one in reversed(best)]


def as_read(passage: Passage) -> str:
    """A passage as it stands in a prompt, with where it is from."""
    return f"{passage.document.path}, {passage.locator}:\n{passage.text}\n\n"


def joined(texts: Sequence[str]) -> str:
    return "\n".join(texts)


def turns(documents: Sequence[str], question: str, again: str = "") -> list[Turn]:
    """The prompt; `again` is read once more, close to the question."""
    after = (prompt("documents_end"), again, prompt("question"), question)
    return [Turn("system", (prompt("system"),)), Turn("user", (*documents, *after))]

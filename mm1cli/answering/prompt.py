"""The prompt, and what is read once more in it close to the question: far text fades.

--focus off: nothing. auto: the best piece of evidence, two sentences. N: the best N passages,
also when the whole corpus is in the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.api import Piece, Tokenizer, Turn
from mm1cli.ingest.pack import Packed
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage
from mm1cli.retrieval.retriever import NUM_PASSAGES, Evidence

RESERVED_TOKENS = 512  # set aside for them
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
    def reserved_tokens(self) -> int:
        """What to set aside for it beside the documents."""
        if self.num_passages is None:
            return RESERVED_TOKENS
        return self.num_passages * PASSAGE_TOKENS

    @property
    def top_k(self) -> int:
        """How many passages are read where the documents do not fit."""
        return self.num_passages or NUM_PASSAGES

    def repeated_evidence(self, evidence: Evidence, *, are_passages_read: bool) -> list[str]:
        """What to read again, the best last, next to the question.

        `are_passages_read`: the best passages stand right before, so that only pieces follow.
        """
        if self.is_off:
            return []
        if self.num_passages is None or are_passages_read:
            # More is worse: benchmarks/LOG.md.
            return [one.passage.text for one in evidence.pieces[:1]]
        best = evidence.passages[: self.num_passages]
        return [as_prompt_text(one.passage) for one in reversed(best)]


def as_prompt_text(passage: Passage) -> str:
    """A passage as it stands in a prompt, with where it is from."""
    return f"{passage.document.path}, {passage.locator}:\n{passage.text}\n\n"


def joined(texts: Sequence[str]) -> str:
    return "\n".join(texts)


def messages(documents: Sequence[str], question: str, again: str = "") -> list[Turn]:
    """The prompt; `again` is read once more, close to the question."""
    after = (prompt("documents_end"), again, prompt("question"), question)
    return [Turn("system", (prompt("system"),)), Turn("user", (*documents, *after))]


@dataclass(frozen=True, slots=True)
class PromptMap:
    """Where text stands in a context: documents from token `documents_at` on, if they are in it,
    and pieces of the prompt by their first token."""

    documents_at: int | None
    pieces: tuple[tuple[int, str], ...]

    def tokens(self, passage: Passage, packed: Packed, tokenizer: Tokenizer) -> list[int]:
        """Every token of the passage, at each place where it stands, in no order."""
        found: set[int] = set()
        if self.documents_at is not None:
            there = packed.tokens(passage.document, passage.block, passage.start, passage.end)
            found.update(self.documents_at + at for at in there)
        for first, text in self.pieces:
            at = text.find(passage.text)
            while at >= 0:
                end = at + len(passage.text)
                for number, (start, stop) in enumerate(tokenizer.offsets(text)):
                    if start < end and at < stop:
                        found.add(first + number)
                at = text.find(passage.text, end)
        return list(found)


def layout(head_ids: Sequence[int], packed: Packed) -> tuple[list[int], list[int]]:
    """The tokens of the prompt up to the last document, and where each document ends."""
    token_ids = [*head_ids, *packed.ids()]
    ends, at = [], len(head_ids) + len(packed.contents_ids)
    for ids in packed.token_ids:
        at += len(ids)
        ends.append(at)
    return token_ids, ends


def frame_tokens(tokenizer: Tokenizer, questions: Sequence[str], focus: str = "auto") -> int:
    """Tokens of a prompt beside its documents, for the longest question, evidence included."""
    asked = (messages([], question) for question in questions or [""])
    longest = max(len(tokenizer.encode_chat(turn)) for turn in asked)
    return longest + Focus.of(focus).reserved_tokens


def head_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens of a prompt before its documents, whatever the question."""
    pieces = tokenizer.chat(messages([], ""))
    before = pieces[: pieces.index(Piece(prompt("documents_end"), False))]
    return [i for piece in before for i in tokenizer.encode_piece(piece)]


def prompt_map(
    tokenizer: Tokenizer, pieces: Sequence[Piece], start: int, documents_at: int | None
) -> PromptMap:
    """Where the texts of `pieces` stand, the first of which begins at token `start`."""
    laid = []
    for piece in pieces:
        if not piece.is_markup:
            laid.append((start, piece.text))
        start += len(tokenizer.encode_piece(piece))
    return PromptMap(documents_at, tuple(laid))

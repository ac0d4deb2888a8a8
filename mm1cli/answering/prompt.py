"""The prompt, and what is read once more in it close to the question: far text fades.

--focus off: nothing. auto: the best piece of evidence, two sentences. N: the best N passages,
also when the whole corpus is in the context; where it is not, N is the most that is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from engine.api import Piece, Tokenizer, Turn
from mm1cli.answering.question import Exchange
from mm1cli.ingest.pack import Packed, title
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage
from mm1cli.retrieval.retriever import Evidence

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
    def most_passages(self) -> int | None:
        """How many passages are read where the documents do not fit; None for all there is room
        for."""
        return self.num_passages or None

    def repeated_evidence(
        self, evidence: Evidence, fence: str, *, are_passages_read: bool
    ) -> list[str]:
        """What to read again, the best last, next to the question.

        `are_passages_read`: the best passages stand right before, so that only pieces follow.
        """
        if self.is_off:
            return []
        if self.num_passages is None or are_passages_read:
            # More is worse: benchmarks/LOG.md. Two parts of a question have two places.
            best = evidence.pieces[: evidence.num_parts]
            return [_with_caption(one.passage) for one in reversed(best)]
        passages = evidence.passages[: self.num_passages]
        return [as_prompt_text(one.passage, fence) for one in reversed(passages)]


def as_prompt_text(passage: Passage, fence: str) -> str:
    """A passage as it stands in a prompt, with where it is from; `fence` is `Packed.fence`."""
    where = f"{passage.document.path}, {passage.locator}"
    if not fence:
        return f"{where}:\n{_with_caption(passage)}\n\n"
    end = f"End of document {fence}"
    return f"{title(where, fence)}\n{_with_caption(passage)}\n{end}\n\n"


def _with_caption(passage: Passage) -> str:
    caption = passage.caption
    return f"{caption}\n{passage.text}" if caption else passage.text


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


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a prompt in tokens, and its texts (not the markup), each with its first token."""

    token_ids: list[int]
    texts: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, pieces: Sequence[Piece], tokenizer: Tokenizer) -> "Section":
        token_ids: list[int] = []
        texts = []
        for piece in pieces:
            if not piece.is_markup:
                texts.append((len(token_ids), piece.text))
            token_ids += tokenizer.encode_piece(piece)
        return cls(token_ids, tuple(texts))

    def split(self, num_texts: int) -> tuple[list[int], list[int]]:
        """The tokens before text number `num_texts`, and from it on."""
        at = self.texts[num_texts][0]
        return self.token_ids[:at], self.token_ids[at:]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat up to where its answer begins: what stands before the documents whatever is asked,
    the documents, and the rest."""

    head: Section
    documents: Packed | Section
    rest: Section

    @property
    def prefix(self) -> list[int]:
        """The tokens up to the last document."""
        documents = self.documents
        ids = documents.ids() if isinstance(documents, Packed) else documents.token_ids
        return [*self.head.token_ids, *ids]

    @property
    def document_ends(self) -> list[int]:
        """Where each packed document ends in `prefix`."""
        if not isinstance(self.documents, Packed):
            return []
        at = len(self.head.token_ids) + len(self.documents.contents_ids)
        return list(accumulate(map(len, self.documents.token_ids), initial=at))[1:]

    @property
    def token_ids(self) -> list[int]:
        return [*self.prefix, *self.rest.token_ids]

    @property
    def map(self) -> PromptMap:
        at = len(self.head.token_ids)
        if isinstance(self.documents, Packed):
            end = at + len(self.documents.contents_ids) + self.documents.num_tokens
            return PromptMap(at, (*self.head.texts, *_moved(self.rest, end)))
        end = at + len(self.documents.token_ids)
        passages = _moved(self.documents, at)
        return PromptMap(None, (*self.head.texts, *passages, *_moved(self.rest, end)))


def lay_out(
    tokenizer: Tokenizer,
    documents: Packed | Sequence[str],
    *rest: str,
    history: Sequence[Exchange] = (),
    tools: str = "",
) -> Prompt:
    """The prompt about `documents`, packed or as texts; `rest` stands behind the words that end
    them, or behind the `history` that then does. `tools` says once what may be called, behind the
    documents: they are read the same without it. Empty texts give no tokens."""
    texts = () if isinstance(documents, Packed) else tuple(documents)
    turns = [Turn("system", (prompt("system"),))]
    before = (*texts, tools, prompt("documents_end"))
    for exchange in history:
        turns += [Turn("user", (*before, *exchange.asked)), Turn("assistant", (exchange.answer,))]
        before = ()
    pieces = tokenizer.chat([*turns, Turn("user", (*before, *rest))])
    # Every text that is not empty is one piece, in their order: the first is the system prompt.
    places = [number for number, piece in enumerate(pieces) if not piece.is_markup]
    first, end = places[1], places[1 + sum(map(bool, texts))]
    laid = Section.of(pieces[first:end], tokenizer)
    return Prompt(
        Section.of(pieces[:first], tokenizer),
        documents if isinstance(documents, Packed) else laid,
        Section.of(pieces[end:], tokenizer),
    )


def question_prompt(
    tokenizer: Tokenizer,
    documents: Packed | Sequence[str],
    question: str,
    again: Sequence[str] = (),
    history: Sequence[Exchange] = (),
    tools: str = "",
) -> Prompt:
    """`again` is read once more, close to the question."""
    parts = asked_parts(question, again, tools)
    return lay_out(tokenizer, documents, *parts, history=history, tools=tools)


def asked_parts(question: str, again: Sequence[str], tools: str = "") -> tuple[str, ...]:
    """A question in the parts in which the model reads it."""
    return "\n".join(again), prompt("question_tools" if tools else "question"), question


def frame_tokens(tokenizer: Tokenizer, questions: Sequence[str], focus: str = "auto") -> int:
    """Tokens of a prompt beside its documents, for the longest question, evidence included."""
    prompts = (question_prompt(tokenizer, (), question) for question in questions or [""])
    return max(len(one.token_ids) for one in prompts) + Focus.of(focus).reserved_tokens


def _moved(section: Section, by: int) -> tuple[tuple[int, str], ...]:
    return tuple((by + at, text) for at, text in section.texts)

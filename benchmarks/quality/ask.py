"""A question after a long text, in the model's own chat format, asked on a fork of the text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.quality.subject import Subject
from engine.api import Piece, Turn
from engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from engine.context import Context

_TEXT = "the text"  # stands for it while the chat is laid out; never encoded


@dataclass(frozen=True, slots=True)
class Frame:
    """Token ids before a text and after it, up to where the answer goes on."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def frame(tokenizer: Tokenizer, question: str, answer_begins: str = "") -> Frame:
    """`before` is the same for every question. The answer is begun with `answer_begins`."""
    pieces = tokenizer.chat([Turn("user", (_TEXT, f"\n\n{question}"))])
    at = pieces.index(Piece(_TEXT, False))
    before = [i for piece in pieces[:at] for i in tokenizer.encode_piece(piece)]
    after = [i for piece in pieces[at + 1 :] for i in tokenizer.encode_piece(piece)]
    return Frame(before, after + tokenizer.encode(answer_begins))


def asked(context: "Context", frame: Frame) -> "Context":
    """A fork of `context`, a text read after `frame.before`, that ends where the answer goes on."""
    fork = context.fork()
    fork.end_of_documents()
    fork.extend(frame.after)
    return fork


def answer(subject: Subject, text: str, frame: Frame, max_tokens: int) -> str:
    """Reads `text` from the beginning and answers."""
    context = subject.engine.new_context()
    context.extend(frame.before + subject.engine.tokenizer.encode(text))
    return subject.write(asked(context, frame), max_tokens)

"""A question, checked once: what was asked, and what the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from mm1cli.answering import json_schema
from mm1cli.answering.json_schema import Schema
from mm1cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question that was asked before, in the parts in which the model read it, and the answer."""

    asked: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Question:
    """`schema` is what its answer must follow; `is_instruction`: a text must be written, as a
    template asks, for which no piece of evidence can stand. `history` is what was said before, the
    oldest first; `sought`, if it is not empty, is what to look for instead of `text`."""

    text: str
    schema: Schema | None = None
    is_instruction: bool = False
    history: tuple[Exchange, ...] = ()
    sought: str = ""

    @property
    def prompt_text(self) -> str:
        """As the model reads it: with the schema, where there is one."""
        return json_schema.question_with_schema(self.text, self.schema)


def check(texts: Sequence[str]) -> None:
    """Raises UsageError if one is blank, or came in bytes that are not text."""
    for text in texts:
        if not text.strip():
            raise UsageError(f"--ask {text!r} is empty; write a question")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(f"--ask {text!r} is not valid Unicode; check the encoding")

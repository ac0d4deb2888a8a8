"""Whether a text says a sentence, as a model answers when it is asked: textual entailment.

log p(yes) - log p(no) behind a conversation in which ten such questions are answered, some about
another year, unit or subject. What that is worth, each model shows for itself: `weights`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from engine.api import Context, Engine, Piece, Turn
from mm1cli.prompts import prompt

_MOST_KEPT: Final = 1000
_ANSWERED: Final = (
    (
        "The new hall was paid for by the county and opened in May 2019. It seats 300.",
        ("There are 300 seats in the hall.", "yes"),
        ("The hall opened in May 2009.", "no"),
        ("The county was paid for the new hall.", "no"),
    ),
    (
        "Ms Ito will lead the project until Mr Boyd is back from leave; the budget stays as it is.",
        ("Mr Boyd is on leave at present.", "yes"),
        ("Mr Boyd leads the project until Ms Ito is back.", "no"),
        ("The budget is not changed.", "yes"),
        ("Ms Ito will lead the project for three months.", "no"),
    ),
    (
        "The filter need not be cleaned while the light is off. Once it is red, clean it within 2 "
        "days.",
        ("No cleaning is needed as long as the light is off.", "yes"),
        ("The filter has to be cleaned within two weeks when the light turns red.", "no"),
        ("A red light means that the filter must be cleaned within two days.", "yes"),
    ),
)


class Entailment:
    """One model's answers. Not for an engine that tells no logprobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._head: Context | None = None  # the conversation, read once
        self._answered: dict[tuple[str, str], float] = {}

    def log_odds(self, sentence: str, texts: Sequence[str]) -> list[float]:
        """Of yes against no, in nats, for each of `texts`: does it say `sentence`?"""
        new = [text for text in dict.fromkeys(texts) if (sentence, text) not in self._answered]
        if len(self._answered) + len(new) > _MOST_KEPT:
            self._answered.clear()
            new = list(dict.fromkeys(texts))
        asked = [self._ids(self._pieces(text, sentence)[1]) for text in new]
        most = len(self._read_head()) + max(map(len, asked), default=0)
        works = [partial(self._log_odds, ids) for ids in asked]
        odds = self._engine.map_requests(works, most) if works else []
        self._answered.update({(sentence, text): one for text, one in zip(new, odds, strict=True)})
        return [self._answered[sentence, text] for text in texts]

    def _log_odds(self, ids: list[int]) -> float:
        context = self._read_head().fork()
        context.extend(ids)
        yes, no = (self._engine.tokenizer.encode(word)[:1] for word in ("yes", "no"))
        return context.score(yes).tolist()[0] - context.score(no).tolist()[0]

    def _read_head(self) -> Context:
        if self._head is None:
            context = self._engine.new_context()
            context.extend(self._ids(self._pieces("x", "x")[0]))
            self._head = context
        return self._head

    def _pieces(self, text: str, sentence: str) -> tuple[list[Piece], list[Piece]]:
        """The conversation, and the question that follows it: its two parts and the markup."""
        turns = [Turn("system", (prompt("entailment"),))]
        for shown, *answered in _ANSWERED:
            for number, (said, answer) in enumerate(answered):
                asked = "".join(_asked(shown, said)) if number == 0 else f"Statement: {said}"
                turns += [Turn("user", (asked,)), Turn("assistant", (answer,))]
        pieces = self._engine.tokenizer.chat([*turns, Turn("user", _asked(text, sentence))])
        first = [number for number, piece in enumerate(pieces) if not piece.is_markup][-2]
        return pieces[:first], pieces[first:]

    def _ids(self, pieces: Sequence[Piece]) -> list[int]:
        return [i for piece in pieces for i in self._engine.tokenizer.encode_piece(piece)]


def _asked(text: str, sentence: str) -> tuple[str, str]:
    return f"Text: {text}", f"\n\nStatement: {sentence}"

"""Servers that take text and no tokens: OpenAI's chat API, as Ollama, LM Studio and others have it.

Documents then pass through the server's own template and tokenizer, which take `<|im_end|>` in a
contract for the end of a turn. So what looks like a control string is broken up by a space, which
can be seen; and what mm1 counts are estimates.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import closing
from threading import Lock
from typing import Any, Final

from engine.errors import EngineError
from engine.protocols import OnProgress, Piece, Turn
from engine.remote.client import Client
from engine.remote.dialect import Delta, Request, WithoutSlots
from engine.remote.vllm import openai_deltas

_PATH: Final = "/v1/chat/completions"
_ROLES: Final = ("system", "user", "assistant")
_FEWEST_IDS: Final = len(_ROLES)
# Names of control tokens that common templates have, as text; `\uff5c` and `\u2581` are DeepSeek's.
_CONTROL: Final = (
    r"<[|\uff5c][^<>\n]{1,60}[|\uff5c]>|</?s>|<(?:bos|eos|pad|unk)>|</?(?:start|end)_of_\w{1,20}>"
    r"|<(?:beginning|end)_of_sentence>|</?(?:mm:|seed:)?think>|\[/?(?:INST|THINK|SYSTEM_PROMPT)\]"
    r"|\[(?:TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]|<</?SYS>>|</?tool_calls?>|\[e~\[|\]~b\]"
)
# Rather more pieces than a tokenizer makes: what is counted too low would not fit.
_PIECE: Final = re.compile(
    rf"(?P<control>{_CONTROL})| ?[A-Za-z]{{1,5}}| ?[0-9]{{1,2}}|\s{{1,4}}|.", re.DOTALL
)
_THINKING: Final = re.compile(r"\s*<(think|mm:think|seed:think)>.*?</\1>\s*", re.DOTALL)
_OPENS: Final = re.compile(r"\s*<(?:think|mm:think|seed:think)>")


class TextTokenizer:
    """Implements `Tokenizer` where nobody knows the server's: pieces of text are numbered as they
    come, about as many as tokens, and joined they are the text. Ids of one are of no use to
    another."""

    control_ids = frozenset(range(_FEWEST_IDS))

    def __init__(self) -> None:
        self._texts = [f"\n{role}\n" for role in _ROLES]
        self._ids: dict[str, int] = {}
        self._lock = Lock()  # documents may be counted side by side

    @property
    def vocab_size(self) -> int:
        return len(self._texts)

    def encode(self, text: str) -> list[int]:
        return [self._id(text_of(match)) for match in _PIECE.finditer(text)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _PIECE.finditer(text)]

    def encode_markup(self, text: str) -> list[int]:
        return [_ROLES.index(text)] if text in _ROLES else self.encode(text)

    def encode_piece(self, piece: Piece) -> list[int]:
        return self.encode_markup(piece.text) if piece.is_markup else self.encode(piece.text)

    def encode_chat(self, turns: Sequence[Turn]) -> list[int]:
        return [i for piece in self.chat(turns) for i in self.encode_piece(piece)]

    def chat(self, turns: Sequence[Turn]) -> list[Piece]:
        """The name of a role is its turn's beginning."""
        pieces: list[Piece] = []
        for turn in turns:
            pieces.append(Piece(turn.role, True))
            pieces += [Piece(part, False) for part in turn.parts if part]
        return [*pieces, Piece("assistant", True)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._texts[i] for i in ids if i >= _FEWEST_IDS)

    def opens_with(self, tag: str) -> bool:
        del tag
        return False

    def knows(self, tag: str) -> bool:
        """What a model thinks, the server keeps apart."""
        del tag
        return False

    def messages(self, token_ids: Sequence[int]) -> list[dict[str, str]]:
        """What was made of turns, as messages again. The answer's own turn is not one."""
        found: list[tuple[str, list[int]]] = []
        for token_id in token_ids:
            if token_id < _FEWEST_IDS:
                found.append((_ROLES[token_id], []))
            elif found:
                found[-1][1].append(token_id)
            else:
                found.append(("user", [token_id]))
        if found and found[-1] == ("assistant", []):
            found.pop()
        return [{"role": role, "content": self.decode(ids)} for role, ids in found]

    def _id(self, text: str) -> int:
        if (known := self._ids.get(text)) is not None:
            return known
        with self._lock:
            if text not in self._ids:
                self._texts.append(text)
                self._ids[text] = len(self._texts) - 1
            return self._ids[text]


def text_of(match: re.Match[str]) -> str:
    """Of a piece; a control string is broken up."""
    return f"{match[0][0]} {match[0][1:]}" if match["control"] else match[0]


class ChatServer(WithoutSlots):
    tells_all_ids = False

    def __init__(self, client: Client, model: str, tokenizer: TextTokenizer) -> None:
        self._client, self._model, self._tokenizer = client, model, tokenizer

    def tokenize(self, text: str, *, is_markup: bool) -> list[int] | None:
        del text, is_markup
        return None

    def warm(self, token_ids: Sequence[int], on_progress: OnProgress) -> int | None:
        """Nothing: the documents are no message of their own, and a second reading costs more."""
        on_progress(len(token_ids), len(token_ids))
        return None

    def score(self, token_ids: Sequence[int], tail: Sequence[int]) -> list[float]:
        del token_ids, tail
        raise EngineError(f"{self._client.host}: a chat tells no likelihoods of given text")

    def generate(self, request: Request) -> Generator[Delta, None, None]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": self._tokenizer.messages(request.token_ids),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed % 2**31,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        with closing(openai_deltas(self._client, _PATH, body)) as deltas:
            yield from without_thinking(deltas)


def without_thinking(deltas: Generator[Delta, None, None]) -> Generator[Delta, None, None]:
    """Without a beginning between tags of thinking, which some servers leave in the text."""
    pending: str | None = ""
    for delta in deltas:
        if pending is None:
            yield delta
            continue
        pending += delta.text
        if _OPENS.match(pending) and delta.stop is None and not _THINKING.match(pending):
            continue
        if delta.stop is None and pending.strip() in {"", *_BEGINNINGS}:
            continue
        text = _THINKING.sub("", pending, count=1)
        # What has no end when the answer has one is thinking to its last word.
        yield Delta("" if _OPENS.match(text) else text, (), delta.reused, delta.stop)
        pending = None


_BEGINNINGS: Final = frozenset(
    tag[:size] for tag in ("<think>", "<mm:think>", "<seed:think>") for size in range(1, len(tag))
)

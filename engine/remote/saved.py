"""Saved contexts over a server: the tokens are here, what was read of them is there.

A llama-server keeps a slot under a hash of ours, past a restart too, but takes the state of any
model for its own. So a slot is proved before use: a question has to be as likely behind it as it
was when the slot was saved. Where it is not, or no slot is there, the tokens are read again; where
the server still has them in memory, nothing is restored.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from engine import durable
from engine.errors import StoreError
from engine.protocols import ContextPlan, OnProgress
from engine.remote.context import RemoteContext
from engine.remote.dialect import Dialect
from engine.store import tokens_only
from engine.store.manifest import OpenedContext
from engine.store.owned import LOCK, why_not_built

NAME: Final = "proof.json"
QUESTION: Final = "Who says what of whom, and when was it?"
_MOST_TOKENS: Final = 64
# The same model over the same state is apart by rounding, where its hardware changed; another
# model, or another's state, by nats.
_MOST_APART: Final = 0.05

OnNote = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Implements `protocols.BuildResult`. `is_saved`: the server has it on disk."""

    context: RemoteContext
    reused_tokens: int
    is_saved: bool
    why: str = ""
    reused_layers: int = 0
    num_layers: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """Of a slot on the server's disk: behind the context and the first token of `question` each of
    the others has this `log_p`."""

    question: Sequence[int]
    log_p: Sequence[float]

    @classmethod
    def loads(cls, content: bytes, vocab_size: int) -> Self:
        """What `dumps` made. Raises StoreError."""
        try:
            told = json.loads(content)
            proof = cls(told["question"], told["log_p"])
            is_sound = (
                2 <= len(proof.question) <= _MOST_TOKENS
                and len(proof.log_p) == len(proof.question) - 1
                and all(type(one) is int and 0 <= one < vocab_size for one in proof.question)
                and all(type(one) is float and math.isfinite(one) for one in proof.log_p)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            is_sound = False
        if not is_sound:
            raise StoreError(f"{NAME}: damaged; build the context again")
        return proof

    def dumps(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def holds(self, dialect: Dialect, token_ids: Sequence[int]) -> bool:
        now = _log_p(dialect, token_ids, self.question)
        return all(abs(a - b) <= _MOST_APART for a, b in zip(now, self.log_p, strict=True))


def build(
    folder: Path,
    plan: ContextPlan,
    fingerprint: str,
    dialect: Dialect,
    question: Sequence[int],
    *,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[], None] | None = None,
) -> BuildResult:
    """Has the server read `plan.token_ids` and keep them, if it can, and saves the rest in
    `folder`. Raises StoreError for a folder of something else, or a disk that is full."""
    if not plan.token_ids:
        raise StoreError("nothing to build a context from")
    try:
        if foreign := why_not_built(folder):
            raise StoreError(f"{foreign}; choose another folder")
        durable.private_folder(folder)
        with durable.locked(folder / LOCK, on_wait or _unheard):
            context = RemoteContext(dialect, plan.token_ids)
            reused = dialect.warm(plan.token_ids, on_progress or _untold)
            chain = tokens_only.chain(fingerprint, plan.token_ids)
            attachments = dict(plan.attachments)
            # Another request may have come between.
            if dialect.save(_slot_name(chain)) == len(plan.token_ids):
                asked = question[:_MOST_TOKENS]
                proof = Proof(asked, _log_p(dialect, plan.token_ids, asked))
                attachments[NAME] = proof.dumps()
            tokens_only.save(folder, fingerprint, plan.token_ids, attachments)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; choose another folder") from None
    context.note_reused(reused)
    why = "" if reused is not None else "the server does not tell"
    return BuildResult(context, reused or 0, NAME in attachments, why)


def open_saved(
    folder: Path,
    fingerprint: str,
    dialect: Dialect,
    vocab_size: int,
    *,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> RemoteContext:
    """The context in `folder`, read again as far as the server has it not. Raises StoreError."""
    saved = OpenedContext.read(folder)
    wanted = tokens_only.compatibility(fingerprint)
    if why := wanted.differs_in(saved.manifest.compatibility):
        raise StoreError(f"{folder}: {why}; build it again")
    token_ids: list[int] = saved.token_ids.tolist()
    if not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        raise StoreError(f"{folder}: tokens that the model does not have; build it again")
    context = RemoteContext(dialect, token_ids)
    why = "it keeps no slots on disk"
    if NAME in saved.manifest.attachments:
        proof = Proof.loads(saved.attachment(NAME), vocab_size)
        if dialect.holds(token_ids):
            context.note_reused(len(token_ids) - 1)  # logits are made of the last one again
            return context
        if not (why := _restored(_slot_name(saved.manifest.chain), proof, dialect, token_ids)):
            context.note_reused(len(token_ids))
            return context
    reused = dialect.warm(token_ids, on_progress or _untold)
    context.note_reused(reused)
    if on_note is not None and reused is not None and reused < len(token_ids) - 1:
        left = len(token_ids) - reused
        on_note(f"the server had to read {left:,} of {len(token_ids):,} tokens again: {why}")
    return context


def _restored(name: str, proof: Proof, dialect: Dialect, token_ids: Sequence[int]) -> str:
    """Why a slot is not to be used, in words; "" once the server has taken it up."""
    if not (found := dialect.restore(name)):
        return "it has no such slot, or no room for it"
    if found == len(token_ids) and proof.holds(dialect, token_ids):
        return ""
    dialect.forget()
    return "the slot of that name is another model's, or of other tokens"


def _slot_name(chain: str) -> str:
    return f"mm1-{chain}.bin"


def _log_p(dialect: Dialect, token_ids: Sequence[int], question: Sequence[int]) -> list[float]:
    """Behind the first token of the question, so that no state has to go back by one."""
    return dialect.score([*token_ids, question[0]], question[1:])


def _untold(done: int, total: int) -> None:
    del done, total


def _unheard() -> None:
    """Nobody is told of a wait."""

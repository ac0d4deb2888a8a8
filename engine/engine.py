"""The facade: a checkpoint placed on a device. What mm1cli imports, and nothing else of this room.

Importing this module does not import torch; loading a model does.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import (
    CheckpointError,
    ConfigError,
    EngineError,
    GrammarError,
    PlacementError,
    RoomError,
    StoreError,
    TokenizerError,
)
from engine.families import read_config
from engine.store.plan import ContextPlan
from engine.tokenizer import Piece, Tokenizer, Turn

if TYPE_CHECKING:
    import torch

    from engine.config import ModelConfig
    from engine.constrain import Constraint
    from engine.context import Context
    from engine.decode import Decoding
    from engine.grammar import Grammar, JsonConstraint, Spelling
    from engine.placement import Placement
    from engine.store.manifest import Maker
    from engine.store.store import Built
    from engine.suffixes import Suffixes
    from engine.verbatim import QuotationTokens, Verbatim
    from engine.verify import Verification

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ContextPlan",
    "Engine",
    "EngineError",
    "GrammarError",
    "Piece",
    "PlacementError",
    "RoomError",
    "SavedContext",
    "StoreError",
    "Tokenizer",
    "TokenizerError",
    "Turn",
    "check_schema",
    "check_tensors",
    "max_positions",
    "num_parameters",
    "read_config",
    "saved_attachment",
    "saved_context",
    "saved_tokens",
    "verify",
    "verify_context",
]


class Engine:
    """The checkpoint in `directory`, ready to read and write.

    It is placed on `device` after checking that it fits there with a context of `num_tokens`, which
    `is_mapped` if it will be saved while it grows. Keys and values are kept in `kv`: int8, or the
    dtype of the products, as without it. `on_progress` gets bytes loaded and in all. `fingerprint`
    is a hash of config, tensor index and tokenizer: engines with the same one read and write alike.
    `dtype_reason` says why products run in the dtype they run in. Raises EngineError in one line
    (see engine/errors.py).
    """

    def __init__(
        self,
        directory: Path,
        *,
        device: str = "cpu",
        chunk_tokens: int = 1024,
        threads: int | None = None,
        kv: str | None = None,
        num_tokens: int = 0,
        is_mapped: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        import torch

        from engine import placement
        from engine.checkpoint import Checkpoint, load
        from engine.store.manifest import INT8_KV

        if threads is not None:
            torch.set_num_threads(threads)
        self.directory = directory
        self.chunk_tokens = chunk_tokens
        self.config = read_config(directory)
        self.tokenizer = Tokenizer(directory)
        if self.tokenizer.vocab_size > self.config.vocab_size:
            raise TokenizerError(
                f"{directory / 'tokenizer.json'}: ids up to {self.tokenizer.vocab_size - 1:,}, "
                f"but the model has {self.config.vocab_size:,}; the files do not belong together"
            )
        place = _place(device)
        on_gpu = place.type == "cuda"
        dtype = torch.bfloat16 if on_gpu else torch.float32
        self.dtype_reason = (
            "bfloat16: native on GPUs, states and accumulators float32"
            if on_gpu
            else "float32: CPU products in bfloat16 are slower and less exact"
        )
        self.kv = kv or _name(dtype)
        if self.kv not in (INT8_KV, _name(dtype)):
            raise EngineError(
                f"KV in {kv} was asked for, but on {device} products run in {_name(dtype)}; use "
                f"{_name(dtype)} or {INT8_KV}"
            )
        self._dtype, self._place = dtype, place
        checkpoint = Checkpoint(directory)
        self.fingerprint = _fingerprint(directory, checkpoint.fingerprint_of_index())
        self._halves_bytes = _halves_bytes(self.config) if place.type == "cpu" else 0
        placement.check(self._plan(num_tokens, is_mapped), place)
        self._model = load(
            checkpoint, self.config, device=place, dtype=dtype, on_progress=on_progress
        )
        self._model.settle(few_rows=self._halves_bytes > 0)
        self._never = self._model.unused_ids()
        self._stop_ids = frozenset(self.config.eos_ids + self.tokenizer.eos_ids())
        self._quotation_tokens: QuotationTokens | None = None

    def new_context(self) -> "Context":
        from engine.context import Context
        from engine.store.layers import kv_dtype

        return Context(self._model, self.chunk_tokens, kv_dtype=kv_dtype(self.kv))

    def check_memory(self, num_tokens: int) -> None:
        """Raises PlacementError if a context of so many tokens that is not saved does not fit."""
        from engine import placement

        planned = self._plan(num_tokens, is_mapped=False)
        placement.check(planned, self._place, held_bytes=planned.weights_bytes)

    def _plan(self, num_tokens: int, is_mapped: bool) -> "Placement":
        from engine import placement
        from engine.store.layers import kv_dtype

        planned = placement.plan(
            self.config,
            num_tokens,
            self.chunk_tokens,
            self._dtype,
            kv_dtype=kv_dtype(self.kv),
            is_mapped=is_mapped and self._place.type == "cpu",
        )
        return replace(planned, weights_bytes=planned.weights_bytes + self._halves_bytes)

    @property
    def maker(self) -> "Maker":
        """What a saved context must share with this engine to be of use to it."""
        from engine.store.manifest import NO_KV, Maker

        kv = self.kv if self.config.num_growing_layers else NO_KV
        return Maker(self.fingerprint, self.chunk_tokens, kv)

    def build_context(
        self,
        folder: Path,
        plan: "ContextPlan",
        *,
        others: Sequence[Path] = (),
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
        on_unsaved: Callable[[str], None] | None = None,
    ) -> "Built":
        """A context that is saved in `folder` while it is read; see `Store.build`."""
        from engine.store.store import Store

        store = Store(folder, self._model, self.maker)
        return store.build(
            plan,
            others=others,
            on_progress=on_progress,
            on_wait=on_wait,
            on_unsaved=on_unsaved,
        )

    def context_bytes(self, num_tokens: int) -> int:
        """What a saved context of so many tokens takes on disk, to a few per cent."""
        from engine.store.layers import num_bytes

        return num_bytes(self._model, num_tokens, self.maker.kv)

    def context_name(self, token_ids: Sequence[int]) -> str:
        """A file name that only a context of these tokens and this engine has."""
        from engine.store.manifest import Chain

        chain = Chain(self.maker, token_ids).at(len(token_ids))
        return f"{self.fingerprint[:12]}-{chain[:20]}"

    def open_context(self, folder: Path) -> "Context":
        """The context saved in `folder`; see `Store.open`."""
        from engine.store.store import Store

        return Store(folder, self._model, self.maker).open()

    @cached_property
    def _spelling(self) -> "Spelling":
        from engine.grammar import Spelling

        raw = self.tokenizer.raw
        return Spelling.of(raw, self._stop_ids, self.config.vocab_size)

    def grammar(self, schema: Mapping[str, Any]) -> "Grammar":
        """`schema` made ready for this model. Raises GrammarError."""
        from engine.grammar import Grammar

        return Grammar(schema, self._spelling)

    def json_constraint(self, grammar: "Grammar") -> "JsonConstraint":
        """For one answer: JSON that follows the schema, whole within `max_tokens`."""
        from engine.grammar import JsonConstraint

        return JsonConstraint(grammar, ~self._never)

    def verbatim(self, suffixes: "Callable[[], Suffixes]", begun: str = "") -> "Verbatim | None":
        """A constraint for one answer: what it quotes stands in the text of `suffixes`. `begun` is
        what the answer begins with already.

        None where it is not known which bytes the tokens of this tokenizer write.
        """
        from engine.verbatim import QuotationTokens, Verbatim
        from engine.vocabulary import words_of

        if self._quotation_tokens is None:
            words = words_of(self.directory, self.config.vocab_size)
            if words is None:
                return None
            never = self._never.nonzero().flatten().tolist()
            self._quotation_tokens = QuotationTokens(words, never)
        return Verbatim(self._quotation_tokens, suffixes, begun)

    def decode(
        self,
        context: "Context",
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_positions: int | None = None,
        stop_texts: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        constraint: "Constraint | None" = None,
    ) -> "Decoding":
        """An answer that continues `context`; iterate over it for text. See `Decoding`.

        `max_positions` ends the answer when the context holds so many tokens; by default the
        length the model was trained for. `stop_ids` end it beside those of the model.
        """
        from engine.decode import Decoding, Sampler, Sampling

        return Decoding(
            context,
            self.tokenizer,
            Sampler(Sampling(temperature, top_p, seed), self._never),
            max_tokens=max_tokens,
            max_positions=max_positions or self.config.max_positions,
            stop_ids=self._stop_ids | frozenset(stop_ids),
            stop_texts=stop_texts,
            constraint=constraint,
        )


def max_positions(directory: Path) -> int:
    """The number of positions the model in `directory` was trained for; loads no weights."""
    return read_config(directory).max_positions


def num_parameters(directory: Path) -> int:
    """Of the model in `directory`, all experts counted; reads no weights. Raises EngineError."""
    from engine.checkpoint import Checkpoint

    return sum(math.prod(info.shape) for info in Checkpoint(directory).tensors.values())


def check_schema(schema: Mapping[str, Any]) -> None:
    """See `engine.grammar.check`."""
    from engine.grammar import check

    check(schema)


def check_tensors(directory: Path) -> int:
    """How many tensors the checkpoint has, after holding each against config.json.

    Reads no weights. Raises EngineError at the first that is missing, cut or of another shape.
    """
    from engine.checkpoint import Checkpoint, skeleton

    checkpoint = Checkpoint(directory)
    skeleton(checkpoint, read_config(directory))
    return len(checkpoint.tensors)


@dataclass(frozen=True, slots=True)
class SavedContext:
    """What a finished context in a folder is, by its manifest alone."""

    folder: Path
    num_tokens: int
    fingerprint: str
    chunk_tokens: int
    kv: str

    @property
    def kv_dtype(self) -> str | None:
        """What `Engine` takes as `kv` to open it."""
        from engine.store.manifest import NO_KV

        return None if self.kv == NO_KV else self.kv


def saved_context(folder: Path) -> SavedContext:
    """Reads the manifest only. Raises StoreError if there is no finished context in `folder`."""
    from engine.store.manifest import Saved

    manifest = Saved.read(folder).manifest
    maker = manifest.maker
    return SavedContext(
        folder, manifest.num_tokens, maker.fingerprint, maker.chunk_tokens, maker.kv
    )


def saved_attachment(folder: Path, name: str) -> bytes:
    """A file that was saved with the context in `folder`. Raises StoreError."""
    from engine.store.manifest import Saved

    return Saved.read(folder).attachment(name)


def saved_tokens(folder: Path) -> list[int]:
    """The tokens of the context in `folder`. Raises StoreError."""
    from engine.store.manifest import Saved

    token_ids: list[int] = Saved.read(folder).token_ids.tolist()
    return token_ids


def verify_context(folder: Path) -> int:
    """See `engine.store.store.verify`."""
    from engine.store.store import verify as run

    return run(folder)


def verify(directory: Path, chunk_sizes: Sequence[int]) -> "Verification":
    """See `engine.verify.verify`."""
    from engine.verify import verify as run

    return run(directory, chunk_sizes)


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _halves_bytes(config: "ModelConfig") -> int:
    """Bytes of float16 copies of the matrices, which make writing faster; 0 where there is no room.

    A question of this machine and this model, not of what is free just now: the same run is to
    write the same text tomorrow.
    """
    import os

    import torch

    from engine.model import Model
    from kernels.linear import half

    with torch.device("meta"):
        model = Model(config)
    weights_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    has_room = weights_bytes + model.halves_bytes() <= memory_bytes / 2
    return model.halves_bytes() if has_room and half.is_usable() else 0


def _place(device: str) -> "torch.device":
    import torch

    try:
        place = torch.device(device)
    except RuntimeError:
        raise EngineError(f"unknown device {device!r}; use cpu or cuda") from None
    if place.type not in {"cpu", "cuda"}:
        raise EngineError(f"device {device!r} is not supported; use cpu or cuda")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise EngineError("device cuda was asked for, but torch sees no GPU; use --device cpu")
    return place


def _fingerprint(directory: Path, index: bytes) -> str:
    digest = hashlib.sha256(index)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    digest.update(json.dumps(config, sort_keys=True).encode())
    with (directory / "tokenizer.json").open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()

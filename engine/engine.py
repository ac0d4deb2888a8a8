"""A checkpoint placed on a device: what `engine.api.open_engine` opens; see protocols.py.

Importing this module does not import torch; loading a model does.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine import protocols
from engine.cores import usable_cores
from engine.errors import EngineError, TokenizerError
from engine.imports import importing_torch
from engine.model_source import ModelSource
from engine.protocols import FAST, Capabilities, ContextPlan, IoStats, Quotes
from engine.selection import Selection, selecting

if TYPE_CHECKING:
    import torch

    from engine.checkpoint import Checkpoint
    from engine.constraints.constraint import Constraint as Mask
    from engine.constraints.grammar import Grammar, JsonConstraint, TokenBytes
    from engine.constraints.quote_constraint import QuoteConstraint, QuoteTokens
    from engine.constraints.suffix_array import SuffixArray
    from engine.context import Context
    from engine.decode import Decoding
    from engine.model import Model
    from engine.placement import Placement
    from engine.store.manifest import Compatibility
    from engine.store.store import BuildResult

T = TypeVar("T")


class Engine:
    """The checkpoint of `model`, ready to read and write.

    How it lies on `device` with a context of `num_tokens`, which `is_mapped` if it will be saved
    while it grows, is planned first (`placement`) and refused if it cannot be done. Several devices
    ("cuda:0,cuda:1") share the layers; "cuda" is the first GPU, or all where that is too small.
    Keys and values are kept in `kv`: int8, or the dtype of the matmuls, as without it. With
    `selection` documents are read by windows, and the question selects what it sees of them. With
    `fast` what is multiplied with a GGUF file's blocks is rounded to eight bits; `is_fast` says
    whether there are any, and `fingerprint` says so, too.
    `on_progress` gets bytes loaded and in all. `fingerprint` is a hash of config, tensor index and
    tokenizer: engines with the same one read and write alike.
    `dtype_reason` says why matmuls run in the dtype they run in. Raises EngineError in one line
    (see engine/errors.py).

    Weights that do not fit stay on disk, and layers are read when they are reached. What memory is
    left keeps those used again soonest; `pool_bytes` asks for so much, whatever the plan says.
    `spill_folder` may hold the hidden states of a long context while it is read; nothing stays
    there. In `code_folder` compiled functions are kept, so that the next start is sooner.
    """

    def __init__(
        self,
        model: Path | ModelSource,
        *,
        device: str = "cpu",
        chunk_tokens: int = 1024,
        threads: int | None = None,
        kv: str | None = None,
        selection: Selection | None = None,
        fast: bool = False,
        num_tokens: int = 0,
        is_mapped: bool = False,
        pool_bytes: int | None = None,
        spill_folder: Path | None = None,
        code_folder: Path | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        with importing_torch():
            import torch

            from engine import placement
            from engine.loading import open_model
            from engine.pipeline_parallel import devices
            from engine.placement.weight_bytes import fp16_copies_bytes
            from engine.store.manifest import INT8_KV
            from kernels.jit import object_cache

        threads = threads or min(torch.get_num_threads(), usable_cores())
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        if code_folder is not None:
            object_cache.keep_in(code_folder)
        source = ModelSource.of(model)
        self.directory = directory = source.path
        self.chunk_tokens = chunk_tokens
        self.config = source.config
        self._read_config = self.config if selection is None else selecting(self.config, selection)
        self.tokenizer = source.tokenizer
        if self.tokenizer.vocab_size > self.config.vocab_size:
            raise TokenizerError(
                f"{directory / 'tokenizer.json'}: ids up to {self.tokenizer.vocab_size - 1:,}, "
                f"but the model has {self.config.vocab_size:,}; the files do not belong together"
            )
        places = devices.named(device)
        place = places[0]
        on_gpu = place.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(place)
        dtype = torch.bfloat16 if on_gpu else torch.float32
        self.dtype_reason = (
            "bfloat16: native on GPUs, states and accumulators float32"
            if on_gpu
            else "float32: CPU matmuls in bfloat16 are slower and less exact"
        )
        self.kv = kv or _name(dtype)
        if self.kv not in (INT8_KV, _name(dtype)):
            raise EngineError(
                f"KV in {kv} was asked for, but on {device} matmuls run in {_name(dtype)}; use "
                f"{_name(dtype)} or {INT8_KV}"
            )
        self._dtype, self._places, self._shares = dtype, places, device != "cuda"
        checkpoint = source.open_checkpoint(has_int8_rows=fast)
        self.is_fast = fast and bool(self.config.quantization.blocks)
        self.fingerprint = _fingerprint(source, checkpoint)
        if self.is_fast:
            self.fingerprint += FAST
        if place.type == "cpu":
            placement.trim_malloc()
        self._precision = placement.stored_precision(checkpoint, self.config)
        self._fp16_copies_bytes = 0
        if place.type == "cpu":
            self._fp16_copies_bytes = fp16_copies_bytes(self.config, placement.physical_bytes())
        streams = None if pool_bytes is None else True
        self.placement: Placement = self._plan(num_tokens, is_mapped, streams)
        if pool_bytes is None:
            placement.check(self.placement)
        # Where layers come and go all contexts are read alike; else only those to select from.
        is_resident = not self.placement.is_streamed and len(places) == 1
        self._model = open_model(
            checkpoint,
            self.config if is_resident else self._read_config,
            self.placement,
            dtype=dtype,
            pool_bytes=pool_bytes,
            spill_folder=spill_folder,
            on_progress=on_progress,
        )
        source.forget()
        self._reader = self._model
        if self._model.config is not self._read_config:
            self._reader = self._model.with_options(self._read_config)
        self._suppressed = self._model.suppressed_ids()
        self._stop_ids = frozenset(self.config.eos_ids + self.tokenizer.eos_ids())
        self._quotation_tokens: QuoteTokens | None = None

    @property
    def capabilities(self) -> Capabilities:
        selection = self._read_config.selection
        return Capabilities(
            has_logprobs=True,
            has_token_scores=True,
            has_grammars=True,
            ends_grammars=True,
            has_quotes=True,
            has_attention=True,
            can_save=True,
            prefers_batches=self.is_streamed,
            selects=selection is not None,
            window_tokens=None if selection is None else selection.window_tokens,
        )

    @property
    def max_positions(self) -> int:
        """The number of positions the model was trained for."""
        return self.config.max_positions

    @property
    def max_tokens(self) -> int:
        """The longest context that is saved or read whole: more, where questions select from it."""
        return self._read_config.max_positions

    @property
    def model(self) -> "Model":
        """Its layers, as documents that fit are read."""
        return self._model

    def new_context(self, *, is_saved_kind: bool = False) -> "Context":
        """`is_saved_kind`: as `build_context` makes them, to be selected from if those are."""
        from engine.context import Context
        from engine.store.state_tensors import kv_dtype

        model = self._reader if is_saved_kind else self._model
        return Context(model, self.chunk_tokens, kv_dtype=kv_dtype(self.kv))

    def check_memory(self, num_tokens: int) -> None:
        """Raises PlacementError if a context of so many tokens that is not saved does not fit."""
        from engine.loading import check_more

        streams = self._model.is_streamed
        check_more(self._model, self._plan(num_tokens, False, streams, held=self.placement))

    @cached_property
    def token_flops(self) -> int:
        """Of matmuls with weights, to read one more token."""
        from engine.placement.flops import of_layers

        return sum(layer.matmuls for layer in of_layers(self.config, 1))

    @property
    def io_stats(self) -> IoStats | None:
        """What was read of weights that are streamed, and how often it was there already."""
        from engine.streamed.model import StreamedModel

        return self._model.io_stats if isinstance(self._model, StreamedModel) else None

    def _plan(
        self,
        num_tokens: int,
        is_mapped: bool,
        streams: bool | None,
        held: "Placement | None" = None,
    ) -> "Placement":
        """On this machine, where the weights of `held` are in place already."""
        from engine import placement
        from engine.store.state_tensors import kv_dtype

        return placement.plan(
            self._read_config,
            num_tokens,
            self.chunk_tokens,
            self._dtype,
            kv_dtype=kv_dtype(self.kv),
            is_mapped=is_mapped and self._places[0].type == "cpu",
            precision=self._precision,
            streams=streams,
            fp16_copies_bytes=self._fp16_copies_bytes,
            machine=placement.here(
                self._places,
                self.directory,
                held=[one.weights_bytes for one in held.computing] if held else (),
                shares=self._shares,
            ),
        )

    @property
    def compatibility(self) -> "Compatibility":
        """What a saved context must share with this engine to be of use to it."""
        from engine.store.manifest import NO_KV, Compatibility

        kv = self.kv if self._read_config.num_full_kv_layers else NO_KV
        selection = self._read_config.selection
        chosen = "" if selection is None else selection.dumps()
        return Compatibility(self.fingerprint, self.chunk_tokens, kv, chosen)

    def build_context(
        self,
        folder: Path,
        plan: ContextPlan,
        *,
        others: Sequence[Path] = (),
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
        on_unsaved: Callable[[str], None] | None = None,
    ) -> "BuildResult":
        """A context that is saved in `folder` while it is read; see `Store.build`."""
        from engine.store.store import Store

        store = Store(folder, self._reader, self.compatibility)
        return store.build(
            plan,
            others=others,
            on_progress=on_progress,
            on_wait=on_wait,
            on_unsaved=on_unsaved,
        )

    def context_bytes(self, num_tokens: int) -> int:
        """What a saved context of so many tokens takes on disk, to a few per cent."""
        from engine.store.state_tensors import num_bytes

        return num_bytes(self._reader, num_tokens, self.compatibility.kv)

    def context_name(self, token_ids: Sequence[int]) -> str:
        """A file name that only a context of these tokens and this engine has."""
        from engine.store.manifest import TokenHashChain

        chain = TokenHashChain(self.compatibility, token_ids).at(len(token_ids))
        return f"{self.fingerprint[:12]}-{chain[:20]}"

    def open_context(
        self,
        folder: Path,
        *,
        on_progress: protocols.OnProgress | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> "Context":
        """The context saved in `folder`; see `Store.open`. Nothing has to be read again."""
        from engine.store.store import Store

        del on_progress, on_note
        return Store(folder, self._reader, self.compatibility).open()

    @cached_property
    def _token_bytes(self) -> "TokenBytes":
        from engine.constraints.grammar import TokenBytes

        size = self.config.vocab_size
        words = self.tokenizer.token_bytes(size) or [b""] * size
        return TokenBytes.of(self.tokenizer.raw, words, self._stop_ids)

    def relevance(self, question: str, texts: Sequence[str]) -> list[float]:
        del question, texts
        raise EngineError("no other model is here to order texts")

    def grammar(self, schema: Mapping[str, Any]) -> "Grammar":
        """`schema` made ready for this model. Raises GrammarError."""
        from engine.constraints.grammar import Grammar

        return Grammar(schema, self._token_bytes)

    def json_constraint(self, grammar: "Grammar") -> "JsonConstraint":
        """For one answer: JSON that follows the schema, whole within `max_tokens`."""
        from engine.constraints.grammar import JsonConstraint

        return JsonConstraint(grammar, ~self._suppressed)

    def verbatim(
        self, suffixes: "Callable[[], SuffixArray]", begun: str = ""
    ) -> "QuoteConstraint | None":
        """A constraint for one answer: what it quotes stands in the text of `suffixes`. `begun` is
        what the answer begins with already.

        None where it is not known which bytes the tokens of this tokenizer write.
        """
        from engine.constraints.quote_constraint import QuoteConstraint, QuoteTokens

        if self._quotation_tokens is None:
            words = self.tokenizer.token_bytes(self.config.vocab_size)
            if words is None:
                return None
            never = self._suppressed.nonzero().flatten().tolist()
            self._quotation_tokens = QuoteTokens(words, never)
        return QuoteConstraint(self._quotation_tokens, suffixes, begun)

    @property
    def is_streamed(self) -> bool:
        """Whether each pass over the layers reads their weights again: passes should be shared."""
        return self._model.is_streamed

    def run_shared(
        self,
        works: "Sequence[Callable[[], T]]",
        num_tokens: int,
        shared: "protocols.Context | None" = None,
    ) -> "list[T]":
        """See `engine.scheduler.run_shared`; for work that uses contexts of this engine.

        Each reads and writes at most `num_tokens`, in a context of its own or in forks of `shared`.
        """
        from engine import placement
        from engine.layers.kv_cache import BLOCK_TOKENS
        from engine.scheduler import run_shared
        from engine.store.state_tensors import kv_dtype

        num_own = num_tokens + (len(shared) % BLOCK_TOKENS if shared else 0)
        work_bytes = placement.work_bytes(self.config, num_own, self._dtype, kv_dtype(self.kv))
        return run_shared(self._model, works, work_bytes)

    def map_requests(self, works: "Sequence[Callable[[], T]]", num_tokens: int) -> "list[T]":
        """The results of `works`: `run_shared` where passes are dear, else one after another."""
        return (
            self.run_shared(works, num_tokens) if self.is_streamed else [work() for work in works]
        )

    def decode(
        self,
        context: "protocols.Context",
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_positions: int | None = None,
        stop_texts: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        constraint: "protocols.Constraint | Mask | None" = None,
    ) -> "Decoding":
        """An answer that continues `context`; iterate over it for text. See `Decoding`.

        `max_positions` ends the answer when the context holds so many tokens; by default the
        length the model was trained for, or, in a context to select from, `max_tokens`.
        `stop_ids` end it beside those of the model.
        """
        from engine.context import Context
        from engine.decode import Decoding, Sampler, Sampling

        own = _own(context, Context)
        return Decoding(
            own,
            self.tokenizer,
            Sampler(Sampling(temperature, top_p, seed), self._suppressed),
            max_tokens=max_tokens,
            max_positions=max_positions or own.model.config.max_positions,
            stop_ids=self._stop_ids | frozenset(stop_ids),
            stop_texts=stop_texts,
            constraint=self.mask(constraint),
        )

    def mask(self, constraint: "protocols.Constraint | Mask | None") -> "Mask | None":
        """What holds one answer to `constraint`, token by token."""
        from engine.constraints.constraint import Constraint as Mask
        from engine.constraints.grammar import Grammar
        from engine.constraints.suffix_array import SuffixArray

        if constraint is None or isinstance(constraint, Mask):
            return constraint
        if isinstance(constraint, Quotes):
            suffixes = constraint.suffixes
            return self.verbatim(lambda: _own(suffixes(), SuffixArray), constraint.begun)
        return self.json_constraint(_own(constraint, Grammar))


def num_parameters(model: Path | ModelSource) -> int:
    """All experts counted; reads no weights. Raises EngineError."""
    from engine.weights import meta_model

    source = ModelSource.of(model)
    empty = meta_model(source.open_checkpoint(), source.config)
    return sum(parameter.numel() for parameter in empty.parameters())


def check_tensors(directory: Path) -> int:
    """How many tensors the checkpoint has, after holding each against config.json.

    Reads no weights. Raises EngineError at the first that is missing, cut or of another shape.
    """
    from engine.weights import meta_model

    source = ModelSource(directory)
    checkpoint = source.open_checkpoint()
    meta_model(checkpoint, source.config)
    return len(checkpoint.tensors)


def fingerprint(model: Path | ModelSource) -> str:
    """Of the engine of `model`; reads no weights. Raises EngineError."""
    source = ModelSource.of(model)
    return _fingerprint(source, source.open_checkpoint())


def _own(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} of another engine, not {kind.__name__}")
    return value


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _fingerprint(source: ModelSource, checkpoint: "Checkpoint") -> str:
    digest = hashlib.sha256(checkpoint.fingerprint())
    digest.update(json.dumps(source.raw_config, sort_keys=True).encode())
    # Nothing of a GGUF file, whose header has its tokenizer and is in the checkpoint's.
    digest.update(source.tokenizer.digest)
    return digest.hexdigest()

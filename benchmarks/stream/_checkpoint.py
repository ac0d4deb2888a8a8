"""A checkpoint of real-size MiniMax-M1 layers: a sparse file, or one that was really written."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from engine.config import Mixer

VOCAB_SIZE = 512
_BLOCK_BYTES = 64 << 20
_Stored = tuple[str, str, tuple[int, ...]]  # name, dtype, shape
_KINDS = {Mixer.LIGHTNING: 0, Mixer.SOFTMAX: 1}


def config(kinds: list[Mixer]) -> dict[str, object]:
    """MiniMax-M1's config.json with these layers and a small vocabulary."""
    published: dict[str, object] = {
        "model_type": "minimax_m1",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 6144,
        "intermediate_size": 9216,
        "num_hidden_layers": len(kinds),
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rotary_dim": 64,
        "rope_theta": 1e7,
        "num_local_experts": 32,
        "num_experts_per_tok": 2,
        "attn_type_list": [_KINDS[kind] for kind in kinds],
        "postnorm": True,
        "max_position_embeddings": 2**20,
        "hidden_act": "silu",
    }
    for name in ("full_attention", "linear_attention", "mlp"):
        published[f"layernorm_{name}_alpha"] = 3.5565588200778455
        published[f"layernorm_{name}_beta"] = 1.0
    return published


def _layer(index: int, kind: Mixer) -> Iterator[_Stored]:
    prefix, attention = f"model.layers.{index}", f"model.layers.{index}.self_attn"
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}.{norm}.weight", "BF16", (6144,)
    if kind is Mixer.LIGHTNING:
        yield f"{attention}.norm.weight", "BF16", (8192,)
        rows = {"qkv_proj": 3 * 8192, "output_gate": 8192}
        out = "out_proj"
    else:
        rows, out = {"q_proj": 8192, "k_proj": 1024, "v_proj": 1024}, "o_proj"
    for name, count in rows.items():
        yield f"{attention}.{name}.weight", "BF16", (count, 6144)
    yield f"{attention}.{out}.weight", "BF16", (6144, 8192)
    yield f"{prefix}.block_sparse_moe.gate.weight", "F32", (32, 6144)
    for expert in range(32):
        for name, shape in (("w1", (9216, 6144)), ("w2", (6144, 9216)), ("w3", (9216, 6144))):
            yield f"{prefix}.block_sparse_moe.experts.{expert}.{name}.weight", "BF16", shape


def write(folder: Path, kinds: list[Mixer], *, is_sparse: bool) -> int:
    """One shard per layer and one for the rest; returns the bytes of the layers.

    Sparse, all matrices but the routers are zeros that the disk does not have. Written, all are
    the same random 64 MB over and over, on disk for certain when this returns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(kinds)), encoding="utf-8")
    rest: list[_Stored] = [("model.embed_tokens.weight", "BF16", (VOCAB_SIZE, 6144))]
    rest += [("lm_head.weight", "BF16", (VOCAB_SIZE, 6144)), ("model.norm.weight", "BF16", (6144,))]
    shards = {"rest.safetensors": rest}
    for index, kind in enumerate(kinds):
        shards[f"layer-{index}.safetensors"] = list(_layer(index, kind))
    total = sum(
        _write_shard(folder / shard, tensors, is_sparse=is_sparse and tensors is not rest)
        for shard, tensors in shards.items()
    )
    weight_map = {name: shard for shard, tensors in shards.items() for name, _, _ in tensors}
    index_file = folder / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return total - (folder / "rest.safetensors").stat().st_size


def _write_shard(path: Path, tensors: list[_Stored], *, is_sparse: bool) -> int:
    places, header, end = dict[str, tuple[int, int]](), dict[str, object](), 0
    for name, dtype, shape in tensors:
        first, end = end, end + math.prod(shape) * (4 if dtype == "F32" else 2)
        places[name] = (first, end)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    # As random rows of 6144 would be scaled; read as float32 (the routers), finite and small too.
    block = torch.randn(_BLOCK_BYTES // 2, generator=generator).mul_(6144**-0.5).bfloat16()
    data = block.view(torch.uint8).numpy().data
    ones = torch.ones(8192, dtype=torch.bfloat16).view(torch.uint8).numpy().data
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for done in () if is_sparse else range(0, end, _BLOCK_BYTES):
            file.write(data[: end - done])
        for name, (first, last) in places.items():  # or no token would differ from another
            file.seek(start + first)
            if "norm" in name:
                file.write(ones[: last - first])
            elif is_sparse and "gate.weight" in name:
                file.write(data[: last - first])
        file.truncate(start + end)
        file.flush()
        os.fsync(file.fileno())
    return start + end

"""Architecture "minimax-01": MiniMax-Text-01 and MiniMax-M1 as llama.cpp writes them.

Names and keys as of llama.cpp's pull request 27018 (merged 2026-08): one `residual_scale` stands
for all three alphas, every beta is 1, rows are not permuted (rotary pairs are halves, as in the
published weights), and the experts of a layer are one tensor [experts, rows, columns]. Which layers
are Lightning says `attention.recurrent_layers`, or else all but every `full_attention_interval`-th.
The eps of the Lightning layers' norm is not in the file: it stays that of the official code.
"""

from typing import Any

from engine.errors import GgufError
from engine.gguf.file import GgufFile
from engine.gguf.metadata import Metadata, count, flags, get, length, positive, token_id
from engine.gguf.source import Described, Source, Tensors, unstacked

ARCHITECTURE = "minimax-01"

_SOFTMAX_GATING = 1
_LARGEST = 2**20  # layers, heads and experts of a file, before anything is made of so many


def describe(file: GgufFile) -> Described:
    """Raises GgufError if metadata and tensors contradict each other or are not supported."""
    config = _config(file)
    return Described(config, _sources(Tensors(file.tensors), config))


def _config(file: GgufFile) -> dict[str, Any]:
    metadata = file.metadata

    def key(name: str) -> str:
        return f"{ARCHITECTURE}.{name}"

    if get(metadata, key("rope.scaling.type"), str, "none") != "none":
        raise GgufError("rotary scaling is not supported")
    if get(metadata, key("expert_gating_func"), int, _SOFTMAX_GATING) != _SOFTMAX_GATING:
        raise GgufError("only routers with softmax are supported")
    if get(metadata, key("expert_shared_count"), int, 0):
        raise GgufError("shared experts are not supported in GGUF files")
    hidden_size = count(metadata, key("embedding_length"))
    num_heads = count(metadata, key("attention.head_count"))
    num_kv_heads = count(metadata, key("attention.head_count_kv"), num_heads)
    head_dim = count(metadata, key("attention.key_length"), hidden_size // num_heads)
    rotary_dim = count(metadata, key("rope.dimension_count"), head_dim)
    vocab_size = length(metadata, "tokenizer.ggml.tokens")
    if rotary_dim % 2 or rotary_dim > head_dim or num_heads % num_kv_heads:
        raise GgufError(
            f"{num_heads} heads of {head_dim}, {num_kv_heads} KV heads and {rotary_dim} rotated "
            "dimensions do not fit"
        )
    for name, expected in (("attention.value_length", head_dim), ("vocab_size", vocab_size)):
        if (announced := count(metadata, key(name), expected)) != expected:
            raise GgufError(f"{key(name)} is {announced} where the rest says {expected}")
    alpha = positive(metadata, key("residual_scale"))
    kinds = ("full_attention", "linear_attention", "mlp")
    residual = {f"layernorm_{kind}_alpha": alpha for kind in kinds}
    return {
        "architectures": ["MiniMaxM1ForCausalLM"],
        "model_type": "minimax_m1",
        "hidden_act": "silu",
        "postnorm": True,
        "shared_intermediate_size": 0,
        **residual,
        **{f"layernorm_{kind}_beta": 1.0 for kind in kinds},
        "attn_type_list": _layer_kinds(metadata),
        "num_hidden_layers": count(metadata, key("block_count")),
        "hidden_size": hidden_size,
        "intermediate_size": count(metadata, key("feed_forward_length")),
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "rotary_dim": rotary_dim,
        "num_local_experts": count(metadata, key("expert_count")),
        "num_experts_per_tok": count(metadata, key("expert_used_count")),
        "vocab_size": vocab_size,
        "max_position_embeddings": count(metadata, key("context_length")),
        "rope_theta": positive(metadata, key("rope.freq_base"), 10000.0),
        "rms_norm_eps": positive(metadata, key("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": token_id(metadata, "bos", vocab_size),
        "eos_token_id": token_id(metadata, "eos", vocab_size),
    }


def _layer_kinds(metadata: Metadata) -> list[int]:
    """MiniMax-M1's attn_type_list: 0 is Lightning, 1 is softmax."""
    num_layers = count(metadata, f"{ARCHITECTURE}.block_count")
    if num_layers > _LARGEST:
        raise GgufError(f"{ARCHITECTURE}.block_count is {num_layers}")
    key = f"{ARCHITECTURE}.attention.recurrent_layers"
    if key in metadata:
        is_lightning = flags(metadata, key, num_layers)
        return [0 if lightning else 1 for lightning in is_lightning]
    interval = count(metadata, f"{ARCHITECTURE}.full_attention_interval", 8)
    return [int((layer + 1) % interval == 0) for layer in range(num_layers)]


def _sources(tensors: Tensors, config: dict[str, Any]) -> list[Source]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key_value = config["num_key_value_heads"] * config["head_dim"]
    num_experts = config["num_local_experts"]
    softmax = [
        ("attn_q", "self_attn.q_proj", (query, hidden)),
        ("attn_k", "self_attn.k_proj", (key_value, hidden)),
        ("attn_v", "self_attn.v_proj", (key_value, hidden)),
        ("attn_output", "self_attn.o_proj", (hidden, query)),
    ]
    lightning = [
        ("attn_qkv", "self_attn.qkv_proj", (3 * query, hidden)),
        ("attn_gate", "self_attn.output_gate", (query, hidden)),
        ("attn_norm_2", "self_attn.norm", (query,)),
        ("attn_output", "self_attn.out_proj", (hidden, query)),
    ]
    common = [
        ("attn_norm", "input_layernorm", (hidden,)),
        ("ffn_norm", "post_attention_layernorm", (hidden,)),
        ("ffn_gate_inp", "block_sparse_moe.gate", (num_experts, hidden)),
    ]
    experts = [
        ("ffn_gate_exps", "w1", (num_experts, inner, hidden)),
        ("ffn_down_exps", "w2", (num_experts, hidden, inner)),
        ("ffn_up_exps", "w3", (num_experts, inner, hidden)),
    ]
    embeddings = (config["vocab_size"], hidden)
    found = [Source("model.embed_tokens.weight", tensors.take("token_embd.weight", embeddings))]
    for layer, kind in enumerate(config["attn_type_list"]):
        ours = f"model.layers.{layer}"
        for theirs, name, shape in (*common, *(softmax if kind else lightning)):
            tensor = tensors.take(f"blk.{layer}.{theirs}.weight", shape)
            found.append(Source(f"{ours}.{name}.weight", tensor))
        for theirs, name, shape in experts:
            stack = tensors.take(f"blk.{layer}.{theirs}.weight", shape)
            for number, expert in enumerate(unstacked(stack)):
                place = f"{ours}.block_sparse_moe.experts.{number}.{name}.weight"
                found.append(Source(place, expert))
    found.append(Source("model.norm.weight", tensors.take("output_norm.weight", (hidden,))))
    if not config["tie_word_embeddings"]:
        found.append(Source("lm_head.weight", tensors.take("output.weight", embeddings)))
    tensors.finish(ARCHITECTURE)
    return found

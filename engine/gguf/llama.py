"""Architecture "llama": metadata and tensor names -> those of a Hugging Face directory.

q and k rows are stored permuted, for rotary pairs that stand side by side.
"""

from typing import Any

from engine.errors import GgufError
from engine.gguf.file import GgufFile
from engine.gguf.metadata import count, get, positive, token_id
from engine.gguf.source import Described, Source, Tensors

ARCHITECTURE = "llama"


def describe(file: GgufFile) -> Described:
    """Raises GgufError if metadata and tensors contradict each other or are not supported."""
    config = _config(file)
    return Described(config, _sources(Tensors(file.tensors), config))


def _config(file: GgufFile) -> dict[str, Any]:
    metadata = file.metadata
    if get(metadata, "llama.rope.scaling.type", str, "none") != "none":
        raise GgufError("rotary scaling is not supported")
    if get(metadata, "llama.expert_count", int, 0) != 0:
        raise GgufError("mixtures of experts are not supported in llama files")

    hidden_size = count(metadata, "llama.embedding_length")
    num_heads = count(metadata, "llama.attention.head_count")
    num_kv_heads = count(metadata, "llama.attention.head_count_kv", num_heads)
    head_dim = count(metadata, "llama.attention.key_length", hidden_size // num_heads)
    vocab_size = len(get(metadata, "tokenizer.ggml.tokens", list))
    if head_dim % 2 or num_heads % num_kv_heads:
        raise GgufError(f"{num_heads} heads of {head_dim} and {num_kv_heads} KV heads do not fit")
    for key, expected in {
        "llama.attention.value_length": head_dim,
        "llama.rope.dimension_count": head_dim,
        "llama.vocab_size": vocab_size,
    }.items():
        if (announced := count(metadata, key, expected)) != expected:
            raise GgufError(f"{key} is {announced} where the rest of the file says {expected}")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "num_hidden_layers": count(metadata, "llama.block_count"),
        "hidden_size": hidden_size,
        "intermediate_size": count(metadata, "llama.feed_forward_length"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab_size,
        "max_position_embeddings": count(metadata, "llama.context_length"),
        "rope_theta": positive(metadata, "llama.rope.freq_base", 10000.0),
        "rms_norm_eps": positive(metadata, "llama.attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": token_id(metadata, "bos", vocab_size),
        "eos_token_id": token_id(metadata, "eos", vocab_size),
        "pad_token_id": token_id(metadata, "padding", vocab_size),
    }


def _sources(tensors: Tensors, config: dict[str, Any]) -> list[Source]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    query, key_value = heads * config["head_dim"], kv_heads * config["head_dim"]
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
    embeddings = (config["vocab_size"], hidden)
    found = [Source("model.embed_tokens.weight", tensors.take("token_embd", embeddings))]
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours, expected, rotary_heads in layer_tensors:
            tensor = tensors.take(f"blk.{layer}.{theirs}", expected)
            found.append(Source(f"model.layers.{layer}.{ours}.weight", tensor, rotary_heads))
    found.append(Source("model.norm.weight", tensors.take("output_norm", (hidden,))))
    if not config["tie_word_embeddings"]:
        found.append(Source("lm_head.weight", tensors.take("output", embeddings)))
    tensors.finish(ARCHITECTURE)
    return found

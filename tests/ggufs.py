"""GGUF files of MiniMax-01's architecture, as llama.cpp's converter lays them out."""

import gguf
import torch
from mini import TINY_CONTROL, TINY_MERGES, tiny_tokens

ARCHITECTURE = "minimax-01"
ALPHA = 1.75  # the format has one for all, exact in float32
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.out_proj": "attn_output",
    "self_attn.output_gate": "attn_gate",
    "self_attn.norm": "attn_norm_2",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
EXPERTS = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}


def as_gguf_has_it(config):
    """The config with what the format cannot say made equal: one alpha, every beta 1."""
    kinds = ("full_attention", "linear_attention", "mlp")
    residual = {f"layernorm_{kind}_alpha": ALPHA for kind in kinds}
    return config | residual | {f"layernorm_{kind}_beta": 1.0 for kind in kinds}


def their_tensors(config, weights):
    """By llama.cpp's names, the experts of a layer stacked."""
    found = {}
    for name, tensor in weights.items():
        if ".experts." not in name:
            for ours, theirs in NAMES.items():
                name = name.replace(ours, theirs)
            found[name] = tensor
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in EXPERTS.items():
            place = f"model.layers.{layer}.block_sparse_moe.experts"
            numbers = range(config["num_local_experts"])
            stack = torch.stack([weights[f"{place}.{e}.{ours}.weight"] for e in numbers])
            found[f"blk.{layer}.{theirs}.weight"] = stack
    return found


def kind_of(name, tensor, kind):
    """llama.cpp keeps routers and vectors in float32 whatever the rest is."""
    if tensor.dim() == 1 or "ffn_gate_inp" in name:
        return gguf.GGMLQuantizationType.F32
    return kind(name) if callable(kind) else kind


def write_minimax_gguf(path, config, weights, kind, *, metadata=None, tensors=None, **options):
    """`kind` of every matrix, or a function of its name; `metadata` and `tensors` replace what is
    there by name, None leaves it out. `options` go to the writer."""
    tokens = tiny_tokens()
    tokens += [f"[PAD{number}]" for number in range(len(tokens), config["vocab_size"])]
    kinds = [3] * len(TINY_CONTROL) + [1] * (len(tiny_tokens()) - len(TINY_CONTROL))
    values = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.recurrent_layers": [kind == 0 for kind in config["attn_type_list"]],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.dimension_count": config["rotary_dim"],
        "rope.freq_base": float(config["rope_theta"]),
        "expert_count": config["num_local_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "residual_scale": ALPHA,
    }
    values = {f"{ARCHITECTURE}.{key}": value for key, value in values.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "minimax-m2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds + [5] * (len(tokens) - len(kinds)),
        "tokenizer.ggml.merges": TINY_MERGES,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
    }
    writer = gguf.GGUFWriter(path, ARCHITECTURE, **options)
    for key, value in (values | (metadata or {})).items():
        match value:
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    for name, tensor in (their_tensors(config, weights) | (tensors or {})).items():
        if tensor is not None:
            own = kind_of(name, tensor, kind)
            packed = gguf.quants.quantize(tensor.numpy(), own)
            writer.add_tensor(name, packed, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_stored(config, weights, kind):
    """The weights after a round trip through `kind`, by their published names."""
    found = {}
    for name, tensor in weights.items():
        theirs = name
        for ours, new in NAMES.items():
            theirs = theirs.replace(ours, new)
        own = kind_of(theirs, tensor, kind)
        packed = gguf.quants.quantize(tensor.numpy(), own)
        found[name] = torch.from_numpy(gguf.quants.dequantize(packed, own).copy())
    return found

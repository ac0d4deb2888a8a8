"""Tiny random checkpoints: MiniMax-M1, its "-hf" spelling, Llama, and our own family."""

import json
from functools import lru_cache

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<end_of_sentence>"]
END_OF_TURN = "<|im_end|>"
SENTENCES = ["the cat sat on the mat and the hat, ", "where the rat ate that. ", "1234567 words\n"]
TRAINED_IDS = 300  # embedding rows above the tokenizer's ids are zero, as in the published weights
VOCAB_SIZE = 320

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As MiniMax-M1's: content is a list, the system text comes first, whatever the order.
LISTED = (
    "{% set ns = namespace(system='') -%}{% for m in messages -%}{% if m['role'] == 'system' -%}"
    "{% set ns.system = ns.system + m['content'][0]['text'] -%}{% endif -%}{%- endfor -%}"
    "{% if ns.system != '' -%}{{ '<|im_start|>system\n' + ns.system + '<|im_end|>\n' -}}"
    "{%- endif -%}{% for m in messages -%}{% if m['role'] == 'user' -%}"
    "{{ '<|im_start|>user name=user\n' + m['content'][0]['text'] + '<|im_end|>\n' -}}"
    "{% elif m['role'] == 'assistant' -%}{{ '<|im_start|>ai\n' -}}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') -%}{{ c['text'] -}}"
    "{%- endfor -%}{{ '<|im_end|>\n' -}}{% endif -%}{%- endfor -%}"
    "{% if add_generation_prompt -%}{{ '<|im_start|>ai\n' -}}{%- endif -%}"
)


def minimax_config(**changes):
    """A config.json in MiniMax-M1's own spelling; `changes` replace keys, None included."""
    return {
        "model_type": "minimax_m1",
        "architectures": ["MiniMaxM1ForCausalLM"],
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rotary_dim": 8,
        "rope_theta": 10_000.0,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 0,
        "shared_moe_mode": "sigmoid",
        "attn_type_list": [0, 0, 1, 0],
        "postnorm": True,
        "rms_norm_eps": 1e-5,
        "layernorm_full_attention_alpha": 1.7,
        "layernorm_full_attention_beta": 0.9,
        "layernorm_linear_attention_alpha": 1.4,
        "layernorm_linear_attention_beta": 1.1,
        "layernorm_mlp_alpha": 1.6,
        "layernorm_mlp_beta": 0.8,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "sliding_window": None,
        "eos_token_id": None,
    } | changes


def hf_spelling(config):
    """The same config as the "-hf" repositories write it."""
    renamed = {
        "layernorm_full_attention": "full_attn",
        "layernorm_linear_attention": "linear_attn",
        "layernorm_mlp": "mlp",
    }
    spelled = {"model_type": "minimax", "architectures": ["MiniMaxForCausalLM"]}
    for key, value in config.items():
        published, _, factor = key.rpartition("_")
        if published in renamed:
            spelled[f"{renamed[published]}_{factor}_factor"] = value
        elif key == "attn_type_list":
            kinds = ("linear_attention", "full_attention")
            spelled["layer_types"] = [kinds[kind] for kind in value]
        elif key not in {"model_type", "architectures", "postnorm"}:
            spelled[key] = value
    return spelled


def llama_config(**changes):
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "eos_token_id": None,
    } | changes


# Of the other families, by model_type: the options that are theirs, as a checkpoint may have them.
_WINDOW = {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, **_WINDOW},
    "qwen3": {"head_dim": 8, "attention_bias": False},
    "qwen3_moe": {
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [0],
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
    },
    "mistral": {"sliding_window": 9},
    "smollm3": {"no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
    "granite": {
        "embedding_multiplier": 2.0,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.5,
        "logits_scaling": 3.0,
    },
    "phi3": {
        "head_dim": 32,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.5] * 16, "long_factor": [2.0]},
    },
    "olmo2": {},
    "olmo3": _WINDOW,
    "gemma3_text": {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 8,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 1e4,
        "final_logit_softcapping": None,
        **_WINDOW,
    },
}


def family_config(model_type, **changes):
    common = {key: value for key, value in llama_config().items() if key != "architectures"}
    return common | {"model_type": model_type} | FAMILIES[model_type] | changes


LIGHTNING = {"mixer": "lightning", "silu": False, "qk_norm": True, "scale": 0.25}
LIGHTNING |= {"rotary_dim": 16, "slope_layer_factor": False}
WINDOWED = {"mixer": "softmax", "rotary_dim": 8, "rotary_frequency_dim": 16, "window_tokens": 9}
WINDOWED |= {"sink_tokens": 2, "output_gate": True}


EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


def mm1_config(**changes):
    """A config.json of our own family: all kinds of layer a hybrid has use of; `EXPERTS` beside."""
    near = {"mixer": "softmax", "rotary_dim": 16, "window_tokens": 5, "sink_tokens": 1}
    near |= {"window_always": True}
    far = {"mixer": "softmax", "log_scale_base": 20, "log_scale_from_tokens": 30}
    explicit = {"mixer": "lightning", "slopes": [0.5, 0.1, 0.02, 0.0], "norm_groups": 4}
    kinds = {"local": LIGHTNING, "window": WINDOWED, "near": near, "far": far, "m1": explicit}
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    kept += ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "hidden_act")
    config = {key: value for key, value in llama_config().items() if key in kept}
    config |= {"model_type": "mm1", "head_dim": 16, "tie_word_embeddings": True}
    config |= {"layer_kinds": kinds, "layers": ["local", "window", "near", "far", "m1"]}
    return config | {"eos_token_id": None} | changes


def shapes(config):
    """Every tensor of the checkpoint, by its published name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    query, key_value = heads * head_dim, kv_heads * head_dim
    found = {"model.embed_tokens": (config["vocab_size"], hidden), "model.norm": (hidden,)}
    if not config["tie_word_embeddings"]:
        found["lm_head"] = (config["vocab_size"], hidden)
    softmax = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key_value, hidden),
        "self_attn.v_proj": (key_value, hidden),
        "self_attn.o_proj": (hidden, query),
    }
    lightning = {
        "self_attn.qkv_proj": (3 * query, hidden),
        "self_attn.output_gate": (query, hidden),
        "self_attn.norm": (query,),
        "self_attn.out_proj": (hidden, query),
    }
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    for index in range(config.get("num_hidden_layers") or len(config["layers"])):
        layer = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
        if config["model_type"] == "mm1":
            kind = config["layer_kinds"][config["layers"][index]]
            layer |= lightning if kind["mixer"] == "lightning" else softmax
            if config.get("num_local_experts"):
                layer |= _experts(config)
            else:
                layer |= {f"mlp.{name}": shape for name, shape in mlp.items()}
            if kind.get("qk_norm"):
                layer |= {f"self_attn.{x}_norm": (head_dim,) for x in "qk"}
            if kind.get("output_gate"):
                layer["self_attn.output_gate"] = (query, hidden)
        elif config["model_type"] == "llama":
            layer |= softmax | {f"mlp.{name}": shape for name, shape in mlp.items()}
        else:
            kinds = config.get("attn_type_list") or config["layer_types"]
            layer |= softmax if kinds[index] in (1, "full_attention") else lightning
            layer |= _experts(config)
        found |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    return {f"{name}.weight": shape for name, shape in found.items()}


def _experts(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    layer = {"block_sparse_moe.gate": (config["num_local_experts"], hidden)}
    for expert in range(config["num_local_experts"]):
        name = f"block_sparse_moe.experts.{expert}"
        layer |= {f"{name}.w1": (inner, hidden), f"{name}.w3": (inner, hidden)}
        layer[f"{name}.w2"] = (hidden, inner)
    if shared := config.get("shared_intermediate_size"):
        layer |= {f"shared_mlp.{x}_proj": (shared, hidden) for x in ("gate", "up")}
        layer |= {"shared_mlp.down_proj": (hidden, shared), "coefficient": (1, hidden)}
    return layer


def random_weights(config, seed=0):
    """float32 weights that keep activations near 1, attention uneven and the router decided."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(config).items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            values = 1 + 0.2 * values
        elif "embed" in name:
            values *= 0.5
        else:
            gain = 2.0 if any(x in name for x in ("q_proj", "k_proj", ".gate.", "coeff")) else 1.3
            values *= gain / shape[1] ** 0.5
        weights[name] = values
    weights["model.embed_tokens.weight"][TRAINED_IDS:] = 0
    return weights


@lru_cache(maxsize=1)
def _tokenizer_text():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_IDS - 10,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer.to_str()


def tokenizer_json():
    """A byte-level BPE with a few merges; the control tokens have ids 0 to 3."""
    return json.loads(_tokenizer_text())


def write_tokenizer(directory, *, raw=None, template=CHATML, **settings):
    """tokenizer.json and tokenizer_config.json; `template` None leaves the chat template out."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps(raw or tokenizer_json()))
    settings = {"eos_token": END_OF_TURN} | settings
    if template is not None:
        settings["chat_template"] = template
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def write_checkpoint(directory, config, weights=None, *, num_shards=1, template=CHATML, seed=0):
    """A whole model directory: sharded with an index, or one file; returns `directory`."""
    write_tokenizer(directory, template=template)
    write_config(directory, config)
    weights = random_weights(config, seed) if weights is None else weights
    if num_shards == 1:
        save_file(weights, directory / "model.safetensors")
        return directory
    names = sorted(weights)
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard:05d}-of-{num_shards:05d}.safetensors"
        part = names[shard::num_shards]
        save_file({name: weights[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    write_index(directory, weight_map)
    return directory


def write_config(directory, config):
    (directory / "config.json").write_text(json.dumps(config))


def write_index(directory, weight_map):
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def load_model(directory, dtype=torch.float32):
    """The engine's model of a directory, on the CPU."""
    from engine.checkpoint import Checkpoint
    from engine.families import read_config
    from engine.weights import load

    config = read_config(directory)
    return load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=dtype)


def all_logits(model, token_ids, chunk_tokens, decode_tokens=0):
    """Logits [T, vocab] of every position, the last `decode_tokens` fed one at a time."""
    from engine.context import Context

    context = Context(model, chunk_tokens)
    first = len(token_ids) - decode_tokens
    steps = [token_ids[:first], *([i] for i in token_ids[first:])]
    with torch.inference_mode():
        rows = [model.logits(hidden) for step in steps for _, hidden in context.chunks(step)]
    return torch.cat(rows)

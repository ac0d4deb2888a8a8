"""GGUF files for tests, as llama.cpp's converter lays them out: of MiniMax-01's architecture from
given weights, and random tiny ones of every other."""

import json
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
from gguf import GGMLQuantizationType as Kind
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
    add_values(writer, values | (metadata or {}))
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


HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB, CONTEXT = 256, 512, 4, 2, 64, 320, 512
NUM_EXPERTS, EXPERT_INNER = 4, 256
_QKV = {"attn_q": "qh", "attn_k": "kh", "attn_v": "kh", "attn_output": "hq"}
_MLP = {"ffn_gate": "ih", "ffn_up": "ih", "ffn_down": "hi"}
_PRE_NORMS = {"attn_norm": "h", "ffn_norm": "h"}
_POST_NORMS = {"post_attention_norm": "h", "post_ffw_norm": "h"}
_HEAD_NORMS = {"attn_q_norm": "d", "attn_k_norm": "d"}
_LLAMA = _QKV | _MLP | _PRE_NORMS
_EXPERTS = {
    "ffn_gate_inp": "eh",
    "ffn_gate_exps": "emh",
    "ffn_up_exps": "emh",
    "ffn_down_exps": "ehm",
}
NUM_KEYS, NUM_VALUES, STATE, TAPS, SHARED_INNER = 2, 4, 64, 4, 512
_GATED = {
    "attn_q": "Qh",
    "attn_k": "kh",
    "attn_v": "kh",
    "attn_output": "hq",
    "attn_norm": "h",
    "post_attention_norm": "h",
} | _HEAD_NORMS
_DELTA = {
    "attn_norm": "h",
    "post_attention_norm": "h",
    "attn_qkv": "ch",
    "attn_gate": "vh",
    "ssm_conv1d": "ct",
    "ssm_dt.bias": "n",
    "ssm_a.": "n",
    "ssm_norm": "s",
    "ssm_out": "hv",
}
_BETA_ALPHA = {"ssm_beta": "nh", "ssm_alpha": "nh"}
_MIXTURE = _EXPERTS | {
    "ffn_gate_inp_shexp": "h",
    "ffn_gate_shexp": "xh",
    "ffn_up_shexp": "xh",
    "ffn_down_shexp": "hx",
}
_FUSED_MIXTURE = {
    name: of for name, of in _MIXTURE.items() if name not in ("ffn_gate_exps", "ffn_up_exps")
} | {"ffn_gate_up_exps": "eMh"}
_DELTA_KEYS = {
    "attention.key_length": HEAD_DIM,
    "attention.value_length": HEAD_DIM,
    "rope.dimension_count": 16,
    "full_attention_interval": 2,
    "ssm.conv_kernel": TAPS,
    "ssm.state_size": STATE,
    "ssm.group_count": NUM_KEYS,
    "ssm.time_step_rank": NUM_VALUES,
    "ssm.inner_size": NUM_VALUES * STATE,
}
_SECTIONS = {"rope.dimension_sections": [3, 3, 2, 0]}
_MIXTURE_KEYS = {
    "expert_count": NUM_EXPERTS,
    "expert_used_count": 2,
    "expert_feed_forward_length": EXPERT_INNER,
    "expert_shared_feed_forward_length": SHARED_INNER,
}
_FIRST_DELTA = {name: of for name, of in _DELTA.items() if name not in ("attn_qkv", "attn_gate")}
_FIRST_DELTA |= {"ssm_in": "zh", "ssm_ba": "bh"}
# By architecture, behind a comma by its variant: tensors of a layer by their dimensions, or of each
# kind in turn, and keys beside those all have, or functions of the number of layers.
TINY = {
    "qwen3next": (
        (_DELTA | {"ssm_ba": "bh"} | _MIXTURE, _GATED | _MIXTURE),
        _DELTA_KEYS | _MIXTURE_KEYS,
    ),
    "qwen3next, the first converter's": (
        (_FIRST_DELTA | _MIXTURE, _GATED | _MIXTURE),
        _DELTA_KEYS | _MIXTURE_KEYS,
    ),
    "qwen35": ((_DELTA | _BETA_ALPHA | _MLP, _GATED | _MLP), _DELTA_KEYS | _SECTIONS),
    "qwen35, layers told": (
        (_GATED | _MLP, _DELTA | _BETA_ALPHA | _MLP),
        _DELTA_KEYS
        | _SECTIONS
        | {"attention.recurrent_layers": lambda n: [False, True] * (n // 2)},
    ),
    "qwen35moe, gate and up in one": (
        (_DELTA | _BETA_ALPHA | _FUSED_MIXTURE, _GATED | _FUSED_MIXTURE),
        _DELTA_KEYS | _MIXTURE_KEYS | _SECTIONS,
    ),
    "qwen35moe": (
        (_DELTA | _BETA_ALPHA | _MIXTURE, _GATED | _MIXTURE),
        _DELTA_KEYS | _MIXTURE_KEYS | _SECTIONS,
    ),
    "llama": (_LLAMA, {"vocab_size": VOCAB, "rope.dimension_count": HEAD_DIM}),
    "qwen2": (_LLAMA | dict.fromkeys(("attn_q.bias", "attn_k.bias", "attn_v.bias")), {}),
    "qwen3": (_LLAMA | _HEAD_NORMS, {}),
    "qwen3moe": (
        _QKV | _PRE_NORMS | _HEAD_NORMS | _EXPERTS,
        {
            "expert_count": NUM_EXPERTS,
            "expert_used_count": 2,
            "expert_feed_forward_length": EXPERT_INNER,
        },
    ),
    "smollm3": (_LLAMA, {"vocab_size": VOCAB, "rope.dimension_count": HEAD_DIM}),
    "granite": (
        _LLAMA,
        {
            "vocab_size": VOCAB,
            "rope.dimension_count": HEAD_DIM,
            "attention.scale": 0.015625,
            "embedding_scale": 12.0,
            "residual_scale": 0.22,
            "logit_scale": 8.0,
        },
    ),
    "phi3": (
        {"attn_qkv": "fh", "attn_output": "hq", "ffn_up": "gh", "ffn_down": "hi"} | _PRE_NORMS,
        {
            "rope.scaling.original_context_length": CONTEXT,
            "rope.dimension_count": HEAD_DIM,
            "attention.sliding_window": 0,
        },
    ),
    "olmo2": (_QKV | _MLP | _POST_NORMS | {"attn_q_norm": "q", "attn_k_norm": "k"}, {}),
    "gemma3": (
        _QKV | _MLP | _POST_NORMS | _HEAD_NORMS | _PRE_NORMS,
        {
            "attention.sliding_window": 16,
            "attention.key_length": HEAD_DIM,
            "attention.value_length": HEAD_DIM,
            "rope.freq_base": 1e6,
        },
    ),
}
_SIZES = {
    "h": HIDDEN,
    "q": HEADS * HEAD_DIM,
    "k": KV_HEADS * HEAD_DIM,
    "f": (HEADS + 2 * KV_HEADS) * HEAD_DIM,
    "d": HEAD_DIM,
    "i": INNER,
    "g": 2 * INNER,
    "e": NUM_EXPERTS,
    "m": EXPERT_INNER,
    "Q": 2 * HEADS * HEAD_DIM,
    "c": (2 * NUM_KEYS + NUM_VALUES) * STATE,
    "v": NUM_VALUES * STATE,
    "z": 2 * (NUM_KEYS + NUM_VALUES) * STATE,
    "n": NUM_VALUES,
    "b": 2 * NUM_VALUES,
    "s": STATE,
    "t": TAPS,
    "x": SHARED_INNER,
    "M": 2 * EXPERT_INNER,
}


def tiny_gguf(
    folder,
    architecture,
    kinds=Kind.F32,
    *,
    layers=2,
    seed=0,
    metadata=None,
    tensors=None,
    tied=False,
    tokenizer=None,
) -> Path:
    """A random model of `architecture` that llama-server loads; widths are multiples of 256.

    `kinds` is the quantisation of every matrix, or a function of its name in the file. `metadata`
    replaces keys by their full names and `tensors` float32 arrays by theirs; None leaves one out.
    `tokenizer` replaces the metadata of `gpt2_tokenizer()`.
    """
    rows, own = TINY[architecture]
    architecture = architecture.partition(",")[0]
    random = np.random.default_rng(seed)
    values = {
        "block_count": layers,
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
    } | own
    values = {
        f"{architecture}.{key}": value(layers) if callable(value) else value
        for key, value in values.items()
    }
    values |= (tokenizer or gpt2_tokenizer()) | (metadata or {})
    num_tokens = len(values["tokenizer.ggml.tokens"])
    if f"{architecture}.vocab_size" in values:
        values[f"{architecture}.vocab_size"] = num_tokens
    shapes = {"token_embd.weight": (num_tokens, HIDDEN), "output_norm.weight": (HIDDEN,)}
    has_head = not tied and architecture != "gemma3"
    if has_head:
        shapes["output.weight"] = (num_tokens, HIDDEN)
    for layer in range(layers):
        own_rows = rows[layer % len(rows)] if isinstance(rows, tuple) else rows
        for name, letters in own_rows.items():
            whole = name.rstrip(".") if "." in name else f"{name}.weight"
            letters = letters or own_rows[name.removesuffix(".bias")][0]
            shapes[f"blk.{layer}.{whole}"] = tuple(_SIZES[letter] for letter in letters)
    path = Path(folder) / f"{architecture}.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    add_values(writer, values)
    arrays = {name: _tiny_weight(name, shape, random, has_head) for name, shape in shapes.items()}
    for name, array in (arrays | (tensors or {})).items():
        if array is None:
            continue
        kind = Kind.F32
        if array.ndim > 1 and "ffn_gate_inp" not in name and "conv1d" not in name:
            kind = kinds(name) if callable(kinds) else kinds
        writer.add_tensor(name, pack(array, kind, random), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gpt2_tokenizer(pre="smollm"):
    """A byte-level vocabulary of VOCAB tokens with a few merges, as metadata."""
    tokens = tiny_tokens()
    kinds = [3] * len(TINY_CONTROL) + [1] * (len(tokens) - len(TINY_CONTROL))
    num_unused = VOCAB - len(tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens + [f"[PAD{number}]" for number in range(num_unused)],
        "tokenizer.ggml.token_type": kinds + [5] * num_unused,
        "tokenizer.ggml.merges": TINY_MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }


def trained_tokenizer(texts, pre, num_tokens=1500):
    """A byte-level vocabulary whose merges, trained on `texts`, cross every border between words:
    text split at another place comes out as other tokens."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=TINY_CONTROL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    model = json.loads(library.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [3] * len(TINY_CONTROL) + [1] * (len(tokens) - len(TINY_CONTROL))
    return gpt2_tokenizer(pre) | {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
    }


def sentencepiece_tokenizer(texts, num_tokens=1500, *, has_prefix=True, user_defined=()):
    """A SentencePiece vocabulary: <unk>, <s>, </s>, a turn's two marks, 256 bytes, then pieces with
    falling scores, which are a BPE's trained on `texts`."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=num_tokens, show_progress=False)
    library.train_from_iterator(texts, trainer)
    vocab = library.get_vocab()
    letters = sorted(vocab, key=vocab.get)
    pieces = [each for each in letters if len(each) > 1]
    pieces += [each for each in letters if len(each) == 1]
    control = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [each for each in pieces if each not in user_defined]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [*control, *byte_tokens, *user_defined, *pieces],
        "tokenizer.ggml.scores": [
            *[0.0] * (len(control) + len(byte_tokens)),
            *[-1000.0] * len(user_defined),
            *[-float(rank) for rank in range(len(pieces))],
        ],
        "tokenizer.ggml.token_type": [2, 3, 3, 3, 3]
        + [6] * 256
        + [4] * len(user_defined)
        + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": has_prefix,
        "tokenizer.chat_template": "{{ messages }}",
    }


def add_values(writer, values):
    """Metadata by full keys; numbers as llama.cpp writes them, None for none."""
    for key, value in values.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)


def _tiny_weight(name, shape, random, has_head):
    """Activations stay near 1 and attention is uneven."""
    values = random.standard_normal(shape).astype(np.float32)
    if name.endswith("ssm_a"):
        return -np.exp(values)
    if len(shape) == 1:
        return values * np.float32(0.2) + np.float32(0 if name.endswith(".bias") else 1)
    if name == "token_embd.weight":
        return values * np.float32(0.5 if has_head else 0.06)
    gain = 2.0 if "attn_q" in name or "attn_k" in name or "gate_inp" in name else 1.3
    return values * np.float32(gain / shape[-1] ** 0.5)


# Where a block's float16 scale, and scale of its offsets, stand.
_SCALES = {
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108, None),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208, None),
    Kind.IQ4_NL: (0, None),
    Kind.IQ4_XS: (0, None),
}


def pack(array, kind, random):
    """`array` in blocks of `kind`. Where gguf cannot quantise to it, random blocks with the same
    mean and deviation stand for it."""
    try:
        return gguf.quants.quantize(array, kind)
    except NotImplementedError:
        pass
    elements, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (array.size // elements, num_bytes), dtype=np.uint8)
    spread = float(array.std())
    if kind is Kind.MXFP4:
        blocks[:, 0] = 127 + round(np.log2(spread / 3))
        return blocks.reshape(*array.shape[:-1], -1)

    def with_scales(scale, offset):
        for at, value in zip(_SCALES[kind], (scale, offset), strict=True):
            if at is not None:
                blocks[:, at : at + 2] = np.array([value], np.float16).view(np.uint8)
        return gguf.quants.dequantize(blocks, kind)

    plain, offset = with_scales(1, 0), 0.0
    if _SCALES[kind][1] is not None:
        offset = -float(plain.mean()) / float(with_scales(0, 1).mean())
    scale = spread / float(with_scales(1, offset).std())
    with_scales(scale, scale * offset)
    return blocks.reshape(*array.shape[:-1], -1)

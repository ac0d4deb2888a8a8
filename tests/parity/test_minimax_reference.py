"""The engine held to a second writing of the published maths: float64, one token at a time.

It covers what transformers cannot run: rotary on part of each head, postnorm false, a shared
expert, head counts that are no power of two. Red here means wrong answers from real weights.
"""

import math

import pytest
import torch
from tiny import all_logits, hf_spelling, load_model, minimax_config, random_weights
from tiny import write_checkpoint as write

NUM_TOKENS, DECODED = 45, 6


def rms_norm(x, weight, eps):
    return x / (sum(v * v for v in x.tolist()) / len(x) + eps) ** 0.5 * weight


def silu(x):
    return x / (1 + torch.exp(-x))


def alibi_slopes(num_heads):
    if math.log2(num_heads).is_integer():
        return [2 ** (-8 * (head + 1) / num_heads) for head in range(num_heads)]
    lower = 2 ** math.floor(math.log2(num_heads))
    between = alibi_slopes(2 * lower)[0::2]
    return alibi_slopes(lower) + between[: num_heads - lower]


def lightning(config, weights, name, layer, xs):
    heads, dim = config["num_attention_heads"], config["head_dim"]
    factor = 1 - layer / (config["num_hidden_layers"] - 1) + 1e-5
    decays = [math.exp(-slope * factor) for slope in alibi_slopes(heads)]
    states = [torch.zeros(dim, dim, dtype=torch.float64) for _ in range(heads)]
    outputs = []
    for x in xs:
        qkv = silu(weights[f"{name}.qkv_proj.weight"] @ x)
        rows = []
        for head in range(heads):
            q, k, v = qkv[3 * dim * head : 3 * dim * (head + 1)].split(dim)
            states[head] = decays[head] * states[head] + torch.outer(k, v)
            rows.append(q @ states[head])
        normed = rms_norm(torch.cat(rows), weights[f"{name}.norm.weight"], 1e-6)
        gate = 1 / (1 + torch.exp(-(weights[f"{name}.output_gate.weight"] @ x)))
        outputs.append(weights[f"{name}.out_proj.weight"] @ (gate * normed))
    return outputs


def turn(vector, position, rotary_dim, theta):
    turned = vector.clone()
    for i in range(rotary_dim // 2):
        angle = position * theta ** (-2 * i / rotary_dim)
        a, b = vector[i].item(), vector[i + rotary_dim // 2].item()
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + rotary_dim // 2] = b * math.cos(angle) + a * math.sin(angle)
    return turned


def softmax_attention(config, weights, name, xs):
    heads, dim = config["num_attention_heads"], config["head_dim"]
    group = heads // config["num_key_value_heads"]
    rotary, theta = config["rotary_dim"], config["rope_theta"]
    keys, values, outputs = [], [], []
    for position, x in enumerate(xs):
        q = (weights[f"{name}.q_proj.weight"] @ x).split(dim)
        k = (weights[f"{name}.k_proj.weight"] @ x).split(dim)
        keys.append([turn(head, position, rotary, theta) for head in k])
        values.append((weights[f"{name}.v_proj.weight"] @ x).split(dim))
        rows = []
        for head in range(heads):
            query = turn(q[head], position, rotary, theta)
            scores = torch.stack([query @ past[head // group] for past in keys]) / dim**0.5
            shares = torch.exp(scores - scores.max())
            shares = shares / shares.sum()
            parts = zip(shares, values, strict=True)
            rows.append(sum(share * past[head // group] for share, past in parts))
        outputs.append(weights[f"{name}.o_proj.weight"] @ torch.cat(rows))
    return outputs


def mixture(config, weights, name, x):
    def swiglu(gate, up, down):
        return weights[down] @ (silu(weights[gate] @ x) * (weights[up] @ x))

    moe = f"{name}.block_sparse_moe"
    logits = weights[f"{moe}.gate.weight"] @ x
    p = torch.exp(logits - logits.max())
    p = (p / p.sum()).tolist()
    chosen = sorted(range(len(p)), key=lambda e: -p[e])[: config["num_experts_per_tok"]]
    out = torch.zeros_like(x)
    for expert in chosen:
        w1, w3, w2 = (f"{moe}.experts.{expert}.{w}.weight" for w in ("w1", "w3", "w2"))
        out = out + p[expert] / sum(p[e] for e in chosen) * swiglu(w1, w3, w2)
    if config["shared_intermediate_size"]:
        gate, up, down = (f"{name}.shared_mlp.{w}_proj.weight" for w in ("gate", "up", "down"))
        share = 1 / (1 + torch.exp(-(weights[f"{name}.coefficient.weight"] @ x)))
        out = out * (1 - share) + swiglu(gate, up, down) * share
    return out


def reference_logits(config, weights, token_ids):
    weights = {name: tensor.double() for name, tensor in weights.items()}
    eps = config["rms_norm_eps"]
    hs = [weights["model.embed_tokens.weight"][token_id] for token_id in token_ids]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        xs = [rms_norm(h, weights[f"{name}.input_layernorm.weight"], eps) for h in hs]
        if config["attn_type_list"][layer] == 0:
            kind = "linear"
            mixed = lightning(config, weights, f"{name}.self_attn", layer, xs)
        else:
            kind = "full"
            mixed = softmax_attention(config, weights, f"{name}.self_attn", xs)
        alpha = config[f"layernorm_{kind}_attention_alpha"]
        beta = config[f"layernorm_{kind}_attention_beta"]
        skips = xs if config["postnorm"] else hs
        hs = [alpha * skip + beta * out for skip, out in zip(skips, mixed, strict=True)]
        alpha, beta = config["layernorm_mlp_alpha"], config["layernorm_mlp_beta"]
        weight = weights[f"{name}.post_attention_layernorm.weight"]
        xs = [rms_norm(h, weight, eps) for h in hs]
        skips = xs if config["postnorm"] else hs
        hs = [
            alpha * skip + beta * mixture(config, weights, name, x)
            for skip, x in zip(skips, xs, strict=True)
        ]
    tied = config["tie_word_embeddings"]
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    return torch.stack([head @ rms_norm(h, weights["model.norm.weight"], eps) for h in hs])


VARIANTS = {
    "as published": {},
    "rotary on all of a head": {"rotary_dim": 16},
    "rotary on two dims": {"rotary_dim": 2, "rope_theta": 100.0},
    "no postnorm": {"postnorm": False},
    "shared expert": {"shared_intermediate_size": 20},
    "shared expert, no postnorm": {"shared_intermediate_size": 40, "postnorm": False},
    "six heads": {"num_attention_heads": 6, "num_key_value_heads": 3},
    "five heads, one KV head": {"num_attention_heads": 5, "num_key_value_heads": 1},
    "softmax only": {"attn_type_list": [1, 1, 1, 1]},
    "lightning only": {"attn_type_list": [0, 0, 0, 0]},
    "tied": {"tie_word_embeddings": True},
    "one of seven experts": {"num_local_experts": 7, "num_experts_per_tok": 1},
    "all experts": {"num_experts_per_tok": 4},
    "other eps": {"rms_norm_eps": 0.1},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_engine_equals_the_plain_loops(tmp_path, changes):
    config = minimax_config(**changes)
    weights = random_weights(config)
    write(tmp_path / "m1", config, weights, num_shards=3)
    ids = torch.randint(300, (NUM_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    want = reference_logits(config, weights, ids)
    assert want.std() > 0.5  # else an absolute tolerance would say nothing
    model = load_model(tmp_path / "m1")
    for chunk_tokens in (1, 13, 512):
        got = all_logits(model, ids, chunk_tokens, DECODED)
        assert (got - want).abs().max() < 1e-4, f"chunks of {chunk_tokens}"


@pytest.mark.parametrize(
    "spell", [hf_spelling, lambda config: config | {"model_type": "minimax_text_01"}]
)
def test_all_spellings_of_one_checkpoint_compute_the_same(tmp_path, spell):
    config = minimax_config(shared_intermediate_size=20)
    weights = random_weights(config)
    models = [
        load_model(write(tmp_path / str(n), spelled, weights, num_shards=1 + n))
        for n, spelled in enumerate((config, spell(config)))
    ]
    ids = list(range(5, 40))
    ours, theirs = (all_logits(model, ids, 16) for model in models)
    assert ours.std() > 0.5
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changes", [{"rotary_dim": 16}, {"postnorm": False}, {"rope_theta": 9e3}])
def test_the_comparison_notices_a_wrong_config(tmp_path, changes):
    """The fault of transformers' own port (rotary on all dims) and its like must show."""
    config = minimax_config()
    weights = random_weights(config)
    ids = list(range(5, 40))
    want = reference_logits(config, weights, ids)
    model = load_model(write(tmp_path / "m1", config | changes, weights))
    assert (all_logits(model, ids, 16) - want).abs().max() > 1e-3

"""A model of our own family in float64, token by token and layer by layer, from the raw config.

Nothing of the engine is used: each line is the definition in docs/mm1-config.md.
"""

import math

import torch
from torch.nn.functional import silu


def logits(config, weights, token_ids, num_document_tokens):
    """[T, vocab] float64; tokens from `num_document_tokens` on attend globally."""
    weights = {name: value.double() for name, value in weights.items()}
    hidden = weights["model.embed_tokens.weight"][token_ids]
    for index, name in enumerate(config["layers"]):
        prefix = f"model.layers.{index}."
        own = {
            key.removeprefix(prefix).removesuffix(".weight"): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        kind = config["layer_kinds"][name]
        x = norm(hidden, own["input_layernorm"], config["rms_norm_eps"])
        if kind["mixer"] == "lightning":
            mixed = lightning(config, kind, own, x, index)
        else:
            mixed = softmax(config, kind, own, x, num_document_tokens)
        hidden = hidden + mixed
        x = norm(hidden, own["post_attention_layernorm"], config["rms_norm_eps"])
        mlp = experts if config.get("num_local_experts") else dense
        hidden = hidden + mlp(config, own, x)
    hidden = norm(hidden, weights["model.norm.weight"], config["rms_norm_eps"])
    return hidden @ weights["model.embed_tokens.weight"].T


def norm(x, weight, eps):
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def rotated(x, kind):
    """x [T, H, d] with pair (i, i + rotary_dim / 2) turned by position * frequency."""
    x, half = x.clone(), kind.get("rotary_dim", 0) // 2
    for position in range(x.shape[0]):
        for pair in range(half):
            period = kind.get("rotary_frequency_dim", 2 * half)
            angle = position * kind.get("rope_theta", 10_000.0) ** (-2 * pair / period)
            a, b = x[position, :, pair].clone(), x[position, :, pair + half].clone()
            x[position, :, pair] = a * math.cos(angle) - b * math.sin(angle)
            x[position, :, pair + half] = b * math.cos(angle) + a * math.sin(angle)
    return x


def lightning(config, kind, own, x, index):
    heads, dim = config["num_attention_heads"], config["head_dim"]
    qkv = x @ own["self_attn.qkv_proj"].T
    qkv = silu(qkv) if kind.get("silu", True) else qkv
    q, k, v = qkv.view(len(x), heads, 3, dim).unbind(2)
    if kind.get("qk_norm"):
        q = norm(q, own["self_attn.q_norm"], config["rms_norm_eps"])
        k = norm(k, own["self_attn.k_norm"], config["rms_norm_eps"])
    q, k = rotated(q, kind) * kind.get("scale", 1.0), rotated(k, kind)
    factor = 1 - index / (len(config["layers"]) - 1) + 1e-5
    slopes = kind.get("slopes") or [
        2.0 ** (-8 * (h + 1) / heads) * (factor if kind.get("slope_layer_factor", True) else 1)
        for h in range(heads)
    ]
    out = torch.zeros(len(x), heads, dim, dtype=torch.float64)
    for head in range(heads):
        for t in range(len(x)):
            for s in range(t + 1):
                weight = (q[t, head] @ k[s, head]) * math.exp(-slopes[head] * (t - s))
                out[t, head] += weight * v[s, head]
    groups = out.view(len(x), kind.get("norm_groups", 1), -1)
    out = norm(groups, 1, config.get("lightning_norm_eps", 1e-6)).view(len(x), -1)
    gate = torch.sigmoid(x @ own["self_attn.output_gate"].T)
    return (gate * out * own["self_attn.norm"]) @ own["self_attn.out_proj"].T


def dense(_config, own, x, name="mlp"):
    inner = silu(x @ own[f"{name}.gate_proj"].T) * (x @ own[f"{name}.up_proj"].T)
    return inner @ own[f"{name}.down_proj"].T


def experts(config, own, x):
    out = torch.zeros_like(x)
    for t, row in enumerate(x):
        scores = own["block_sparse_moe.gate"] @ row
        chosen = scores.argsort(descending=True)[: config["num_experts_per_tok"]].tolist()
        total = sum(math.exp(scores[e]) for e in chosen)
        for e in chosen:
            w1, w2, w3 = (own[f"block_sparse_moe.experts.{e}.w{n}"] for n in (1, 2, 3))
            out[t] += math.exp(scores[e]) / total * (w2 @ (silu(w1 @ row) * (w3 @ row)))
    if config.get("shared_intermediate_size"):
        share = torch.sigmoid(x @ own["coefficient"].T)
        out = (1 - share) * out + share * dense(config, own, x, "shared_mlp")
    return out


def softmax(config, kind, own, x, num_document_tokens):
    heads, dim = config["num_attention_heads"], config["head_dim"]
    per_group = heads // config["num_key_value_heads"]
    q = rotated((x @ own["self_attn.q_proj"].T).view(len(x), heads, dim), kind)
    k = rotated((x @ own["self_attn.k_proj"].T).view(len(x), -1, dim), kind)
    v = (x @ own["self_attn.v_proj"].T).view(len(x), -1, dim)
    out = torch.zeros_like(q)
    for t in range(len(x)):
        window = kind.get("window_tokens", 0)
        local = window and (t < num_document_tokens or kind.get("window_always"))
        seen = [
            s for s in range(t + 1) if not local or s > t - window or s < kind.get("sink_tokens", 0)
        ]
        growth = 1.0
        if base := kind.get("log_scale_base", 0):
            growth = math.log(max(t - kind.get("log_scale_from_tokens", 0), 0) + base)
            growth /= math.log(base)
        for head in range(heads):
            group = head // per_group
            scores = growth * dim**-0.5 * (k[seen, group] @ q[t, head])
            out[t, head] = scores.softmax(0) @ v[seen, group]
    out = out.reshape(len(x), -1)
    if kind.get("output_gate"):
        out = torch.sigmoid(x @ own["self_attn.output_gate"].T) * out
    return out @ own["self_attn.o_proj"].T

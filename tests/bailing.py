"""Ling and Ring, read once more in float64 from what is published of them: no line of the engine's.

Lightning layers go token by token, latent attention projects every key and value, experts are
computed one by one.
"""

import json
import math

import torch
from safetensors.torch import load_file, save_file

HYBRID = {
    "architectures": ["BailingMoeV2_5ForCausalLM"],
    "model_type": "bailing_hybrid",
    "first_k_dense_replace": 1,
    "group_norm_size": 4,
    "head_dim": 16,
    "hidden_size": 32,
    "intermediate_size": 48,
    "kv_lora_rank": 16,
    "layer_group_size": 2,
    "max_position_embeddings": 1024,
    "moe_intermediate_size": 16,
    "moe_router_enable_expert_bias": True,
    "n_group": 4,
    "num_attention_heads": 4,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 4,
    "num_shared_experts": 1,
    "partial_rotary_factor": 0.5,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 0.01,  # not that of the norms inside latent attention
    "rope_theta": 10_000.0,
    "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False,
    "topk_group": 2,
    "v_head_dim": 12,
    "vocab_size": 96,
}
YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
}


def write(folder, raw, shapes, seed=0):
    """A random checkpoint: `shapes` by the published names. Returns `folder`."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if "norm" in name:
            values = 1 + 0.2 * values
        elif len(shape) == 1:
            values *= 0.2
        else:
            values *= (0.5 if "embed" in name else 1.5) / shape[-1] ** 0.5
        tensors[name] = values
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(raw))
    save_file(tensors, folder / "model.safetensors")
    return folder


class Reference:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {}
        for file in folder.glob("model*.safetensors"):
            self.weights |= {n: t.double() for n, t in load_file(file).items()}

    def logits(self, ids):
        """[T, vocab]"""
        c = self.config
        h = self.weights["model.word_embeddings.weight"][torch.tensor(ids)]
        num_layers, group = c["num_hidden_layers"], c["layer_group_size"]
        for layer in range(num_layers):
            self.prefix = f"model.layers.{layer}."
            x = self.norm(h, "input_layernorm")
            is_softmax = (layer + 1) % group == 0 or layer >= num_layers // group * group
            mixer = (self.latent if "kv_lora_rank" in c else self.grouped) if is_softmax else None
            h = h + (mixer(x) if mixer else self.lightning(x, layer))
            x = self.norm(h, "post_attention_layernorm")
            is_dense = layer < c["first_k_dense_replace"]
            h = h + (self.mlp(x, "mlp") if is_dense else self.experts(x))
        self.prefix = ""
        return self.norm(h, "model.norm") @ self.weights["lm_head.weight"].T

    def __call__(self, x, name):
        return x @ self.weights[f"{self.prefix}{name}.weight"].T

    def norm(self, x, name, eps=None, groups=1):
        shape = x.shape
        x = x.reshape(*shape[:-1], groups, -1)
        eps = self.config["rms_norm_eps"] if eps is None else eps
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
        return x.reshape(shape) * self.weights[f"{self.prefix}{name}.weight"]

    def turned(self, x, rotary_dim, *, interleaved=False):
        """x [T, H, D], the first `rotary_dim` of D turned; interleaved ones come out apart."""
        frequencies, factor = self.frequencies(rotary_dim)
        angle = torch.arange(len(x), dtype=torch.float64)[:, None, None] * frequencies
        cos, sin = angle.cos() * factor, angle.sin() * factor
        half = rotary_dim // 2
        one, two = x[..., :half], x[..., half:rotary_dim]
        if interleaved:
            one, two = x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]
        return torch.cat([one * cos - two * sin, two * cos + one * sin, x[..., rotary_dim:]], -1)

    def frequencies(self, dim):
        theta, scaling = self.config["rope_theta"], self.config.get("rope_scaling")
        plain = theta ** (-2 * torch.arange(dim // 2, dtype=torch.float64) / dim)
        if not scaling:
            return plain, 1.0
        trained, by = scaling["original_max_position_embeddings"], scaling["factor"]
        low, high = (
            dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))
            for turns in (32, 1)
        )
        low, high = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
        ramp = (torch.arange(dim // 2).double() - low) / max(high - low, 0.001)
        kept = 1 - ramp.clamp(0, 1)
        factor = self.sharper(1.0)
        if "mscale_all_dim" in scaling:
            factor = self.sharper(scaling["mscale"]) / self.sharper(scaling["mscale_all_dim"])
        return plain * kept + plain / by * (1 - kept), factor

    def sharper(self, mscale):
        return 0.1 * mscale * math.log(self.config["rope_scaling"]["factor"]) + 1

    def projected(self, x, num_heads, num_kv_heads):
        """q, k, v [T, H, D], q and k normed and turned."""
        dim = self.config["head_dim"]
        sizes = [n * dim for n in (num_heads, num_kv_heads, num_kv_heads)]
        parts = self(x, "attention.query_key_value").split(sizes, dim=-1)
        q, k, v = (part.view(len(x), -1, dim) for part in parts)
        q, k = (self.norm(y, f"attention.{n}_layernorm") for y, n in ((q, "query"), (k, "key")))
        rotary = int(dim * self.config["partial_rotary_factor"])
        return self.turned(q, rotary), self.turned(k, rotary), v

    def lightning(self, x, layer):
        heads, dim = self.config["num_attention_heads"], self.config["head_dim"]
        q, k, v = self.projected(x, heads, heads)
        factor = 1 - layer / (self.config["num_hidden_layers"] - 1) + 1e-5
        slopes = factor * 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)
        state, outs = torch.zeros(heads, dim, dim, dtype=torch.float64), []
        for q_t, k_t, v_t in zip(q * dim**-0.5, k, v, strict=True):
            state = state * torch.exp(-slopes)[:, None, None] + k_t[:, :, None] * v_t[:, None]
            outs.append(torch.einsum("hd,hde->he", q_t, state).flatten())
        groups = self.config["group_norm_size"]
        normed = self.norm(torch.stack(outs), "attention.g_norm", groups=groups)
        return self(normed * torch.sigmoid(self(x, "attention.g_proj")), "attention.dense")

    def attended(self, q, k, v, scale):
        scores = torch.einsum("thd,shd->hts", q, k) * scale
        future = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        return self(torch.einsum("hts,she->the", weights, v).flatten(1), "attention.dense")

    def grouped(self, x):
        heads, kv_heads = (self.config[f"num_{x}_heads"] for x in ("attention", "key_value"))
        q, k, v = self.projected(x, heads, kv_heads)
        k, v = (y.repeat_interleave(heads // kv_heads, dim=1) for y in (k, v))
        return self.attended(q, k, v, q.shape[-1] ** -0.5)

    def latent(self, x):
        c, heads = self.config, self.config["num_attention_heads"]
        nope, turned, rank = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["kv_lora_rank"]
        if c["q_lora_rank"]:
            q = self.norm(self(x, "attention.q_a_proj"), "attention.q_a_layernorm", eps=1e-6)
            q = self(q, "attention.q_b_proj")
        else:
            q = self(x, "attention.q_proj")
        q = q.view(len(x), heads, -1)
        row = self(x, "attention.kv_a_proj_with_mqa")
        latent = self.norm(row[:, :rank], "attention.kv_a_layernorm", eps=1e-6)
        kv = self(latent, "attention.kv_b_proj").view(len(x), heads, -1)
        pairs = c.get("rope_interleave", True)
        q_rope = self.turned(q[..., nope:], turned, interleaved=pairs)
        k_rope = self.turned(row[:, None, rank:], turned, interleaved=pairs)
        q = torch.cat([q[..., :nope], q_rope], -1)
        k = torch.cat([kv[..., :nope], k_rope.expand(-1, heads, -1)], -1)
        scale = (nope + turned) ** -0.5
        if c.get("rope_scaling"):
            scale *= self.sharper(c["rope_scaling"]["mscale_all_dim"]) ** 2
        return self.attended(q, k, kv[..., nope:], scale)

    def mlp(self, x, name):
        up = torch.nn.functional.silu(self(x, f"{name}.gate_proj")) * self(x, f"{name}.up_proj")
        return self(up, f"{name}.down_proj")

    def experts(self, x):
        c, out = self.config, []
        scores = torch.sigmoid(self(x, "mlp.gate"))
        bias = self.weights[f"{self.prefix}mlp.gate.expert_bias"]
        size = c["num_experts"] // c["n_group"]
        for row, score in zip(x, scores, strict=True):
            choice = (score + bias).tolist()
            worth = [
                sum(sorted(choice[g * size : (g + 1) * size])[-2:]) for g in range(c["n_group"])
            ]
            groups = sorted(range(c["n_group"]), key=lambda g: -worth[g])[: c["topk_group"]]
            among = [e for e in range(c["num_experts"]) if e // size in groups]
            best = sorted(among, key=lambda e: -choice[e])[: c["num_experts_per_tok"]]
            total = sum(score[e] for e in best) + 1e-20
            weights = {e: score[e] / total * c["routed_scaling_factor"] for e in best}
            out.append(sum(w * self.mlp(row, f"mlp.experts.{e}") for e, w in weights.items()))
        return torch.stack(out) + self.mlp(x, "mlp.shared_experts")

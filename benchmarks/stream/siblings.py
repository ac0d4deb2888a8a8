"""Real-size layers of Ring, Ling and SALA, one of each kind, after contexts of growing length.

    python -m benchmarks.stream siblings [--models ring ling sala] [--tokens 8192 131072 1000000]
        [--kv float32|int8] [--steps 4]

Weights are random, in memory, and of 256 experts there are 16, of which a token still has 8; keys
and values are random rows put into the caches, not read by the model. Seconds are those of one
token through one layer, the median of the steps; what the layers keep of the context stands beside
what was planned for it.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch

from benchmarks import machine
from engine import placement
from engine.config import LayerConfig, ModelConfig
from engine.families import family_of
from engine.layers.kv_cache import KVCache, LatentCache
from engine.model import LayerState, Model

GB = 10**9
_EXPERTS = 16  # in memory; their number changes nothing of a token's cost
_BAILING: dict[str, object] = {
    "num_hidden_layers": 32,
    "head_dim": 128,
    "vocab_size": 512,
    "group_norm_size": 4,
    "first_k_dense_replace": 0,
    "num_experts": _EXPERTS,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "moe_router_enable_expert_bias": True,
    "partial_rotary_factor": 0.5,
    "max_position_embeddings": 2**20,
}
RAW: dict[str, dict[str, object]] = {
    "ring": _BAILING
    | {
        "architectures": ["BailingMoeLinearV2ForCausalLM"],
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "layer_group_size": 5,
        "intermediate_size": 5120,
        "moe_intermediate_size": 512,
    },
    "ling": _BAILING
    | {
        "architectures": ["BailingMoeV2_5ForCausalLM"],
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "layer_group_size": 8,
        "intermediate_size": 9216,
        "moe_intermediate_size": 1024,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    },
    "sala": {
        "architectures": ["MiniCPMSALAForCausalLM"],
        "hidden_size": 4096,
        "num_hidden_layers": 2,
        "mixer_types": ["lightning-attn", "minicpm4"],
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 512,
        "intermediate_size": 16384,
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": 256,
        "sparse_config": {},
        "max_position_embeddings": 2**21,
    },
}


def main(given: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream siblings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", default=list(RAW), choices=list(RAW))
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 131_072, 1_000_000])
    parser.add_argument("--kv", default="float32", choices=["float32", "int8"])
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args(given)
    kv_dtype: torch.dtype = getattr(torch, options.kv)
    rows = []
    for name in options.models:
        config = family_of(RAW[name]).read_config(RAW[name])
        for layer in sorted(set(config.layers), key=lambda layer: layer.has_full_kv):
            model = _random(replace(config, layers=(layer,) * 2))
            kinds = options.tokens if layer.has_full_kv else options.tokens[:1]
            rows += [_measure(name, model, layer, n, kv_dtype, options.steps) for n in kinds]
            del model
    machine.print_result("stream siblings", rows)


def _random(config: ModelConfig) -> Model:
    torch.manual_seed(0)
    model = Model(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    model.prepare_for_inference()
    return model.eval()


@torch.inference_mode()
def _measure(
    name: str,
    model: Model,
    layer: LayerConfig,
    num_tokens: int,
    kv_dtype: torch.dtype,
    steps: int,
) -> dict[str, object]:
    state = model.empty_states(kv_dtype=kv_dtype)[1]
    _fill(model, state, num_tokens)
    hidden, seconds = torch.randn(1, model.config.hidden_size), []
    for step in range(steps + 1):
        began = time.perf_counter()
        model.layers[1](hidden, state, num_tokens + step)
        seconds.append(time.perf_counter() - began)
    plan = placement.plan(model.config, num_tokens, 1024, torch.float32, kv_dtype=kv_dtype)
    planned = plan.kv_bytes / 2  # of two layers
    kept = state.num_bytes if isinstance(state, KVCache) else 0
    row: dict[str, object] = {
        "model": name,
        "mixer": str(layer.mixer),
        "tokens": num_tokens,
        "kv": str(kv_dtype).removeprefix("torch."),
        "token_s": round(statistics.median(seconds[1:]), 4),
        "kept_gb": round(kept / GB, 3),
        "planned_gb": round(planned / GB, 3),
    }
    print(
        f"{name} {layer.mixer} {num_tokens:9,} tokens, {row['kv']}: {row['token_s']} s a token and "
        f"layer, keeps {row['kept_gb']} GB of {row['planned_gb']} planned",
        flush=True,
    )
    return row


def _fill(model: Model, state: LayerState, num_tokens: int) -> None:
    config, at = model.config, 0
    while isinstance(state, KVCache) and at < num_tokens:
        count = min(4096, num_tokens - at)
        if isinstance(state, LatentCache):
            state.append_rows(torch.randn(count, 1, config.layers[0].latent.row_size))
        else:
            shape = (count, config.num_kv_heads, config.head_dim)
            state.append(torch.randn(shape), torch.randn(shape))
        at += count

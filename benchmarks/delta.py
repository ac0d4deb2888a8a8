"""A gated delta layer beside transformers' of the same sizes, in torch both: prefill and decode.

    python -m benchmarks.delta [--tokens 1024] [--threads 2]

Sizes are those of Qwen3.5-0.8B, weights random, float32. Each reads a prompt, then one token after
another. Ours has its weights packed, as inference has: "packed" in oneDNN's layout, "small M" in
float16 beside that for few tokens. The rule is the gated delta rule by itself, without projections,
convolution and norms. The best of interleaved rounds: other work on the machine can only slow it.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import DynamicCache, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5 as published

import kernels
from benchmarks import machine
from engine.config import DeltaOptions
from engine.layers.delta import DeltaState, GatedDeltaNet

HIDDEN, DECODED, ROUNDS = 1024, 32, 5
OPTIONS = DeltaOptions(num_key_heads=16, num_value_heads=16, key_dim=128, value_dim=128)

Step = Callable[[Tensor], object]


def ours(*, small_m: bool) -> Step:
    """Of one sequence: call it with tokens [T, D], one after another."""
    layer = GatedDeltaNet(HIDDEN, OPTIONS, 1e-6).requires_grad_(False)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    for name in ("qkvz", "out"):
        packed = kernels.prepack(getattr(layer, name).data, small_m=small_m)
        delattr(layer, name)
        setattr(layer, name, packed)
    state = DeltaState.empty(OPTIONS, torch.float32, torch.device("cpu"))
    return lambda tokens: layer(tokens, state, 0)


def theirs() -> Step:
    config = Qwen3_5TextConfig(
        hidden_size=HIDDEN, num_hidden_layers=1, layer_types=["linear_attention"],
        linear_num_key_heads=16, linear_num_value_heads=16,
    )  # fmt: skip
    made: Any = published.Qwen3_5GatedDeltaNet  # whose annotation names the config around it
    layer = made(config, 0).eval().requires_grad_(False)
    cache = DynamicCache(config=config)
    return lambda tokens: layer(tokens[None], cache=cache)


def rule_inputs(num_tokens: int) -> tuple[Tensor, ...]:
    q, k = (normalize(torch.randn(num_tokens, 16, 128), dim=-1) for _ in "qk")
    decay, beta = -torch.rand(num_tokens, 16), torch.rand(num_tokens, 16)
    return q, k, torch.randn(num_tokens, 16, 128), decay, beta, torch.randn(16, 128, 128)


def our_rule(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> None:
    kernels.gated_delta(q, k, v, decay, beta, state)


def their_rule(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> None:
    chunk, token = (
        published.torch_chunk_gated_delta_rule,
        published.torch_recurrent_gated_delta_rule,
    )
    q, k, v, decay, beta, state = (x[None] for x in (q, k, v, decay, beta, state))
    rule = chunk if q.shape[1] > 1 else token
    rule(q, k, v, g=decay, beta=beta, initial_state=state, output_final_state=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    took: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with torch.inference_mode():
        for _ in range(ROUNDS):
            _one_round(took, arguments.tokens)
    rows: list[dict[str, object]] = []
    print(f"{'':>20}  {'prefill tok/s':>13}  {'decode ms':>9}")
    for name, times in took.items():
        prefill, decode = (min(times[key]) for key in ("prefill", "decode"))
        rows.append({"what": name, "prefill_tok_s": arguments.tokens / prefill, "decode_s": decode})
        print(f"{name:>20}  {arguments.tokens / prefill:>13,.0f}  {1e3 * decode:>9.3f}")
    machine.print_result("delta", rows)


def _one_round(took: defaultdict[str, defaultdict[str, list[float]]], num_tokens: int) -> None:
    sides = {"packed": ours(small_m=False), "small M": ours(small_m=True), "transformers": theirs()}
    prompt, token = 0.5 * torch.randn(num_tokens, HIDDEN), 0.5 * torch.randn(1, HIDDEN)
    for name, step in sides.items():
        took[name]["prefill"].append(machine.seconds(lambda: step(prompt)))  # noqa: B023
        took[name]["decode"].append(_each(lambda: step(token)))  # noqa: B023
    many, one = rule_inputs(num_tokens), rule_inputs(1)
    for name, rule in (("rule", our_rule), ("rule, transformers", their_rule)):
        took[name]["prefill"].append(machine.seconds(lambda: rule(*many)))  # noqa: B023
        took[name]["decode"].append(_each(lambda: rule(*one)))  # noqa: B023


def _each(work: Callable[[], object]) -> float:
    """Seconds of one call, the best of several."""
    return min(machine.seconds(work) for _ in range(DECODED))


if __name__ == "__main__":
    main()

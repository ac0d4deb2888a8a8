"""Length costs a Lightning model time, never memory: up to 32,768 tokens at the embedded size.

    python -m benchmarks.lightning [--tokens 32768]

A random model of the embedded model's width and depth with every layer Lightning. Prints tokens
per second and resident memory at each doubling of the context.
"""

import argparse
import random
from functools import partial

import torch

from benchmarks import machine
from engine.config import LayerConfig, Mixer, ModelConfig
from engine.context import Context
from engine.model import Model

CONFIG = ModelConfig(
    family="benchmark",
    vocab_size=49_152,
    hidden_size=576,
    num_heads=9,
    num_kv_heads=9,
    head_dim=64,
    rotary_frequencies=(),
    mlp_size=1536,
    layers=(LayerConfig(Mixer.LIGHTNING),) * 30,
    tied_embeddings=True,
    max_positions=2**20,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--chunk", type=int, default=1024)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = Model(CONFIG).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    model.prepare_for_inference()
    draw = random.Random(0)
    ids = [draw.randrange(CONFIG.vocab_size) for _ in range(arguments.tokens)]
    context = Context(model, arguments.chunk)
    context.extend(ids[: arguments.chunk])
    rows: list[dict[str, object]] = []
    print(f"{'tokens':>8}  {'tok/s':>7}  {'resident MiB':>12}  {'context MiB':>11}")
    while len(context) < arguments.tokens:
        start, target = len(context), min(2 * len(context), arguments.tokens)
        took = machine.seconds(partial(context.extend, ids[start:target]))
        row: dict[str, object] = {
            "tokens": target,
            "tok_s": (target - start) / took,
            "resident_bytes": machine.resident_bytes(),
            "context_bytes": context.num_bytes,
        }
        rows.append(row)
        print(
            f"{target:>8,}  {row['tok_s']:>7.0f}  {machine.resident_bytes() / 2**20:>12.0f}  "
            f"{context.num_bytes / 2**20:>11.2f}"
        )
    machine.print_result("lightning", rows)


if __name__ == "__main__":
    main()

"""Prefill and decode of the embedded model, beside transformers in the same run.

    python -m benchmarks.prefill [--model DIR] [--repeats 5]

Every round measures this machine's product rate, then mm1, then transformers, on the same tokens;
the best round of each counts. Prefill is held against the product rate, decode against the rate
at which a matrix-vector product reads memory.
"""

import argparse
import random
from functools import partial
from pathlib import Path

import torch
from transformers import LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from benchmarks import machine
from engine.engine import Engine
from engine.placement.flops import of_model
from mm1cli.models import library

LENGTHS = (512, 2048)
DECODE_TOKENS = 32


class Ours:
    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory)

    def prefill(self, ids: list[int]) -> None:
        self.context = self.engine.new_context()
        self.context.extend(ids)

    def decode(self, ids: list[int]) -> None:
        for token_id in ids:
            self.context.extend([token_id])


class Transformers:
    def __init__(self, directory: Path) -> None:
        self.model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.model.train(False)

    @torch.inference_mode()
    def prefill(self, ids: list[int]) -> None:
        self.cache = DynamicCache(config=self.model.config)
        self.model(torch.tensor([ids]), past_key_values=self.cache, logits_to_keep=1)

    @torch.inference_mode()
    def decode(self, ids: list[int]) -> None:
        for token_id in ids:
            self.model(torch.tensor([[token_id]]), past_key_values=self.cache, logits_to_keep=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    directory = library.ensure(arguments.model, lambda *_: None)
    ours, peer = Ours(directory), Transformers(directory)
    sides: dict[str, Ours | Transformers] = {"mm1": ours, "transformers": peer}
    config = ours.engine.config
    draw = random.Random(0)
    rows: list[dict[str, object]] = []
    print(f"{'tokens':>6}  {'engine':<12}  {'prefill tok/s':>13}  {'of product':>10}  ", end="")
    print(f"{'decode tok/s':>12}  {'of reading':>10}")
    for length in LENGTHS:
        ids = [draw.randrange(config.vocab_size) for _ in range(length + DECODE_TOKENS)]
        best_prefill = dict.fromkeys(sides, float("inf"))
        best_decode = dict.fromkeys(sides, float("inf"))
        product = reading = 0.0
        for _ in range(arguments.repeats):
            product = max(product, machine.product_flops())
            reading = max(reading, machine.read_bytes_per_s())
            for name, side in sides.items():
                took = machine.seconds(partial(side.prefill, ids[:length]))
                best_prefill[name] = min(best_prefill[name], took)
                took = machine.seconds(partial(side.decode, ids[length:]))
                best_decode[name] = min(best_decode[name], took)
        weight_bytes = 4 * sum(p.numel() for p in peer.model.parameters())
        for name in sides:
            row: dict[str, object] = {
                "tokens": length,
                "engine": name,
                "prefill_tok_s": length / best_prefill[name],
                "share_of_product_rate": of_model(config, length).total
                / best_prefill[name]
                / product,
                "decode_tok_s": DECODE_TOKENS / best_decode[name],
                "share_of_reading_rate": DECODE_TOKENS * weight_bytes / best_decode[name] / reading,
                "product_gflop_s": product / 1e9,
                "reading_gb_s": reading / 1e9,
                "ratio_to_transformers": best_prefill["transformers"] / best_prefill[name],
            }
            rows.append(row)
            print(
                f"{length:>6}  {name:<12}  {row['prefill_tok_s']:>13.0f}  "
                f"{row['share_of_product_rate']:>10.0%}  {row['decode_tok_s']:>12.1f}  "
                f"{row['share_of_reading_rate']:>10.0%}"
            )
        ratio = best_prefill["transformers"] / best_prefill["mm1"]
        print(
            f"        product {product / 1e9:.0f} GFLOP/s, reading {reading / 1e9:.1f} GB/s; ",
            end="",
        )
        print(f"mm1 / transformers {ratio:.2f} prefill, ", end="")
        print(f"{best_decode['transformers'] / best_decode['mm1']:.2f} decode")
    machine.print_result("prefill", rows)


if __name__ == "__main__":
    main()

"""What keeping keys and values in int8 does to a model's logits, on real text.

    python -m benchmarks.context.int8 --model DIR [--tokens 1024 4096] [--text FILE ...]

The same tokens are read twice, over KV in the model's own dtype and in int8, and the scores of the
last 256 compared: the largest and the RMS difference (and its share of the logits' spread), KL in
nats, how often the likeliest token is the same, and the mean NLL of the text on both sides.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.families import read_config
from engine.layers.kv_cache import KVCache
from engine.model import Model
from engine.tokenizer import Tokenizer
from engine.weights import load

SCORED_TOKENS = 256
CHUNK_TOKENS = 1024


@torch.inference_mode()
def scores(model: Model, ids: Sequence[int], kv_dtype: torch.dtype | None) -> tuple[Tensor, int]:
    """Logits [256, vocab] after each of the last tokens, and the bytes of KV."""
    context = Context(model, CHUNK_TOKENS, kv_dtype=kv_dtype)
    context.extend(ids[:-SCORED_TOKENS])
    rows = [model.logits(hidden) for _, hidden in context.chunks(ids[-SCORED_TOKENS:])]
    kv_bytes = sum(state.num_bytes for state in context.states if isinstance(state, KVCache))
    return torch.cat(rows), kv_bytes


def compare(model: Model, ids: Sequence[int]) -> dict[str, float]:
    want, kv_bytes = scores(model, ids, None)
    got, int8_bytes = scores(model, ids, torch.int8)
    off = got - want
    log_p, log_q = F.log_softmax(want, dim=-1), F.log_softmax(got, dim=-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    targets = torch.tensor(ids[-SCORED_TOKENS + 1 :])
    return {
        "tokens": len(ids),
        "kv_bytes": kv_bytes,
        "int8_bytes": int8_bytes,
        "max_difference": off.abs().max().item(),
        "rms_difference": off.pow(2).mean().sqrt().item(),
        "rms_share": (off.pow(2).mean().sqrt() / want.std()).item(),
        "kl_mean": kl.mean().item(),
        "kl_max": kl.max().item(),
        "same_token": (want.argmax(dim=-1) == got.argmax(dim=-1)).float().mean().item(),
        "nll": F.cross_entropy(want[:-1], targets).item(),
        "nll_int8": F.cross_entropy(got[:-1], targets).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=int, nargs="*", default=(1024, 4096))
    parser.add_argument(
        "--text", type=Path, nargs="*", help="text files; else this repository's docs"
    )
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    files = arguments.text or sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in files)
    ids = Tokenizer(arguments.model).encode(text)
    config = read_config(arguments.model)
    model = load(
        Checkpoint(arguments.model), config, device=torch.device("cpu"), dtype=torch.float32
    )
    model.prepare_for_inference()
    rows = []
    print("tokens   KV MB  int8 MB  max |d|    RMS d  of spread  KL mean   KL max  same token  NLL")
    for count in arguments.tokens:
        if count > len(ids):
            raise SystemExit(f"the text has {len(ids):,} tokens, not {count:,}; give more --text")
        row = compare(model, ids[:count])
        rows.append(row)
        print(
            f"{count:>6,} {row['kv_bytes'] / 1e6:>7.1f} {row['int8_bytes'] / 1e6:>8.1f} "
            f"{row['max_difference']:>8.3f} {row['rms_difference']:>8.4f} "
            f"{row['rms_share']:>9.2%} {row['kl_mean']:>9.5f} {row['kl_max']:>8.4f} "
            f"{row['same_token']:>10.1%}  {row['nll']:.4f} -> {row['nll_int8']:.4f}",
            flush=True,
        )
    machine.print_result("context.int8", [dict(row) for row in rows])


if __name__ == "__main__":
    main()

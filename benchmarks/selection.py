"""Needles in contexts longer than a model was trained for: found, answered, at what cost.

python -m benchmarks.selection [--model mini] [--tokens 8000 --tokens 32000] [--kv int8]

The twelve needles of `mm1 models calibrate` in the language reference that comes with Python. The
model's settings are those it has in mm1, shipped or calibrated. `again`: right where the selected
block's tokens are read once more before the question, as `mm1 analyze` does with its best evidence.
"""

import argparse
import sys
import time

from benchmarks import machine
from engine.context import Context
from engine.engine import Engine
from mm1cli.models import calibration, library, probe

_MOST_ANSWER_TOKENS = 40


def measure(engine: Engine, num_tokens: int) -> dict[str, object]:
    """Of one context of about `num_tokens`."""
    made, asked = probe.make(engine.tokenizer, num_tokens)
    context = engine.new_context(is_saved_kind=True)
    began = time.perf_counter()
    context.extend(made.document_ids)
    reading_s = time.perf_counter() - began
    num_found, num_right, num_right_again, scans = 0, 0, 0, []
    for one in asked:
        twin = context.fork()
        began = time.perf_counter()
        blocks = twin.select(one.needle.question_ids, made.first)
        scans.append(time.perf_counter() - began)
        num_found += bool(blocks) and blocks[0].start <= one.needle.start < blocks[0].end
        again = twin.fork()
        for block in blocks:
            again.extend(made.document_ids[block.start : block.end])
        num_right += _is_right(engine, twin, one)
        num_right_again += _is_right(engine, again, one)
    return {
        "tokens": len(context),
        "kv": engine.kv,
        "asked": len(asked),
        "found": num_found,
        "right": num_right,
        "right_again": num_right_again,
        "scan_s": sorted(scans)[len(scans) // 2],
        "tokens_per_s": len(context) / reading_s,
        "bytes_per_token": context.num_bytes / len(context),
    }


def _is_right(engine: Engine, context: Context, one: probe.Asked) -> bool:
    context.extend(one.needle.question_ids)
    answer = "".join(engine.decode(context, max_tokens=_MOST_ANSWER_TOKENS))
    return one.number in answer.replace(",", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--tokens", type=int, action="append")
    parser.add_argument("--kv", default="int8")
    options = parser.parse_args()
    model = library.ensure(options.model, lambda *_: None)
    if (selection := calibration.of(model)) is None:
        sys.exit(f"{options.model} is not calibrated: mm1 models calibrate {options.model}")
    engine = Engine(model, kv=options.kv, selection=selection)
    rows = []
    print("  tokens  KV       found  right  again  of  scan s  read tok/s  B/token")
    for num_tokens in options.tokens or (8_000, 32_000):
        row = measure(engine, num_tokens)
        rows.append({"model": options.model, **row})
        print(
            f"{row['tokens']:8,}  {row['kv']:7}  {row['found']:5}  {row['right']:5}  "
            f"{row['right_again']:5}  {row['asked']:2}  {row['scan_s']:6.2f}  "
            f"{row['tokens_per_s']:10.0f}  {row['bytes_per_token']:7.0f}",
            flush=True,
        )
    machine.print_result("selection", rows)


if __name__ == "__main__":
    main()

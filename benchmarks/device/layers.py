"""Whole layers of MiniMax-M1, all 32 experts with random weights, by the engine's own code.

A prefill goes through the context in chunks; at each length one-token steps are timed from there.
Experts in int8 and int4 stand in the same layer in place of the bf16 ones.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import cast

import torch

import kernels
from benchmarks.device import models
from benchmarks.device.bench import Bench, Row
from benchmarks.device.experts import stack
from engine.config import Mixer
from engine.context import Context
from engine.cuda_graph import GraphStepper
from engine.decode import Sampler, Sampling
from engine.model import Layer, LayerState, Model

_MARGIN_S = 5.0
_STEPS = 16


def lightning(experts: str) -> Callable[[Bench], None]:
    return partial(_run, Mixer.LIGHTNING, experts)


def softmax(experts: str) -> Callable[[Bench], None]:
    return partial(_run, Mixer.SOFTMAX, experts)


@torch.inference_mode()
def _run(mixer: Mixer, experts: str, bench: Bench) -> None:
    bench.tidy()
    model = _model(bench, mixer, experts)
    chunk = bench.pick(16_384, 32)
    lengths = bench.pick((2**16, 2**18, 2**20), (32, 96))
    if experts != "bf16":
        lengths = lengths[:1]  # attention and states do not depend on the experts' form
    ids = torch.randint(0, model.config.vocab_size, (chunk,), device=bench.device)
    model(ids, model.empty_states(), 0)
    states, took = model.empty_states(), 0.0
    bench.synchronize()
    for first in range(0, lengths[-1], chunk):
        began = time.perf_counter()
        model(ids, states, first)
        bench.synchronize()
        took += time.perf_counter() - began
        end = first + chunk
        if end in lengths:
            prefill = {"tokens": end, "seconds": took, "tok_s": end / took}
            bench.add(f"prefill {end} tokens", **prefill, peak_gib=bench.peak_bytes() / 2**30)
            _decode(bench, model, states, end, chunk)
        if bench.seconds_left < _MARGIN_S and end < lengths[-1]:
            bench.add("stopped", note=f"no time left after {end} tokens, {took:.1f} s")
            return


def _model(bench: Bench, mixer: Mixer, experts: str) -> Model:
    config = models.one_layer(bench, mixer)
    model = models.build(bench, config)
    if experts != "bf16":
        mlp = cast(Layer, model.layers[0]).mlp
        count, inner, width = config.num_experts, config.mlp_size, config.hidden_size
        for name, rows, columns in (("gate_up", 2 * inner, width), ("down", width, inner)):
            delattr(mlp, name)  # a parameter's name takes nothing else
            setattr(mlp, name, stack(bench, experts, count, rows, columns))
        bench.tidy()
    return model


def _decode(
    bench: Bench, model: Model, states: list[LayerState], num_tokens: int, chunk: int
) -> None:
    """Steps from `states`, which they leave as they are."""
    logits = bench.random(model.config.vocab_size, dtype=torch.float32)
    context = Context.restored(model, chunk, states, [0] * num_tokens, logits)
    never = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=bench.device)
    steps = bench.pick(_STEPS, 1)
    token = torch.ones(1, dtype=torch.int64, device=bench.device)
    limit = 2 + steps * 6
    stepper = GraphStepper(context, Sampler(Sampling(), never), token, limit)
    stepper.start(2)  # the first one as it is, the second recorded
    found: list[float] = []
    for _ in range(bench.pick(5, 1)):
        bench.synchronize()
        began = time.perf_counter()
        stepper.start(steps).wait()
        found.append((time.perf_counter() - began) / steps)
    found.sort()
    bench.add(
        f"decode at {num_tokens} tokens",
        tokens=num_tokens,
        ms=1e3 * found[len(found) // 2],
        best_ms=1e3 * found[0],
        recorded=stepper.is_recorded,
        **({"note": stepper.record_error} if stepper.record_error else {}),
    )


def head(bench: Bench) -> None:
    """The product with all 200,064 rows of the head in float32, once for each token."""
    rows, width = bench.pick((models.VOCAB_SIZE, models.WIDTH), (64, 32))
    weight = bench.random(rows, width, dtype=torch.float32)
    x = bench.random(1, width, dtype=torch.float32)
    timing = bench.time(partial(kernels.linear, x, weight))
    bench.rate("one token", timing, num_bytes=float(weight.nbytes))


def estimate(bench: Bench) -> None:
    """MiniMax-M1 from its measured layers, as if all 80 were resident: kernels' time alone."""
    lightning_rows = bench.known["layer lightning bf16"]
    softmax_rows = bench.known["layer softmax bf16"]
    head_s = _number(bench.known["head"][0], "ms") / 1e3
    for row in softmax_rows:
        tokens = row.get("tokens")
        if tokens is None or not str(row["case"]).startswith("prefill"):
            continue
        try:
            prefill = _whole(lightning_rows, softmax_rows, f"prefill {tokens} tokens", "seconds")
            step = _whole(lightning_rows, softmax_rows, f"decode at {tokens} tokens", "ms") / 1e3
        except StopIteration:
            continue
        bench.add(
            f"{tokens} tokens",
            tokens=tokens,
            prefill_s=prefill,
            prefill_tok_s=float(str(tokens)) / prefill,
            decode_tok_s=1 / (step + head_s),
            note="70 Lightning and 10 softmax layers, weights resident; head in decoding only",
        )


def _whole(lightning: object, softmax: object, case: str, key: str) -> float:
    def of(rows: object) -> float:
        found = next(row for row in cast(list[Row], rows) if row["case"] == case)
        return _number(found, key)

    return models.NUM_LIGHTNING * of(lightning) + models.NUM_SOFTMAX * of(softmax)


def _number(row: Row, key: str) -> float:
    return float(str(row[key]))

"""Decoding by recorded steps beside the same steps unrecorded, and beside eager decoding."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.device import models
from benchmarks.device.bench import Bench
from engine.context import Context
from engine.cuda_graph import GraphDecodeLoop
from engine.decode import DecodeLoop, EagerDecodeLoop, Sampler, Sampling
from engine.layers.delta import DeltaState
from engine.layers.lightning import LightningState
from kernels.attention import dense

_SAMPLINGS = {"greedy": Sampling(), "sampled": Sampling(1.0, 0.95, 1)}


@torch.inference_mode()
def run(bench: Bench) -> None:
    bench.tidy()
    model = models.build(bench, models.hybrid(bench))
    context = Context(model, bench.pick(4096, 16))
    ids = torch.randint(0, model.config.vocab_size, (bench.pick(20_001, 9),)).tolist()
    context.extend(ids)
    never = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=bench.device)
    count = bench.pick(199, 4)
    for name, sampling in _SAMPLINGS.items():
        _compare(bench, context, name, sampling, never, count)


def _compare(
    bench: Bench, context: Context, name: str, sampling: Sampling, never: Tensor, count: int
) -> None:
    """More steps run than are read, so they have to go back in the end."""
    num_read, limit = count - 1, count + 50
    written: dict[str, tuple[list[int], Context]] = {}
    for how in ("eager", "steps", "recorded"):
        own, sampler = context.fork(), Sampler(sampling, never)
        draws: DecodeLoop
        if how == "eager":
            draws = EagerDecodeLoop(own, sampler)
        else:
            draws = GraphDecodeLoop(own, sampler, limit, record=how == "recorded")
        token_ids = [draws.next() for _ in range(count // 2)]
        # Steps run ahead by as much now as at the end, so what is ahead is counted once.
        began, before = time.perf_counter(), len(token_ids)
        token_ids += [draws.next() for _ in range(count - before)]
        took = time.perf_counter() - began
        recorded = isinstance(draws, GraphDecodeLoop) and draws.is_recorded
        error = draws.record_error if isinstance(draws, GraphDecodeLoop) else None
        draws.finish(num_read)
        written[how] = token_ids, own
        bench.add(
            f"{name}, {how}",
            tok_s=(count - before) / took,
            recorded=recorded,
            same_tokens_as_eager=_common(written["eager"][0], token_ids),
            **({"note": error} if error else {}),
        )
    steps, replayed = written["steps"], written["recorded"]
    bench.add(
        f"{name}, recorded as unrecorded",
        same_tokens=steps[0] == replayed[0],
        same_bits_after_going_back=all(map(torch.equal, _parts(steps[1]), _parts(replayed[1]))),
    )


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens agree from the first on; rounding differs between eager and fixed splits."""
    pairs = zip(left, right, strict=True)
    return next((at for at, (x, y) in enumerate(pairs) if x != y), len(left))


def _parts(context: Context) -> list[Tensor]:
    assert context.logits is not None
    found = [context.logits]
    for state in context.states:
        if isinstance(state, LightningState | DeltaState):
            found.append(state.tensor)
        else:
            for side in (0, 1):
                rows = [dense(pair[side], torch.float32) for pair in state.segments()]
                found.append(torch.cat(rows))
    return found

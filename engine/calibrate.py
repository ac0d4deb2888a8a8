"""Finds by a probe how a model selects from contexts longer than it was trained for.

Needles stand in a text that is read by windows, once. Each softmax layer's KV groups are asked
where they look for a needle (retrieval heads: arXiv 2404.15574); the best one scans. Distance and
far layers are those with which the needle's answer is likeliest when its block is selected.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from engine import retrieval_head
from engine.config import LayerConfig, Mixer
from engine.context import Context
from engine.errors import EngineError
from engine.layers.kv_cache import KVCache
from engine.layers.softmax import SoftmaxAttention
from engine.model import Layer, Model
from engine.protocols import Probe, RetrievalHead
from engine.retrieval_head import block_at
from engine.selection import Selection, selecting

_DISTANCES = (400, 1000, 3000, 8000, 16_000)
_TRAINED_SHARE = 0.5  # of its positions, which a model knows well
_LOST = 0.05  # nats a token that another distance, or fewer far layers, may cost
_SHARES = (4, 3, 2)  # of the layers: a quarter, a third, a half


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`ranks` of the scanning head for each needle's block, 1 being the best; `log_p` nats a scored
    token, mean over the needles, with that block selected, and `log_p_without` any."""

    selection: Selection
    ranks: tuple[int, ...]
    log_p: float
    log_p_without: float


@torch.inference_mode()
def calibrate(
    model: Model,
    chunk_tokens: int,
    probe: Probe,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Calibrated:
    """Raises EngineError where no layer can be far, or no head finds needles."""
    layers = [i for i, layer in enumerate(model.config.layers) if _can_be_far(layer)]
    if not layers or model.is_streamed or model.is_staged:
        raise EngineError("only models with full attention in a layer, and in memory, can select")
    longest = int(model.config.max_positions * _TRAINED_SHARE)
    distances = [one for one in _DISTANCES if one <= longest] or [longest]
    selection = Selection(layers[0], 0, distances[0], tuple(layers))
    reader = model.with_options(selecting(model.config, selection))
    context = Context(reader, chunk_tokens)
    context.extend(probe.document_ids, lambda *now: on_progress("reading the probe", *now))
    context.end_of_documents()

    steps, done = 1 + len(distances) + len(layers) + len(_SHARES), 0

    def log_p(selection: Selection | None, far: Sequence[int]) -> float:
        nonlocal done
        done += 1
        on_progress("trying distances and layers", min(done, steps - 1), steps)
        return _log_p(model, context, probe, selection, far)

    without = log_p(None, layers)
    by_distance = {one: log_p(replace(selection, distance=one), layers) for one in distances}
    if (best := max(by_distance.values())) <= without:
        raise EngineError("needles are not read where they are selected; this model cannot select")
    near_best = [one for one in distances if by_distance[one] >= best - _LOST]
    scans = _scans(context, probe, selection, near_best, on_progress)
    (layer, group, distance), found = min(scans.items(), key=lambda item: _order(item[1]))
    selection = replace(selection, scan_layer=layer, scan_kv_head=group, distance=distance)
    most = by_distance[distance]
    alone = {one: log_p(selection, [x for x in layers if x != one]) for one in layers}
    needed = sorted(layers, key=lambda one: alone[one])  # what costs most to miss comes first
    far = layers
    for share in _SHARES:
        few = sorted({layer, *needed[: -(-len(layers) // share)]})
        if (now := log_p(selection, few)) >= most - _LOST:
            far, most = few, now
            break
    on_progress("trying distances and layers", steps, steps)
    ranks = tuple(one.rank for one in found)
    return Calibrated(replace(selection, far_layers=tuple(far)), ranks, most, without)


@dataclass(frozen=True, slots=True)
class _Scan:
    """Of one needle: the rank of its block and the share of the scan that fell on it."""

    rank: int
    mass: float


def _order(scans: Sequence[_Scan]) -> tuple[float, float]:
    """Less is better: by rank, and where that is the same by mass."""
    count = len(scans)
    return (
        sum(math.log(one.rank) for one in scans) / count,
        -sum(math.log(max(one.mass, 1e-30)) for one in scans) / count,
    )


def _can_be_far(layer: LayerConfig) -> bool:
    return (
        layer.mixer is Mixer.SOFTMAX
        and not layer.softmax.sliding_window
        and not layer.softmax.log_scale_base
    )


def _scans(
    context: Context,
    probe: Probe,
    selection: Selection,
    distances: Sequence[int],
    on_progress: Callable[[str, int, int], None],
) -> dict[tuple[int, int, int], list[_Scan]]:
    """By layer, KV group and distance, how each needle's block is scanned."""
    found: dict[tuple[int, int, int], list[_Scan]] = {}
    model, end = context.model, len(context)
    documents = range(max(probe.first, selection.sink_tokens), end)
    for number, needle in enumerate(probe.needles):
        twin = context.fork()
        hidden = model.embedded(torch.tensor(needle.question_ids, device=model.device))
        wanted = needle.start // selection.block_tokens
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            state = twin.states[index]
            if index in selection.far_layers:
                assert isinstance(state, KVCache) and isinstance(layer.mixer, SoftmaxAttention)
                normed = hidden if layer.mixer_norm is None else layer.mixer_norm(hidden)
                queries = layer.mixer.queries(normed)
                for group, distance in product(range(model.config.num_kv_heads), distances):
                    head = RetrievalHead(index, group, distance)
                    size = selection.block_tokens
                    mass = retrieval_head.scan(model.config, queries, state, head, documents, size)
                    found.setdefault((index, group, distance), []).append(_scan_of(mass, wanted))
            hidden = layer(hidden, state, end)
        on_progress("looking for a retrieval head", number + 1, len(probe.needles))
    return found


def _scan_of(mass: Tensor, wanted: int) -> _Scan:
    """Of a block, or of the next one, where a needle may end."""
    best = mass[wanted : wanted + 2].max()
    return _Scan(int((mass > best).sum()) + 1, float(best))


def _log_p(
    model: Model,
    context: Context,
    probe: Probe,
    selection: Selection | None,
    far: Sequence[int],
) -> float:
    """Of the needles' answers with their own block selected in layers `far`, nats a token."""
    reader = context.model
    if selection is not None:
        reader = model.with_options(selecting(model.config, selection))
    total, count = 0.0, 0
    for needle in probe.needles:
        states = [state.fork() for state in context.states]
        twin = Context.restored(reader, context.chunk_tokens, states, list(context.token_ids), None)
        if selection is not None:
            number = needle.start // selection.block_tokens
            retrieval_head.see(twin, [block_at(number, selection, len(context))], far)
        ids = [*needle.question_ids, *needle.answer_ids]
        rows = [reader.logits(hidden) for _, hidden in twin.chunks(ids)]
        logits = torch.cat(rows)[-needle.num_scored - 1 : -1]
        wanted = torch.tensor(ids[-needle.num_scored :], device=logits.device)
        log_p = torch.log_softmax(logits, dim=-1).gather(1, wanted[:, None])
        total, count = total + float(log_p.sum()), count + needle.num_scored
    return total / count

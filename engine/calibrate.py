"""Finds by a probe how a model selects from contexts longer than it was trained for.

Needles stand in a text that is read by windows, once. Each softmax layer's KV groups are asked
where they look for a needle (retrieval heads: arXiv 2404.15574); the best one scans. Distance and
far layers are those with which the needle's answer is likeliest when its block is selected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine import retrieval_head
from engine.config import LayerConfig, Mixer
from engine.context import Context
from engine.errors import EngineError
from engine.layers.kv_cache import KVCache
from engine.layers.softmax import SoftmaxAttention
from engine.model import Layer, Model
from engine.protocols import Needle, Probe, SelectedBlock
from engine.selection import Selection, selecting

_DISTANCES = (400, 1000, 3000, 8000, 16_000)
_TRAINED_SHARE = 0.5  # of its positions, which a model knows well
_LOST = 0.05  # nats a token that fewer far layers may cost


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
    first = min(distances[-1], 3000)
    selection = Selection(layers[0], 0, first, tuple(layers))
    reader = model.with_options(selecting(model.config, selection))
    context = Context(reader, chunk_tokens)
    context.extend(probe.document_ids, lambda *now: on_progress("reading the probe", *now))
    context.end_of_documents()

    ranks = _ranks(context, probe, selection, on_progress)
    (layer, group), best = min(ranks.items(), key=lambda item: (_mean_log(item[1]), item[0]))
    selection = replace(selection, scan_layer=layer, scan_kv_head=group)

    def log_p(selection: Selection | None, far: Sequence[int]) -> float:
        return _log_p(model, context, probe, selection, far)

    steps = 1 + len(distances) + len(layers) + 4
    done = 0

    def measured(selection: Selection | None, far: Sequence[int]) -> float:
        nonlocal done
        done += 1
        on_progress("trying distances and layers", min(done, steps - 1), steps)
        return log_p(selection, far)

    without = measured(None, layers)
    by_distance = {one: measured(replace(selection, distance=one), layers) for one in distances}
    distance = max(by_distance, key=lambda one: by_distance[one])
    selection, most = replace(selection, distance=distance), by_distance[distance]
    if most <= without:
        raise EngineError("no head was found that finds needles; this model cannot select")
    alone = {one: measured(selection, [x for x in layers if x != one]) for one in layers}
    needed = sorted(layers, key=lambda one: alone[one])  # what costs most to miss comes first
    far = layers
    for share in (4, 3, 2):
        few = sorted({layer, *needed[: -(-len(layers) // share)]})
        if (now := measured(selection, few)) >= most - _LOST:
            far, most = few, now
            break
    on_progress("trying distances and layers", steps, steps)
    return Calibrated(replace(selection, far_layers=tuple(far)), tuple(best), most, without)


def _can_be_far(layer: LayerConfig) -> bool:
    return (
        layer.mixer is Mixer.SOFTMAX
        and not layer.softmax.sliding_window
        and not layer.softmax.log_scale_base
    )


def _ranks(
    context: Context,
    probe: Probe,
    selection: Selection,
    on_progress: Callable[[str, int, int], None],
) -> dict[tuple[int, int], list[int]]:
    """By layer and KV group, the rank of each needle's block in its scan."""
    found: dict[tuple[int, int], list[int]] = {}
    model, end = context.model, len(context)
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
                for group in range(model.config.num_kv_heads):
                    one = replace(selection, scan_layer=index, scan_kv_head=group)
                    mass = retrieval_head.scan(layer.mixer, queries, state, one, end)
                    found.setdefault((index, group), []).append(_rank(mass, wanted))
            hidden = layer(hidden, state, end)
        on_progress("looking for a retrieval head", number + 1, len(probe.needles))
    return found


def _rank(mass: Tensor, wanted: int) -> int:
    """Of a block, or of the next one, where a needle may end."""
    best = mass[wanted : wanted + 2].max()
    return int((mass > best).sum()) + 1


def _mean_log(ranks: Sequence[int]) -> float:
    return float(torch.tensor(ranks, dtype=torch.float64).log().mean())


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
            retrieval_head.see(twin, [_block_of(needle, selection)], far)
        ids = [*needle.question_ids, *needle.answer_ids]
        rows = [reader.logits(hidden) for _, hidden in twin.chunks(ids)]
        logits = torch.cat(rows)[-needle.num_scored - 1 : -1]
        wanted = torch.tensor(ids[-needle.num_scored :], device=logits.device)
        log_p = torch.log_softmax(logits, dim=-1).gather(1, wanted[:, None])
        total, count = total + float(log_p.sum()), count + needle.num_scored
    return total / count


def _block_of(needle: Needle, selection: Selection) -> SelectedBlock:
    first = needle.start // selection.block_tokens * selection.block_tokens
    margin = selection.margin_tokens
    start = max(first - margin, selection.sink_tokens)
    return SelectedBlock(start, first + selection.block_tokens + margin, 1.0)

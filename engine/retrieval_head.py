"""The scan of all document keys by one retrieval head, and what it selects; see selection.py."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from engine.config import ModelConfig
from engine.errors import EngineError
from engine.layers.kv_cache import KVCache
from engine.layers.rotary import rotated, unrotated
from engine.layers.softmax import SoftmaxAttention
from engine.model import Layer
from engine.protocols import Judged, RetrievalHead, SelectedBlock
from engine.selection import Selection
from kernels import Int8Tensor
from kernels.attention import Rows, between, dense

if TYPE_CHECKING:
    from engine.context import Context

RUN_TOKENS = 8  # of a scan that are told apart


def select(context: "Context", token_ids: Sequence[int], first: int) -> list[SelectedBlock]:
    """See `Context.select`."""
    model = context.model
    selection = model.config.selection
    if selection is None or not token_ids:
        return []
    caches = {i: s for i, s in enumerate(context.states) if isinstance(s, KVCache)}
    for cache in caches.values():
        cache.selected = []
    end = caches[selection.scan_layer].global_attention_from
    if end is None or end < selection.sink_distance:
        return []
    mass = block_mass(context, token_ids, first)
    best = mass.topk(min(selection.num_blocks, len(mass)))
    blocks = [
        block_at(int(index), selection, end, float(value))
        for value, index in zip(best.values, best.indices, strict=True)
        if value > 0
    ]
    see(context, blocks, selection.far_layers)
    return blocks


def search(context: "Context", token_ids: Sequence[int], first: int) -> Tensor | None:
    """See `Context.search`."""
    selection = context.model.config.selection
    if selection is None or not token_ids:
        return None
    scanned = context.states[selection.scan_layer]
    assert isinstance(scanned, KVCache)
    end = scanned.global_attention_from
    end = len(context) if end is None else end
    num_tokens = min(RUN_TOKENS, selection.block_tokens)
    shown = range(max(first, selection.sink_tokens), end)
    runs = run_mass(context, token_ids, selection.head, shown, num_tokens)
    sizes = torch.full((len(runs),), num_tokens, device=runs.device)
    sizes[-1] = end - num_tokens * (len(runs) - 1)
    return (runs / sizes).repeat_interleave(sizes)


def block_mass(context: "Context", token_ids: Sequence[int], first: int) -> Tensor:
    """`Context.search` summed over the blocks [num_blocks] that can be selected."""
    mass, selection = context.search(token_ids, first), context.model.config.selection
    if mass is None or selection is None:
        raise EngineError("the model has no retrieval head to scan with")
    size = selection.block_tokens
    return F.pad(mass, (0, -len(mass) % size)).view(-1, size).sum(dim=1)


def see(context: "Context", blocks: Sequence[SelectedBlock], layers: Sequence[int]) -> None:
    """Lets what is read next see `blocks` in `layers`."""
    model, states = context.model, context.states
    for layer in layers:
        cache = states[layer]
        assert isinstance(cache, KVCache)
        frequencies = model.config.frequencies_of(layer)
        cache.selected = [
            (unrotated(dense(keys, model.dtype), start, frequencies), dense(values, model.dtype))
            for first, last in _disjoint(blocks)
            for start, keys, values in _rows(cache, first, last)
        ]


def block_at(index: int, selection: Selection, end: int, mass: float = 1.0) -> SelectedBlock:
    """Block number `index` of `end` tokens of documents, with its margins."""
    first = index * selection.block_tokens
    last = first + selection.block_tokens + selection.margin_tokens
    lowest = max(first - selection.margin_tokens, selection.sink_tokens)
    return SelectedBlock(lowest, min(last, end), mass)


def _disjoint(blocks: Sequence[SelectedBlock]) -> list[tuple[int, int]]:
    """What the blocks cover, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((block.start, block.end) for block in blocks):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _rows(cache: KVCache, first: int, last: int) -> Iterator[tuple[int, Rows, Rows]]:
    """The first position, keys and values of each piece."""
    for keys, values in between(cache.segments(), first, last):
        yield first, keys, values
        first += keys.shape[0]


def run_mass(
    context: "Context",
    token_ids: Sequence[int],
    head: RetrievalHead,
    documents: range,
    run_tokens: int,
) -> Tensor:
    """The share [num_runs] float32 of the scan of `token_ids`, were they to come next, that falls
    on each run of `run_tokens` tokens up to the end of `documents`; what stands before them gets
    none, and what was selected before is not seen."""
    model = context.model
    twin = context.fork()
    for cache in twin.states:
        if isinstance(cache, KVCache):
            cache.selected = []
    ids = torch.tensor(token_ids, device=model.device)
    hidden = model.embedded(ids)
    layers = model.each_layer(1)
    for index, layer in enumerate(layers):
        assert isinstance(layer, Layer)
        state = twin.states[index]
        hidden = hidden.to(model.device_of(index))
        if index == head.layer:
            assert isinstance(state, KVCache) and isinstance(layer.mixer, SoftmaxAttention)
            normed = hidden if layer.mixer_norm is None else layer.mixer_norm(hidden)
            queries = layer.mixer.queries(normed)
            return scan(model.config, queries, state, head, documents, run_tokens)
        hidden = layer(hidden, state, len(context))
    raise EngineError(f"no layer {head.layer} to scan with")


def judge(
    context: "Context", token_ids: Sequence[int], given: Sequence[int], head: RetrievalHead
) -> Judged:
    """See `Context.judge`."""
    twin = context.fork()
    cache = twin.states[head.layer]
    if not token_ids:
        raise EngineError("an empty question looks at nothing")
    if not isinstance(cache, KVCache):
        raise EngineError(f"layer {head.layer} keeps no keys of all tokens to look at")
    cache.queries = []
    log_p = twin.read_scored(token_ids, given, len(token_ids))
    queries = torch.cat(cache.queries)[-len(token_ids) :]
    start = len(context)
    documents = range(start, start + len(given))
    shares = scan(context.model.config, queries, cache, head, documents, run_tokens=1)
    return Judged(log_p, shares[start:])


def scan(
    config: ModelConfig,
    queries: Tensor,
    cache: KVCache,
    head: RetrievalHead,
    documents: range,
    run_tokens: int,
) -> Tensor:
    """The share [num_runs] float32 of the attention of `queries` [T, H, D], before rotation, that
    each run of so many keys of `cache` gets, up to the end of `documents`; none before these."""
    options, frequencies = config.layers[head.layer].softmax, config.frequencies_of(head.layer)
    scale = config.head_dim**-0.5 if options.scale is None else options.scale
    per_group = config.num_heads // config.num_kv_heads
    own_heads = slice(head.kv_head * per_group, (head.kv_head + 1) * per_group)
    heads = queries[:, own_heads].float()  # [T, R, D]
    found = []
    for start, keys, _ in _rows(cache, 0, documents.stop):
        # Turned back by their place in the tile only; queries turn by the tile's.
        own = unrotated(_of_group(keys, head.kv_head), 0, frequencies)[:, 0]
        rows = rotated(heads, head.distance + start, frequencies, options.attention_factor)
        hidden = min(max(documents.start - start, 0), len(own))
        found.append(
            kernels.block_logsumexp(rows.flatten(0, 1), own, scale, run_tokens, first=hidden)
        )
    return torch.cat(found, dim=-1).softmax(dim=-1).mean(dim=0)


def _of_group(rows: Rows, group: int) -> Tensor:
    """[n, 1, D] float32 of [n, G, D]."""
    one = slice(group, group + 1)
    if isinstance(rows, Int8Tensor):
        return Int8Tensor(rows.values[:, one], rows.scales[:, one]).dequantize()
    return rows[:, one].float().contiguous()

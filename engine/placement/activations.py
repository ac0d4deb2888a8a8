"""What is alive at once while a layer runs one chunk: the tensors of engine/layers, counted.

Only what grows with the chunk counts. Where two moments of a layer could be the fullest, the larger
one is taken. The counts are those of the torch implementations on a CPU; a GPU's kernels hold less.
"""

import torch

from engine.config import (
    DeltaOptions,
    LatentOptions,
    LayerConfig,
    Mixer,
    ModelConfig,
    QkNorm,
    SparseOptions,
)
from kernels.attention.block_choice import SCORES
from kernels.attention.block_sparse import QUERY_TILE as SPARSE_TILE
from kernels.attention.tiled import INT8_TILE, MOST_PARTS, QUERY_TILE
from kernels.delta.chunked import BLOCK_TOKENS as DELTA_BLOCK_TOKENS
from kernels.lightning.chunked import BLOCK_TOKENS

_ROTATIONS_KEPT = 4  # chunks whose cosines and sines engine/layers/rotary.py keeps
_SCORE_COPIES = 5  # products, fine and coarse means, their exponentials, their sums over heads
_UNEVEN = 2  # the fullest expert gets at most so many times its share of a chunk


def chunk_bytes(
    config: ModelConfig,
    num_tokens: int,
    chunk_tokens: int,
    kv_dtype: torch.dtype,
    block_tokens: int,
) -> int:
    """The most that a chunk of a context of `num_tokens` holds beside weights, KV and states.

    Keys and values lie in blocks of `block_tokens`. In float32: a layer's sums are, on GPUs too.
    """
    rows = min(chunk_tokens, num_tokens)
    if not rows:
        return 0
    kinds = set(config.layers)
    history = num_tokens - rows
    # The hidden states before the layer, and those of the chunk before, which somebody still holds.
    held = (2 if history else 1) * config.hidden_size
    history_blocks = -(-history // block_tokens)
    tile_tokens = min(INT8_TILE, block_tokens) if kv_dtype == torch.int8 else 0
    mixing = max(
        _mixer(config, kind, rows, history_blocks, tile_tokens)
        + _choosing(config, kind.softmax.sparse, rows, num_tokens)
        for kind in kinds
    )
    # The skip, what was mixed, their sum and its norm; what was mixed once more where it is normed.
    skipped = (4 if config.postnorm else 3) + config.output_norms
    passing = max(_mlp(config, index, rows) for index in range(config.num_layers))
    widest = max(rows * config.hidden_size + mixing, rows * skipped * config.hidden_size + passing)
    rotations = min(_ROTATIONS_KEPT, -(-num_tokens // chunk_tokens)) * rows * config.rotary_dim
    return 4 * (rows * held + widest + rotations + 2 * config.vocab_size)


def _mixer(
    config: ModelConfig, kind: LayerConfig, rows: int, history_blocks: int, tile_tokens: int
) -> int:
    if kind.mixer is Mixer.LIGHTNING:
        return _lightning(config, kind, rows)
    if kind.mixer is Mixer.DELTA:
        return _delta(kind.delta, rows)
    if kind.mixer is Mixer.LATENT:
        return _latent(config, kind.latent, rows, history_blocks, tile_tokens)
    return _softmax(config, kind, rows, history_blocks, tile_tokens)


def _delta(options: DeltaOptions, rows: int) -> int:
    channels, keys, values = options.num_channels, options.key_size, options.value_size
    projected = channels + values
    # Beside what was projected and convolved: the rows that are convolved, or normed q and k and
    # what is read with them, or what was read on its way through norm and gate.
    most = max(channels, 6 * keys + values, 4 * values)
    most += values if options.tiled else 0  # in another order
    m, key_dim, value_dim = DELTA_BLOCK_TOKENS, options.key_dim, options.value_dim
    block = 6 * m * (m + key_dim + value_dim) + 3 * key_dim * value_dim
    return rows * (projected + channels + most) + options.num_value_heads * block


def _lightning(config: ModelConfig, kind: LayerConfig, rows: int) -> int:
    size, options = config.attention_size, kind.lightning
    inputs = 6 * size if options.silu else 3 * size  # as projected, and after silu
    if options.qk_norm or options.rotary_frequencies:
        inputs += 2 * size  # q and k anew
    elif options.scale != 1.0:
        inputs += size
    block = min(rows, BLOCK_TOKENS)
    states = size * config.head_dim // block  # one per block, spread over its tokens
    scores = config.num_heads * block
    # Matmuls make what they are given contiguous first.
    within = 2 * scores + 2 * size
    joined = scores + 4 * size + states
    decays = scores * block  # of the pairs in a block
    return rows * (inputs + 2 * states + max(within, joined)) + decays


def _latent(
    config: ModelConfig, options: LatentOptions, rows: int, history_blocks: int, tile_tokens: int
) -> int:
    row, heads = options.row_size, config.num_heads
    queries, absorbed = rows * heads * options.key_dim, rows * heads * row
    kept = rows * (3 * row + options.q_rank)
    moments = [
        kept + queries + 2 * absorbed,  # the queries' parts, and both joined
        kept + absorbed + _attending(absorbed, rows * row, history_blocks, tile_tokens * row),
    ]
    return max(moments)


def _softmax(
    config: ModelConfig, kind: LayerConfig, rows: int, history_blocks: int, tile_tokens: int
) -> int:
    """Numbers inside the mixer, beside its input; of int8 keys `tile_tokens` are dense at once."""
    size, kv_size = config.attention_size, config.num_kv_heads * config.head_dim
    inputs = rows * (2 * size + 2 * kv_size)  # q, k and v as projected, and q as rotated
    if kind.softmax.qk_norm is not QkNorm.NONE or kind.softmax.qkv_bias:
        inputs += rows * (size + 2 * kv_size)  # as they were before, or q and k as normed
    if window := kind.softmax.window_tokens:
        seen = QUERY_TILE + window + kind.softmax.sink_tokens
        tile = seen * (3 * min(QUERY_TILE, rows) + 2 * kv_size)  # masks; keys and values
        return inputs + 3 * rows * size + tile  # the tiles' outputs, joined, in order
    if not history_blocks:
        return inputs + rows * (4 if kind.softmax.output_gate else 2) * size
    return inputs + _attending(rows * size, rows * kv_size, history_blocks, tile_tokens * kv_size)


def _choosing(
    config: ModelConfig, options: SparseOptions | None, rows: int, num_tokens: int
) -> int:
    """Beside the mixer: the scores of means for a tile of queries, the choice, and the keys and
    values that one tile reads. 0 where all is read."""
    if options is None or num_tokens < options.dense_tokens:
        return 0
    of_query = config.num_heads * num_tokens // options.stride
    scores = _SCORE_COPIES * min(rows * of_query, max(SCORES, of_query))
    chosen = rows * config.num_kv_heads * num_tokens // (4 * options.block_tokens)  # one byte each
    most = SPARSE_TILE * options.most_blocks * options.block_tokens
    # Keys and values as gathered and as what they are made of; who sees what, and as a mask.
    read = min(num_tokens, most) * (4 * config.head_dim + 2 * SPARSE_TILE)
    return chosen + max(scores, read)


def _attending(out: int, kept: int, history_blocks: int, tile: int) -> int:
    """Over keys of so many blocks before the chunk: `out` numbers come of it, `kept` are those of
    the chunk's keys, `tile` those of a tile of int8 keys."""
    outs, recent = min(history_blocks, MOST_PARTS), 2 * kept if tile else 0
    tile = 2 * tile
    moments = [
        (outs + 1) * out + tile,  # the queries as rows, and a part's output
        (outs + 4) * out + recent,  # all parts joined
    ]
    if history_blocks > 1:  # the next tile is made while the last one is still held
        moments.append(min(history_blocks - 1, MOST_PARTS) * out + 2 * tile)
    if history_blocks > MOST_PARTS:  # joined before there are more
        moments.append((MOST_PARTS + 3) * out + tile)
    return max(moments)


def _mlp(config: ModelConfig, layer: int, rows: int) -> int:
    """Numbers inside the MLP, beside its input: gate and up, the gate's silu, their product."""
    if not config.has_experts(layer):
        return 4 * rows * config.dense_size(layer)
    share = _UNEVEN * config.num_experts_per_token / config.num_experts
    chosen = int(rows * min(1.0, share))
    routed = rows * config.hidden_size + chosen * max(
        4 * config.mlp_size, 2 * config.mlp_size + config.hidden_size
    )
    routed = max(routed, rows * 2 * config.hidden_size + chosen * 2 * config.hidden_size)
    shared = rows * (config.hidden_size + 4 * config.shared_mlp_size)
    return max(routed, shared)

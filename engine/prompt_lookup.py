"""Writing several tokens a step: what the context says next was probably said before.

Where the last tokens stand in the context or in the answer already, those that followed them there
are a draft (prompt lookup). The model reads the draft in one call, which reads its weights once,
and each token is then drawn from the logits it would have been drawn from anyway: a draft is never
written because it was drafted, only kept as read where the draw agrees. So what is written does
not depend on drafts, neither greedy nor sampled nor under a constraint. That holds bit by bit
because a model on which `serves` is true gives each of a few tokens what it gives it alone.

What was read too much is taken back: keys and values are cut off, Lightning states made anew from
the state before with the keys and values that stay. Nothing is undone by arithmetic.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import kernels
from engine.config import Mixer, ModelConfig
from engine.context import Context
from engine.layers.delta import DeltaState
from engine.layers.kv_cache import KVCache, LatentCache, WindowCache
from engine.layers.lightning import LightningState
from engine.layers.sparse_kv import SparseCache
from engine.quantized.forms import MATRICES

MOST_DRAFTED = 7  # with the token before them 8 rows: from there on rows cost as much as tokens
_LONGEST_MATCH = 32
_LANES = 16  # elementwise functions round a last, shorter vector in another way
_COST_PER_ROW = (
    0.2  # in steps of one row, from float16 matmuls of 1 and 8 rows (`benchmarks.linear`)
)


def supports(context: Context) -> bool:
    """Whether `context` can read ahead and take back, each token with the bits it has alone."""
    model, config = context.model, context.model.config
    known = (KVCache, LatentCache, SparseCache, WindowCache, LightningState, DeltaState)
    return (
        model.device.type == "cpu"
        and not (model.is_staged or model.is_streamed)
        and model.dtype == torch.float32
        and all(width % _LANES == 0 for width in _widths(config))
        and kernels.is_batch_invariant(model.head.weight)
        and all(type(state) in known for state in context.states)
        and all(_is_exact(module) for module in model.layers.modules())
    )


def _widths(config: ModelConfig) -> set[int]:
    """Of the rows that elementwise functions run over."""
    delta = [layer.delta for layer in config.layers if layer.mixer is Mixer.DELTA]
    widths = {config.hidden_size, config.mlp_size, config.attention_size, config.head_dim}
    widths |= {layer.dense_mlp_size for layer in config.layers}
    if config.sigmoid_router is not None:
        widths.add(config.num_experts)
    latent = [layer.latent for layer in config.layers if layer.mixer is Mixer.LATENT]
    for each in latent:
        widths |= {each.kv_rank, each.q_rank, each.nope_dim, each.rope_dim, each.value_dim}
    return widths | {width for each in delta for width in (each.num_value_heads, each.value_size)}


def _is_exact(module: torch.nn.Module) -> bool:
    """Whether matmuls with the weights of `module` itself give a row the bits it has alone."""
    weights = [getattr(module, name, None) for name in MATRICES]
    return all(
        weight is None
        or (isinstance(weight, Tensor) and weight.dim() == 3)  # experts, which take rows one by one
        or kernels.is_batch_invariant(weight)
        for weight in weights
    )


class NgramIndex:
    """Where each pair of neighbouring tokens stands. Grows by a token at a time.

    Made in O(n log n), 0.1 s for a million tokens; a draft costs what its places do, and never
    more than `_MOST_PLACES` of them are looked at.
    """

    _MOST_PLACES = 4096

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._tokens = np.empty(max(2 * len(token_ids), 1024), dtype=np.int64)
        self._tokens[: len(token_ids)] = token_ids
        self.num_tokens = len(token_ids)
        pairs = _pairs(self._tokens[: self.num_tokens])
        self._order = np.argsort(pairs, kind="stable")
        self._sorted = pairs[self._order]
        self._added: defaultdict[int, list[int]] = defaultdict(list)

    def push(self, token_id: int) -> None:
        if self.num_tokens == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self.num_tokens] = token_id
        self.num_tokens += 1
        if self.num_tokens > 1:
            at = self.num_tokens - 2
            self._added[int(_pairs(self._tokens[at : at + 2])[0])].append(at)

    def draft(self, most: int) -> tuple[int, list[int]]:
        """How many of the last tokens were found further up, and up to `most` tokens that followed
        there: the longest match counts, of equally long ones the last. (0, []) if there is none."""
        count, tokens = self.num_tokens, self._tokens
        if count < 3 or most < 1:
            return 0, []
        pair = int(_pairs(tokens[count - 2 : count])[0])
        first, last = np.searchsorted(self._sorted, [pair, pair + 1])
        first = max(first, last - self._MOST_PLACES)
        recent = self._added[pair][-self._MOST_PLACES :]
        places = np.concatenate([self._order[first:last], np.array(recent, dtype=np.int64)])
        places = places[places < count - 2]  # but where it stands now
        if not len(places):
            return 0, []
        length = 2
        while length < _LONGEST_MATCH:
            at = places - (length - 1)
            longer = places[(at >= 0) & (tokens[at] == tokens[count - 1 - length])]
            if not len(longer):
                break
            places, length = longer, length + 1
        begin = int(places.max()) + 2
        return length, tokens[begin : min(begin + most, count)].tolist()


def _pairs(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (tokens[:-1] << 32) + tokens[1:]


class DraftLength:
    """How many tokens to draft: as many as pay, by how often drafts after such matches were right.

    A step of n + 1 rows costs 1 + n `_COST_PER_ROW` steps and writes 1 + p + ... + p^n tokens.
    """

    def __init__(self) -> None:
        self._agreed = [0.5, 0.7, 0.9]  # after matches of 2 to 3, 4 to 7, and more tokens

    def num_drafted(self, length: int) -> int:
        p, best, most = self._agreed[_kind(length)], 0, 1.0
        written = 1.0
        for count in range(1, MOST_DRAFTED + 1):
            written += p**count
            if (rate := written / (1 + _COST_PER_ROW * count)) > most:
                best, most = count, rate
        if not best:  # what does not pay now is tried again after a while
            self._agreed[_kind(length)] = min(p + 0.003, 0.5)
        return best

    def learn(self, length: int, num_agreed: int, num_refused: int) -> None:
        """`num_refused` is 1 if a drafted token was not drawn, 0 if it never came to that."""
        kind = _kind(length)
        for right in [1.0] * num_agreed + [0.0] * num_refused:
            self._agreed[kind] += 0.15 * (right - self._agreed[kind])


def _kind(length: int) -> int:
    return 0 if length < 4 else 1 if length < 8 else 2


class SpeculativeReader:
    """Reads what was written into `context`, and drafts of what may come.

    Between two calls the context may have read more than was written; it is not to be used before
    `finish`. `num_drafted` and `num_accepted` count the tokens of drafts that are settled.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._start = context, len(context)
        self._lookup, self._pace = NgramIndex(context.token_ids), DraftLength()
        self._verified: Tensor | None = None  # logits after each token that is being read
        self._drafted: list[int] = []
        self._num_agreed = self._length = 0
        self.num_drafted = self.num_accepted = 0

    def logits_after(self, token_id: int) -> Tensor | None:
        """Scores of what follows `token_id`, which was written."""
        self._lookup.push(token_id)
        if self._verified is not None:
            if self._drafted[self._num_agreed : self._num_agreed + 1] == [token_id]:
                self._num_agreed += 1
                return self._verified[self._num_agreed]
            self._settle(self._num_agreed + 1)
        length, draft = self._lookup.draft(MOST_DRAFTED)
        draft = draft[: self._pace.num_drafted(length)] if draft else draft
        if not draft:
            self._context.extend([token_id])
            return self._context.logits
        self._drafted, self._num_agreed, self._length = draft, 0, length
        self._verified = self._context.verify_draft([token_id, *draft])
        return self._verified[0]

    def finish(self, num_read: int) -> None:
        """Leaves the context behind the first `num_read` tokens that were written."""
        if self._verified is not None:
            self._settle(self._start + num_read - len(self._context))

    def _settle(self, num_kept: int) -> None:
        """Of the tokens being read the first `num_kept` stay."""
        is_refused = self._num_agreed < len(self._drafted)
        self._pace.learn(self._length, self._num_agreed, int(is_refused))
        self.num_drafted += len(self._drafted)
        self.num_accepted += self._num_agreed
        self._context.accept(num_kept)
        self._verified, self._drafted = None, []

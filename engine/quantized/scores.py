"""What storing weights in few bits changes in a model's scores of a text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from engine import placement
from engine.model import Model
from engine.model_source import ModelSource
from engine.weights import load

HEAD_ROWS = 64  # scores in memory at a time, of both models and in float64


@dataclass(frozen=True, slots=True)
class ScoreError:
    """What rounding changed in the scores of `num_tokens` tokens.

    `logits`: RMS of the difference over RMS. NLL in nats per token, of the weights before and
    after; `kl` from the one to the other; `same_top`: the share of positions at which both find
    the same token the likeliest.
    """

    num_tokens: int
    logits: float
    nll_before: float
    nll_after: float
    kl: float
    same_top: float

    @property
    def perplexity_before(self) -> float:
        return math.exp(self.nll_before)

    @property
    def perplexity_after(self) -> float:
        return math.exp(self.nll_after)


@torch.no_grad()
def score_error(
    before: Path,
    after: Path,
    sequences: Sequence[Tensor],
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ScoreError:
    """Over all tokens of `sequences` ([T] int64 each) but the first of each.

    The layers of one model are in memory at a time, and embedding and head of both, in float32 on
    the CPU. `on_progress` gets tokens run and in all, those of both models counted.
    """
    total = 2 * sum(len(ids) for ids in sequences)
    done = 0
    hidden, heads = [], []
    for directory in (before, after):
        source = ModelSource(directory)
        checkpoint = source.open_checkpoint()
        model = load(checkpoint, source.config, device=torch.device("cpu"), dtype=torch.float32)
        rows = []
        for ids in sequences:
            rows.append(model(ids, model.empty_states(), 0))
            done += len(ids)
            on_progress(done, total)
        hidden.append(rows)
        heads.append(_without_layers(model))
    sums = torch.zeros(6, dtype=torch.float64)
    for ids, want, got in zip(sequences, *hidden, strict=True):
        for start in range(0, len(ids) - 1, HEAD_ROWS):
            end = min(start + HEAD_ROWS, len(ids) - 1)
            theirs, ours = heads[0].logits(want[start:end]), heads[1].logits(got[start:end])
            sums += _sums(theirs, ours, ids[start + 1 : end + 1])
    off, of, nll_before, nll_after, kl, same = sums.tolist()
    count = sum(len(ids) - 1 for ids in sequences)
    return ScoreError(
        count, (off / of) ** 0.5, nll_before / count, nll_after / count, kl / count, same / count
    )


def check_memory(directory: Path, num_tokens: int) -> None:
    """Raises PlacementError if `score_error` of the model and another like it does not fit here."""
    config = ModelSource(directory).config
    plan = placement.plan(config, num_tokens, num_tokens, torch.float32)
    ends = 4 * 2 * config.vocab_size * config.hidden_size  # of the other model
    (device,) = plan.devices
    more = replace(device, weights_bytes=device.weights_bytes + ends)
    placement.check(replace(plan, devices=(more,)), torch.device("cpu"))


def _sums(theirs: Tensor, ours: Tensor, following: Tensor) -> Tensor:
    """Squared difference, square, both NLLs, KL and equal maxima, each summed; in float64."""
    seen = theirs.double(), ours.double()
    want, got = (torch.log_softmax(x, dim=-1) for x in seen)
    nll = [-x.gather(1, following[:, None].long()).sum() for x in (want, got)]
    difference = (seen[1] - seen[0]).square().sum()
    kl = (want.exp() * (want - got)).sum()
    same = (theirs.argmax(dim=-1) == ours.argmax(dim=-1)).sum()
    return torch.stack([difference, seen[0].square().sum(), *nll, kl, same])


def _without_layers(model: Model) -> Model:
    model.layers = torch.nn.ModuleList()
    return model

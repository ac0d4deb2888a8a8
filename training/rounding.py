"""What storing weights in few bits costs: in the weights, in the scores, on held-out text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint, load
from engine.families import read_config
from engine.model import Model
from training.choose import HEAD_ROWS
from training.data import Sequences


@dataclass(frozen=True, slots=True)
class WeightError:
    """RMS of the difference over RMS of the weights: of all matrices, and of the worst one."""

    overall: float
    worst: float
    worst_name: str


@dataclass(frozen=True, slots=True)
class ScoreError:
    """`logits`: RMS of the difference over RMS. NLL in nats per token over `num_tokens`, of the
    weights as trained and as shipped; `kl` from the one to the other."""

    num_tokens: int
    logits: float
    nll_trained: float
    nll_shipped: float
    kl: float


def weight_error(trained: Checkpoint, shipped: Mapping[str, Tensor]) -> WeightError:
    """Over the matrices of `shipped`, of which there must be one."""
    ratios, error, size = {}, 0.0, 0.0
    for name, tensor in shipped.items():
        if tensor.dim() > 1:
            want = trained.read(name).double()
            off, of = (tensor - want).square().sum().item(), want.square().sum().item()
            error, size = error + off, size + of
            ratios[name] = (off / of) ** 0.5 if of else 0.0
    worst = max(ratios, key=ratios.__getitem__)
    return WeightError((error / size) ** 0.5, ratios[worst], worst)


@torch.no_grad()
def score_error(trained: Path, shipped: Path, data: Sequences) -> ScoreError:
    """Over all tokens of `data` but the first of each sequence."""
    hidden, heads = [], []
    for directory in (trained, shipped):
        model = _load(directory)
        rows = [data.at(index)[0] for index in range(len(data))]
        hidden.append([model(ids, model.empty_states(), 0) for ids in rows])
        heads.append(model)
    sums = torch.zeros(5, dtype=torch.float64)
    for index, (want, got) in enumerate(zip(*hidden, strict=True)):
        ids = data.at(index)[0]
        for start in range(0, len(ids) - 1, HEAD_ROWS):
            end = min(start + HEAD_ROWS, len(ids) - 1)
            theirs, ours = heads[0].logits(want[start:end]), heads[1].logits(got[start:end])
            sums += _sums(theirs, ours, ids[start + 1 : end + 1])
    off, of, before, after, kl = sums.tolist()
    count = data.token_ids[:, 1:].numel()
    return ScoreError(count, (off / of) ** 0.5, before / count, after / count, kl / count)


def _sums(theirs: Tensor, ours: Tensor, following: Tensor) -> Tensor:
    """Squared difference, square, both NLLs and KL, each summed; in float64."""
    seen = theirs.double(), ours.double()
    want, got = (torch.log_softmax(x, dim=-1) for x in seen)
    nll = [-x.gather(1, following[:, None].long()).sum() for x in (want, got)]
    difference = (seen[1] - seen[0]).square().sum()
    kl = (want.exp() * (want - got)).sum()
    return torch.stack([difference, seen[0].square().sum(), *nll, kl])


def _load(directory: Path) -> Model:
    config = read_config(directory)
    checkpoint = Checkpoint(directory)
    return load(checkpoint, config, device=torch.device("cpu"), dtype=torch.float32)

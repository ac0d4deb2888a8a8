"""What storing weights in few bits changes in them; `engine.quantized.scores` has the rest."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from engine.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class WeightError:
    """RMS of the difference over RMS of the weights: of all matrices, and of the worst one."""

    overall: float
    worst: float
    worst_name: str


def weight_error(before: Checkpoint, after: Mapping[str, Tensor]) -> WeightError:
    """Over the matrices of `after`, of which there must be one."""
    ratios, error, size = {}, 0.0, 0.0
    for name, tensor in after.items():
        if tensor.dim() > 1:
            want = before.read(name).double()
            off, of = (tensor - want).square().sum().item(), want.square().sum().item()
            error, size = error + off, size + of
            ratios[name] = (off / of) ** 0.5 if of else 0.0
    worst = max(ratios, key=ratios.__getitem__)
    return WeightError((error / size) ** 0.5, ratios[worst], worst)

"""How far an implementation is from its definition."""

import torch
from torch import Tensor


def relative_rms(got: Tensor, want: Tensor, terms: Tensor | None = None) -> float:
    """RMS of the difference over RMS of the reference, or of the `terms` whose sum it is where
    that is more (few sums may cancel); NaN anywhere makes it NaN, and a failure."""
    difference = (got.double() - want.double()).square().mean().sqrt()
    sizes = [x.double().square().mean().sqrt() for x in (want, terms) if x is not None]
    return (difference / torch.stack(sizes).max()).item()

"""How far an implementation is from its definition."""

from torch import Tensor


def relative_rms(got: Tensor, want: Tensor) -> float:
    """RMS of the difference over RMS of the reference; NaN anywhere makes it NaN, and a failure."""
    difference = (got.double() - want.double()).square().mean().sqrt()
    return (difference / want.double().square().mean().sqrt()).item()

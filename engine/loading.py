"""How a checkpoint's weights are held: all in memory, or streamed with what memory there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from engine import placement
from engine.checkpoint import Checkpoint, load
from engine.config import ModelConfig
from engine.errors import PlacementError
from engine.model import Model
from engine.placement import Placement
from engine.streaming import StreamedModel, demand, hidden_bytes, stream

# Stacks of the thread that reads, a block of widened weights, holes that allocators keep: measured
# at 42 MB beside a pool of 38. Of little room it is a third.
_OTHER_BYTES = 64 << 20
_SPILLED_SHARE = 4  # hidden states over a fourth of what is free serve better as weights kept


def open_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    planned: Placement,
    *,
    device: torch.device,
    dtype: torch.dtype,
    num_tokens: int = 0,
    pool_bytes: int | None = None,
    spill_folder: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model, settled: resident if `planned` fits and no `pool_bytes` are asked for.

    Else streamed; hidden states of a context that is read go to `spill_folder`, if there is one,
    where they would take memory that weights have more use of. Raises PlacementError with the sum
    of `planned` if not even that fits, before anything is read.
    """
    model: Model
    try:
        if pool_bytes is None:
            placement.check(planned, device)
            model = load(checkpoint, config, device=device, dtype=dtype, on_progress=on_progress)
            model.settle()
            return model
    except PlacementError:
        pool_bytes, spill_over = _room(checkpoint, config, planned, device, dtype, num_tokens)
        if not pool_bytes:
            raise
    else:
        spill_over = placement.available_bytes(torch.device("cpu")) // _SPILLED_SHARE
    model = stream(
        checkpoint,
        config,
        device=device,
        dtype=dtype,
        pool_bytes=pool_bytes,
        on_progress=on_progress,
    )
    model.folder, model.spill_over_bytes = spill_folder, spill_over
    model.settle()
    return model


def _room(
    checkpoint: Checkpoint,
    config: ModelConfig,
    planned: Placement,
    device: torch.device,
    dtype: torch.dtype,
    num_tokens: int,
) -> tuple[int, int]:
    """Bytes for a pool, 0 if they are too few; and from which size on hidden states are spilled."""
    needed = demand(checkpoint, config, device=device, dtype=dtype)
    left = placement.available_bytes(device) - (planned.total_bytes - planned.weights_bytes)
    left -= needed.shared + needed.working
    left -= min(_OTHER_BYTES, max(left, 0) // 3)
    spill_over = max(left - needed.least, 0) // _SPILLED_SHARE
    hidden = hidden_bytes(config, num_tokens, dtype)
    if device.type == "cpu" and hidden < spill_over:
        left -= hidden
    return min(left, needed.all_parts) if left >= needed.least else 0, spill_over


def check_more(model: Model, planned: Placement, device: torch.device) -> None:
    """Raises PlacementError if `planned`, the weights aside, does not fit beside `model`."""
    if isinstance(model, StreamedModel):
        planned = replace(planned, weights_bytes=model.pool.free_bytes)
        placement.check(planned, device)
    else:
        placement.check(planned, device, held_bytes=planned.weights_bytes)

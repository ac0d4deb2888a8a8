"""How a checkpoint's weights are held, as planned: all in memory, on one device or in stages on
several, or streamed with what memory there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from engine import placement
from engine.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.model import Model
from engine.pipeline_parallel.model import Stage
from engine.placement import Placement
from engine.streamed.model import StreamedModel, stream
from engine.weights import load

_SPILLED_SHARE = 4  # of what is free, or of what the plan spills


def open_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    planned: Placement,
    *,
    dtype: torch.dtype,
    pool_bytes: int | None = None,
    spill_folder: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model as `planned`, prepared for inference; streamed with `pool_bytes` if given.

    Hidden states of a context that a streamed model reads go to `spill_folder`, if there is one,
    where they would take memory that weights have more use of.
    """
    model: Model
    devices = [torch.device(_device(one.name)) for one in planned.computing]
    if pool_bytes is None and not planned.is_streamed:
        stages = [
            Stage(one.first_layer, one.first_layer + one.num_layers, device)
            for one, device in zip(planned.computing, devices, strict=True)
        ]
        model = load(
            checkpoint,
            config,
            device=devices[0],
            dtype=dtype,
            stages=stages if len(stages) > 1 else (),
            on_progress=on_progress,
        )
    else:
        model = stream(
            checkpoint,
            config,
            device=devices[0],
            dtype=dtype,
            pool_bytes=planned.pool_bytes if pool_bytes is None else pool_bytes,
            on_progress=on_progress,
        )
        spilled = planned.spill_bytes or placement.available_bytes(torch.device("cpu"))
        model.folder, model.spill_over_bytes = spill_folder, spilled // _SPILLED_SHARE
    model.prepare_for_inference(small_m=planned.fp16_copies_bytes > 0)
    return model


def check_more(model: Model, more: Placement) -> None:
    """Raises PlacementError if the context of `more` does not fit beside `model`; `more` was
    planned with the weights of `model` in place."""
    if isinstance(model, StreamedModel):
        first, *others = more.devices
        first = replace(first, pool_bytes=model.pool.free_bytes)
        more = replace(more, devices=(first, *others))
    placement.check(more)


def _device(name: str) -> str:
    return "cpu" if name == "RAM" else name

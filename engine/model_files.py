"""Files of models on this disk: what they are, whether they are sound, convert, quantize, plan.

The second door to this room, beside `engine.api`. Importing it imports no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.protocols import Needle as Needle
from engine.protocols import OnProgress
from engine.protocols import Probe as Probe
from engine.quantized.forms import USUAL as USUAL
from engine.quantized.forms import Form as Form

if TYPE_CHECKING:
    from engine.calibrate import Calibrated as Calibrated
    from engine.gguf.info import GgufInfo as GgufInfo
    from engine.placement import CheckpointInfo as CheckpointInfo
    from engine.placement import DeviceBytes as DeviceBytes
    from engine.placement import Placement as Placement
    from engine.placement.estimate import TimeEstimate as TimeEstimate
    from engine.placement.machine_rates import Rates as Rates
    from engine.placement.what_if import Report as PlanReport
    from engine.quantized.scores import ScoreError as ScoreError
    from engine.quantized.writer import Written as Written
    from engine.verify import Verification as Verification


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What config.json says. `precision` is a dtype, or forms such as int4/64, None where it does
    not say; `quantization` the forms alone, "plain" where there are none."""

    family: str
    num_layers: int
    num_lightning_layers: int
    num_softmax_layers: int
    num_delta_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_experts: int
    vocab_size: int
    max_positions: int
    precision: str | None
    quantization: str


def facts(model: Path) -> ModelFacts:
    """Of the folder or GGUF file `model`; no weights are read. Raises EngineError."""
    from engine.config import Mixer
    from engine.model_source import ModelSource

    source = ModelSource(model)
    config = source.config
    return ModelFacts(
        family=config.family,
        num_layers=config.num_layers,
        num_lightning_layers=config.count(Mixer.LIGHTNING),
        num_softmax_layers=config.count(Mixer.SOFTMAX) + config.count(Mixer.LATENT),
        num_delta_layers=config.count(Mixer.DELTA),
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_experts=config.num_experts,
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
        precision=source.precision,
        quantization=str(config.quantization),
    )


def check_tensors(model: Path) -> int:
    """How many tensors `model` has, each held against config.json. Raises EngineError."""
    from engine.engine import check_tensors as check

    return check(model)


def verify(model: Path, chunk_sizes: Sequence[int]) -> "Verification":
    """See `engine.verify.verify`."""
    from engine.verify import verify as run

    return run(model, chunk_sizes)


def apply_delta(delta: Path, parent: Path, target: Path, on_progress: OnProgress) -> None:
    """See `engine.weight_delta.combine`."""
    from engine.weight_delta import apply_delta

    apply_delta(delta, parent, target, on_progress)


def calibrate(
    model: Path,
    probe: Probe,
    chunk_tokens: int,
    on_progress: Callable[[str, int, int], None],
) -> "Calibrated":
    """See `engine.calibrate`. `on_progress` gets the stage, steps done and in all."""
    from engine.calibrate import calibrate as run
    from engine.engine import Engine

    return run(Engine(model, chunk_tokens=chunk_tokens).model, chunk_tokens, probe, on_progress)


def import_gguf(
    source: Path, target: Path, on_progress: OnProgress, form: Form | None = Form.PLAIN
) -> "Written":
    """See `engine.gguf.convert`."""
    from engine.gguf.convert import convert

    return convert(source, target, on_progress, form=form)


def gguf_parts(source: Path) -> list[Path]:
    """The files of the GGUF model of which `source` is one."""
    from engine.gguf.file import split_files

    return split_files(source)


def quantize(source: Path, target: Path, form: Form, on_progress: OnProgress) -> "Written":
    """See `engine.quantized.quantize.quantize`."""
    from engine.quantized.quantize import quantize as run

    return run(source, target, form, on_progress)


def check_score_memory(model: Path, num_tokens: int) -> None:
    """Raises PlacementError if `score_error` of so many tokens does not fit here."""
    from engine.quantized.scores import check_memory

    check_memory(model, num_tokens)


def score_error(
    before: Path, after: Path, token_ids: Sequence[int], on_progress: OnProgress
) -> "ScoreError":
    """See `engine.quantized.scores.score_error`."""
    import torch

    from engine.quantized.scores import score_error as run

    return run(before, after, [torch.tensor(token_ids)], on_progress)


def plan(
    model: Path,
    *,
    num_tokens: int | None,
    chunk_tokens: int,
    kv: str | None,
    is_mapped: bool,
    weights: str,
    ram_bytes: int | None,
    gpus_bytes: Sequence[int],
    disk_bytes: int | None,
    device: str,
    rates: Mapping[str, float],
    rates_folder: Path,
    threads: int | None,
    measures_again: bool,
) -> "PlanReport":
    """See `engine.placement.what_if.report`."""
    from engine.placement.what_if import report

    return report(
        model,
        num_tokens=num_tokens,
        chunk_tokens=chunk_tokens,
        kv=kv,
        is_mapped=is_mapped,
        weights=weights,
        ram_bytes=ram_bytes,
        gpus_bytes=gpus_bytes,
        disk_bytes=disk_bytes,
        device=device,
        rates=rates,
        rates_folder=rates_folder,
        threads=threads,
        measures_again=measures_again,
    )


def gguf_info(path: Path) -> "GgufInfo":
    """Of the GGUF model that `path` is, or is one of the files of; no weights are read.

    Raises GgufError or OSError.
    """
    from engine.gguf.info import read_info

    return read_info(path)


def gguf_kinds() -> frozenset[str]:
    """The quantisations of GGUF files that the engine reads, by ggml's names."""
    from engine.gguf.file import KINDS

    return frozenset(kind.name for kind in KINDS)


def gguf_architectures() -> tuple[str, ...]:
    """Those of GGUF files that the engine knows."""
    from engine.gguf.architectures import KNOWN

    return KNOWN


def model_types() -> tuple[str, ...]:
    """Those of model folders that the engine knows."""
    from engine.families import FAMILIES

    return tuple(name for family in FAMILIES for name in family.model_types)


def available_bytes(device: str) -> int:
    """Memory that a run on `device` ("cpu", "cuda", "cuda:0,cuda:1") can take now. Imports torch
    for others than the CPU only."""
    from engine.ram import available_ram

    if device == "cpu":
        return available_ram()
    import torch

    from engine.placement.memory import available_bytes as ask

    return sum(ask(torch.device(name)) for name in device.split(","))

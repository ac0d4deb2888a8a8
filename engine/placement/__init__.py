"""The plan before the work: what will lie where, which driver runs, and a refusal with the sum."""

from engine.placement.checkpoint_info import (
    CheckpointInfo,
    checkpoint_info,
    stored_precision,
    weights_bytes,
)
from engine.placement.fit_check import check, lacking, remedies
from engine.placement.machine import Gpu, Machine, gpus_here, here
from engine.placement.memory import available_bytes, physical_bytes, trim_malloc
from engine.placement.plan import DeviceBytes, Driver, Placement
from engine.placement.planner import plan
from engine.placement.run_bytes import work_bytes
from engine.placement.weight_bytes import Precision

__all__ = [
    "CheckpointInfo",
    "DeviceBytes",
    "Driver",
    "Gpu",
    "Machine",
    "Placement",
    "Precision",
    "available_bytes",
    "check",
    "checkpoint_info",
    "gpus_here",
    "here",
    "lacking",
    "physical_bytes",
    "plan",
    "remedies",
    "stored_precision",
    "trim_malloc",
    "weights_bytes",
    "work_bytes",
]

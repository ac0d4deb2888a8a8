"""The plan before the work: what will lie where, which driver runs, and a refusal with the sum."""

from engine.placement.checkpoint_info import Outline, outline, stored_precision, weights_bytes
from engine.placement.fit_check import check, lacking, remedies
from engine.placement.machine import Gpu, Machine, gpus_here, here
from engine.placement.memory import available_bytes, give_back_at_once, physical_bytes
from engine.placement.plan import DeviceBytes, Driver, Placement
from engine.placement.planner import plan
from engine.placement.run_bytes import work_bytes
from engine.placement.weight_bytes import Precision

__all__ = [
    "DeviceBytes",
    "Driver",
    "Gpu",
    "Machine",
    "Outline",
    "Placement",
    "Precision",
    "available_bytes",
    "check",
    "give_back_at_once",
    "gpus_here",
    "here",
    "lacking",
    "outline",
    "physical_bytes",
    "plan",
    "remedies",
    "stored_precision",
    "weights_bytes",
    "work_bytes",
]

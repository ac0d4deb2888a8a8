"""The plan before the work: what will lie where, which driver runs, and a refusal with the sum."""

from engine.placement.choose import plan
from engine.placement.machine import Gpu, Machine, gpus_here, here
from engine.placement.memory import available_bytes, give_back_at_once, physical_bytes
from engine.placement.outline import Outline, outline, stored_precision, weights_bytes
from engine.placement.parts import Precision
from engine.placement.placed import DeviceBytes, Driver, Placement
from engine.placement.refusal import check, lacking, remedies
from engine.placement.sums import work_bytes

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

"""What a run may use: memory, GPUs and disk, of this machine or of one that is thought of."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.placement import memory


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device with memory of its own; `is_here` if it can be measured."""

    name: str
    num_bytes: int
    is_here: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes that a run may take: `ram_bytes`, of each of `gpus`, and on disk (`disk_bytes`).

    Layers run on the GPUs if there are any, else on the CPU.
    """

    ram_bytes: int
    gpus: tuple[Gpu, ...] = ()
    disk_bytes: int = 0

    @property
    def is_here(self) -> bool:
        """Whether what layers run on is this machine's, so that rates can be measured."""
        return all(gpu.is_here for gpu in self.gpus)


def here(device: torch.device, folder: Path, held_bytes: int = 0) -> Machine:
    """This machine with `device`, and the disk that `folder` (or what is above it) lies on.

    `held_bytes` are taken on the device already and belong to the run.
    """
    while not folder.exists():
        folder = folder.parent
    disk_bytes = shutil.disk_usage(folder).free
    free = memory.available_bytes(device) + held_bytes
    if device.type == "cpu":
        return Machine(free, disk_bytes=disk_bytes)
    gpus = (Gpu(str(device), free, is_here=True),)
    return Machine(memory.available_bytes(torch.device("cpu")), gpus, disk_bytes)


def gpus_here() -> tuple[Gpu, ...]:
    """Every GPU torch sees, with the memory that is free on it."""
    return tuple(
        Gpu(f"cuda:{index}", memory.available_bytes(torch.device("cuda", index)), is_here=True)
        for index in range(torch.cuda.device_count())
    )

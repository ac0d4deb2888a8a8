"""What a run may use: memory, GPUs and disk, of this machine or of one that is thought of."""

import shutil
from collections.abc import Sequence
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

    Layers run on the GPUs if there are any, else on the CPU. On all of them where one is too small,
    or the user has named several (`shares`).
    """

    ram_bytes: int
    gpus: tuple[Gpu, ...] = ()
    disk_bytes: int = 0
    shares: bool = False

    @property
    def is_here(self) -> bool:
        """Whether what layers run on is this machine's, so that rates can be measured."""
        return all(gpu.is_here for gpu in self.gpus)


def here(
    devices: Sequence[torch.device],
    folder: Path,
    *,
    held: Sequence[int] = (),
    shares: bool = False,
) -> Machine:
    """This machine with `devices`, and the disk that `folder` (or what is above it) lies on.

    `held` bytes of each are taken already and belong to the run. The CPU several times is so many
    devices, as for tests, with a part of its memory each.
    """
    while not folder.exists():
        folder = folder.parent
    disk_bytes = shutil.disk_usage(folder).free
    held = held or [0] * len(devices)
    free = [
        memory.available_bytes(device) // devices.count(device) + kept
        for device, kept in zip(devices, held, strict=False)
    ]
    if devices[0].type == "cpu" and len(devices) == 1:
        return Machine(free[0], disk_bytes=disk_bytes)
    gpus = tuple(Gpu(str(d), room, is_here=True) for d, room in zip(devices, free, strict=False))
    ram_bytes = memory.available_bytes(torch.device("cpu"))
    return Machine(ram_bytes, gpus, disk_bytes, shares and len(gpus) > 1)


def gpus_here() -> tuple[Gpu, ...]:
    """Every GPU torch sees, with the memory that is free on it."""
    return tuple(
        Gpu(f"cuda:{index}", memory.available_bytes(torch.device("cuda", index)), is_here=True)
        for index in range(torch.cuda.device_count())
    )

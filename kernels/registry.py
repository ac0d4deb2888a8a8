"""Picks an implementation of an op by device and dtype, and can say why.

Preference is the order of registration. A request nothing serves fails loudly and lists what
there is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


HAS_TRITON = find_spec("triton") is not None


def on_first_call(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of `module`, imported when it is first called: Triton is slow to load."""

    def call(*args: Any) -> Any:  # noqa: ANN401
        return getattr(import_module(module), name)(*args)

    return call


@dataclass(frozen=True)
class Implementation(Generic[P, R]):
    name: str
    function: Callable[P, R]
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]

    def supports(self, device: str, dtype: torch.dtype) -> bool:
        return device in self.devices and dtype in self.dtypes

    def __str__(self) -> str:
        dtypes = "/".join(str(dtype).removeprefix("torch.") for dtype in self.dtypes)
        return f"{self.name} ({'/'.join(self.devices)}; {dtypes})"


@dataclass(frozen=True)
class Choice(Generic[P, R]):
    """An implementation and the reason it was taken."""

    name: str
    function: Callable[P, R]
    reason: str


class Registry(Generic[P, R]):
    """The implementations of one op, best first."""

    def __init__(self, op: str) -> None:
        self.op = op
        self._implementations: list[Implementation[P, R]] = []
        self._choices: dict[tuple[str, torch.dtype, str | None], Choice[P, R]] = {}

    def add(
        self,
        name: str,
        function: Callable[P, R],
        *,
        devices: tuple[str, ...],
        dtypes: tuple[torch.dtype, ...],
    ) -> None:
        self._choices.clear()
        if any(known.name == name for known in self._implementations):
            raise ValueError(f"{self.op}: {name!r} is registered twice")
        self._implementations.append(Implementation(name, function, devices, dtypes))

    def choose(
        self, device: torch.device, dtype: torch.dtype, name: str | None = None
    ) -> Choice[P, R]:
        """The first implementation that serves `device` and `dtype`, or the one called `name`.

        Raises ValueError, listing what is registered, if there is none.
        """
        asked = (device.type, dtype, name)
        if (choice := self._choices.get(asked)) is None:
            choice = self._choices[asked] = self._chosen(device, dtype, name)
        return choice

    def _chosen(self, device: torch.device, dtype: torch.dtype, name: str | None) -> Choice[P, R]:
        for known in self._implementations:
            if name is not None and known.name == name:
                return Choice(known.name, known.function, "asked for by name")
            if name is None and known.supports(device.type, dtype):
                return Choice(known.name, known.function, f"first to serve {device.type} {dtype}")
        wanted = f"{name!r}" if name is not None else f"{device.type} {dtype}"
        known_list = "; ".join(map(str, self._implementations)) or "nothing"
        raise ValueError(f"{self.op}: no implementation for {wanted}. Registered: {known_list}")

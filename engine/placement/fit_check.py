"""What is said where a run does not fit: the sum, and what would make it possible."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from engine.errors import PlacementError
from engine.placement import memory
from engine.placement.plan import Placement, gb
from engine.quantized.forms import USUAL, Form

# Takes num_tokens, is_int8_kv, the form to quantise to (None: as it is), more_bytes.
PlanFor = Callable[[int, bool, Form | None, int], Placement]


def check(placement: Placement, device: torch.device | None = None, held_bytes: int = 0) -> None:
    """Raises PlacementError with the sum if `placement` does not fit beside what is in use.

    A plan for no machine in particular is held against `device`, where `held_bytes` of it are
    taken already (weights that are loaded).
    """
    if device is not None:
        room = memory.available_bytes(device) + held_bytes
        devices = tuple(
            one
            if one.room_bytes is not None
            else replace(one, name="RAM" if device.type == "cpu" else str(device), room_bytes=room)
            for one in placement.devices
        )
        placement = replace(placement, devices=devices)
    if not placement.fits:
        raise PlacementError(f"{lacking(placement)}; read less, or use a smaller model")


def lacking(placement: Placement) -> str:
    """The sum and what there is, of the device that lacks most, or of the disk."""
    worst = max(placement.devices, key=lambda one: one.lacking_bytes)
    if worst.lacking_bytes:
        return f"needs {worst}, but {worst.name} has {gb(worst.room_bytes or 0)} GB free"
    parts = f"hidden states {gb(placement.spill_bytes)} + KV {gb(placement.saved_bytes)}"
    room = gb(placement.disk_room_bytes or 0)
    return f"writes {gb(placement.disk_bytes)} GB = {parts}, but the disk has {room} GB free"


def remedies(
    plan_for: PlanFor, *, num_tokens: int, is_int8_kv: bool, is_quantised: bool
) -> list[str]:
    """What would make it possible, each alone and tried: fewer bits, a shorter context, memory.

    `plan_for` plans with that changed. Weights that are quantised are not quantised again.
    """
    forms = {} if is_quantised else USUAL
    found = list(_fewer_bits(plan_for, num_tokens, is_int8_kv, forms))
    longest = _longest(
        lambda count: plan_for(count, is_int8_kv, None, 0).fits_and_is_saved, num_tokens
    )
    if longest:
        found.append(f"--context {longest}")
    found.extend(_more_room(plan_for, num_tokens, is_int8_kv))
    return found


def _more_room(plan_for: PlanFor, num_tokens: int, is_int8_kv: bool) -> Iterator[str]:
    plan = plan_for(num_tokens, is_int8_kv, None, 0)
    worst = max(plan.devices, key=lambda one: one.lacking_bytes)
    lacks = worst.lacking_bytes
    more = [f"{gb(lacks)} GB more {worst.name}"] if lacks else []
    plan = plan_for(num_tokens, is_int8_kv, None, lacks)
    if plan.lacking_disk_bytes:
        more.append(f"{gb(plan.lacking_disk_bytes)} GB more disk")
    if plan.fits and more:
        yield " and ".join(more)


def _fewer_bits(
    plan_for: PlanFor, num_tokens: int, is_int8_kv: bool, forms: Mapping[str, Form]
) -> Iterator[str]:
    if not is_int8_kv and plan_for(num_tokens, True, None, 0).fits_and_is_saved:
        yield "--kv int8"
        return
    for fewer, form in forms.items():
        if plan_for(num_tokens, is_int8_kv, form, 0).fits_and_is_saved:
            yield f"`mm1 models quantize --to {fewer}`"
            return
        if not is_int8_kv and plan_for(num_tokens, True, form, 0).fits_and_is_saved:
            yield f"`mm1 models quantize --to {fewer}` with --kv int8"
            return


def _longest(fits: Callable[[int], bool], num_tokens: int) -> int:
    """The longest context that fits, to two digits; 0 if none does."""
    low, high = 0, num_tokens
    while high - low > max(low // 50, 1):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    unit: int = 10 ** max(len(str(low)) - 2, 0)
    return low // unit * unit

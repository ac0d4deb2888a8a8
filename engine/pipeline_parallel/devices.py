"""The devices that a user names: one, or several for the stages of one model."""

import torch

from engine.errors import EngineError


def named(text: str) -> tuple[torch.device, ...]:
    """ "cpu"; "cuda:1"; "cuda:0,cuda:1" in the order of the layers; "cuda" for every visible GPU.

    A device may stand there twice and has two stages then ("cpu,cpu"), which is for tests: nothing
    gets faster by it. Raises EngineError.
    """
    found = tuple(_one(name.strip()) for name in text.split(","))
    if len({place.type for place in found}) > 1:
        raise EngineError(f"devices {text!r} are of two kinds, which compute in different dtypes")
    if found[0].type == "cpu":
        return found
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise EngineError("device cuda was asked for, but torch sees no GPU; use --device cpu")
    if text == "cuda":
        return tuple(torch.device("cuda", index) for index in range(count))
    for place in found:
        if (place.index or 0) >= count:
            raise EngineError(f"device {place} was asked for, but torch sees {count} GPUs")
    return tuple(torch.device("cuda", place.index or 0) for place in found)


def _one(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError:
        raise EngineError(f"unknown device {name!r}; use cpu, cuda, or cuda:0,cuda:1") from None
    if place.type not in {"cpu", "cuda"}:
        raise EngineError(f"device {name!r} is not supported; use cpu or cuda")
    return place

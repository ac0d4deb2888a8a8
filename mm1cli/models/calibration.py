"""How a model selects from contexts longer than it was trained for: measured, by its weights.

Shipped for the models that come with mm1; `mm1 models calibrate` measures another and keeps what
it found in mm1's data folder, under the fingerprint of the weights it is about.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine import durable
from engine.api import ConfigError, Selection, fingerprint
from mm1cli.errors import InputError
from mm1cli.models import library
from mm1cli.models.ability import MINI, SMALL

if TYPE_CHECKING:
    from engine.api import ModelSource

_LARGEST_FILE = 1 << 16

# Figures: docs/selection.md.
_MINI = Selection(
    scan_layer=18, scan_kv_head=2, distance=3000, far_layers=(7, 15, 17, 18, 20, 21, 22, 23)
)
_SMALL = Selection(scan_layer=9, scan_kv_head=1, distance=400, far_layers=(3, 9, 11, 13, 15, 16))
_SHIPPED: Final = dict.fromkeys(MINI, _MINI) | dict.fromkeys(SMALL, _SMALL)


@dataclass(frozen=True, slots=True)
class Calibration:
    """`found` of `asked` needles were answered to the last digit among `num_tokens` tokens."""

    selection: Selection
    found: int = 0
    asked: int = 0
    num_tokens: int = 0


def of(model: "Path | ModelSource") -> Selection | None:
    """Of `model`; None where nobody measured it.

    A calibration of the user's goes before a shipped one. Raises InputError where its file is
    damaged, EngineError where the model cannot be opened.
    """
    known = fingerprint(model)
    path = _path(known)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError:
        return _SHIPPED.get(known)
    try:
        raw = json.loads(content)
        found, made_for = Selection.loads(json.dumps(raw["selection"])), raw.get("model", known)
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError):
        raise InputError(
            f"{path} is damaged; remove it, or measure again with mm1 models calibrate"
        ) from None
    if made_for != known:
        raise InputError(
            f"{path} was measured with other weights ({made_for!s:.12}, not {known:.12}); remove "
            "it, or measure again with mm1 models calibrate"
        )
    return found


def keep(known: str, calibration: Calibration) -> Path:
    """Writes what was measured of the model with the fingerprint `known`. Raises OSError."""
    path = _path(known)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": known,
        "selection": json.loads(calibration.selection.dumps()),
        "found": calibration.found,
        "asked": calibration.asked,
        "num_tokens": calibration.num_tokens,
    }
    durable.write(path, lambda part: part.write_text(json.dumps(facts)))
    return path


def _path(known: str) -> Path:
    return library.data_dir() / "calibrations" / f"{known}.json"

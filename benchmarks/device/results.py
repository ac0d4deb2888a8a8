"""results.json, written whole after every step, and the table made of it."""

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.device import ceilings, targets
from benchmarks.device.bench import Row
from engine import durable

_SOURCES = ("kernels", "engine", "benchmarks/device")
_HIDDEN = frozenset({"peer", "failures", "limit", "repeats", "tokens"})
_DRY = "dry run"
_NOTICE = "Through Triton's interpreter on a CPU at toy sizes: the times mean nothing."


def source_hash() -> str:
    """Of all that decides a number; a machine may have the files without their history."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def facts(dry: bool) -> dict[str, object]:
    """What a reader needs to judge a number."""
    found: dict[str, object] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": machine.facts()["commit"],
        "source": source_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in ("triton", "flash-linear-attention"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if dry:
        return found | {"device": f"{_DRY} on {machine.facts()['cpu']}"}
    properties = torch.cuda.get_device_properties(0)
    return found | {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
    }


@dataclass(slots=True)
class Results:
    """Steps by name, in `folder`; a step is there whole or not at all."""

    folder: Path
    facts: dict[str, object]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, facts: dict[str, object], *, anew: bool) -> "Results":
        """What an earlier run left, if it is of this device and source; else it is set aside."""
        results = cls(folder, facts)
        path = results.path
        if not path.exists():
            return results
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            same = all(old["facts"][key] == facts[key] for key in ("device", "source", "torch"))
            if same and not anew:
                results.steps = dict(old["steps"])
                return results
        except (ValueError, KeyError, TypeError):
            pass
        aside = path.with_name(f"results-{time.strftime('%Y%m%d-%H%M%S')}.json")
        path.replace(aside)
        print(f"set aside as {aside}")
        return results

    @property
    def path(self) -> Path:
        return self.folder / "results.json"

    @property
    def known(self) -> dict[str, Sequence[Row]]:
        return {name: step["rows"] for name, step in self.steps.items() if step["status"] == "done"}

    @property
    def is_dry(self) -> bool:
        return str(self.facts["device"]).startswith(_DRY)

    @property
    def targets(self) -> list[targets.Target]:
        return targets.of({} if self.is_dry else self.known)

    def keep(self, name: str, status: str, seconds: float, rows: list[Row], reason: str) -> None:
        self.steps[name] = {
            "status": status,
            "seconds": round(seconds, 1),
            "reason": reason,
            "rows": rows,
        }
        self.save()

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = {
            "facts": self.facts,
            "steps": self.steps,
            "targets": [target.row() for target in self.targets],
        }
        texts = {self.path: json.dumps(whole, indent=1) + "\n"}
        texts[self.folder / "results.md"] = self.table()
        for path, text in texts.items():
            fill = partial(Path.write_text, data=text, encoding="utf-8")
            durable.write(path, fill, is_private=False)

    def table(self) -> str:
        tflops, gb_s = ceilings.of(self.known)
        facts = ", ".join(f"{key} {value}" for key, value in self.facts.items() if value)
        lines = [f"# {self.facts['device']}, {self.facts['date']}", "", facts + ".", ""]
        if self.is_dry:
            lines += [_NOTICE, ""]
        lines += ["| target | wanted | reached | |", "|---|---|---|---|"]
        lines += [target.line() for target in self.targets]
        for name, step in self.steps.items():
            lines += ["", f"## {name}", ""]
            if step["status"] != "done":
                lines += [f"{step['status']}: {step['reason']}", ""]
            rows = [_with_shares(row, tflops, gb_s) for row in step["rows"]]
            columns = list(dict.fromkeys(key for row in rows for key in row if key not in _HIDDEN))
            if columns:
                lines.append("| " + " | ".join(columns) + " |")
                lines.append("|" + "---|" * len(columns))
                lines += [
                    "| " + " | ".join(_spelled(row.get(key)) for key in columns) + " |"
                    for row in rows
                ]
        return "\n".join(lines) + "\n"


def _with_shares(row: Row, tflops: float, gb_s: float) -> Row:
    """Shares of the measured ceilings."""
    shares: Row = {}
    if "tflops" in row and tflops:
        shares["of product"] = f"{float(str(row['tflops'])) / tflops:.0%}"
    if "gb_s" in row and gb_s:
        shares["of copy"] = f"{float(str(row['gb_s'])) / gb_s:.0%}"
    return row | shares


def _spelled(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return str(value).replace("|", "/").replace("\n", " ")

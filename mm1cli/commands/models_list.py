"""`mm1 models list`, `find` and `catalogue`: which models there are, here and to be had."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from engine import model_files
from mm1cli.commands.opening import models_dir
from mm1cli.models import default, library
from mm1cli.models.catalogue import CATALOGUE, Entry
from mm1cli.models.describe import Description, describe
from mm1cli.models.library import Model
from mm1cli.models.scan import Scan
from mm1cli.models.stores import Found, walk
from mm1cli.output.model_table import Column, gigabytes, thousands, write_line, write_table
from mm1cli.output.text import Channel
from mm1cli.settings import Settings
from mm1cli.sink import Sink


def show_list(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Those of mm1, and which of them runs where none is named."""
    models = library.list_models()
    choice = default.choose(settings.device)
    described = [describe(m.path) if m.installed else Description() for m in models]
    if as_json:
        rows = [
            _row(model, told, is_default=model.name == choice.name)
            for model, told in zip(models, described, strict=True)
        ]
        told = {"models": rows, "default": choice.name, "why": choice.why}
        stdout.write(json.dumps(told) + "\n")
        return
    states = ["installed" if m.installed else "on first use" for m in models]
    write_table(
        Column("name", [m.name for m in models]),
        [
            Column("state", states, rank=1),
            Column("family", [d.family for d in described], rank=2),
            Column("size", [gigabytes(m.size_bytes) for m in models], 3, is_number=True),
            Column("context", [thousands(d.context_tokens) for d in described], 4, is_number=True),
            Column("", ["default" if m.name == choice.name else "" for m in models]),
        ],
        [d.problem or m.description for m, d in zip(models, described, strict=True)],
        _channel(stdout),
    )
    line = f"default: {choice.name} ({choice.why}); `mm1 models use` sets it"
    write_line(line, _channel(stdout))


def _row(model: Model, told: Description, *, is_default: bool) -> dict[str, object]:
    return {
        "name": model.name,
        "installed": model.installed,
        "default": is_default,
        "path": str(model.path),
        "bytes": model.size_bytes,
        "family": told.family or None,
        "context": told.context_tokens or None,
        "parameters": model.num_parameters or told.num_parameters or None,
        "source": model.source,
        "licence": model.licence,
        "parent": model.parent,
        "problem": told.problem or None,
    }


@dataclass(frozen=True, slots=True)
class _Seen:
    """A model in a store, what its header says, and whether there is memory for it now."""

    found: Found
    told: Description
    fits: bool

    @property
    def problem(self) -> str:
        return self.found.problem or self.told.problem

    @property
    def runs(self) -> str:
        if self.problem:
            return "no"
        return f"{'yes' if self.fits else 'no room'}, {self.told.needed_bytes / 1e9:.1f} GB"


def find(settings: Settings, stdout: TextIO, sink: Sink, *, as_json: bool) -> None:
    """Models of other programs: each of these names can be given to --model."""
    scan = Scan()
    free = model_files.available_bytes(settings.device)
    seen = []
    for found in walk(scan, models_dir(settings), os.environ):
        told = Description() if found.problem else describe(found.path)
        seen.append(_Seen(found, told, told.needed_bytes <= free))
    for complaint in scan.complaints:
        sink.note(complaint)
    if as_json:
        rows = [_found_row(one) for one in seen]
        answer = {"models": rows, "available_bytes": free, "not_read": scan.complaints}
        stdout.write(json.dumps(answer) + "\n")
        return
    if not seen:
        sink.note("no models of other programs; `mm1 models catalogue` shows what can be fetched")
        return
    _write_found(seen, _channel(stdout))


def _write_found(seen: Sequence[_Seen], channel: Channel) -> None:
    told = [one.told for one in seen]
    write_table(
        Column("name", [one.found.name for one in seen]),
        [
            Column("family", [d.family[:16] for d in told], rank=4),
            Column("size", [gigabytes(one.found.num_bytes) for one in seen], 2, is_number=True),
            Column("context", [thousands(d.context_tokens) for d in told], 3, is_number=True),
            Column("bits", [f"{d.bits:.1f}" if d.bits else "" for d in told], 5, is_number=True),
            Column("runs", [one.runs for one in seen]),
            Column("in", [one.found.store for one in seen], rank=6),
        ],
        [one.problem for one in seen],
        channel,
    )


def _found_row(one: _Seen) -> dict[str, object]:
    told = one.told
    return {
        "name": one.found.name,
        "names": list(one.found.names),
        "store": one.found.store,
        "path": str(one.found.path),
        "bytes": one.found.num_bytes,
        "family": told.family or None,
        "parameters": told.num_parameters or None,
        "context": told.context_tokens or None,
        "bits": round(told.bits, 2) or None,
        "quantization": told.quantization or None,
        "runs": not one.problem,
        "fits": one.fits and not one.problem,
        "needed_bytes": told.needed_bytes or None,
        "problem": one.problem or None,
    }


def show_catalogue(stdout: TextIO, *, as_json: bool) -> None:
    """Models worth fetching, and what was measured of them."""
    known = (*model_files.gguf_architectures(), *model_files.model_types())
    if as_json:
        rows = [
            asdict(entry) | {"runs": entry.architecture in known, "command": entry.command}
            for entry in CATALOGUE
        ]
        stdout.write(json.dumps({"models": rows}) + "\n")
        return
    write_table(
        Column("name", [entry.name for entry in CATALOGUE]),
        [
            Column("size", [gigabytes(entry.num_bytes) for entry in CATALOGUE], is_number=True),
            Column("context", [f"{e.context_tokens:,}" for e in CATALOGUE], 2, is_number=True),
            Column("licence", [entry.licence for entry in CATALOGUE], 3),
            Column("for", [entry.machine for entry in CATALOGUE], 1),
        ],
        [_measured(entry, known) for entry in CATALOGUE],
        _channel(stdout),
    )
    write_line("`mm1 models pull NAME` fetches one", _channel(stdout))


def _measured(entry: Entry, known: Sequence[str]) -> str:
    if entry.architecture not in known and entry.name not in ("small", "coder"):
        return (
            f"not measured; {entry.architecture} is not supported yet: serve it with llama-server"
        )
    return entry.measured or "not measured"


def _channel(stdout: TextIO) -> Channel:
    return Channel.from_environment(stdout or sys.stdout, os.environ)

"""`mm1 doctor`: what mm1 runs on here, and what of it would be slow or missing, and why."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from engine import model_files
from engine.api import usable_cores
from mm1cli.about import version
from mm1cli.commands.opening import cache_root
from mm1cli.ingest import confine
from mm1cli.models import default, library
from mm1cli.output.text import Channel, Style, safe_line, wrap
from mm1cli.settings import DEFAULT, NAMES, Settings, user_file

_GB = 1e9
_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp")
_EXTRAS = (  # (what it is for, module, how to get it)
    ("hub: models by ORG/NAME", "huggingface_hub", "pip install 'mm1[hub]'"),
    ("remote: --server URL", "httpx2", "pip install 'mm1[remote]'"),
    ("serve: mm1 serve", "uvicorn", "pip install 'mm1[serve]'"),
    ("mcp: mm1 mcp", "mcp", "pip install 'mm1[mcp]'"),
    ("gpu: kernels for NVIDIA GPUs", "triton", "pip install 'mm1[gpu]'"),
)
_TOOLS = (
    ("tesseract or ocrmypdf: --ocr", ("tesseract", "ocrmypdf")),
    ("LibreOffice: --convert", ("soffice", "libreoffice")),
    ("git: repositories by address, review --diff", ("git",)),
)
_FEWEST_FREE_BYTES = 5 * _GB


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` is what would be slow or missing, and what to do; "" if nothing is wrong."""

    topic: str
    value: str
    advice: str = ""


def run(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    found = list(_findings(settings))
    if as_json:
        rows = [{"topic": f.topic, "value": f.value, "advice": f.advice or None} for f in found]
        stdout.write(json.dumps({"findings": rows}) + "\n")
        return
    channel = Channel.from_environment(stdout, os.environ)
    width = max(len(one.topic) for one in found) + 2
    for one in found:
        _write(one, width, channel)
    num_advices = sum(bool(one.advice) for one in found)
    told = f"{num_advices} of {len(found)} could be better" if num_advices else "all in order"
    channel.write(f"\n{told}\n", Style.BOLD)


def _write(finding: Finding, width: int, channel: Channel) -> None:
    is_narrow = channel.is_terminal and channel.columns < 2 * width
    indent = 2 if is_narrow else width
    texts = [finding.value, *([f"! {finding.advice}"] if finding.advice else [])]
    channel.write(f"{finding.topic}\n" if is_narrow else f"{finding.topic:<{width}}", Style.BOLD)
    is_first = not is_narrow
    for text in map(safe_line, texts):
        room = channel.columns - indent if channel.is_terminal else 10_000
        for line in wrap(text, max(room, 10)):
            style = Style.WARNING if text.startswith("! ") else Style.PLAIN
            channel.write(f"{'' if is_first else ' ' * indent}{line}\n", style)
            is_first = False


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("mm1", f"{version()}, Python {platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield from _processor()
    yield from _torch()
    yield _memory(settings)
    yield _sandbox()
    yield from _models(settings)
    yield from _disk(settings)
    yield _settings(settings)
    for what, module, how in _EXTRAS:
        is_here = find_spec(module) is not None
        yield Finding("extra", f"{what}: {'yes' if is_here else f'no; {how}'}")
    for what, names in _TOOLS:
        there = [name for name in names if shutil.which(name)]
        yield Finding("tool", f"{what}: {', '.join(there) or 'no'}")


def _processor() -> Iterator[Finding]:
    name, flags = _cpu()
    cores = usable_cores()
    known = [one for one in _FEATURES if one in flags]
    advice = ""
    if platform.machine().lower() in {"x86_64", "amd64"} and flags and "avx2" not in flags:
        advice = "without AVX2 the JIT makes no code here: decoding is several times slower"
    yield Finding(
        "processor",
        f"{name}, {cores} cores, {' '.join(known) or 'features unknown'}",
        advice,
    )


def _cpu() -> tuple[str, frozenset[str]]:
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return name, flags
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in {"flags", "Features"}:
            return name, frozenset(value.split())
    return name, flags


def _torch() -> Iterator[Finding]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("torch", f"{torch.__version__}, CPU code for {capability}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            size = f"{facts.total_memory / _GB:.0f} GB"
            yield Finding("GPU", f"cuda:{index}: {facts.name}, {size}; --device cuda:{index}")
        return
    has_driver = shutil.which("nvidia-smi") is not None
    advice = "there is an NVIDIA driver, but torch is a CPU build" if has_driver else ""
    yield Finding("GPU", "none that torch sees", advice)


def _memory(settings: Settings) -> Finding:
    free = model_files.available_bytes("cpu")
    choice = default.choose(settings.device)
    value = f"{free / _GB:.1f} GB that a run can take now"
    is_small = choice.name == library.EMBEDDED
    advice = f"{choice.why}: answers will be poor; close something" if is_small else ""
    return Finding("memory", value, advice)


def _sandbox() -> Finding:
    found = ["files are read in child processes", *confine.in_force()]
    return Finding("sandbox", "; ".join(found), "; ".join(confine.missing()))


def _models(settings: Settings) -> Iterator[Finding]:
    here = [model.name for model in library.list_models() if model.installed]
    choice = default.choose(settings.device)
    is_auto = settings.model == default.AUTO
    named = f"{choice.name} ({choice.why})" if is_auto else settings.model
    yield Finding("models", f"{', '.join(here) or 'none yet'}; a run takes {named}")


def _disk(settings: Settings) -> Iterator[Finding]:
    for what, folder in (("models", library.data_dir()), ("cache", cache_root(settings))):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free
        is_full = free < _FEWEST_FREE_BYTES
        advice = "little room: contexts of long documents take gigabytes" if is_full else ""
        yield Finding(f"{what} on disk", f"{folder}, {free / _GB:.0f} GB free", advice)


def _settings(settings: Settings) -> Finding:
    changed = [name for name in NAMES if settings.origin(name) != DEFAULT]
    told = ", ".join(f"{name} ({settings.origin(name)})" for name in changed)
    return Finding("settings", f"{told or 'all as they come'}; your file: {user_file()}")

"""Models in one folder: GGUF files, each or each set of shards one, or safetensors and a config."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1cli.models.scan import is_file, num_bytes, read_json

# Of a split GGUF model: its name, a file's number, and how many there are.
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
_LABEL = re.compile(
    r"[-._]((?:UD-)?(?:I?Q|TQ|MXFP|NVFP)\d\w*|BF16|FP?16|FP?32)(?:-\d{5}-of-\d{5})?\.gguf",
    re.IGNORECASE,
)
_INDEX = "model.safetensors.index.json"
_MOST_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Weights:
    """A model at `path`: a GGUF file (of a split one the first), or a folder with config.json.

    `label` tells those of one folder apart: "Q4_K_M". `problem` says why it is of no use.
    """

    path: Path
    label: str
    num_bytes: int
    problem: str = ""

    @property
    def is_gguf(self) -> bool:
        return self.path.name.lower().endswith(".gguf")


def weights_in(folder: Path, files: Sequence[Path]) -> list[Weights]:
    """The models among `files`, which are what lies in `folder`."""
    found = [w for path in files if (w := _gguf(path)) is not None]
    names = {path.name for path in files}
    if "config.json" in names and (w := _safetensors(folder, names)) is not None:
        found.append(w)
    return found


def label_of(filename: str) -> str:
    """The quantisation that the name of a GGUF file says, else the name without its end."""
    matched = _LABEL.search(filename)
    return matched[1].upper() if matched else re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", filename)


def _gguf(path: Path) -> Weights | None:
    name = path.name.lower()
    if not name.endswith(".gguf") or name.startswith(("mmproj", ".")):
        return None  # what turns pictures into tokens is no model of its own
    label, matched = label_of(path.name), SHARD.fullmatch(path.name)
    if matched is None:
        return Weights(path, label, num_bytes(path), _why_nothing(path))
    count = min(int(matched[3]), _MOST_SHARDS)
    if int(matched[2]) != 1:
        return None  # the first stands for all
    shards = [
        path.with_name(f"{matched[1]}-{number:05d}-of-{matched[3]}.gguf")
        for number in range(1, count + 1)
    ]
    missing = [shard for shard in shards if not is_file(shard)]
    problem = f"{len(missing)} of {count} files are missing: fetch it again" if missing else ""
    return Weights(path, label, sum(map(num_bytes, shards)), problem)


def _why_nothing(path: Path) -> str:
    if is_file(path):
        return ""
    return "its link leads nowhere: fetch it again" if path.is_symlink() else "it is no file"


def _safetensors(folder: Path, names: set[str]) -> Weights | None:
    shards = {name for name in names if name.endswith(".safetensors")}
    if _INDEX in names:
        try:
            mapped: Any = read_json(folder / _INDEX)["weight_map"]
            shards = {name for name in mapped.values() if Path(name).name == name}
        except (ValueError, KeyError, AttributeError, TypeError):
            return Weights(folder, "", 0, f"{_INDEX} cannot be read: fetch it again")
    missing = sorted(name for name in shards if not is_file(folder / name))
    size = sum(num_bytes(folder / name) for name in shards)
    if missing:
        problem = f"{len(missing)} of {len(shards)} files are missing: fetch it again"
        return Weights(folder, "", size, problem)
    if not shards and any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return Weights(folder, "", 0, "only pickled weights, which mm1 does not read")
    return Weights(folder, "", size) if shards else None

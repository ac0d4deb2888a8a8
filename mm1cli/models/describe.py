"""What a model on disk is, and whether mm1 can run it here: headers and config.json only."""

from dataclasses import dataclass
from pathlib import Path

from engine import model_files
from engine.api import EngineError, GgufError
from mm1cli.models.safetensors_header import count_parameters
from mm1cli.models.scan import is_folder, num_bytes, read_json
from mm1cli.models.weights import label_of

_MOST_BYTES = 2**62
_BESIDE_BYTES = 300_000_000  # Python, libraries, and what a short context takes
_SHARE_BESIDE = 1.1
_SERVE = "serve it with llama-server"


@dataclass(frozen=True, slots=True)
class Description:
    """`problem` says in words why mm1 cannot run it, "" if it can. What is not known is 0 or "".

    `needed_bytes` is an estimate for a short context on a CPU: `mm1 models plan` has the sum.
    """

    family: str = ""
    num_parameters: int = 0
    context_tokens: int = 0
    num_bytes: int = 0
    bits: float = 0.0
    quantization: str = ""
    needed_bytes: int = 0
    problem: str = ""


def describe(path: Path) -> Description:
    """The model at `path`, a GGUF file or a folder with config.json."""
    try:
        return _folder(path) if is_folder(path) else _gguf(path)
    except OSError as error:
        return Description(problem=error.strerror or str(error))


def needed_bytes(weights_bytes: int) -> int:
    """Memory for weights that take so much as they are computed with."""
    return round(min(weights_bytes, _MOST_BYTES) * _SHARE_BESIDE) + _BESIDE_BYTES


def _gguf(path: Path) -> Description:
    try:
        info = model_files.gguf_info(path)
    except GgufError as error:
        why = str(error)
        is_cut = why.startswith("cut short")
        return Description(problem=f"{why}: fetch it again" if is_cut else why)
    known, readable, problem = model_files.gguf_architectures(), model_files.gguf_kinds(), ""
    if info.architecture not in known:
        problem = f"not supported: {info.architecture:.40}, known: {', '.join(known)}; {_SERVE}"
    elif odd := [kind for kind in info.kinds if kind not in readable]:
        problem = f"not supported: weights in {odd[0]}; get it as Q4_K_M or Q8_0, or {_SERVE}"
    return Description(
        family=info.architecture,
        num_parameters=info.num_parameters,
        context_tokens=info.context_length or 0,
        num_bytes=info.num_bytes,
        bits=8 * info.num_bytes / max(info.num_parameters, 1),
        quantization=label_of(path.name) if path.name.endswith(".gguf") else "",
        needed_bytes=needed_bytes(info.num_bytes),
        problem=problem,
    )


def _folder(path: Path) -> Description:
    size = sum(num_bytes(shard) for shard in path.glob("*.safetensors"))
    try:
        facts = model_files.facts(path)
    except EngineError as error:
        return Description(family=_said(path), num_bytes=size, problem=_unsupported(path, error))
    count = count_parameters(path)
    # Weights that are not quantised are computed with as float32.
    computed = 4 * count if facts.quantization == "plain" else size
    return Description(
        family=facts.family,
        num_parameters=count,
        context_tokens=facts.max_positions,
        num_bytes=size,
        bits=8 * size / count if count else 0.0,
        quantization=facts.precision or "",
        needed_bytes=needed_bytes(computed),
    )


def _said(path: Path) -> str:
    try:
        return str(read_json(path / "config.json").get("model_type", ""))
    except ValueError:
        return ""


def _unsupported(path: Path, error: EngineError) -> str:
    """In one line, shorter than the engine's where it is about the family."""
    family = _said(path)
    reason = " ".join(str(error).split()).removeprefix(f"{path}: ")
    if family and "is not supported" in reason:
        known = reason.partition("only ")[2]
        return f"not supported: {family:.40}, known: {known or 'other families'}"
    return reason

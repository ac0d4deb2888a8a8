"""A model on disk, whatever it lies in: a folder as the hub has them, or a GGUF file.

Reading a config imports no torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import families
from engine.config import ModelConfig
from engine.errors import CheckpointError, GgufError
from engine.files import read_json
from engine.quantized.forms import UNQUANTIZED

if TYPE_CHECKING:
    from engine.checkpoint import Checkpoint


def is_gguf(model: Path) -> bool:
    """Whether `model` is a GGUF file and not a folder."""
    return model.is_file()  # whatever it is called: Ollama names files by their checksums


def read_config(model: Path) -> ModelConfig:
    """The validated config of `model`. Raises ConfigError, CheckpointError or GgufError."""
    if not is_gguf(model):
        return families.read_config(model)
    from engine.gguf import model as gguf

    with _errors_of(model):
        return gguf.read_config(model)


def raw_config(model: Path) -> dict[str, Any]:
    """config.json, parsed, or what stands for it."""
    if not is_gguf(model):
        return read_json(model / "config.json")
    from engine.gguf import model as gguf

    with _errors_of(model):
        return gguf.raw_config(model)


def precision_of(model: Path) -> str | None:
    """What the matrices are stored in: a dtype such as bfloat16, or forms such as int4/64, as the
    config says; None if it does not."""
    if (quantization := read_config(model).quantization) != UNQUANTIZED:
        return str(quantization)
    raw = raw_config(model)
    dtype = raw.get("dtype", raw.get("torch_dtype"))
    return dtype if isinstance(dtype, str) else None


def open_checkpoint(model: Path, *, has_int8_rows: bool = False) -> "Checkpoint":
    """The tensors of `model`; for `has_int8_rows` see `GgufCheckpoint`, others have none.

    Raises CheckpointError or GgufError.
    """
    from engine.checkpoint import Checkpoint

    if not is_gguf(model):
        return Checkpoint(model)
    from engine.gguf.checkpoint import GgufCheckpoint

    with _errors_of(model):
        return GgufCheckpoint(model, has_int8_rows=has_int8_rows)


@contextmanager
def _errors_of(model: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except GgufError as error:
        raise GgufError(f"{model}: {error}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{model}: not readable ({reason})") from None

"""A model on disk, whatever it lies in: a folder as the hub has them, or a GGUF file.

Reading a config imports no torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import families
from engine.config import ModelConfig
from engine.errors import CheckpointError, GgufError
from engine.files import read_json
from engine.quantized.forms import UNQUANTIZED

if TYPE_CHECKING:
    from engine.checkpoint import Checkpoint
    from engine.gguf.header import Header
    from engine.gguf.model import GgufModel
    from engine.tokenizer import Tokenizer
    from engine.tokenizer_parts import TokenizerParts


class ModelSource:
    """The model at `path`. What is asked for is read then, and not again.

    Each property raises EngineError in one line where the files are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, model: "Path | ModelSource") -> "ModelSource":
        return cls(model) if isinstance(model, Path) else model

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file and not a folder, whatever it is called: Ollama names files by
        their checksums."""
        return self.path.is_file()

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        """config.json, parsed, or what stands for it."""
        return self._gguf.config if self.is_gguf else read_json(self.path / "config.json")

    @cached_property
    def config(self) -> ModelConfig:
        """The validated config."""
        if not self.is_gguf:
            return families.read_config(self.path, self.raw_config)
        gguf = self._gguf
        with _errors_of(self.path):
            return gguf.read_config()

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        from engine.tokenizer import Tokenizer

        return Tokenizer(self)

    @cached_property
    def tokenizer_parts(self) -> "TokenizerParts":
        from engine.tokenizer_parts import read_folder

        if not self.is_gguf:
            return read_folder(self.path)
        from engine.gguf.tokenizer import read_gguf_tokenizer

        return read_gguf_tokenizer(self.path.name, self._header.metadata)

    @property
    def precision(self) -> str | None:
        """What the matrices are stored in: a dtype such as bfloat16, or forms such as int4/64, as
        the config says; None if it does not."""
        if self.config.quantization != UNQUANTIZED:
            return str(self.config.quantization)
        dtype = self.raw_config.get("dtype", self.raw_config.get("torch_dtype"))
        return dtype if isinstance(dtype, str) else None

    def open_checkpoint(self, *, has_int8_rows: bool = False) -> "Checkpoint":
        """The tensors; for `has_int8_rows` see `GgufCheckpoint`, others have none.

        Raises CheckpointError or GgufError.
        """
        from engine.checkpoint import Checkpoint

        if not self.is_gguf:
            return Checkpoint(self.path)
        from engine.gguf.checkpoint import GgufCheckpoint

        gguf = self._gguf
        with _errors_of(self.path):
            return GgufCheckpoint(self.path, gguf, has_int8_rows=has_int8_rows)

    def forget(self) -> None:
        """Lets go of what only opening needs: the words of a GGUF file's vocabulary take 40 MB.
        Whoever asks for more of it later has it read again."""
        for name in ("_header", "_gguf"):
            vars(self).pop(name, None)

    @cached_property
    def _header(self) -> "Header":
        """Of the first file, which has all metadata."""
        from engine.gguf.file import split_files
        from engine.gguf.header import read_header

        return read_header(split_files(self.path)[0])

    @cached_property
    def _gguf(self) -> "GgufModel":
        from engine.gguf.model import GgufModel

        with _errors_of(self.path):
            return GgufModel.read(self.path, self._header)


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

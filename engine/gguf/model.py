"""The model in a GGUF file that is run where it lies: its config, and what its tensors are.

Imports no torch. A file that was read is kept until another one is.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config import ModelConfig
from engine.errors import ConfigError, GgufError
from engine.families import family_named, family_of
from engine.gguf.architectures import describe
from engine.gguf.file import GgufFile, read_gguf, split_files
from engine.gguf.source import Described
from engine.quantized.forms import Blocks, Quantization, is_matrix


def raw_config(model: Path) -> dict[str, Any]:
    """The config.json of the model in a GGUF file. Raises GgufError or OSError."""
    return opened(model)[1].config


def read_config(model: Path) -> ModelConfig:
    """The validated config; its quantization says which parameters stay in the file's blocks.

    Raises GgufError or OSError.
    """
    _, described = opened(model)
    try:
        config = family_of(described.config).read_config(described.config)
    except (ConfigError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise GgufError(str(error)) from None
    known = {source.name: source.tensor for source in described.sources}
    blocks = {}
    for name, sources in family_named(config.family).sources(config).items():
        if absent := [each for each in sources if each not in known]:
            raise GgufError(f"the tensor {absent[0]} is missing")
        tensors = [known[each] for each in sources]
        kinds = tuple(dict.fromkeys(tensor.kind.name for tensor in tensors))
        stays = is_matrix(name) or name in ("embed.weight", "head.weight")
        if stays and kinds != ("F32",):
            blocks[name] = Blocks(kinds, sum(tensor.packed.nbytes for tensor in tensors))
    return replace(config, quantization=Quantization(blocks=tuple(blocks.items())))


def opened(model: Path) -> tuple[GgufFile, Described]:
    """The file, or all of a split one. Raises GgufError or OSError."""
    stamps = tuple(
        (path.stat().st_size, path.stat().st_mtime_ns)
        for path in split_files(model)
        if path.is_file()
    )
    return _kept(model.absolute(), stamps)


@lru_cache(maxsize=1)
def _kept(model: Path, _stamps: tuple[tuple[int, int], ...]) -> tuple[GgufFile, Described]:
    file = read_gguf(model)
    return file, describe(file, in_place=True)

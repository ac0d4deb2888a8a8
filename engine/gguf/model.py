"""The model in a GGUF file that is run where it lies: its config, and what its tensors are.

Imports no torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from engine.config import ModelConfig
from engine.errors import ConfigError, GgufError
from engine.families import family_named, family_of
from engine.gguf.architectures import describe
from engine.gguf.file import GgufFile, read_gguf
from engine.gguf.header import Header
from engine.gguf.source import Source
from engine.quantized.forms import Blocks, Quantization, is_matrix


@dataclass(frozen=True, slots=True)
class GgufModel:
    """`config` is what a config.json of it would hold, `sources` are its tensors."""

    file: GgufFile
    config: dict[str, Any]
    sources: list[Source]

    @classmethod
    def read(cls, model: Path, first: Header) -> Self:
        """The file, or all of a split one, the first of which has the header `first`. Raises
        GgufError or OSError."""
        file = read_gguf(model, first)
        described = describe(file, in_place=True)
        return cls(file, described.config, described.sources)

    def read_config(self) -> ModelConfig:
        """The validated config; its quantization says which parameters stay in the file's blocks.

        Raises GgufError.
        """
        try:
            config = family_of(self.config).read_config(self.config)
        except (ConfigError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise GgufError(str(error)) from None
        known = {source.name: source.tensor for source in self.sources}
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

"""Which architectures of GGUF files are known, and what is in a file of one."""

from typing import Final

from engine.errors import GgufError
from engine.gguf import llama, minimax
from engine.gguf.file import GgufFile
from engine.gguf.metadata import get
from engine.gguf.source import Described

KNOWN: Final = (*llama.ARCHITECTURES, minimax.ARCHITECTURE)


def describe(file: GgufFile) -> Described:
    """The config.json of the model in `file`, as transformers would write it, and its tensors by
    their Hugging Face names. Reads metadata alone.

    Raises GgufError if the architecture is not known or the file contradicts itself.
    """
    name = get(file.metadata, "general.architecture", str)
    if name == minimax.ARCHITECTURE:
        return minimax.describe(file)
    if name not in llama.ARCHITECTURES:
        raise GgufError(
            f"the architecture {name!r:.80} is not supported; known are {', '.join(KNOWN)}"
        )
    return llama.ARCHITECTURES[name].describe(file, name)

"""Which architectures of GGUF files are known, and what is in a file of one."""

from typing import Final

from engine.errors import GgufError
from engine.gguf import llama, minimax, qwen3_next
from engine.gguf.file import GgufFile
from engine.gguf.metadata import get
from engine.gguf.source import Described

KNOWN: Final = (*llama.ARCHITECTURES, minimax.ARCHITECTURE, *qwen3_next.ARCHITECTURES)


def describe(file: GgufFile, *, in_place: bool = False) -> Described:
    """The config.json of the model in `file`, as transformers would write it, and its tensors by
    their Hugging Face names. Reads metadata alone.

    With `in_place` for this engine, which can do without some orders of rows and columns: then
    the config has keys that are its own.

    Raises GgufError if the architecture is not known or the file contradicts itself.
    """
    name = get(file.metadata, "general.architecture", str)
    if name == minimax.ARCHITECTURE:
        return minimax.describe(file)
    if name in qwen3_next.ARCHITECTURES:
        return qwen3_next.describe(file, name, in_place=in_place)
    if name not in llama.ARCHITECTURES:
        raise GgufError(
            f"the architecture {name!r:.80} is not supported; known are {', '.join(KNOWN)}"
        )
    return llama.ARCHITECTURES[name].describe(file, name)

"""GGUF files, llama.cpp's format, as directories the engine reads."""

from engine.errors import GgufError
from engine.gguf.convert import convert
from engine.gguf.file import split_files

__all__ = ["GgufError", "convert", "split_files"]

"""Red here means that a release with known faults may parse hostile files."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
FLOORS = {  # the least release of what parses files of strangers, and what it parses
    "pypdf": ("7.1", "PDFs that pdfium cannot open"),
    "pypdfium2": ("5.15", "PDFs, in C++"),
    "cryptography": ("50.0", "encrypted PDFs"),
    "lxml": ("6.1", "Office files and HTML, in C"),
    "tokenizers": ("0.23", "tokenizer.json of models"),
    "safetensors": ("0.8", "weights of models, in Rust"),
    "python-calamine": ("0.9", ".xls and .xlsb, in Rust"),
    "charset-normalizer": ("3.5", "text of unknown encoding, compiled"),
    "tree-sitter": ("0.26", "source code, in C"),
    "jinja2": ("3.1.6", "chat templates of models, in its sandbox"),
}


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


@pytest.mark.parametrize("name", FLOORS)
def test_what_parses_hostile_files_is_recent(name):
    asked = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    (floor,) = (one.removeprefix(f"{name}>=") for one in asked if one.startswith(f"{name}>="))
    assert numbers(floor) >= numbers(FLOORS[name][0])
    assert numbers(version(name)) >= numbers(floor)

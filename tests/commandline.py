"""What runs of the command line are made of: tiny models, a folder of notes, and what came out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny

from engine.api import Selection

POSITIONS = 16_384  # a random checkpoint splits text into little more than letters
# Of the Llama checkpoint.
SELECTION = Selection(
    1, 0, 50, far_layers=(0, 1), window_tokens=32, sink_distance=64, block_tokens=16
)
FAMILIES = {
    "llama": (tiny.llama_config(max_position_embeddings=POSITIONS), tiny.CHATML),
    "minimax": (tiny.minimax_config(max_position_embeddings=POSITIONS), tiny.LISTED),
}
NOTES = {
    "bridge.md": "# The bridge\n\nThe cat sat on the bridge in 1904. It cost 48.2 crowns.\n",
    "sub/hat.txt": "The hat is where the rat ate that.\n\nA mat was there, too.\n",
    "tool.py": "def build(bridge):\n    return bridge + 1\n",
    "photo.png": b"\x89PNG\r\n\x1a\n\0\0",
    ".hidden": "not asked for",
}
ASK = "where is the rat?"
SHORT = ("--max-tokens", 12, "--threads", 1)

# A process that was started in the background of a shell inherits that Ctrl-C is ignored.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mm1cli.__main__ import main; main()"
)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.out.count("\n") == 1, "--json writes one line"
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def write_talkative(directory: Path, family: str) -> Path:
    """A random checkpoint that always has something to say: each id it may draw is text."""
    config, template = FAMILIES[family]
    weights = tiny.random_weights(config)
    embedding = weights["model.embed_tokens.weight"]
    embedding[: len(tiny.CONTROL)] = 0  # the ids of zero rows are never drawn
    embedding[len(tiny.tokenizer_json()["model"]["vocab"]) :] = 0
    return tiny.write_checkpoint(directory, config, weights, template=template)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def copy_files(source: Path, target: Path) -> Path:
    return write_files(target, {file.name: file.read_bytes() for file in source.iterdir()})


def start(*arguments: object, program: str = MAIN, **options: Any) -> subprocess.Popen[str]:
    """`mm1 ARGS` as a process of its own; to be used as a context manager."""
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        **{"stdin": subprocess.DEVNULL, "text": True, "env": dict(os.environ)} | pipes | options,
    )


def interrupt(process: subprocess.Popen[str], with_signal: signal.Signals) -> tuple[str, str]:
    """Sends the signal, and returns what the process then still said on its streams."""
    process.send_signal(with_signal)
    return process.communicate(timeout=30)

"""Reads a context and asks it, and prints what was planned and the most memory that was taken.

    python measured.py DIRECTORY ROOM_BYTES CHUNK_TOKENS NUM_TOKENS...

Run by test_measured.py; one line for each length and each kind of KV. Plans are made for a machine
with so much room, or for this one with 0. Memory is what the process
has of its own, above what it had before (one chunk has been read, for what is taken once): pages
of files are the system's and may go at any time.
"""

import gc
import json
import sys
import threading
import time
from pathlib import Path

import torch

from engine import placement
from engine.engine import Engine
from engine.placement import Machine, memory

STATUS = Path("/proc/self/status")


def taken():
    return memory.field(STATUS, "RssAnon:", 1024) + memory.field(STATUS, "RssShmem:", 1024)


class Peak(threading.Thread):
    """The most memory that was taken while this ran, looked at every millisecond or so."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.is_over = taken(), False

    def run(self):
        while not self.is_over:
            self.most = max(self.most, taken())
            time.sleep(0.001)


def run(directory, num_tokens, chunk_tokens, kv):
    engine = Engine(directory, chunk_tokens=chunk_tokens, kv=kv, num_tokens=num_tokens, threads=1)
    context = engine.new_context()
    ids = torch.randint(4, 290, (num_tokens,), generator=torch.Generator().manual_seed(1))
    context.extend(ids.tolist())
    asked = context.fork()
    asked.extend(list(range(4, 40)))
    return engine, context, asked


def measure(directory, num_tokens, chunk_tokens, kv):
    base = taken()
    peak = Peak()
    peak.start()
    engine, _context, _asked = run(directory, num_tokens, chunk_tokens, kv)
    peak.is_over = True
    peak.join()
    planned = engine.placement
    return {
        "tokens": num_tokens,
        "kv": kv,
        "planned": planned.total_bytes,
        "measured": peak.most - base,
        "weights": planned.weights_bytes,
        "KV": planned.kv_bytes,
        "activations": planned.activation_bytes,
        "driver": planned.driver,
    }


def main(directory, room_bytes, chunk_tokens, *lengths):
    if room_bytes:
        placement.here = lambda *_, **__: Machine(room_bytes)
    for kv in ("float32", "int8"):  # what is taken once: compiled kernels, the libraries' own
        run(directory, chunk_tokens, chunk_tokens, kv)
    gc.collect()
    for num_tokens in lengths:
        for kv in ("float32", "int8"):
            print(json.dumps(measure(directory, num_tokens, chunk_tokens, kv)))
            gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

"""Red here means hidden states change between two layers, or stay on the disk as litter."""

import errno
import os
from pathlib import Path

import pytest
import torch

from engine.activations import Activations
from engine.context import Context
from tests import tiny


def mapped(folder):
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[5] for line in maps if str(folder) in line]


def test_the_room_of_a_file_is_taken_at_once(tmp_path):
    hidden = Activations(1 << 10, 256, torch.bfloat16, tmp_path / "hidden.bin")
    status = (tmp_path / "hidden.bin").stat()
    assert status.st_size == hidden.num_bytes == 1 << 19
    assert 512 * status.st_blocks >= status.st_size


def test_a_disk_without_room_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Activations.spilled(10, 4, torch.float32, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_streamed_context_spills_to_a_file_that_has_no_name_any_more(tmp_path, monkeypatch):
    """So nothing is left however the process ends, and memory holds none of it."""
    model = tiny.load_model(tiny.write_checkpoint(tmp_path / "model", tiny.mm1_config()))
    spill = tmp_path / "spill"
    spill.mkdir()
    ids, seen = list(range(4, 70)), []
    cold = Context(model, 8)
    cold.extend(ids)
    monkeypatch.setattr(type(model), "is_streamed", True)
    monkeypatch.setattr(
        type(model),
        "activations",
        lambda self, count: Activations.spilled(count, 32, self.dtype, spill),
    )

    def look(_done, _total):
        seen.append((mapped(spill), list(spill.iterdir())))

    context = Context(model, 8)
    context.extend(ids[:32], look)
    twin = context.fork()
    for one in (context, twin):
        one.extend(ids[32:], look)
        assert torch.equal(one.logits, cold.logits)
    in_layers = [names for names, _ in seen if names]
    assert len(in_layers) > 40
    assert all(len(names) == 1 and "mm1-activations-" in names[0] for names in in_layers)
    assert all(left == [] for _, left in seen)
    assert not mapped(spill)

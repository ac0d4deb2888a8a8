"""Red here means weights are read from other places of a file than the library reads them from."""

import os

import pytest
import torch
from tiny import minimax_config, random_weights, write_checkpoint

from engine.checkpoint import DTYPES, Checkpoint
from engine.errors import CheckpointError
from engine.streamed.shards import Shards

CONFIG = minimax_config()


@pytest.fixture
def checkpoint(tmp_path):
    weights = random_weights(CONFIG)
    mixed = {k: v.bfloat16() if "experts" in k else v for k, v in weights.items()}
    return Checkpoint(write_checkpoint(tmp_path / "m", CONFIG, mixed, num_shards=3))


def test_every_tensor_is_what_the_library_reads(checkpoint):
    shards = Shards(checkpoint)
    for name, info in checkpoint.tensors.items():
        raw = torch.empty(shards.num_bytes(name), dtype=torch.uint8)
        shards.read_into(name, raw.numpy().data)
        found = raw.view(DTYPES[info.dtype]).view(info.shape)
        assert torch.equal(found, checkpoint.read(name)), name


def test_a_file_that_is_cut_while_in_use_is_an_error_and_no_zeros(checkpoint):
    shards = Shards(checkpoint)
    name = max(checkpoint.tensors, key=shards.num_bytes)
    path = checkpoint.directory / checkpoint.tensors[name].shard
    os.truncate(path, 100)
    target = torch.empty(shards.num_bytes(name), dtype=torch.uint8).numpy().data
    with pytest.raises(CheckpointError, match=f"{path.name}.*cut while in use"):
        shards.read_into(name, target)


def test_a_file_that_was_replaced_by_another_is_an_error(checkpoint):
    info = next(iter(checkpoint.tensors.values()))
    (checkpoint.directory / info.shard).write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Shards(checkpoint)

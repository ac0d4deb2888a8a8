"""Red here means weights are read from other places of a file than the library reads them from."""

import os

import pytest
import torch
from safetensors.torch import save_file
from tiny import minimax_config, random_weights, write_checkpoint

from engine.checkpoint import DTYPES, Checkpoint
from engine.errors import CheckpointError
from engine.placement import weight_bytes
from engine.streamed.direct_io import DirectReader

CONFIG = minimax_config()
SIZES = (1, 4095, 4096, 4097, 12_288, 100_003)


@pytest.fixture
def checkpoint(tmp_path):
    weights = random_weights(CONFIG)
    mixed = {k: v.bfloat16() if "experts" in k else v for k, v in weights.items()}
    return Checkpoint(write_checkpoint(tmp_path / "m", CONFIG, mixed, num_shards=3))


def test_every_tensor_is_what_the_library_reads(checkpoint):
    shards = DirectReader(checkpoint)
    for name, info in checkpoint.tensors.items():
        raw = torch.empty(shards.num_bytes(name), dtype=torch.uint8)
        shards.read_into(name, raw.numpy().data)
        found = raw.view(DTYPES[info.dtype]).view(info.shape)
        assert torch.equal(found, checkpoint.read(name)), name


@pytest.fixture
def all_large(monkeypatch):
    monkeypatch.setattr(weight_bytes, "_LARGE_BYTES", 1)


def memory_behind_a_page(num_bytes, past):
    """Memory [num_bytes] that begins so far behind a page's border, 0xEE around it."""
    whole = torch.full((num_bytes + 2 * weight_bytes.PAGE_BYTES,), 0xEE, dtype=torch.uint8)
    first = (past - whole.data_ptr()) % weight_bytes.PAGE_BYTES
    return whole, slice(first, first + num_bytes)


def test_reading_past_the_page_cache_gives_the_same_and_touches_nothing_else(
    tmp_path, all_large, monkeypatch
):
    """Offsets and lengths of a real file: no multiple of anything."""
    expected = {f"t{n}": torch.randint(256, (n,), dtype=torch.uint8) for n in SIZES}
    save_file(expected, tmp_path / "model.safetensors")
    shards, read = DirectReader(Checkpoint(tmp_path)), []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, *rest: read.append(file) or preadv(file, *rest))
    for name, tensor in expected.items():
        for moved in (0, 8):  # where it can be read directly, and where it cannot
            whole, part = memory_behind_a_page(
                len(tensor), shards.bypasses_page_cache(name) + moved
            )
            shards.read_into(name, whole.numpy().data[part])
            assert torch.equal(whole[part], tensor)
            whole[part] = 0xEE
            assert (whole == 0xEE).all()
    if shards._direct:  # the file system has it
        assert len(set(read)) == 2  # both ways were gone


def test_a_file_system_that_refuses_direct_reads_is_read_through_the_cache(
    checkpoint, all_large, monkeypatch
):
    shards, preadv = DirectReader(checkpoint), os.preadv
    plain = set(shards._paths)

    def refused(file, *rest):
        if file not in plain:
            raise OSError(22, "Invalid argument")
        return preadv(file, *rest)

    monkeypatch.setattr(os, "preadv", refused)
    for name, info in checkpoint.tensors.items():
        whole, part = memory_behind_a_page(shards.num_bytes(name), shards.bypasses_page_cache(name))
        shards.read_into(name, whole.numpy().data[part])
        found = whole[part].clone().view(DTYPES[info.dtype]).view(info.shape)
        assert torch.equal(found, checkpoint.read(name)), name


def test_a_file_that_is_cut_while_in_use_is_an_error_and_no_zeros(checkpoint):
    shards = DirectReader(checkpoint)
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
        DirectReader(checkpoint)

"""Red here means a file written part by part is not the one the library writes at once."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import StoreError
from engine.store import tensors
from engine.store.partial_file import PartialSafetensors
from engine.store.tensors import Expected

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]
NAMES = ["logits", *(f"layer.{n}.{k}" for n in (2, 10) for k in ("keys", "keys.scales", "state"))]


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.dictionaries(
        st.sampled_from(NAMES),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), max_size=3)),
        min_size=1,
    ),
    order=st.randoms(use_true_random=False),
)
def test_it_has_the_bytes_the_library_writes(tmp_path_factory, chosen, order):
    folder = tmp_path_factory.mktemp("parts")
    named = {name: torch.randn(shape).mul(9).to(dtype) for name, (dtype, shape) in chosen.items()}
    facts = {"chain": "0" * 32, "first": "0"}
    expected = {name: Expected(tuple(t.shape), t.dtype) for name, t in named.items()}
    tensors.save(folder / "want", named, facts)
    part = PartialSafetensors(folder / "part", folder / "found", expected, facts)
    names = list(named)
    order.shuffle(names)
    for name in names:
        content = part.put(name, named[name])
        assert bytes(content) == bytes(tensors.content(named[name]))
        assert torch.equal(part.get(name), named[name])
    with pytest.raises(StoreError):  # its checksum comes last
        tensors.load(folder / "part", expected, facts)
    part.seal()
    assert (folder / "found").read_bytes() == (folder / "want").read_bytes()
    assert not (folder / "part").exists()
    found = tensors.load(folder / "found", expected, facts)
    assert all(torch.equal(found[name], named[name]) for name in named)


def test_its_room_is_not_taken_before_it_is_used(tmp_path):
    part = PartialSafetensors(
        tmp_path / "part", tmp_path / "found", {"a": Expected((2**28,), torch.int8)}, {}
    )
    assert not (tmp_path / "part").exists()
    small = {"a": Expected((2**28,), torch.int8), "b": Expected((4,), torch.int8)}
    part = PartialSafetensors(tmp_path / "part", tmp_path / "found", small, {"x": json.dumps("y")})
    part.put("b", torch.ones(4, dtype=torch.int8))
    status = (tmp_path / "part").stat()
    assert status.st_size == part.num_bytes > 2**28
    assert 512 * status.st_blocks < 2**20

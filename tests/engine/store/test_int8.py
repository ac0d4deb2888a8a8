"""Red here means int8 keys and values are saved as other numbers, or mixed with those of floats."""

import pytest
import torch
from builds import CHUNK, IDS, assert_same, build, cold, contents, store
from safetensors import safe_open

from engine.api import ContextPlan
from engine.errors import StoreError
from engine.layers.kv_cache import KVCache
from engine.store.store import verify

PLAN = ContextPlan(IDS)


@pytest.fixture(params=["minimax", "mm1", "llama"])
def model(request, models):
    return models[request.param]


def int8(folder, model):
    return store(folder, model, kv="int8")


def test_what_is_saved_and_opened_is_the_cold_int8_context(model, tmp_path):
    want = cold(model, kv_dtype=torch.int8)
    assert_same(int8(tmp_path / "c", model).build(PLAN).context, want)
    assert_same(int8(tmp_path / "c", model).open(), want)
    verify(tmp_path / "c")


def test_a_context_that_goes_on_stays_int8(model, tmp_path):
    def stop(done, _total):
        if done >= 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        int8(tmp_path / "c", model).build(PLAN, on_progress=stop)
    built = int8(tmp_path / "c", model).build(PLAN)
    assert built.reused_tokens == 52
    assert_same(built.context, cold(model, kv_dtype=torch.int8))


def test_rows_are_int8_with_a_scale_per_token_and_head(models, tmp_path):
    model = models["minimax"]
    int8(tmp_path / "c", model).build(PLAN)
    (cache,) = (s for s in int8(tmp_path / "c", model).open().states if isinstance(s, KVCache))
    path = min((tmp_path / "c" / "kv").iterdir())
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kinds = {name.split(".", 2)[2]: (t.dtype, t.dim()) for name, t in found.items()}
    assert kinds == {
        "keys": (torch.int8, 3),
        "values": (torch.int8, 3),
        "keys.scales": (torch.float32, 2),
        "values.scales": (torch.float32, 2),
    }
    assert max(t.abs().max() for t in found.values() if t.dtype == torch.int8) == 127
    keys, _ = cache.segments()[0]
    assert torch.equal(keys.values.transpose(0, 1), found[min(found)])


def test_logits_differ_from_those_over_floats_by_rounding(model):
    ours, theirs = (cold(model, kv_dtype=kv_dtype).logits for kv_dtype in (torch.int8, None))
    share = (ours - theirs).pow(2).mean().sqrt() / theirs.std()
    assert 1e-6 < share < 0.05


@pytest.mark.parametrize(("first", "second"), [("int8", "float32"), ("float32", "int8")])
def test_int8_and_floats_are_never_mixed(models, tmp_path, first, second):
    model = models["mm1"]
    store(tmp_path / "c", model, kv=first).build(PLAN)
    with pytest.raises(StoreError, match=f"KV is {first}, not {second}"):
        store(tmp_path / "c", model, kv=second).open()
    built = store(tmp_path / "c", model, kv=second).build(PLAN)
    assert built.reused_tokens == 0 and first in built.why
    kv_dtype = torch.int8 if second == "int8" else None
    assert_same(built.context, cold(model, kv_dtype=kv_dtype))


def test_a_scale_that_changed_is_found(models, tmp_path):
    model = models["minimax"]
    int8(tmp_path / "c", model).build(PLAN)
    path = min((tmp_path / "c" / "kv").iterdir())
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # float32 comes first, so this is a scale
    content[start + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        verify(tmp_path / "c")
    with pytest.raises(StoreError, match="damaged"):
        int8(tmp_path / "c", model).open()


@pytest.mark.parametrize("chunk_tokens", [3, CHUNK, 20])
@pytest.mark.parametrize("kv", ["float32", "int8"])
def test_grids_that_do_not_meet_the_files_borders(models, tmp_path, chunk_tokens, kv):
    """A file ends inside a chunk, and a chunk fills several files."""
    kv_dtype = torch.int8 if kv == "int8" else None
    for family in ("mm1", "llama"):
        one = store(tmp_path / family, models[family], chunk_tokens=chunk_tokens, kv=kv)
        want = cold(models[family], chunk_tokens=chunk_tokens, kv_dtype=kv_dtype)
        built = one.build(PLAN)
        assert_same(built.context, want)
        assert_same(one.open(), want)
        assert len(contents(want)) > len(want.states)


def test_int8_takes_less_room(models, tmp_path):
    model = models["llama"]
    sizes = [
        verify(built)
        for kv in ("int8", "float32")
        for built in [tmp_path / kv]
        if store(built, model, kv=kv).build(PLAN)
    ]
    assert sizes[0] < 0.8 * sizes[1]
    assert build(tmp_path / "again", model).reused_tokens == 0

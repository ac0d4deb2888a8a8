"""Red here means a context built layer by layer is another one, or layers are run twice."""

import errno
import shutil

import pytest
import torch
from builds import CHUNK, IDS, assert_same, build, cold, contents, store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamed import build_streamed, files, passes, stop_in_layer, streamed
from tiny import llama_config, load_model, mm1_config, write_checkpoint

from engine import durable
from engine.api import ContextPlan
from engine.errors import PlacementError, StoreError
from engine.selection import Selection, selecting
from engine.store.layer_progress import LayerProgress
from engine.store.state_tensors import num_bytes
from engine.store.store import verify


def test_it_is_the_same_folder_as_one_built_chunk_by_chunk(model, tmp_path):
    options = {"document_ends": [12, 22, 37, 85], "attachments": {"corpus": b"text"}}
    build(tmp_path / "chunks", model, **options)
    built = build_streamed(tmp_path / "layers", model, **options)
    assert files(tmp_path / "layers") == files(tmp_path / "chunks")
    assert len(files(tmp_path / "layers")) > 3
    assert not (tmp_path / "layers" / "layers").exists()
    assert built.is_saved
    assert built.reused_tokens == built.reused_layers == 0
    assert_same(built.context, cold(model))
    assert_same(store(tmp_path / "layers", model).open(), cold(model))


def test_hidden_states_and_kv_may_be_of_another_dtype(tmp_path):
    config = write_checkpoint(tmp_path / "model", mm1_config())
    model = load_model(config, dtype=torch.bfloat16)
    chunks, layers = (store(tmp_path / name, model, kv="bfloat16") for name in "ab")
    want = chunks.build(ContextPlan(IDS))
    stop_in_layer(tmp_path / "b", model, 3, kv="bfloat16")
    with streamed():
        built = layers.build(ContextPlan(IDS))
    assert built.reused_layers == 3
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert_same(built.context, want.context)


def test_a_stop_in_any_layer_costs_that_layer_only(model, tmp_path):
    ids = IDS[:45]
    build(tmp_path / "chunks", model, ids, document_ends=[37])
    want = cold(model, ids).logits
    for layer in range(len(model.layers)):
        folder = tmp_path / str(layer)
        stop = stop_in_layer(folder, model, layer, ids, document_ends=[37])
        assert stop.__notes__ == [f"{layer} of {len(model.layers)} layers are kept"]
        with passes(model) as seen:
            built = build_streamed(folder, model, ids)
        assert sorted(set(seen)) == list(range(layer, len(model.layers)))
        assert seen == sorted(seen)
        assert built.reused_layers == layer
        assert torch.equal(built.context.logits, want)
        assert files(folder) == files(tmp_path / "chunks")


def test_a_model_that_selects_goes_on_where_it_was_stopped(tmp_path):
    """Red: the layers of a text too long for the model are read anew after every stop."""
    model = load_model(write_checkpoint(tmp_path / "model", llama_config(num_hidden_layers=3)))
    selection = Selection(1, 0, distance=9, far_layers=(1,), window_tokens=8, sink_distance=16)
    reader = model.with_options(selecting(model.config, selection))
    options = {"selection": selection.dumps()}
    want = build(tmp_path / "chunks", reader, **options)
    stop_in_layer(tmp_path / "layers", reader, 2, **options)
    built = build_streamed(tmp_path / "layers", reader, **options)
    assert built.reused_layers == 2
    assert_same(built.context, want.context)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    family=st.sampled_from(["minimax", "mm1", "mm1", "llama", "lightning"]),
    first=st.integers(1, 60),
    same=st.integers(0, 60),
    second=st.integers(1, 60),
    ends=st.lists(st.integers(1, 60), max_size=4),
    chunk_tokens=st.sampled_from([3, 4, 7, 16, 40]),
    kv=st.sampled_from(["float32", "int8"]),
    stop=st.integers(0, 3),
)
def test_it_goes_on_from_whatever_is_there(
    models, tmp_path_factory, family, first, same, second, ends, chunk_tokens, kv, stop
):
    folder = tmp_path_factory.mktemp("c")
    old = IDS[:first]
    new = old[:same] + [(i + 1) % 290 for i in IDS[:second]]
    model, made = models[family], {"chunk_tokens": chunk_tokens}
    if family != "lightning":
        made["kv"] = kv
    a, b = (store(folder / name, model, **made) for name in "ab")
    for one in (a, b):
        one.build(ContextPlan(old, ends))
    want = a.build(ContextPlan(new, ends))
    with streamed():
        layer = stop % len(model.layers)
        hook = model.layers[layer].register_forward_hook(_stop)
        try:
            b.build(ContextPlan(new, ends))
        except KeyboardInterrupt:
            pass
        finally:
            hook.remove()
        built = b.build(ContextPlan(new, ends))
    assert built.reused_tokens == want.reused_tokens
    assert new == old or built.reused_layers == layer
    assert_same(built.context, want.context)
    assert files(b.folder) == files(a.folder)
    verify(b.folder)


def _stop(*_):
    raise KeyboardInterrupt


def test_progress_is_the_share_of_all_layers_and_goes_on_where_it_was(models, tmp_path):
    model = models["mm1"]
    whole, rest = [], []
    build_streamed(tmp_path / "a", model, on_progress=lambda *done: whole.append(done))
    assert whole == sorted(whole)
    assert whole[-1] == (90, 90) and {total for _, total in whole} == {90}
    assert len(set(whole)) > 60
    stop_in_layer(tmp_path / "b", model, 3)
    build_streamed(tmp_path / "b", model, on_progress=lambda *done: rest.append(done))
    assert rest == whole[-len(rest) :]
    assert rest[0][0] == 90 * 3 // 5


def test_an_interrupt_between_chunks_says_what_is_kept(models, tmp_path):
    def stop(done, _total):
        if done > 45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        build_streamed(tmp_path / "c", models["mm1"], on_progress=stop)
    assert caught.value.__notes__ == ["2 of 5 layers are kept"]
    with pytest.raises(StoreError, match="the same command goes on from there"):
        store(tmp_path / "c", models["mm1"]).open()
    assert build_streamed(tmp_path / "c", models["mm1"]).reused_layers == 2


def test_layers_of_other_tokens_or_another_maker_are_not_used(models, tmp_path):
    model = models["mm1"]
    made = {"fingerprint": "b" * 64}, {"chunk_tokens": 5}, {"kv": "int8"}
    reasons = "another model", "chunks of 4 tokens, not 5", "KV is float32, not int8"
    for index, (changes, reason) in enumerate(zip(made, reasons, strict=True)):
        folder = tmp_path / str(index)
        stop_in_layer(folder, model, 3)
        with streamed():
            built = store(folder, model, **changes).build(ContextPlan(IDS))
        assert built.reused_layers == 0
        assert reason in built.why
    stop_in_layer(tmp_path / "c", model, 3)
    built = build_streamed(tmp_path / "c", model, IDS[:89])
    assert built.reused_layers == 0
    assert "of other tokens" in built.why
    assert_same(built.context, cold(model, IDS[:89]))


def test_a_resident_model_takes_over_what_a_streamed_one_began_and_the_reverse(models, tmp_path):
    model = models["mm1"]
    build(tmp_path / "want", model)
    stop_in_layer(tmp_path / "a", model, 3)
    assert build(tmp_path / "a", model).reused_tokens == 0
    assert files(tmp_path / "a") == files(tmp_path / "want")

    def stop(done, _total):
        if done >= 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "b", model, on_progress=stop)
    stop_in_layer(tmp_path / "b", model, 3)
    built = build_streamed(tmp_path / "b", model)
    assert (built.reused_tokens, built.reused_layers) == (52, 3)
    assert_same(built.context, cold(model))
    verify(tmp_path / "b")


def test_a_longer_beginning_is_better_than_few_layers(models, tmp_path):
    model = models["mm1"]
    build(tmp_path / "old", model, IDS[:70])
    for layer, expected in ((1, (64, 0)), (4, (0, 4))):
        folder = tmp_path / str(layer)
        stop_in_layer(folder, model, layer)
        built = build_streamed(folder, model, others=[tmp_path / "old"])
        assert (built.reused_tokens, built.reused_layers) == expected
        assert_same(built.context, cold(model))


def test_what_the_layers_begin_with_outlives_its_lender(models, tmp_path):
    model = models["llama"]
    build(tmp_path / "old", model, IDS[:38])
    stop_in_layer(tmp_path / "c", model, 1, others=[tmp_path / "old"])
    shutil.rmtree(tmp_path / "old")
    built = build_streamed(tmp_path / "c", model)
    assert (built.reused_tokens, built.reused_layers) == (36, 1)
    assert_same(built.context, cold(model))


def test_room_for_hidden_states_is_asked_for_before_the_work(models, tmp_path, monkeypatch):
    model = models["mm1"]
    needed = num_bytes(model, len(IDS), "float32") + (64 << 20)
    hidden = 2 * len(IDS) * model.config.hidden_size * 4
    usage = type("Usage", (), {"free": needed + hidden - 1})
    monkeypatch.setattr("engine.store.store.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(PlacementError, match="saving 90 tokens takes"):
        build_streamed(tmp_path / "c", model)
    build(tmp_path / "chunks", model)  # which keeps none
    usage.free += 1
    stop_in_layer(tmp_path / "c", model, 4)
    usage.free -= sum(512 * p.stat().st_blocks for p in (tmp_path / "c" / "layers").iterdir())
    assert build_streamed(tmp_path / "c", model).reused_layers == 4


class FullDisk:
    """Has room for so many more writes; those to files in `taken` need none, if that is given."""

    def __init__(self, patch, left, taken=None):
        self.left, self.taken = left, taken
        patch.setattr(durable, "put", self.counted(durable.put))
        patch.setattr(durable, "write", self.counted(durable.write))

    def counted(self, write):
        def call(path, *arguments):
            if self.taken is None or not path.name.startswith(self.taken):
                if self.left == 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.left -= 1
            write(path, *arguments)

        return call


@pytest.mark.parametrize("taken", [None, "hidden"])
def test_a_disk_that_fills_up_costs_nothing_that_was_read(models, tmp_path, monkeypatch, taken):
    model, ids, kept = models["mm1"], IDS[:30], []
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, 1000, taken)
        build_streamed(tmp_path / "c", model, ids)
    num_writes = 1000 - disk.left
    want = contents(cold(model, ids))
    step = 12 if taken is None else 4
    for left in sorted({*range(0, num_writes, step), *range(num_writes - 3, num_writes)}):
        folder, notes, seen = tmp_path / str(left), [], []
        with monkeypatch.context() as patch, passes(model) as run:
            FullDisk(patch, left, taken)
            built = build_streamed(
                folder,
                model,
                ids,
                on_progress=lambda done, _, seen=seen: seen.append(done),
                on_unsaved=notes.append,
            )
        assert len(notes) == 1 and "the disk is full" in notes[0]
        assert not built.is_saved
        assert len(run) == -(-len(ids) // CHUNK) * len(model.layers)
        assert seen == sorted(seen) and seen[-1] == len(ids)
        for got, expected in zip(contents(built.context), want, strict=True):
            assert torch.equal(got, expected)
        record = LayerProgress.read(folder)
        kept.append(len(record.layers) if record is not None else 0)
        assert build_streamed(folder, model, ids).reused_layers == kept[-1]
    assert kept == sorted(kept)
    assert {0, 1, 5} <= set(kept) and len(set(kept)) >= 4

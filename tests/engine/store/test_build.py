"""Red here means a saved context is not the one that was built, or work is done twice."""

import threading
from pathlib import Path

import pytest
from builds import CHUNK, IDS, SEGMENT, assert_same, build, cold, store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import PlacementError, StoreError
from engine.layers.kv_cache import KVCache
from engine.store.store import verify


def test_what_is_built_saved_and_opened_is_the_cold_context(model, tmp_path):
    built = build(tmp_path / "c", model)
    assert built.reused_tokens == 0
    assert_same(built.context, cold(model))
    assert_same(store(tmp_path / "c", model).open(), cold(model))


def test_a_second_build_reads_nothing_again(model, tmp_path):
    build(tmp_path / "c", model)
    seen = []
    again = build(tmp_path / "c", model, on_progress=lambda done, total: seen.append(done))
    assert again.reused_tokens == len(IDS)
    assert not seen
    assert_same(again.context, cold(model))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    first=st.integers(1, 60),
    same=st.integers(0, 60),
    second=st.integers(1, 60),
    ends=st.lists(st.integers(1, 60), max_size=4),
)
def test_a_changed_context_begins_where_the_old_one_differs(
    models, tmp_path_factory, first, same, second, ends
):
    """Bit-equal to a cold run, whatever is kept, and no more is read than must be."""
    folder = tmp_path_factory.mktemp("c")
    old = IDS[:first]
    new = old[:same] + [(i + 1) % 290 for i in IDS[:second]]
    for family, model in models.items():
        build(folder / family, model, old, document_ends=ends)
        built = build(folder / family, model, new, document_ends=ends)
        assert built.reused_tokens <= min(first, same) or new == old
        assert built.reused_tokens % CHUNK == 0 or new == old
        if family == "llama":  # no states: every border of the grid will do
            common = next(
                (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
                min(len(old), len(new)),
            )
            assert new == old or built.reused_tokens == min(common, len(new) - 1) // CHUNK * CHUNK
        assert_same(built.context, cold(model, new))
        assert_same(store(folder / family, model).open(), cold(model, new))
        verify(folder / family)


def test_a_context_goes_on_only_from_a_border_of_the_grid(models, tmp_path):
    """Products over other rows round otherwise, so 38 tokens that are there are used up to 36."""
    model = models["llama"]
    build(tmp_path / "c", model, IDS)
    built = build(tmp_path / "c", model, [*IDS[:38], 5, 6, 7])
    assert built.reused_tokens == 36
    assert_same(built.context, cold(model, [*IDS[:38], 5, 6, 7]))


def test_states_stand_at_document_ends_and_checkpoints(models, tmp_path):
    model = models["mm1"]
    build(tmp_path / "c", model, IDS, document_ends=[37])
    changed = IDS[:37] + [5] * 20
    # 36 is the last border of the grid before the document's end at 37.
    assert build(tmp_path / "c", model, changed).reused_tokens in {32, 36}


def test_another_folder_lends_what_it_has_and_keeps_it(model, tmp_path):
    build(tmp_path / "old", model, IDS)
    built = build(tmp_path / "new", model, [*IDS[:64], 5, 6, 7], others=[tmp_path / "old"])
    assert built.reused_tokens == 64
    assert_same(built.context, cold(model, [*IDS[:64], 5, 6, 7]))
    assert_same(store(tmp_path / "old", model).open(), cold(model))
    verify(tmp_path / "old")
    verify(tmp_path / "new")


def test_what_nothing_names_is_removed(model, tmp_path):
    build(tmp_path / "c", model, IDS, attachments={"corpus": b"old"})
    build(tmp_path / "c", model, IDS[:20], attachments={"corpus": b"new"})
    kept = {p.name for p in (tmp_path / "c").rglob("*") if p.is_file() and p.name != "lock"}
    build(tmp_path / "fresh", model, IDS[:20], attachments={"corpus": b"new"})
    fresh = {p.name for p in (tmp_path / "fresh").rglob("*") if p.is_file() and p.name != "lock"}
    # The old one had states at more places; they are of the new one's past and may stay.
    assert fresh <= kept
    assert not any("0000000090" in name for name in kept)


def test_the_saved_part_is_read_from_the_file_and_not_kept_in_memory(model, tmp_path):
    context = build(tmp_path / "c", model).context
    caches = [state for state in context.states if isinstance(state, KVCache)]
    maps = Path("/proc/self/maps").read_text() if caches else ""
    for index in range(len(IDS) // SEGMENT if caches else 0):
        (path,) = (tmp_path / "c" / "kv").glob(f"{index * SEGMENT:010d}-*")
        assert str(path) in maps


def test_attachments_come_back_and_are_replaced_together_with_the_tokens(model, tmp_path):
    from engine.store.manifest import OpenedContext

    build(tmp_path / "c", model, IDS, attachments={"corpus": b"one"})
    assert OpenedContext.read(tmp_path / "c").attachment("corpus") == b"one"
    built = build(tmp_path / "c", model, IDS, attachments={"corpus": b"two"})
    assert built.reused_tokens == len(IDS)
    assert OpenedContext.read(tmp_path / "c").attachment("corpus") == b"two"
    with pytest.raises(StoreError, match="no index in it"):
        OpenedContext.read(tmp_path / "c").attachment("index")


def test_an_interrupt_keeps_what_was_read(model, tmp_path):
    def stop(done, _total):
        if done >= 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "c", model, on_progress=stop)
    with pytest.raises(StoreError, match="not a finished context"):
        store(tmp_path / "c", model).open()
    built = build(tmp_path / "c", model)
    assert built.reused_tokens == 52
    assert_same(built.context, cold(model))
    verify(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": "b" * 64}, "another model"),
        ({"chunk_tokens": 5}, "chunks of 4 tokens, not 5"),
        ({"kv": "int8"}, "KV is float32, not int8"),
    ],
)
def test_a_context_of_another_maker_is_refused(models, tmp_path, changes, reason):
    build(tmp_path / "c", models["mm1"])
    with pytest.raises(StoreError, match=reason):
        store(tmp_path / "c", models["mm1"], **changes).open()


def test_a_full_disk_is_said_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "engine.store.store.shutil.disk_usage", lambda _path: type("U", (), {"free": 1000})
    )
    with pytest.raises(PlacementError, match="saving 90 tokens takes"):
        build(tmp_path / "c", model)


def test_a_disk_that_fills_up_keeps_what_was_saved(model, tmp_path, monkeypatch):
    from engine.store import tensors

    save, calls = tensors.save_file, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(StoreError, match="disk is full"):
        build(tmp_path / "c", model)
    built = build(tmp_path / "c", model)
    assert built.reused_tokens > 0
    assert_same(built.context, cold(model))


def test_a_second_builder_waits_and_finds_the_work_done(models, tmp_path):
    model, waited, started = models["mm1"], [], threading.Event()
    second = []

    def slow(_done, _total):
        started.set()
        if not waited:
            threading.Event().wait(0.01)

    def other():
        started.wait()
        second.append(build(tmp_path / "c", model, on_wait=lambda: waited.append(True)))

    thread = threading.Thread(target=other)
    thread.start()
    build(tmp_path / "c", model, on_progress=slow)
    thread.join()
    assert waited == [True]
    assert second[0].reused_tokens == len(IDS)


def test_no_token_no_context(model, tmp_path):
    with pytest.raises(StoreError, match="nothing to build"):
        build(tmp_path / "c", model, [])

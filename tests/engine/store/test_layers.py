"""Red here means a context built layer by layer is another one, or layers are run twice."""

import pytest
from builds import CHUNK, IDS, assert_same, build, cold, store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamed import build_streamed, files, passes, stop_in_layer, streamed

from engine.store.plan import ContextPlan
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


def test_a_stop_in_any_layer_costs_that_layer_only(model, tmp_path):
    build(tmp_path / "chunks", model, document_ends=[37])
    for layer in range(len(model.layers)):
        folder = tmp_path / str(layer)
        stop = stop_in_layer(folder, model, layer, document_ends=[37])
        assert stop.__notes__ == [f"{layer} of {len(model.layers)} layers are kept"]
        with passes(model) as seen:
            built = build_streamed(folder, model)
        assert set(seen) == set(range(layer, len(model.layers)))
        assert built.reused_layers == layer
        assert_same(built.context, cold(model))
        assert files(folder) == files(tmp_path / "chunks")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    first=st.integers(1, 60),
    same=st.integers(0, 60),
    second=st.integers(1, 60),
    ends=st.lists(st.integers(1, 60), max_size=4),
    chunk_tokens=st.sampled_from([3, 4, 7, 16, 40]),
    kv=st.sampled_from(["float32", "int8"]),
    stop=st.integers(0, 3),
)
def test_it_goes_on_from_whatever_is_there(
    models, tmp_path_factory, first, same, second, ends, chunk_tokens, kv, stop
):
    folder = tmp_path_factory.mktemp("c")
    old = IDS[:first]
    new = old[:same] + [(i + 1) % 290 for i in IDS[:second]]
    for family, model in models.items():
        made = {"chunk_tokens": chunk_tokens}
        if family != "lightning":
            made["kv"] = kv
        a, b = (store(folder / f"{family}-{name}", model, **made) for name in "ab")
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

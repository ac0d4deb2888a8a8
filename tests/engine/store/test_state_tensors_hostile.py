"""Red here means damaged or forged files of unfinished layers end in a wrong context, or a write
goes where it must not."""

import json
import shutil
import tracemalloc

import pytest
from builds import IDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamed import build_streamed, files, passes, stop_in_layer

from engine import authentic
from engine.store.store import verify

TOKENS = IDS[:45]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, models):
    """Folders after a stop in layer 3 of 5, while all were sealed, and when the build was done."""
    import builds

    with pytest.MonkeyPatch.context() as patch:
        builds.make_small(patch.setattr)
        root, model = tmp_path_factory.mktemp("stopped"), models["mm1"]
        stop_in_layer(root / "3", model, 3, TOKENS)
        with pytest.MonkeyPatch.context() as inner, pytest.raises(KeyboardInterrupt):
            inner.setattr("engine.durable.sync_folder", interrupt_after_states())
            build_streamed(root / "sealed", model, TOKENS)
        build_streamed(root / "done", model, TOKENS)
    return root


def interrupt_after_states():
    def sync(folder):
        if folder.name == "states":
            raise KeyboardInterrupt

    return sync


def content_files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")


def expect(built, folder, stopped, model):
    """The context is right, however much of it was there."""
    want = files(stopped / "done")
    assert files(folder) == want
    assert verify(folder) == sum(map(len, want.values()))
    assert built.is_saved


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_flipped_bit_is_found_or_harmless(models, stopped, tmp_path_factory, data):
    start = data.draw(st.sampled_from(["3", "sealed"]))
    folder = shutil.copytree(stopped / start, tmp_path_factory.mktemp("flip") / "c")
    path = data.draw(st.sampled_from(content_files(folder)))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    if path.name.startswith("tokens"):  # as in every build: named by their hash, never read again
        return
    built = build_streamed(folder, models["mm1"], TOKENS)
    expect(built, folder, stopped, models["mm1"])
    if built.reused_layers != (3 if start == "3" else 5):
        assert str(folder) in built.why


@pytest.mark.parametrize("share", [0, 0.3, 0.99, None])
@pytest.mark.parametrize("name", ["layers.json", "hidden-1.bin", "kv-0000000008*", "states-*45*"])
def test_a_file_that_was_cut_or_is_missing_is_made_again(models, stopped, tmp_path, name, share):
    folder = shutil.copytree(stopped / "3", tmp_path / "c")
    for path in (folder / "layers").glob(name):
        content = path.read_bytes()
        path.unlink()
        if share is not None:
            path.write_bytes(content[: int(len(content) * share)])
    built = build_streamed(folder, models["mm1"], TOKENS)
    # Layer 3 had begun and written nothing, so what layer 2 reads is still there.
    assert built.reused_layers == (2 if name == "hidden-1.bin" else 0)
    assert str(folder) in built.why or (name, share) == ("layers.json", None)
    expect(built, folder, stopped, models["mm1"])


@pytest.mark.parametrize(("stop_at", "expected"), [(0, 2), (28, 0)])
def test_damage_costs_one_layer_where_what_it_read_is_there(
    models, stopped, tmp_path, stop_at, expected
):
    """And all of them where the next one has overwritten that."""
    model, folder = models["mm1"], tmp_path / "c"

    def stop(done, _total):
        if done >= stop_at:
            raise KeyboardInterrupt

    if stop_at:
        with pytest.raises(KeyboardInterrupt):
            build_streamed(folder, model, TOKENS, on_progress=stop)
    else:
        shutil.copytree(stopped / "3", folder)
    hidden = folder / "layers" / "hidden-1.bin"
    hidden.write_bytes(hidden.read_bytes()[:-1] + b"\x55")
    with passes(model) as seen:
        built = build_streamed(folder, model, TOKENS)
    assert sorted(set(seen)) == list(range(expected, 5))
    assert built.reused_layers == expected
    assert built.why.endswith(f"{expected} of 3 finished layers are used")
    assert "damaged" in built.why
    expect(built, folder, stopped, model)


def test_a_file_that_has_its_name_is_held_against_its_checksum(models, stopped, tmp_path):
    """All of it: what stands before the tensors is in no layer's checksum."""
    model, folder = models["mm1"], shutil.copytree(stopped / "sealed", tmp_path / "c")
    path = min((folder / "kv").iterdir())
    content = path.read_bytes()
    at = content.index(b"hmac_sha256") + 17
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    built = build_streamed(folder, model, TOKENS)
    assert built.reused_layers == 0 and "damaged" in built.why
    expect(built, folder, stopped, model)


def test_files_with_their_names_are_not_written_to_again(models, stopped, tmp_path):
    """Contexts that begin alike share them."""
    model, folder = models["mm1"], shutil.copytree(stopped / "sealed", tmp_path / "c")
    paths = [*content_files(folder / "kv"), *content_files(folder / "states")]
    shared = {path: path.stat().st_mtime_ns for path in paths}
    assert len(shared) == 6 + 3
    (folder / "layers" / "hidden-1.bin").unlink()
    built = build_streamed(folder, model, TOKENS)
    assert built.reused_layers == 4
    assert shared == {path: path.stat().st_mtime_ns for path in shared}
    expect(built, folder, stopped, model)


def rewrite(folder, **changes):
    path = folder / "layers" / "layers.json"
    body = json.loads(path.read_text()) | changes
    del body["checksum"]
    body["checksum"] = authentic.hexdigest("manifest", json.dumps(body, sort_keys=True).encode())
    path.write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 1}, "version 1"),
        ({"format": "mm1 context"}, "not a saved context"),
        ({"fingerprint": "c" * 64}, "another model"),
        ({"dtype": "bfloat16"}, "another model"),
        ({"num_tokens": 2**31 - 1, "states": [2**31 - 1]}, "other tokens"),
        ({"num_tokens": 10**12}, "is no number"),
        ({"first_token": 45}, "is no number"),
        ({"first_token": 3}, "off the grid"),
        ({"first_token": 32, "states": [45]}, "begin with is not there"),
        ({"states": [7, 45]}, "off the grid"),
        ({"states": [32, 16, 45]}, "not in order"),
        ({"states": [16, 32]}, "not to the end"),
        ({"states": []}, "not to the end"),
        ({"states": [8, 45]}, "missing"),
        ({"layers": []}, "is no number"),
        ({"layers": ["0" * 32] * 6}, "another model"),
        ({"layers": ["0" * 32] * 3}, "does not give its checksum"),
        ({"layers": ["../../etc/passwd"]}, "no hash"),
        ({"hidden": ["0" * 32, "0" * 32]}, "do not give their checksum"),
        ({"hidden": ["0" * 32]}, "makes no sense"),
        ({"chain": "0" * 32}, "other tokens"),
    ],
)
def test_a_forged_record_is_refused_before_anything_is_allocated(
    models, stopped, tmp_path, changes, reason
):
    folder = shutil.copytree(stopped / "3", tmp_path / "c")
    rewrite(folder, **changes)
    tracemalloc.start()
    try:
        built = build_streamed(folder, models["mm1"], TOKENS)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20  # what is forged would take 270 GB
    finally:
        tracemalloc.stop()
    assert reason.replace("missing", "No such file") in built.why
    assert built.reused_layers == 0
    expect(built, folder, stopped, models["mm1"])


REUSED = {"hidden-0.bin": 3, "hidden-1.bin": 2, "layers.json.part": 3}
REUSED |= {"kv-0000000008.safetensors": 0}


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("name", REUSED)
def test_nothing_outside_is_written_to(models, stopped, tmp_path, name, how):
    folder = shutil.copytree(stopped / "3", tmp_path / "c")
    path = folder / "layers" / name
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("mine")
    before = outside.read_bytes()
    getattr(path, how)(outside)
    built = build_streamed(folder, models["mm1"], TOKENS)
    assert outside.read_bytes() == before
    assert built.reused_layers == REUSED[name]
    expect(built, folder, stopped, models["mm1"])


def test_a_folder_of_layers_that_lies_elsewhere_is_not_used(models, stopped, tmp_path):
    folder = shutil.copytree(stopped / "3", tmp_path / "c")
    (folder / "layers").rename(tmp_path / "outside")
    before = files(tmp_path / "outside")
    (folder / "layers").symlink_to(tmp_path / "outside")
    built = build_streamed(folder, models["mm1"], TOKENS)
    assert files(tmp_path / "outside") == before
    assert built.reused_layers == 0 and "no plain folder" in built.why
    expect(built, folder, stopped, models["mm1"])

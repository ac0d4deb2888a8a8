"""Red here means a damaged or forged context is read as if it were whole, or costs memory first."""

import json
import shutil
import tracemalloc

import pytest
import torch
from builds import IDS, assert_same, build, cold, store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine import authentic
from engine.errors import StoreError
from engine.store.store import verify
from engine.store.transfer import export_context, import_context


@pytest.fixture(scope="module")
def saved(tmp_path_factory, models):
    """A finished context in a folder that no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        import builds

        builds.make_small(patch.setattr)
        folder = tmp_path_factory.mktemp("saved") / "c"
        build(folder, models["mm1"], IDS, attachments={"corpus": b"some text"})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "c")


def facts(metadata):
    return {name: value for name, value in metadata.items() if name != "hmac_sha256"}


def content_files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")


def refused(folder, model):
    """The reason the folder is refused for, by both `open` and `verify`."""
    with pytest.raises(StoreError) as by_verify:
        verify(folder)
    with pytest.raises(StoreError) as by_open:
        store(folder, model).open()
    assert "\n" not in str(by_open.value)
    return f"{by_open.value} | {by_verify.value}"


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_flipped_bit_is_found_or_harmless(models, saved, tmp_path_factory, data):
    folder = shutil.copytree(saved, tmp_path_factory.mktemp("flip") / "c")
    path = data.draw(st.sampled_from(content_files(folder)))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(StoreError):
        verify(folder)
    try:
        context = store(folder, models["mm1"]).open()
    except StoreError:
        return
    # States before the end and attachments are not needed to open it.
    assert path.parent.name in {"states", "attachments"}
    assert_same(context, cold(models["mm1"]))


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
@pytest.mark.parametrize("pattern", ["manifest.json", "tokens-*", "kv/*-0000000016-*", "kv/*-90-*"])
def test_a_cut_file_is_refused(models, folder, pattern, share):
    for path in folder.glob(pattern.replace("-90-", "-0000000090-")):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
    assert refused(folder, models["mm1"])


@pytest.mark.parametrize("pattern", ["manifest.json", "tokens-*", "kv/*", "states/*"])
def test_a_missing_file_is_refused(models, folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()
    assert refused(folder, models["mm1"])


def rewrite(folder, name="manifest.json", **changes):
    """The manifest with `changes` and a checksum that is right: a forgery."""
    body = json.loads((folder / name).read_text())
    body |= changes
    del body["checksum"]
    body["checksum"] = authentic.hexdigest("manifest", json.dumps(body, sort_keys=True).encode())
    (folder / name).write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 1}, "version 1"),
        ({"version": 0}, "version 0"),
        ({"format": "zip"}, "not a saved context"),
        ({"fingerprint": "c" * 64}, "another model"),
        ({"kv": "int8"}, "int8"),
        ({"num_tokens": 10**12, "saved_tokens": 10**12, "states": [10**12]}, "is no number"),
        ({"num_tokens": 2**31 - 1, "saved_tokens": 2**31 - 1, "states": [2**31 - 1]}, "bytes"),
        ({"num_tokens": 91, "saved_tokens": 91, "states": [91]}, "bytes"),
        ({"num_tokens": -1, "saved_tokens": -1, "states": [-1]}, "is no number"),
        ({"num_tokens": True}, "is no number"),
        ({"saved_tokens": 80}, "not finished"),
        ({"states": [16]}, "not finished"),
        ({"states": [90, 90]}, "not in order"),
        ({"chain": "../../../etc/passwd"}, "no hash"),
        ({"attachments": {"../../x": [1, "0" * 32]}}, "attachment"),
        ({"attachments": []}, "makes no sense"),
    ],
)
def test_a_forged_manifest_is_refused_before_anything_is_allocated(models, folder, changes, reason):
    rewrite(folder, **changes)
    tracemalloc.start()
    try:
        assert reason in refused(folder, models["mm1"])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_that_was_edited_is_damaged(models, folder):
    """Without this number a context would go on from one checkpoint less, and nobody would know."""
    path = folder / "manifest.json"
    states = json.loads(path.read_text())["states"]
    assert len(states) > 2
    path.write_text(path.read_text().replace(f"  {states[0]},\n", ""))
    assert json.loads(path.read_text())["states"] == states[1:]
    assert refused(folder, models["mm1"]).count("manifest.json: damaged") == 2


def test_a_list_of_tokens_longer_than_the_kv_is_refused(models, folder):
    (tokens,) = folder.glob("tokens-*")
    tokens.write_bytes(tokens.read_bytes() * 2)
    assert "bytes, expected 4 for each of 90" in refused(folder, models["mm1"])


def test_other_tokens_of_the_same_number_are_refused(models, folder):
    (tokens,) = folder.glob("tokens-*")
    tokens.write_bytes(bytes(len(tokens.read_bytes())))
    assert "do not give the context's hash" in refused(folder, models["mm1"])


def test_files_that_changed_places_are_refused(models, folder):
    first, second = sorted((folder / "kv").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert "expected" in refused(folder, models["mm1"])


@pytest.mark.parametrize(
    "change", [lambda t: t.half(), lambda t: t[:, :3].contiguous(), lambda t: t.flatten()]
)
def test_kv_of_another_shape_or_dtype_is_refused(models, folder, change):
    from engine.store import tensors

    path = min((folder / "kv").iterdir())
    file, metadata = tensors._open(path, {})
    found = {name: change(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    metadata["hmac_sha256"] = tensors.checksum(found, facts(metadata))
    save_file(found, path, {"mm1": json.dumps(metadata)})
    with pytest.raises(StoreError, match="expected"):
        store(folder, models["mm1"]).open()


def test_nan_in_a_forged_state_gives_no_answer_of_this_context(models, folder):
    """Bytes that were changed together with their checksum are another context: it opens, and is
    what it says. What it cannot do is to crash the reader."""
    from engine.store import tensors

    path = max((folder / "states").iterdir())
    file, metadata = tensors._open(path, {})
    found = {n: torch.full_like(file.get_tensor(n), torch.nan) for n in file.keys()}  # noqa: SIM118
    metadata["hmac_sha256"] = tensors.checksum(found, facts(metadata))
    save_file(found, path, {"mm1": json.dumps(metadata)})
    assert store(folder, models["mm1"]).open().logits.isnan().all()


def test_a_damaged_context_is_built_anew_and_says_why(models, folder):
    path = min((folder / "kv").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    built = build(folder, models["mm1"], [*IDS, 5])
    assert built.reused_tokens == 0
    assert "damaged" in built.why
    assert_same(built.context, cold(models["mm1"], [*IDS, 5]))
    verify(folder)


def test_a_state_without_its_kv_is_not_used(models, tmp_path):
    """A build that says it has states further on than its KV goes on from where it has both."""
    folder = tmp_path / "c"

    def stop(done, _total):
        if done >= 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, models["mm1"], on_progress=stop)
    rewrite(folder, name="partial.json", saved_tokens=24)
    for path in (folder / "kv").iterdir():
        if int(path.name[:10]) >= 24:
            path.unlink()
    built = build(folder, models["mm1"])
    assert built.reused_tokens == 16 and not built.why.endswith("missing")
    assert_same(built.context, cold(models["mm1"]))


@pytest.mark.parametrize("of", ["manifest", "kv", "attachment"])
def test_what_was_made_without_the_users_key_is_refused(models, folder, of):
    """Red: who can write to the folder says what was read, and nobody is warned."""
    from engine.store import tensors

    with authentic.without_key():
        if of == "manifest":
            rewrite(folder)
        elif of == "kv":
            path = min((folder / "kv").iterdir())
            file, metadata = tensors._open(path, {})
            found = {n: file.get_tensor(n) + 1 for n in file.keys()}  # noqa: SIM118
            metadata["hmac_sha256"] = tensors.checksum(found, facts(metadata))
            save_file(found, path, {"mm1": json.dumps(metadata)})
        else:
            (path,) = (folder / "attachments").iterdir()
            path.write_bytes(b"same size"[: path.stat().st_size])
    with pytest.raises(StoreError, match="checksum"):
        store(folder, models["mm1"]).open()
        verify(folder)


def test_a_file_of_another_place_with_its_facts_edited_is_refused(models, folder):
    """Its tensors are this user's, but not what they are said to be."""
    from engine.store import tensors

    early, late = sorted((folder / "states").iterdir())[:2]
    _, wanted = tensors._open(early, {})
    file, metadata = tensors._open(late, {})
    found = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    told = {**wanted, "hmac_sha256": metadata["hmac_sha256"]}
    save_file(found, early, {"mm1": json.dumps(told)})
    with pytest.raises(StoreError, match="checksum"):
        verify(folder)


def test_a_context_goes_to_another_user_only_by_export_and_import(
    models, folder, tmp_path, monkeypatch
):
    """Red: a context of somebody else opens as if it were one's own, or never does."""
    export_context(folder, tmp_path / "out")
    with pytest.raises(StoreError, match="context import"):
        verify(tmp_path / "out")
    monkeypatch.setenv("MM1_STATE_DIR", str(tmp_path / "another"))
    with pytest.raises(StoreError, match="context import"):
        verify(folder)
    size = import_context(tmp_path / "out", tmp_path / "in")
    assert verify(tmp_path / "in") == size
    assert_same(store(tmp_path / "in", models["mm1"]).open(), cold(models["mm1"], IDS))
    path = min((tmp_path / "out" / "kv").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match="checksum"):
        import_context(tmp_path / "out", tmp_path / "in-2")
    assert not (tmp_path / "in-2").exists()

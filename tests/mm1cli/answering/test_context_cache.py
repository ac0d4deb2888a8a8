"""Red here means the kept contexts grow over their limit, or something else than an unused one is
removed."""

import os
import shutil

import builds
import filelock
import pytest
from builds import IDS

from engine import durable
from mm1cli.answering.context_cache import ContextCache, describe, remove
from mm1cli.errors import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    builds.build(folder / "c", builds.tiny_model("minimax", folder), IDS)
    return folder / "c"


@pytest.fixture
def cache(tmp_path, saved):
    """Three contexts of the same size, used at seconds 100, 200 and 300."""
    for second, name in enumerate(("first", "second", "third"), 1):
        folder = shutil.copytree(saved, tmp_path / "root" / name)
        (folder / "used").touch()
        for path in folder.rglob("*"):
            os.utime(path, (second * 100, second * 100))
    return ContextCache(tmp_path / "root", 10**9)


def names(cache):
    return [kept.folder.name for kept in cache]


def test_a_context_is_described_by_its_manifest(cache):
    kept = describe(cache.root / "second")
    assert kept.context.num_tokens == len(IDS)
    assert kept.used_s == 200
    files = [path for path in (cache.root / "second").rglob("*") if path.is_file()]
    assert kept.num_bytes == sum(path.stat().st_size for path in files)


def test_the_one_not_used_for_longest_goes_first(cache):
    one = describe(cache.root / "first").num_bytes
    cache.touch(cache.root / "first")
    gone = ContextCache(cache.root, 2 * one).shrink()
    assert [kept.folder.name for kept in gone] == ["second"]
    assert names(cache) == ["first", "third"]


def test_the_one_in_use_stays_even_if_it_is_too_large(cache):
    small = ContextCache(cache.root, 1)
    assert [kept.folder.name for kept in small.shrink(cache.root / "second")] == ["first", "third"]
    assert names(cache) == ["second"]


def test_the_one_that_is_being_built_stays(cache):
    with filelock.FileLock(cache.root / "first" / "lock"):
        assert not remove(cache.root / "first")
        assert "first" not in {k.folder.name for k in ContextCache(cache.root, 1).shrink()}
    assert names(cache) == ["first"]


def test_shared_files_count_once(cache):
    total = cache.num_bytes()
    twin = cache.root / "twin"
    shutil.copytree(cache.root / "first", twin, copy_function=os.link)
    assert cache.num_bytes() == total
    assert remove(twin)
    assert cache.num_bytes() == total
    assert describe(cache.root / "first").context is not None


def test_a_removal_that_was_killed_is_finished_and_never_listed(cache):
    (cache.root / "first").rename(cache.root / "first.gone")
    assert names(cache) == ["second", "third"]
    cache.shrink()
    assert not (cache.root / "first.gone").exists()


@pytest.mark.parametrize("done", range(6))
def test_a_removal_that_was_killed_half_way_is_finished(cache, monkeypatch, done):
    """Three folders, the lock, `used` and the manifest, in any order; the tokens are last."""
    left = [done]

    def until_killed(then):
        def count(path):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            then(path)

        return count

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(durable.Path, "unlink", until_killed(durable.Path.unlink))
        patch.setattr(durable.shutil, "rmtree", until_killed(shutil.rmtree))
        remove(cache.root / "first")
    assert names(cache) == ["second", "third"]
    assert len(list(cache.root.iterdir())) == 3
    assert len(list(cache.root.glob("first.*.gone/tokens-*.bin"))) == 1
    cache.shrink()
    assert len(list(cache.root.iterdir())) == 2


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("{}")
    return folder


HASH = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("there", "looks_like"),
    [
        ([], "a folder of 0 files without"),
        (["a.md", "b.md", "c/d.md"], "a folder of 2 files and 1 folder without"),
        (["manifest.json"], "a folder of 1 file without"),
        (["manifest.json", "lock", "kv/"], "a folder of 2 files and 1 folder without"),
        ([f"attachments/{HASH}-photo.jpg"], "a folder of 0 files and 1 folder without"),
        (["tokens-1.bin", "kv/0-8.safetensors"], "without a saved context's manifest"),
        ([f"tokens-{HASH}.bin", "main.py"], "holds main.py, which is no part of"),
        ([f"tokens-{HASH}.bin", "kv"], "holds kv, which is no part of"),
    ],
)
@pytest.mark.parametrize("name", ["other", "other.gone"])
def test_what_is_no_context_stays_and_what_it_looks_like_is_said(cache, there, looks_like, name):
    """Also where a removal that was killed leaves a context."""
    (cache.root / name).mkdir()
    other = put(cache.root / name, *there)
    before = sorted(other.rglob("*"))
    with pytest.raises(InputError) as refused:
        remove(other)
    assert looks_like in str(refused.value)
    assert str(refused.value).endswith("; nothing was removed")
    assert len(ContextCache(cache.root, 0).shrink()) == 3
    assert sorted(other.rglob("*")) == before
    assert cache.num_bytes() == 0


@pytest.mark.parametrize("name", ["notes.txt", "kv/notes.txt", "old/notes.txt", "layers/a/b.txt"])
def test_a_context_with_a_file_of_somebody_in_it_stays(cache, name):
    put(cache.root / "first", name)
    with pytest.raises(InputError, match=f"first holds {name}, which is no part"):
        remove(cache.root / "first")
    assert {one.folder.name for one in ContextCache(cache.root, 0).shrink()} == {"second", "third"}
    assert (cache.root / "first" / name).read_text() == "{}"
    assert describe(cache.root / "first").context is not None


def test_what_is_no_context_pushes_none_out(cache):
    limit = cache.num_bytes()
    put(cache.root / "other", "big.bin")
    os.truncate(cache.root / "other" / "big.bin", 2 * limit)
    assert ContextCache(cache.root, limit).shrink() == []


def test_no_link_is_followed(cache, saved, tmp_path):
    """Neither one in the cache, nor in a context, nor one that somebody names."""
    total = cache.num_bytes()
    outside = shutil.copytree(saved, tmp_path / "outside")
    before = sorted(outside.rglob("*"))
    for name in ("link", "link.gone"):
        (cache.root / name).symlink_to(outside)
        with pytest.raises(InputError, match=f"{name} is a symbolic link"):
            remove(cache.root / name)
    assert names(cache) == ["first", "second", "third"]
    assert cache.num_bytes() == total
    shutil.rmtree(cache.root / "first" / "kv")
    (cache.root / "first" / "kv").symlink_to(outside)
    with pytest.raises(InputError, match="first holds kv, which"):
        remove(cache.root / "first")
    assert describe(cache.root / "first").num_bytes < describe(cache.root / "second").num_bytes
    assert len(ContextCache(cache.root, 0).shrink()) == 2
    assert sorted(outside.rglob("*")) == before


def test_a_cache_that_is_a_link_is_left_alone(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.root)
    linked = ContextCache(tmp_path / "link", 0)
    with pytest.raises(InputError, match="link is a symbolic link"):
        linked.shrink()
    assert (list(linked), linked.num_bytes()) == ([], 0)
    assert len(names(cache)) == 3


def test_unfinished_contexts_are_removed(cache):
    (cache.root / "first" / "manifest.json").unlink()
    (cache.root / "second" / "manifest.json").write_bytes(b"cut")
    put(cache.root / "begun", "lock", "kv/", "states/", "attachments/")
    assert all(remove(cache.root / name) for name in ("first", "second", "begun"))
    assert [path.name for path in cache.root.iterdir()] == ["third"]


def test_a_folder_that_is_no_context_says_why(cache):
    (cache.root / "third" / "manifest.json").unlink()
    kept = describe(cache.root / "third")
    assert kept.context is None
    assert "no manifest.json" in kept.why


def test_no_folder_is_no_context(tmp_path):
    empty = ContextCache(tmp_path / "absent", 5)
    assert list(empty) == []
    assert empty.shrink() == []
    assert empty.num_bytes() == 0

"""Red here means the kept contexts grow over their limit, or one that is in use is removed."""

import os
import shutil

import builds
import filelock
import pytest
from builds import IDS

from mm1cli.answering.context_cache import ContextCache, describe, remove


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

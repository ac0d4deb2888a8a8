"""Red here means a power loss can leave a manifest that names what never reached the disk.

A disk may lose whatever was not synced: bytes of a file since its fsync, and names since the fsync
of their folder. So each file must be synced before it gets its name, each name before a manifest
that stands on it, and nothing old may go before the new manifest is there to stay.
"""

import os
from pathlib import Path

import pytest
from builds import IDS, build

from engine.store.manifest import FINISHED, PARTIAL, Saved


class Disk:
    """Watches what is synced, named and removed; complains when the order is wrong."""

    def __init__(self, monkeypatch):
        self.synced = {}  # path -> bytes at its last fsync
        self.unsafe = set()  # names that a power loss may undo
        self.manifests = 0
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
            monkeypatch.setattr(owner, name, self.watch(name, getattr(owner, name)))

    def watch(self, name, function):
        def call(subject, *arguments, **options):
            getattr(self, name)(subject, *arguments)
            return function(subject, *arguments, **options)

        return call

    def fsync(self, descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.unsafe = {one for one in self.unsafe if one.parent != path}
        else:
            self.synced[path] = path.read_bytes()

    def replace(self, source, target):
        assert self.synced.get(source) == source.read_bytes(), f"{target} is named before its bytes"
        if target.name in (FINISHED, PARTIAL):
            self.manifests += 1
            folder = target.parent
            source.rename(beside := folder / f"new-{target.name}")
            for path in Saved.read(folder, beside.name).files():
                assert path.exists(), f"{target} names {path}, which is not there"
                assert path not in self.unsafe, f"{target} names {path}, whose name may be lost"
            beside.rename(source)
        self.unsafe.add(target)

    def unlink(self, path, *_):
        if path.exists() and not path.name.endswith(".part"):
            assert path.parent / FINISHED not in self.unsafe
            assert path.parent.parent / FINISHED not in self.unsafe


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for the path")
def test_nothing_is_named_before_it_is_on_disk(model, tmp_path, monkeypatch):
    monkeypatch.undo()  # of the quick disk
    import builds

    builds.make_small(monkeypatch.setattr)
    disk = Disk(monkeypatch)
    build(tmp_path / "c", model, IDS, document_ends=[30], attachments={"corpus": b"one"})
    first = disk.manifests
    build(tmp_path / "c", model, IDS[:50], attachments={"corpus": b"two"})
    assert first > 2 and disk.manifests > first
    assert not disk.unsafe

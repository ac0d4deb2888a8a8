"""Red here means a power loss can leave a manifest that names what never reached the disk.

A disk may lose whatever was not synced: bytes of a file since its fsync, and names since the fsync
of their folder. So each file must be synced before it gets its name, each name before a manifest
that stands on it, and nothing old may go before the new manifest is there to stay.
"""

import json
import os
from pathlib import Path

import pytest
from builds import IDS, build
from streamed import build_streamed, files

from engine.store.manifest import FINISHED, PARTIAL, OpenedContext

FSYNC = os.fsync


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
            for path in OpenedContext.read(folder, beside.name).files():
                assert path.exists(), f"{target} names {path}, which is not there"
                assert path not in self.unsafe, f"{target} names {path}, whose name may be lost"
            beside.rename(source)
        self.unsafe.add(target)

    def unlink(self, path, *_):
        if path.exists() and not path.name.endswith(".part") and path.parent.name != "layers":
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
    build_streamed(tmp_path / "c", model, IDS[:20] + IDS[:20], attachments={"corpus": b"three"})
    assert not disk.unsafe


class Losses:
    """Keeps what a power loss could leave, at the moments when it could leave least."""

    def __init__(self, monkeypatch, copies):
        self.copies, self.expected = copies, []
        self.synced, self.listed = {}, {}  # path -> bytes, folder -> names, at their last fsync
        self.record = None  # that is on disk for certain
        for owner, name in ((os, "fsync"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self.watch(name, getattr(owner, name)))

    def watch(self, name, function):
        def call(subject, *arguments):
            getattr(self, name)(subject, *arguments)
            return function(subject, *arguments)

        return call

    def fsync(self, descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.listed[path] = {one.name for one in path.iterdir()}
            if path.name == "layers" and (path / "layers.json").exists():
                self.record = (path / "layers.json").read_bytes()
            return
        self.synced[path] = path.read_bytes()
        if path.name.startswith("hidden") and self.record is not None:
            # Everything that was written since may be there, but the record is not a later one.
            folder = path.parent.parent
            now = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
            self.keep(folder, now | {path.parent / "layers.json": self.record})

    def replace(self, source, target):
        self.synced[target] = self.synced.get(source, b"")
        if target.name == "layers.json":
            # The record may get there at once, and nothing else that was not synced.
            folder = target.parent.parent
            left = {p: c for p, c in self.synced.items() if p.name in self.listed[p.parent]}
            self.keep(folder, left | {target: self.synced[source]})
        self.listed.setdefault(target.parent, set()).add(target.name)

    def keep(self, folder, left):
        copy = self.copies / str(len(self.expected))
        for path, content in left.items():
            place = copy / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        layers = json.loads(left[folder / "layers" / "layers.json"])["layers"]
        self.expected.append(len(layers))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for the path")
def test_no_finished_layer_is_lost(models, tmp_path):
    model, ids = models["mm1"], IDS[:30]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", FSYNC)
        losses = Losses(patch, tmp_path / "copies")
        build_streamed(tmp_path / "c", model, ids)
    want = files(tmp_path / "c")
    assert losses.expected == [1, 1, 2, 2, 3, 3, 4, 4, 5]
    for index, layers in enumerate(losses.expected):
        copy = tmp_path / "copies" / str(index)
        assert build_streamed(copy, model, ids).reused_layers == layers
        assert files(copy) == want

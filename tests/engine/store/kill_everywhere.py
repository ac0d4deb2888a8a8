"""Builds a context in forked children and kills each at another write, fsync, rename or removal.

    python kill_everywhere.py FOLDER

Run by test_kills.py in a process of its own: forking wants no threads. Prints one line per kill and
exits 1 at the first folder that opens as anything but the old or the new context, or that goes on
to other bytes than a build that was never killed.
"""

import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import builds
import torch
from streamed import build_streamed

from engine.errors import StoreError
from engine.store import tensors
from engine.store.manifest import OpenedContext
from engine.store.store import verify

OLD, NEW = builds.IDS[:26], builds.IDS[:18] + builds.IDS[:9]
KILLED = 9


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def build(folder, model, ids, make=builds.build):
    attachments = {"corpus": str(len(ids)).encode() * 40}
    return make(folder, model, ids, document_ends=[12, 22], attachments=attachments)


class Countdown:
    """Dies at operation number `left`; a write that is hit leaves half of its bytes behind."""

    def __init__(self, left):
        self.left = left

    def tick(self):
        self.left -= 1
        return self.left == 0

    def before(self, function):
        def call(*arguments, **options):
            if self.tick():
                os._exit(KILLED)
            return function(*arguments, **options)

        return call

    def torn(self, function, path_at):
        def call(*arguments, **options):
            function(*arguments, **options)
            if self.tick():
                path = Path(arguments[path_at])
                os.truncate(path, path.stat().st_size // 2)
                os._exit(KILLED)

        return call

    def torn_in_place(self, function):
        def call(descriptor, content, offset):
            if self.tick():
                function(descriptor, content[: len(content) // 2], offset)
                os._exit(KILLED)
            return function(descriptor, content, offset)

        return call

    def install(self):
        os.fsync = self.before(os.fsync)
        os.pwrite = self.torn_in_place(os.pwrite)
        Path.replace = self.before(Path.replace)
        Path.unlink = self.before(Path.unlink)
        Path.write_bytes = self.torn(Path.write_bytes, 0)
        Path.write_text = self.torn(Path.write_text, 0)
        tensors.save_file = self.torn(tensors.save_file, 1)


def in_child(work):
    """The exit status of `work` in a fork; negative for a signal."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def expect(context, cold):
    pairs = zip(builds.contents(context), cold[tuple(context.token_ids)], strict=True)
    if not all(torch.equal(got, want) for got, want in pairs):
        sys.exit("the context is not that of its tokens")


def check(folder, model, cold, wanted, make=builds.build):
    """The folder opens as the old or the new context, and a build ends in the same bytes.

    Returns how many layers of it were there.
    """
    try:
        context = builds.store(folder, model).open()
    except StoreError:
        context = None  # nothing was there before, and nothing is finished
    if context is not None:
        expect(context, cold)
        verify(folder)
    built = build(folder, model, NEW, make)
    expect(built.context, cold)
    verify(folder)
    found = files(folder)
    for name in sorted(wanted.keys() | found.keys()):
        # States of the common past may stand at more places; all that both have is equal.
        if name == "manifest.json" or (name not in wanted and name.startswith("states/")):
            continue
        if found.get(name) != wanted.get(name):
            sys.exit(f"{folder}: {name} is not what an undisturbed build leaves")
    return built.reused_layers


def is_new(folder):
    with suppress(StoreError):
        return OpenedContext.read(folder).manifest.num_tokens == len(NEW)


def main(root):
    builds.make_small(setattr)
    os.fsync = lambda _descriptor: None  # a kill is no power loss, and it costs milliseconds a file
    torch.set_num_threads(1)
    model = builds.tiny_model("mm1", root)
    cold = {tuple(ids): builds.contents(builds.cold(model, ids)) for ids in (OLD, NEW)}
    before = root / "before"
    build(before, model, OLD)
    clean = root / "clean"
    shutil.copytree(before, clean)
    build(clean, model, NEW)
    wanted = files(clean)

    for start, name, make in (
        (before, "changed", builds.build),
        (None, "new", builds.build),
        (before, "changed, by layers", build_streamed),
    ):
        at = most_layers = 0
        while True:
            at += 1
            folder = root / f"{name}-{at}"
            if start is not None:
                shutil.copytree(start, folder)

            def work(folder=folder, at=at, make=make):
                Countdown(at).install()
                build(folder, model, NEW, make)

            _, status = os.waitpid(in_child(work), 0)
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, KILLED):
                sys.exit(f"{name}: the build killed at operation {at} ended with {code}")
            is_done = is_new(folder)
            layers = check(folder, model, cold, wanted, make)
            shutil.rmtree(folder)
            if code == 0:
                break
            if layers < most_layers and not is_done:
                sys.exit(f"{name}: killed at operation {at} it lost a layer that was finished")
            most_layers = max(layers, most_layers)
        print(f"{name}: killed at each of {at - 1} operations")
        if make is build_streamed and most_layers != len(model.layers):
            sys.exit("no kill came after the last layer")
        if at < 30:
            sys.exit("too few operations were counted: the kills miss the store")

    chance = random.Random(5)
    for trial in range(8):
        folder = root / f"random-{trial}"
        shutil.copytree(before, folder)
        child = in_child(lambda folder=folder: build(folder, model, NEW))
        time.sleep(chance.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check(folder, model, cold, wanted)
        shutil.rmtree(folder)
    print("killed at 8 random times")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

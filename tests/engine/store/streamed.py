"""A resident model that says it is streamed, so that the store reads layer by layer."""

from contextlib import contextmanager

from builds import IDS, build

from engine.model import Model


@contextmanager
def streamed():
    """Inside, every model says that it is streamed."""
    before = Model.is_streamed
    Model.is_streamed = property(lambda _self: True)
    try:
        yield
    finally:
        Model.is_streamed = before


def build_streamed(folder, model, ids=IDS, **options):
    with streamed():
        return build(folder, model, ids, **options)


class Stop(BaseException):
    """Stands for a signal."""


@contextmanager
def passes(model):
    """The layers that ran inside, in order, once for each chunk."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: seen.append(index))
        for index, layer in enumerate(model.layers)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def stop_in_layer(folder, model, layer, ids=IDS, **options):
    """A build that is stopped after the first chunk of `layer`."""

    def interrupt(*_):
        raise Stop

    hook = model.layers[layer].register_forward_hook(interrupt)
    try:
        build_streamed(folder, model, ids, **options)
    except Stop as stop:
        return stop
    finally:
        hook.remove()
    raise AssertionError("it was not stopped")


def files(folder):
    """All files of a context with their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }

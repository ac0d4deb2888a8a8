"""A checkpoint with its matrices in int8 or int4: see docs/quantize.md.

Memory: a slice of one tensor at a time, whatever the size of the model.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import copyfile

from engine import durable
from engine.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.errors import EngineError
from engine.families import family_named, read_config
from engine.files import new_folder, read_json, write_json
from engine.quantized.forms import KEY, UNQUANTIZED, Form, Quantization
from engine.quantized.writer import (
    SHARD_BYTES,
    SLICE_ELEMENTS,
    OnProgress,
    Output,
    Slice,
    Written,
    check_room,
    write,
)
from engine.weights import meta_model

# Beside the weights: tokenizer, templates, licence and model card.
_COPIED = frozenset({".json", ".jinja", ".txt", ".model", ".md"})
_NOT_COPIED = frozenset({"config.json", "model.safetensors.index.json", "mm1-model.json"})


def quantize(
    source: Path,
    target: Path,
    form: Form,
    on_progress: OnProgress = lambda _done, _total: None,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Writes the checkpoint `source` to the new directory `target`, its matrices in `form`.

    Where rows do not divide into the groups asked for, the next smaller ones are taken, or int8.
    Norms, router, embedding and head are copied, and so are the tokenizer and other small files.
    The directory appears when all of it is on disk, or not at all. `on_progress` gets bytes
    written and in all. Raises EngineError if the checkpoint is not sound or quantised already, if
    `target` exists, or if there is no room for it; OSError when reading or writing fails.
    """
    config = read_config(source)
    if config.quantization != UNQUANTIZED:
        raise EngineError(
            f"{source} is quantised already ({config.quantization}); start from the plain weights"
        )
    checkpoint = Checkpoint(source)
    outputs, quantization = _plan(checkpoint, config, form)
    with new_folder(target) as folder:
        check_room(folder, outputs)
        written = write(folder, outputs, on_progress, shard_bytes)
        raw = read_json(source / "config.json")
        write_json(folder / "config.json", {**raw, KEY: quantization.as_json()})
        for path in sorted(source.iterdir()):
            if _comes_along(path):
                durable.write(folder / path.name, partial(copyfile, path), is_private=False)
    return written


def _comes_along(path: Path) -> bool:
    is_legal = path.name.startswith(("LICENSE", "NOTICE"))
    is_small = path.suffix in _COPIED and path.name not in _NOT_COPIED
    return (is_small or is_legal) and path.is_file()


def _plan(
    checkpoint: Checkpoint, config: ModelConfig, form: Form
) -> tuple[list[Output], Quantization]:
    sources = family_named(config.family).sources(config)
    parameters = dict(meta_model(checkpoint, config).named_parameters())
    widths = {name: parameter.shape[-1] for name, parameter in parameters.items()}
    quantization = Quantization.fitting(form, widths)
    outputs = [
        _output(checkpoint, source, quantization.form_of(name))
        for name in parameters
        for source in sources[name]
    ]
    return outputs, quantization


def _output(checkpoint: Checkpoint, source: str, form: Form) -> Output:
    info = checkpoint.info(source)
    width = info.shape[-1] if len(info.shape) > 1 else 1
    num_rows = max(1, SLICE_ELEMENTS // width)

    def slices() -> Iterator[Slice]:
        return (Slice(values) for values in checkpoint.slices(source, num_rows))

    return Output(source, info.shape, form, info.dtype, slices)

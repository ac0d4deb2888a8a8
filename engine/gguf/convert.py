"""Turns a GGUF file into the directory the engine reads."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from engine import durable
from engine.config import ModelConfig
from engine.errors import ConfigError, GgufError
from engine.families import family_named, family_of
from engine.files import new_folder, write_json
from engine.gguf.architectures import describe
from engine.gguf.blocks import PLAIN, nearest, slices
from engine.gguf.file import read_gguf
from engine.gguf.source import Described, Source
from engine.gguf.tokenizer import build_tokenizer, tokenizer_config
from engine.quantized.forms import KEY, UNQUANTIZED, Form, Quantization, is_matrix
from engine.quantized.writer import (
    SHARD_BYTES,
    OnProgress,
    Output,
    Slice,
    Written,
    check_room,
    write,
)

_TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def convert(
    source: Path,
    target: Path,
    on_progress: OnProgress = lambda _done, _total: None,
    *,
    form: Form | None = Form.PLAIN,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Writes the model in the GGUF file `source` as the new directory `target`.

    `source` is one file, or any of those of a split one. `target` gets a Hugging Face config.json,
    safetensors, tokenizer.json and tokenizer_config.json; it appears in one rename after everything
    is on disk, or not at all. Matrices are written in `form`: plain is float32, exactly the
    dequantised values; None keeps each in the form nearest to that of the file, see
    `engine.gguf.blocks`. The rest is never quantised. `on_progress` gets bytes written and in all.
    Memory: a slice of one tensor at a time.

    Raises GgufError for a file that is damaged, contradictory or of an unsupported kind,
    EngineError when `target` exists or there is no room for it, OSError when reading or writing
    fails.
    """
    if target.exists():
        raise GgufError(f"{target} exists already; choose another place")
    file = read_gguf(source)
    described = describe(file)
    config = _checked(described)
    tokenizer = build_tokenizer(file.metadata).to_str(pretty=True)
    settings = tokenizer_config(file.metadata, described.config)
    outputs, quantization = _plan(described, config, form)
    raw = dict(described.config)
    if quantization != UNQUANTIZED:
        raw[KEY] = quantization.as_json()
    elif len(dtypes := {output.dtype for output in outputs if len(output.shape) > 1}) == 1:
        raw["torch_dtype"] = _TORCH_NAMES[dtypes.pop()]
    with new_folder(target) as folder:
        check_room(folder, outputs)
        written = write(folder, outputs, on_progress, shard_bytes)
        durable.write(
            folder / "tokenizer.json",
            lambda part: part.write_text(tokenizer, encoding="utf-8", newline="\n"),
            is_private=False,
        )
        write_json(folder / "tokenizer_config.json", settings)
        write_json(folder / "config.json", raw)
    return written


def _checked(described: Described) -> ModelConfig:
    try:
        return family_of(described.config).read_config(described.config)
    except ConfigError as error:
        raise GgufError(str(error)) from None


def _plan(
    described: Described, config: ModelConfig, form: Form | None
) -> tuple[list[Output], Quantization]:
    """In the order of our parameters; those of several tensors have the most exact form of any."""
    known = {source.name: source for source in described.sources}
    outputs: list[Output] = []
    forms: dict[str, Form] = {}
    for name, names in family_named(config.family).sources(config).items():
        sources = [known[each] for each in names]
        own = Form.PLAIN
        if is_matrix(name):
            own = forms[name] = min(
                (_form(source, form) for source in sources), key=list(Form).index
            )
        dtype = "F32"
        if form is not Form.PLAIN:
            kinds = {PLAIN.get(source.tensor.kind, "F32") for source in sources}
            dtype = kinds.pop() if len(kinds) == 1 else "F32"
        for source in sources:
            read: Callable[[], Iterator[Slice]] = partial(slices, source, own)
            outputs.append(Output(source.name, source.shape, own, dtype, read))
    main = form or max(forms.values(), key=list(forms.values()).count, default=Form.PLAIN)
    return outputs, Quantization(main, tuple((n, f) for n, f in forms.items() if f is not main))


def _form(source: Source, form: Form | None) -> Form:
    width = source.shape[-1]
    return nearest(source.tensor.kind, width) if form is None else form.fitting(width)

"""`mm1 models calibrate`: how a model finds things in more text than it was trained for."""

import json
from dataclasses import replace
from typing import TextIO

from engine import api, model_files
from engine.api import Engine, Selection
from mm1cli.commands.opening import ensure_model, open_engine
from mm1cli.errors import ModelError
from mm1cli.models import calibration, probe
from mm1cli.models.calibration import Calibration
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_MOST_ANSWER_TOKENS = 40


def run(settings: Settings, sink: Sink, stdout: TextIO, *, as_json: bool) -> None:
    """Half of the needles decide, the other half are asked for, with what was found.

    Raises EngineError where the model cannot select, ModelError where it does not find enough.
    """
    model = api.open_model(ensure_model(settings, sink))
    made, asked = probe.make(model.tokenizer)
    decide, held_out = asked[0::2], asked[1::2]
    found = model_files.calibrate(
        model.path,
        replace(made, needles=[one.needle for one in decide]),
        settings.chunk_tokens,
        lambda stage, done, total: sink.progress(stage, done, total, "steps"),
    )
    num_tokens = len(made.document_ids)
    engine = open_engine(model, settings, sink, num_tokens, selection=found.selection)
    num_right = _asked(engine, made, held_out, sink)
    if 2 * num_right <= len(held_out):
        raise ModelError(
            f"{settings.model} found {num_right} of {len(held_out)} sentences hidden among "
            f"{num_tokens:,} tokens, too few to rely on; nothing is kept: use --fit focus with it"
        )
    kept = Calibration(found.selection, num_right, len(held_out), num_tokens)
    path = calibration.keep(engine.fingerprint, kept)
    if as_json:
        facts = {
            "model": settings.model,
            "selection": json.loads(found.selection.dumps()),
            "ranks": list(found.ranks),
            "log_p": found.log_p,
            "log_p_without": found.log_p_without,
            "right": num_right,
            "asked": len(held_out),
            "num_tokens": num_tokens,
            "path": str(path),
        }
        stdout.write(json.dumps(facts) + "\n")
        return
    stdout.write(_summary(settings.model, found.selection, kept))


def _asked(engine: Engine, made: model_files.Probe, asked: list[probe.Asked], sink: Sink) -> int:
    """How many of `asked` are answered to the last digit."""
    context = engine.new_context(is_saved_kind=True)
    context.extend(
        made.document_ids, lambda done, total: sink.progress("prefill", done, total, "tokens")
    )
    num_right = 0
    for number, one in enumerate(asked, start=1):
        twin = context.fork()
        twin.select(one.needle.question_ids, made.first)
        twin.extend(one.needle.question_ids)
        answer = "".join(engine.decode(twin, max_tokens=_MOST_ANSWER_TOKENS))
        num_right += one.number in answer.replace(",", "")
        sink.progress("asking", number, len(asked), "needles")
    return num_right


def _summary(name: str, selection: Selection, kept: Calibration) -> str:
    layers = ", ".join(map(str, selection.far_layers))
    return (
        f"{name}: layer {selection.scan_layer}, KV head {selection.scan_kv_head} finds; what it "
        f"finds is seen {selection.distance:,} tokens away, in layers {layers}\n"
        f"{kept.found} of {kept.asked} needles among {kept.num_tokens:,} tokens right; "
        "`--fit select` now reads documents of up to "
        f"{api.MOST_TOKENS:,} tokens with this model\n"
    )

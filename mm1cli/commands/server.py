"""`mm1 server probe`: what is at an address, and what of mm1 holds over it."""

import json
from dataclasses import replace
from typing import TextIO

from mm1cli.commands.backend import ServerBackend, probed, tokenizer_of
from mm1cli.output.text import safe_line
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_HELD = {
    "has_ids": "token ids: exact counts, inert documents",
    "has_logprobs": "likelihood: evidence ordered by the model",
    "has_quotes": "quotes constrained while they are written",
    "has_schemas": "schemas (--schema)",
    "reports_reuse": "reuse reported",
}


def probe(settings: Settings, sink: Sink, stdout: TextIO, *, as_json: bool) -> None:
    """Raises ServerError where no server of models is."""
    info = probed(settings)
    model = tokenizer_of(info, settings)
    info = ServerBackend.connect(replace(settings, strict=False), sink, info, model).info
    if as_json:
        facts = {
            "host": info.host,
            "kind": str(info.kind),
            "version": info.version,
            "model": info.model,
            "models": list(info.models),
            "max_context": info.max_context or None,
            "tokenizer": None if model is None else str(model),
            "ranking": None if info.ranking is None else info.ranking.name,
            "level": str(info.level),
            "holds": {name: getattr(info, name) for name in _HELD},
        }
        stdout.write(json.dumps(facts) + "\n")
        return
    context = f"{info.max_context:,} tokens" if info.max_context else "not told"
    rows = {
        "kind": f"{info.kind} {info.version}".strip(),
        "model": info.model,
        "context": context,
        "tokenizer": "none" if model is None else str(model),
        "ranking": "none" if info.ranking is None else info.ranking.name,
    }
    for name, value in rows.items():
        stdout.write(f"{name:<10} {safe_line(value)}\n")
    for name, words in _HELD.items():
        stdout.write(f"{'yes' if getattr(info, name) else 'no':<10} {words}\n")
    stdout.write(f"level {info.level}\n")

"""SGLang: `/generate`, written by its source (0.5.23) and held against replies of that form."""

import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from engine.errors import ServerError
from engine.protocols import OnProgress, StopReason
from engine.remote.dialect import Delta, Request
from engine.remote.ids import ServerOfIds

_PATH: Final = "/generate"


class SglangServer(ServerOfIds):
    def warm(self, token_ids: Sequence[int], on_progress: OnProgress) -> int | None:
        on_progress(0, len(token_ids))
        told = self._client.post(_PATH, _body(token_ids, max_new_tokens=1))
        on_progress(len(token_ids), len(token_ids))
        return _cached(told)

    def score(self, token_ids: Sequence[int], tail: Sequence[int]) -> list[float]:
        """The cache serves what stands before `tail`: logprobs are asked from its last token on."""
        body = _body([*token_ids, *tail], max_new_tokens=0) | {
            "return_logprob": True,
            "logprob_start_len": max(len(token_ids) - 1, 0),
        }
        meta = self._client.post(_PATH, body).get("meta_info")
        rows = meta.get("input_token_logprobs") if isinstance(meta, Mapping) else None
        own = rows[-len(tail) :] if isinstance(rows, list) and tail else []
        if [row[1] for row in own if isinstance(row, list) and len(row) > 1] != list(tail):
            raise ServerError(f"{self._client.host}: no logprobs of the prompt came back")
        return [float(row[0]) if row[0] is not None else float("nan") for row in own]

    def generate(self, request: Request) -> Generator[Delta, None, None]:
        options: dict[str, Any] = {
            "max_new_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "sampling_seed": request.seed % 2**31,
        }
        if request.schema is not None:
            options["json_schema"] = json.dumps(request.schema)
        if request.grammar is not None:
            options["ebnf"] = f"%llguidance {{}}\n{request.grammar}"
        body = _body(request.token_ids, **options) | {"stream": True}
        num_chars = num_ids = 0
        with self._client.stream(_PATH, body) as events:
            for event in events:
                text, told = str(event.get("text", "")), event.get("output_ids")
                ids = tuple(told) if isinstance(told, list) else ()
                meta = event.get("meta_info")
                reason = meta.get("finish_reason") if isinstance(meta, Mapping) else None
                stop = None
                if isinstance(reason, Mapping):
                    is_cut = reason.get("type") == "length"
                    stop = StopReason.MAX_TOKENS if is_cut else StopReason.END
                # Each event has the whole so far.
                yield Delta(text[num_chars:], ids[num_ids:], _cached(event), stop)
                num_chars, num_ids = len(text), len(ids)
                if stop is not None:
                    return
        raise self._client.gone()


def _body(token_ids: Sequence[int], **options: object) -> dict[str, Any]:
    return {"input_ids": list(token_ids), "sampling_params": {"temperature": 0, **options}}


def _cached(told: Mapping[str, Any]) -> int | None:
    meta = told.get("meta_info")
    value = meta.get("cached_tokens") if isinstance(meta, Mapping) else None
    return value if type(value) is int and value >= 0 else None

"""vLLM: token ids in `/v1/completions`."""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from engine.errors import ServerError
from engine.protocols import OnProgress, StopReason
from engine.remote.client import Client
from engine.remote.dialect import Delta, Request
from engine.remote.ids import ServerOfIds

_PATH: Final = "/v1/completions"
_SEEDS: Final = 2**63 - 1


class VllmServer(ServerOfIds):
    def warm(self, token_ids: Sequence[int], on_progress: OnProgress) -> int | None:
        on_progress(0, len(token_ids))
        told = self._client.post(_PATH, self._body(token_ids, max_tokens=1))
        on_progress(len(token_ids), len(token_ids))
        return reused(told)

    def score(self, token_ids: Sequence[int], tail: Sequence[int]) -> list[float]:
        """All of the prompt is read again, by the server's design."""
        ids = [*token_ids, *tail]
        told = self._client.post(_PATH, self._body(ids, max_tokens=0, echo=True, logprobs=0))
        choices = told.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        logprobs = choice.get("logprobs") if isinstance(choice, Mapping) else None
        values = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
        if not isinstance(values, list) or len(values) < len(ids):
            raise ServerError(f"{self._client.host}: no logprobs of the prompt came back")
        own = values[len(token_ids) : len(ids)]
        return [float(one) if isinstance(one, int | float) else float("nan") for one in own]

    def generate(self, request: Request) -> Generator[Delta, None, None]:
        body = self._body(
            request.token_ids,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed % _SEEDS,
            stream=True,
            stream_options={"include_usage": True},
            return_token_ids=True,
        )
        if request.schema is not None:
            body["structured_outputs"] = {"json": dict(request.schema)}
        if request.grammar is not None:
            body["structured_outputs"] = {"grammar": f"%llguidance {{}}\n{request.grammar}"}
        with closing(openai_deltas(self._client, _PATH, body)) as deltas:
            yield from deltas

    def _body(self, token_ids: Sequence[int], **more: object) -> dict[str, Any]:
        """With a salt, so that nobody else's requests tell by their times what was asked here; it
        is the same for all prompts that begin alike, or nothing would be reused."""
        begins = b"".join(one.to_bytes(8, "little") for one in token_ids[:32])
        salt = hashlib.sha256(begins).hexdigest()[:32]
        return {
            "model": self._model,
            "prompt": list(token_ids),
            "temperature": 0,
            "cache_salt": salt,
            **more,
        }


def openai_deltas(
    client: Client, path: str, body: Mapping[str, Any]
) -> Generator[Delta, None, None]:
    """The stream of a completion or a chat; what a model thinks in fields of its own is left out.

    The reason of the end comes last, behind the usage, if the server tells that.
    """
    stop: StopReason | None = None
    found: int | None = None
    with client.stream(path, body) as events:
        for event in events:
            found = reused(event) if reused(event) is not None else found
            choices = event.get("choices")
            choice = choices[0] if isinstance(choices, list) and choices else None
            if not isinstance(choice, Mapping):
                continue
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, Mapping) else choice.get("text")
            told = choice.get("token_ids")
            ids = tuple(one for one in told if type(one) is int) if isinstance(told, list) else ()
            if text or ids:
                yield Delta(str(text or ""), ids)
            if reason := choice.get("finish_reason"):
                stop = StopReason.MAX_TOKENS if reason == "length" else StopReason.END
    if stop is None:
        raise client.gone()
    yield Delta(reused=found, stop=stop)


def reused(told: Mapping[str, Any]) -> int | None:
    """Of a usage in OpenAI's form; None where a server does not tell it."""
    usage = told.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    value = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return value if type(value) is int and value >= 0 else None

"""llama-server: token ids in `/completion`, and what its source and runs of it taught."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any, Final

from engine.errors import ServerError
from engine.protocols import OnProgress, StopReason
from engine.remote.client import Client
from engine.remote.dialect import Delta, Request

_SEEDS: Final = 2**32 - 1  # the last one means: any
_REASONS: Final = {"eos": StopReason.END, "word": StopReason.STOP_TEXT}
_FORCED: Final = 1000  # added to a logit: nothing else is drawn
_PATH: Final = "/completion"


class LlamaServer:
    """`is_plain` says of an id whether it writes whole characters. Of others nothing is told but in
    a list of all tokens; `plain_id` is any that is plain."""

    tells_all_ids = False  # of a character in several tokens only the last

    def __init__(
        self,
        client: Client,
        vocab_size: int = 0,
        plain_id: int = 0,
        is_plain: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._client, self._vocab_size = client, vocab_size
        self._plain_id, self._is_plain = plain_id, is_plain
        self._slot = 0

    def tokenize(self, text: str, *, is_markup: bool) -> list[int] | None:
        body = {"content": text, "add_special": False, "parse_special": is_markup}
        return _ids(self._client.post("/tokenize", body).get("tokens"))

    def warm(self, token_ids: Sequence[int], on_progress: OnProgress) -> int | None:
        body = {"prompt": list(token_ids), "n_predict": 0, "return_progress": True}
        reused = None
        for event in self._events(body):
            progress = event.get("prompt_progress")
            if isinstance(progress, Mapping):
                on_progress(_int(progress, "processed"), len(token_ids))
            if event.get("stop"):
                reused, self._slot = _reused(event), max(_int(event, "id_slot"), 0)
        return reused

    def save(self, name: str) -> int:
        return _int(self._act("save", {"filename": name}) or {}, "n_saved")

    def restore(self, name: str) -> int:
        self._slot = 0
        return _int(self._act("restore", {"filename": name}) or {}, "n_restored")

    def holds(self, token_ids: Sequence[int]) -> bool:
        """The first progress of a prompt, which comes before any of it is read, tells how much of
        it is there. Asked only where a slot is as long: a server that hears too late that nobody
        waits reads a batch in vain."""
        told = (self._client.find("/slots") or {}).get("data")
        slots = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
        if not any(_int(slot, "n_prompt_tokens") >= len(token_ids) for slot in slots):
            return False
        body = {"prompt": list(token_ids), "n_predict": 0, "return_progress": True}
        with closing(self._events(body)) as events:
            for event in events:
                progress = event.get("prompt_progress")
                if isinstance(progress, Mapping) and _int(progress, "cache") < len(token_ids) - 1:
                    return False
                if event.get("stop"):
                    self._slot = max(_int(event, "id_slot"), 0)
        return True

    def forget(self) -> None:
        """Raises ServerError where the server keeps it: its tokens would be found read."""
        if self._act("erase", {}) is None:
            raise ServerError(f"{self._client.host}: a slot that cannot be erased; restart it")

    def _act(self, action: str, body: Mapping[str, str]) -> dict[str, Any] | None:
        return self._client.find(f"/slots/{self._slot}?action={action}", dict(body), None)

    def score(self, token_ids: Sequence[int], tail: Sequence[int]) -> list[float]:
        """A grammar of token literals forces `tail`; logprobs are raw, from before the grammar."""
        before, found = list(token_ids), []
        for is_plain, group in groupby(tail, self._is_plain):
            ids = list(group)
            found += self._forced(before, ids) if is_plain else self._listed(before, ids)
            before += ids
        return found

    def _forced(self, before: Sequence[int], ids: Sequence[int]) -> list[float]:
        body = {
            "prompt": list(before),
            "n_predict": len(ids),
            "n_probs": 1,
            "temperature": 0,
            "grammar": "root ::= " + " ".join(f"<[{token_id}]>" for token_id in ids),
        }
        told = self._client.post(_PATH, body).get("completion_probabilities")
        rows = told if isinstance(told, list) else []
        if [row.get("id") for row in rows if isinstance(row, Mapping)] != list(ids):
            raise ServerError(f"{self._client.host}: tokens that were forced came out otherwise")
        return [_float(row, "logprob") for row in rows]

    def _listed(self, before: Sequence[int], ids: Sequence[int]) -> list[float]:
        """One request for each: a grammar takes no part of a character and no control token."""
        found, before = [], list(before)
        for token_id in ids:
            body = {
                "prompt": before,
                "n_predict": 1,
                "n_probs": self._vocab_size,
                "temperature": 0,
                # What is told is not touched by it.
                "logit_bias": [[self._plain_id, _FORCED]],
            }
            told = self._client.post(_PATH, body).get("completion_probabilities")
            rows = told[0].get("top_logprobs", []) if isinstance(told, list) and told else []
            own = [row for row in rows if isinstance(row, Mapping) and row.get("id") == token_id]
            if not own:
                raise ServerError(f"{self._client.host}: no logprob of token {token_id}")
            found.append(_float(own[0], "logprob"))
            before.append(token_id)
        return found

    def generate(self, request: Request) -> Generator[Delta, None, None]:
        body: dict[str, Any] = {
            "prompt": list(request.token_ids),
            "n_predict": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": 0,
            "min_p": 0,
            "samplers": ["temperature", "top_p"],
            "seed": request.seed % _SEEDS,
            "return_tokens": True,
        }
        if request.schema is not None:
            body["json_schema"] = dict(request.schema)
        if request.grammar is not None:
            body["grammar"] = f"%llguidance {{}}\n{request.grammar}"
        with closing(self._events(body)) as events:
            for event in events:
                if "prompt_progress" in event:
                    continue
                text, ids = str(event.get("content", "")), tuple(_ids(event.get("tokens")) or ())
                if not event.get("stop"):
                    yield Delta(text, ids)
                    continue
                reason = _REASONS.get(str(event.get("stop_type")), StopReason.MAX_TOKENS)
                if event.get("truncated"):
                    reason = StopReason.CONTEXT_FULL
                yield Delta(text, ids, _reused(event), reason)

    def _events(self, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Up to the last, without which the server has ended midway."""
        is_whole = False
        body = {**body, "stream": True, "cache_prompt": True}
        with self._client.stream(_PATH, body) as events:
            for event in events:
                is_whole = bool(event.get("stop"))
                yield event
                if is_whole:
                    break
        if not is_whole:
            raise self._client.gone()


def _reused(event: Mapping[str, Any]) -> int | None:
    timings = event.get("timings")
    told = timings.get("cache_n") if isinstance(timings, Mapping) else None
    return told if isinstance(told, int) and told >= 0 else None


def _ids(told: object) -> list[int] | None:
    if not isinstance(told, list) or not all(type(one) is int for one in told):
        return None
    return told


def _int(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else 0


def _float(told: Mapping[str, Any], name: str) -> float:
    value = told.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")

"""The server as an ASGI app: routes, guards, and the forms that OpenAI's clients know.

Loopback only, unless there is a key. A request from a page of another origin is refused, so is one
whose Host is not this machine: no page on the web can speak to it. Bodies and the line are bounded.
"""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.api import EngineError, GrammarError
from mm1cli.about import version
from mm1cli.errors import Mm1Error
from mm1cli.serving import LOOPBACK_HOSTS, requests, work
from mm1cli.serving.engines import Engines
from mm1cli.serving.requests import RequestError
from mm1cli.serving.work import Progress, Result, Said, Thinking, TokenLogprob
from mm1cli.serving.worker import BusyError, Tell, Worker
from mm1cli.settings import Settings

MOST_BODY_BYTES = 16 * 2**20
MOST_WAITING = 16
_PING_S = 10.0
_LOOK_S = 0.25  # whether the client is still there
_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Guard:
    """`key` is what a client must show, "" for none; with one any host may be served."""

    key: str = ""

    def refusal(self, request: Request) -> Response | None:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if not self.key and host not in LOOPBACK_HOSTS:
            return _failed(f"host {host!r} is not this machine", 403, "forbidden")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return _failed("requests from pages of another origin are refused", 403, "forbidden")
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key and not hmac.compare_digest(shown.encode(), self.key.encode()):
            return _failed("the key is wrong or missing", 401, "authentication_error")
        return None


class Api:
    def __init__(
        self, engines: Engines, settings: Settings, guard: Guard, context_tokens: Callable[[], int]
    ) -> None:
        """`context_tokens` is the longest context of the plain model."""
        self._engines, self._settings, self._guard = engines, settings, guard
        self._context_tokens = context_tokens
        self._worker = Worker(MOST_WAITING)

    def app(self) -> Starlette:
        routes = [
            ("/health", self._health, "GET"),
            ("/v1/models", self._models, "GET"),
            ("/v1/models/{name:path}", self._model, "GET"),
            ("/v1/chat/completions", self._chat, "POST"),
            ("/v1/completions", self._completions, "POST"),
            ("/tokenize", self._tokenize, "POST"),
            ("/detokenize", self._detokenize, "POST"),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(end), methods=[how]) for path, end, how in routes]
        )

    def _guarded(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if (refused := self._guard.refusal(request)) is not None:
                return refused
            try:
                return await answer(request)
            except RequestError as error:
                return _failed(str(error), error.status, error.kind)
            except BusyError:
                told = _failed("too many requests wait already; try again", 503, "overloaded")
                told.headers["Retry-After"] = "5"
                return told
            except (GrammarError, Mm1Error) as error:
                return _failed(str(error), 400, "invalid_request_error")
            except EngineError as error:
                return _failed(str(error), 500, "server_error")
            except ClientDisconnect:
                return Response(status_code=499)

        return guarded

    async def _health(self, _: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": version(), "waiting": self._worker.num_waiting}
        )

    def _listed(self) -> dict[str, _Json]:
        limit = self._context_tokens()
        listed = {self._engines.name: _model_json(self._engines.name, limit)}
        for one in self._engines.saved.values():
            more = {"parent": one.model, "saved_tokens": one.num_tokens}
            listed[one.name] = _model_json(one.name, limit) | more
        return listed

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": list(self._listed().values())})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (listed := self._listed()):
            raise RequestError(f"no model {name!r}; /v1/models lists them", 404, "not_found_error")
        return JSONResponse(listed[name])

    async def _chat(self, request: Request) -> Response:
        asked = requests.chat_request(await _body(request), self._settings)
        if asked.model.startswith("context:") and asked.model not in self._engines.saved:
            raise RequestError(f"no model {asked.model!r}; /v1/models lists them", 404)
        name = asked.model if asked.model in self._engines.saved else self._engines.name
        head = _head("chatcmpl", "chat.completion", name)
        job = work.chat(self._engines, asked)
        if asked.sampling.is_streamed:
            return _stream(_chat_chunks(self._worker.events(job), head, asked.sampling))
        result = await _result(request, self._worker, job)
        choice: _Json = {
            "index": 0,
            "message": _message(result),
            "finish_reason": result.finish_reason,
            "logprobs": _chat_logprobs(result),
        }
        return JSONResponse(head | {"choices": [choice], "usage": _usage(result)})

    async def _completions(self, request: Request) -> Response:
        fields = await _body(request)
        sampling = requests.sampling(fields, self._settings)
        (prompt,) = requests.prompts(fields)
        echo = fields.get("echo") is True
        head = _head("cmpl", "text_completion", self._engines.name)
        job = work.complete(self._engines, prompt, sampling, echo=echo)
        if sampling.is_streamed:
            return _stream(_text_chunks(self._worker.events(job), head, sampling))
        result = await _result(request, self._worker, job)
        choice = {
            "index": 0,
            "text": result.text,
            "finish_reason": result.finish_reason,
            "logprobs": _text_logprobs(result),
        }
        return JSONResponse(head | {"choices": [choice], "usage": _usage(result)})

    async def _tokenize(self, request: Request) -> Response:
        fields = await _body(request)
        text = requests.text_of(fields, "content")

        def job(tell: Tell) -> None:
            tell(self._engines.engine.tokenizer.encode(text))

        return JSONResponse({"tokens": await _result(request, self._worker, job)})

    async def _detokenize(self, request: Request) -> Response:
        fields = await _body(request)
        (ids,) = requests.prompts({"prompt": fields.get("tokens")})
        if isinstance(ids, str):
            raise RequestError("tokens: a list of token ids is needed")

        def job(tell: Tell) -> None:
            tell(self._engines.engine.tokenizer.decode(ids))

        return JSONResponse({"content": await _result(request, self._worker, job)})


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises RequestError for more than `MOST_BODY_BYTES`."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BODY_BYTES:
            raise RequestError(f"the body has more than {MOST_BODY_BYTES >> 20} MiB", 413)
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise RequestError("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise RequestError("the body: an object is needed")
    return fields


async def _result(request: Request, worker: Worker, job: Callable[[Tell], None]) -> Any:  # noqa: ANN401
    """The last thing that the job tells; the job is cancelled where the client goes away."""
    last: Any = None
    events = worker.events(job)
    try:
        async for event in _while_there(events, request):
            last = event
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    return last


async def _while_there(events: AsyncIterator[Any], request: Request) -> AsyncIterator[Any]:
    waiting = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=_LOOK_S)
            if not done:
                if await request.is_disconnected():
                    raise ClientDisconnect
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                return
            yield event
            waiting = asyncio.ensure_future(anext(events))
    finally:
        waiting.cancel()


def _stream(chunks: AsyncIterator[_Json | None]) -> Response:
    """Server-sent events: a chunk each, a comment where nothing has happened for a while."""

    async def lines() -> AsyncIterator[str]:
        waiting = asyncio.ensure_future(anext(chunks))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=_PING_S)
                if not done:
                    yield ": ping\n\n"
                    continue
                try:
                    chunk = waiting.result()
                except StopAsyncIteration:
                    break
                except Exception as error:  # headers are out: an event says it
                    kind = error.kind if isinstance(error, RequestError) else "server_error"
                    yield f"data: {json.dumps(_error(str(error), kind))}\n\n"
                    break
                if chunk is not None:
                    yield f"data: {json.dumps(chunk)}\n\n"
                waiting = asyncio.ensure_future(anext(chunks))
            yield "data: [DONE]\n\n"
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await chunks.aclose()  # type: ignore[attr-defined]

    return StreamingResponse(
        lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _chat_chunks(
    events: AsyncIterator[Any], head: _Json, sampling: requests.Sampling
) -> AsyncIterator[_Json]:
    head = head | {"object": "chat.completion.chunk"}

    def chunk(delta: _Json, reason: str | None = None, **more: Any) -> _Json:  # noqa: ANN401
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return head | {"choices": [choice | more]}

    began = time.monotonic()
    try:
        yield chunk({"role": "assistant", "content": ""})
        async for event in events:
            match event:
                case Progress() if sampling.has_progress:
                    spent = round(1000 * (time.monotonic() - began))
                    told = {"total": event.total, "processed": event.done, "cache": event.reused}
                    yield head | {"choices": [], "prompt_progress": told | {"time_ms": spent}}
                case Thinking():
                    yield chunk({"reasoning_content": event.text})
                case Said():
                    yield chunk({"content": event.text})
                case Result():
                    if event.calls:
                        calls = _calls(event)
                        yield chunk(
                            {"tool_calls": [{"index": at} | one for at, one in enumerate(calls)]}
                        )
                    delta = {} if event.answer is None else _cited(event.answer)
                    yield chunk(delta, event.finish_reason, logprobs=_chat_logprobs(event))
                    if sampling.has_usage:
                        yield head | {"choices": [], "usage": _usage(event)}
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _text_chunks(
    events: AsyncIterator[Any], head: _Json, sampling: requests.Sampling
) -> AsyncIterator[_Json]:
    def chunk(text: str, reason: str | None, logprobs: _Json | None) -> _Json:
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}
        return head | {"choices": [choice]}

    try:
        async for event in events:
            match event:
                case Said():
                    yield chunk(event.text, None, None)
                case Result():
                    yield chunk("", event.finish_reason, _text_logprobs(event))
                    if sampling.has_usage:
                        yield head | {"choices": [], "usage": _usage(event)}
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def _head(prefix: str, kind: str, model: str) -> _Json:
    return {
        "id": f"{prefix}-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _model_json(name: str, limit: int) -> _Json:
    """The longest context under the names that clients look for."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "mm1",
        "context_length": limit,
        "max_model_len": limit,
        "max_context_length": limit,
        "meta": {"n_ctx_train": limit},
    }


def _message(result: Result) -> _Json:
    message: _Json = {"role": "assistant", "content": result.text}
    if result.thinking:
        message["reasoning_content"] = result.thinking
    if result.calls:
        message["tool_calls"] = _calls(result)
        message["content"] = result.text or None
    return message if result.answer is None else message | _cited(result.answer)


def _cited(answer: Mapping[str, Any]) -> _Json:
    names = ("citations", "claims", "warnings", "unverified", "is_found", "form", "words")
    return {name: answer[name] for name in names}


def _calls(result: Result) -> list[_Json]:
    return [
        {
            "id": f"call_{uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": one.name, "arguments": json.dumps(one.arguments)},
        }
        for one in result.calls
    ]


def _chat_logprobs(result: Result) -> _Json | None:
    if result.logprobs is None:
        return None
    return {"content": [_chat_logprob(one) for one in result.logprobs], "refusal": None}


def _chat_logprob(one: TokenLogprob) -> _Json:
    octets = list(one.text.encode("utf-8", "replace"))
    return {"token": one.text, "logprob": one.logprob, "bytes": octets, "top_logprobs": []}


def _text_logprobs(result: Result) -> _Json | None:
    if result.logprobs is None:
        return None
    offsets, at = [], 0
    for one in result.logprobs:
        offsets.append(at)
        at += len(one.text)
    return {
        "tokens": [one.text for one in result.logprobs],
        "token_ids": [one.token_id for one in result.logprobs],
        "token_logprobs": [one.logprob for one in result.logprobs],
        "top_logprobs": None,
        "text_offset": offsets,
    }


def _usage(result: Result) -> _Json:
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.output_tokens,
        "total_tokens": result.prompt_tokens + result.output_tokens,
        "prompt_tokens_details": {"cached_tokens": result.reused_tokens},
    }


def _error(message: str, kind: str) -> _Json:
    return {"error": {"message": message, "type": kind, "code": kind, "param": None}}


def _failed(message: str, status: int, kind: str) -> Response:
    return JSONResponse(_error(message, kind), status)

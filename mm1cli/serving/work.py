"""What the worker's thread does for a request; it tells `Progress`, `Thinking`, `Said`, then a
`Result`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from engine.api import StopReason, Tokenizer, Turn
from mm1cli.answering.generation import Generation, Generator
from mm1cli.answering.question import Exchange, Question
from mm1cli.output.events import answer_json, plain
from mm1cli.prompts import prompt
from mm1cli.result import Answer
from mm1cli.serving.engines import Engines
from mm1cli.serving.requests import ChatRequest, Message, RequestError, Sampling
from mm1cli.serving.worker import Tell
from mm1cli.sink import Event, ProgressEvent, ThinkingEvent, TokenEvent
from mm1cli.tools.formats import Call, ToolFormat

_CUT = frozenset({str(StopReason.MAX_TOKENS), str(StopReason.CONTEXT_FULL)})


@dataclass(frozen=True, slots=True)
class Progress:
    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class Thinking:
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token_id: int
    text: str
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """`answer` is that of a saved context, with citations, as `--json` has it."""

    text: str
    thinking: str
    finish_reason: str
    prompt_tokens: int
    reused_tokens: int
    output_tokens: int
    calls: tuple[Call, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    answer: Mapping[str, Any] | None = None


def chat(engines: Engines, request: ChatRequest) -> Callable[[Tell], None]:
    if request.model in engines.saved:
        return lambda tell: _ask_context(engines, request, tell)
    return lambda tell: _chat(engines, request, tell)


def _chat(engines: Engines, request: ChatRequest, tell: Tell) -> None:
    tokenizer = engines.engine.tokenizer
    format = ToolFormat.of(tokenizer)
    ids = tokenizer.encode_chat(turns(request, format))
    names = [tool["name"] for tool in request.tools]
    splitter = _Splitter(format.markers.begin if names else "", lambda text: tell(Said(text)))
    result = _complete(engines, ids, request.sampling, tell, splitter.feed)
    text, calls = format.parse(result.text, names) if names else (result.text, [])
    splitter.end(text, has_calls=bool(calls))
    reason = "tool_calls" if calls else result.finish_reason
    tell(replace(result, text=text, calls=tuple(calls), finish_reason=reason))


def complete(
    engines: Engines, asked: str | list[int], sampling: Sampling, *, echo: bool
) -> Callable[[Tell], None]:
    """Of `/v1/completions`: what follows a text, or tokens."""

    def work(tell: Tell) -> None:
        tokenizer = engines.engine.tokenizer
        ids = tokenizer.encode(asked) if isinstance(asked, str) else list(asked)
        if any(one >= tokenizer.vocab_size for one in ids):
            raise RequestError(f"prompt: token ids are below {tokenizer.vocab_size:,}")
        if not ids:
            raise RequestError("prompt: is empty")
        text = asked if isinstance(asked, str) else tokenizer.decode(ids)
        if echo:
            tell(Said(text))
        if sampling.settings.max_tokens == 0:
            result = Result("", "", "length", len(ids), 0, 0)
        else:
            result = _complete(
                engines, ids, sampling, tell, lambda said: tell(Said(said)), plain=True
            )
        logprobs = result.logprobs
        if echo and sampling.has_logprobs:
            logprobs = (*_scored(engines, ids), *(logprobs or ()))
        whole = text + result.text if echo else result.text
        tell(replace(result, text=whole, logprobs=logprobs))

    return work


def _complete(
    engines: Engines,
    ids: Sequence[int],
    sampling: Sampling,
    tell: Tell,
    on_text: Callable[[str], None],
    *,
    plain: bool = False,
) -> Result:
    """`plain`: the text goes on, and nothing of it is thinking."""
    engine, settings = engines.engine, sampling.settings
    limit = settings.context_tokens or engine.max_positions
    if len(ids) >= limit:
        raise RequestError(
            f"the prompt has {len(ids):,} tokens, and the context {limit:,}; shorten it",
            kind="context_length_exceeded",
        )
    room = limit - len(ids)
    settings = replace(settings, max_tokens=min(settings.max_tokens, room))
    grammar = None if sampling.schema is None else engine.grammar(sampling.schema)
    context, reused = engines.read(ids, lambda done, total: tell(Progress(done, total, 0)))
    if plain:
        generation = _continued(engines, context.fork(), settings, sampling, on_text)
    else:
        generator = Generator(
            engine,
            settings,
            on_token=on_text,
            on_thinking=lambda text: tell(Thinking(text)),
            on_progress=lambda *_: None,
            stop_texts=sampling.stops,
        )
        generation = generator.generate(context.fork(), grammar)
    logprobs = None
    if sampling.has_logprobs:
        scores = context.score(generation.token_ids).tolist() if generation.token_ids else []
        logprobs = _named(engine.tokenizer, generation.token_ids, scores)
    return Result(
        text=generation.text,
        thinking=generation.thinking,
        finish_reason="length" if generation.stop_reason in _CUT else "stop",
        prompt_tokens=len(ids),
        reused_tokens=min(reused, len(ids)),
        output_tokens=generation.num_tokens,
        logprobs=logprobs,
    )


def _continued(
    engines: Engines,
    context: Any,  # noqa: ANN401 - a Context
    settings: Any,  # noqa: ANN401 - Settings
    sampling: Sampling,
    on_text: Callable[[str], None],
) -> Generation:
    decoding = engines.engine.decode(
        context,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        max_positions=settings.context_tokens,
        stop_texts=sampling.stops,
    )
    generation = Generation()
    for piece in decoding:
        generation.text += piece
        on_text(piece)
    generation.token_ids = list(decoding.token_ids)
    generation.stop_reason = str(decoding.stop_reason or "end")
    return generation


def _scored(engines: Engines, ids: Sequence[int]) -> tuple[TokenLogprob, ...]:
    """Of a prompt: nothing stands before its first token."""
    scores: list[float] = []
    context = engines.engine.new_context()
    context.extend(ids, on_scores=lambda chunk: scores.extend(chunk.log_p.tolist()))
    return _named(engines.engine.tokenizer, ids, [None, *scores[1:]])


def _named(
    tokenizer: Tokenizer, ids: Sequence[int], scores: Sequence[float | None]
) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(one, tokenizer.decode([one]), score)
        for one, score in zip(ids, scores, strict=True)
    )


def turns(request: ChatRequest, format: ToolFormat) -> list[Turn]:
    """The messages as the chat template takes them: tools are told in the system turn, results of
    tools in the user's."""
    found: list[Turn] = []
    for message in request.messages:
        role, text = _as_turn(message, format)
        if found and found[-1].role == role == "user":
            found[-1] = Turn(role, (*found[-1].parts, "\n" + text))
        else:
            found.append(Turn(role, (text,)))
    if request.tools:
        told = format.instructions(request.tools)
        if found and found[0].role == "system":
            found[0] = Turn("system", (*found[0].parts, "\n\n" + told))
        else:
            found.insert(0, Turn("system", (told,)))
    return found


def _as_turn(message: Message, format: ToolFormat) -> tuple[str, str]:
    if message.role == "tool":
        return "user", format.result(message.text)
    if not message.calls:
        return message.role, message.text
    calls = [Call(str(one.get("name")), _arguments(one)) for one in message.calls]
    return "assistant", "\n".join(filter(None, (message.text, format.told(calls))))


def _arguments(function: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise RequestError("tool_calls.function.arguments: JSON is needed") from None
    return arguments if isinstance(arguments, dict) else {}


class _Splitter:
    """Tells text as it comes, but nothing from where a call of a tool may begin."""

    def __init__(self, marker: str, on_text: Callable[[str], None]) -> None:
        self._marker, self._on_text = marker, on_text
        self._text, self._told = "", 0

    def feed(self, text: str) -> None:
        self._text += text
        at = self._text.find(self._marker) if self._marker else len(self._text)
        if at < 0:
            at = len(self._text)
            for size in range(min(len(self._marker) - 1, len(self._text)), 0, -1):
                if self._text.endswith(self._marker[:size]):
                    at -= size
                    break
        if at > self._told:
            self._on_text(self._text[self._told : at])
            self._told = at

    def end(self, text: str, *, has_calls: bool) -> None:
        """What was held back was no call: `text` is the whole."""
        if not has_calls and len(text) > self._told:
            self._on_text(text[self._told :])


def _ask_context(engines: Engines, request: ChatRequest, tell: Tell) -> None:
    """The last message is the question, those before it its history."""
    said = [one for one in request.messages if one.role in {"user", "assistant"} and one.text]
    if not said or said[-1].role != "user":
        raise RequestError("messages: the last one with a text must be the user's question")
    if request.tools or request.sampling.schema is not None:
        raise RequestError(f"{request.model} takes no tools and no response_format")
    if request.sampling.settings.max_tokens < 1:
        raise RequestError(f"max_tokens: {request.model} answers with a token or more")
    answerer, switch = engines.answerer(request.model)
    answerer = answerer.sampling(request.sampling.settings, request.sampling.stops)

    def on_event(event: Event) -> None:
        match event:
            case TokenEvent():
                tell(Said(event.text))
            case ThinkingEvent():
                tell(Thinking(event.text))
            case ProgressEvent():
                tell(Progress(event.done, event.total, 0))

    switch.target = on_event
    try:
        answer = answerer.answer(Question(said[-1].text, history=tuple(_history(said[:-1]))))
    finally:
        switch.target = lambda _: None
    tell(_result_of(answer))


def _history(said: Sequence[Message]) -> list[Exchange]:
    return [
        Exchange(("", prompt("question"), one.text), other.text)
        for one, other in pairwise(said)
        if (one.role, other.role) == ("user", "assistant")
    ]


def _result_of(answer: Answer) -> Result:
    told = plain(answer_json(answer, None))
    assert isinstance(told, dict)
    return Result(
        text=answer.text,
        thinking=answer.thinking,
        finish_reason="length" if answer.stop_reason in _CUT else "stop",
        prompt_tokens=answer.usage.context_tokens,
        reused_tokens=answer.usage.reused_tokens,
        output_tokens=answer.usage.output_tokens,
        answer=told,
    )

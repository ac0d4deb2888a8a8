"""Which kind of server is there, and what holds over it: by asking, not by its name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from engine.errors import KeyRefusedError, ServerError, TooLongError
from engine.remote import relevance
from engine.remote.client import Client
from engine.remote.dialect import Kind, ServerInfo

_OWNERS: Final = {"llamacpp": Kind.LLAMA, "vllm": Kind.VLLM, "sglang": Kind.SGLANG}
_TRIED: Final = 'start: "ab"'  # two letters that a server writes only if it knows the grammar
_TRY_S: Final = 120.0
_PROMPT: Final = "Say ab: "


def probe(client: Client, kind: Kind | None = None, model: str | None = None) -> ServerInfo:
    """`kind` None finds it out; `model` is one of those the server has, None for its first that
    writes.

    Raises ServerError where no server of models is, or none that has `model`.
    """
    listed = client.find("/v1/models")
    if listed is None:
        raise ServerError(f"{client.host}: no list of models at /v1/models; is --server right?")
    rows = [row for row in _list(listed, "data") if isinstance(row, Mapping)]
    models = tuple(str(row["id"]) for row in rows if row.get("id"))
    if model is not None and model not in models:
        there = ", ".join(models[:5]) or "none"
        raise ServerError(f"{client.host}: no model {model} there; the server has {there}")
    if not models:
        raise ServerError(f"{client.host}: the server has no model loaded; load one there")
    writing = [one for one in models if not relevance.is_for_ranking(one)]
    chosen = model or [*writing, *models][0]
    row = next(row for row in rows if row.get("id") == chosen)
    found = ServerInfo(
        client.host,
        kind or _OWNERS.get(str(row.get("owned_by")), Kind.OPENAI),
        model=chosen,
        models=models,
        ranking=relevance.find(client, models),
        max_context=_number(row, "max_model_len"),
        is_local=client.is_local,
    )
    return _ASKED[found.kind](client, found, row)


def _llama(client: Client, info: ServerInfo, row: Mapping[str, Any]) -> ServerInfo:
    props = client.find("/props") or {}
    told = _table(props, "default_generation_settings")
    meta = _table(row, "meta")
    info = replace(
        info,
        version=str(props.get("build_info", "")),
        max_context=_number(told, "n_ctx") or _number(meta, "n_ctx"),
        model_path=str(props.get("model_path", "")),
        num_parameters=_number(meta, "n_params"),
        num_bytes=_number(meta, "size"),
        num_slots=max(_number(props, "total_slots"), 1),
        has_ids=True,
        has_logprobs=True,
        has_schemas=True,
        reports_reuse=True,
    )
    body = {"prompt": _PROMPT, "n_predict": 4, "grammar": f"%llguidance {{}}\n{_TRIED}"}
    return replace(info, has_quotes=_tries(client, "/completion", body))


def _vllm(client: Client, info: ServerInfo, row: Mapping[str, Any]) -> ServerInfo:
    del row
    version = (client.find("/version") or {}).get("version", "")
    asked = {"model": info.model, "temperature": 0}
    echoed = client.find(
        "/v1/completions", asked | {"prompt": _PROMPT, "max_tokens": 1, "echo": True, "logprobs": 0}
    )
    grammar = {"structured_outputs": {"grammar": f"%llguidance {{}}\n{_TRIED}"}}
    body = asked | {"prompt": _PROMPT, "max_tokens": 4} | grammar
    usage = _table(echoed or {}, "usage")
    return replace(
        info,
        version=str(version),
        has_ids=echoed is not None,
        has_logprobs=_has_logprobs(echoed),
        has_schemas=True,
        has_quotes=_tries(client, "/v1/completions", body),
        reports_reuse="prompt_tokens_details" in usage and bool(usage["prompt_tokens_details"]),
    )


def _sglang(client: Client, info: ServerInfo, row: Mapping[str, Any]) -> ServerInfo:
    del row
    facts = client.find("/get_server_info") or {}
    return replace(
        info,
        version=str(facts.get("version", "")),
        max_context=info.max_context or _number(facts, "context_length"),
        has_ids=True,
        has_logprobs=True,
        has_schemas=True,
        has_quotes=facts.get("grammar_backend") == "llguidance",
        reports_reuse=True,
    )


def _openai(client: Client, info: ServerInfo, row: Mapping[str, Any]) -> ServerInfo:
    """Ollama tells what it loaded a model with, LM Studio how much a model takes."""
    version, context = "", _number(row, "context_length") or info.max_context
    if (told := _quietly(client, "/api/version")) and isinstance(told.get("version"), str):
        version = f"Ollama {told['version']}"
        loaded = [
            one
            for one in _list(_quietly(client, "/api/ps") or {}, "models")
            if isinstance(one, Mapping) and info.model in {one.get("name"), one.get("model")}
        ]
        context = _number(loaded[0], "context_length") if loaded else 0
    elif found := _quietly(client, "/api/v0/models"):
        version = "LM Studio"
        own = [one for one in _list(found, "data") if isinstance(one, Mapping)]
        own = [one for one in own if one.get("id") == info.model]
        if own:
            loaded_tokens = _number(own[0], "loaded_context_length")
            context = loaded_tokens or _number(own[0], "max_context_length")
    return replace(info, version=version, max_context=context, has_schemas=True)


_ASKED: Final = {
    Kind.LLAMA: _llama,
    Kind.VLLM: _vllm,
    Kind.SGLANG: _sglang,
    Kind.OPENAI: _openai,
}


def _tries(client: Client, path: str, body: Mapping[str, Any]) -> bool:
    """Whether an answer kept to the grammar: a server that does not know it may say so, or not."""
    try:
        told = client.post(path, body, _TRY_S)
    except (KeyRefusedError, TooLongError):
        raise
    except ServerError:
        return False
    choices = _list(told, "choices")
    text = choices[0].get("text") if choices and isinstance(choices[0], Mapping) else None
    return str(told.get("content", text)).strip() == "ab"


def _has_logprobs(told: Mapping[str, Any] | None) -> bool:
    choices = _list(told or {}, "choices")
    choice = choices[0] if choices and isinstance(choices[0], Mapping) else {}
    return len(_list(_table(choice, "logprobs"), "token_logprobs")) > 1


def _quietly(client: Client, path: str) -> dict[str, Any] | None:
    try:
        return client.find(path)
    except ServerError:
        return None


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if type(value) is int and 0 < value < 2**40 else 0


def _table(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    value = told.get(name)
    return value if isinstance(value, list) else []

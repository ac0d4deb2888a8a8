"""From an address to an engine: the tokenizer compared, the dialect chosen."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.protocols import FAST
from engine.remote.chat import ChatServer, TextTokenizer
from engine.remote.client import Client
from engine.remote.dialect import Dialect, Kind, ServerInfo
from engine.remote.engine import RemoteEngine
from engine.remote.llama import LlamaServer
from engine.remote.relevance import relevance
from engine.remote.sglang import SglangServer
from engine.remote.token_check import differing
from engine.remote.vllm import VllmServer
from engine.tokenizer import Tokenizer

_PLAIN = "a"


def open_server(
    url: str, info: ServerInfo, model: Path | None, key: str | None, texts: Sequence[str]
) -> tuple[RemoteEngine, ServerInfo, str]:
    """See `engine.api.open_server`."""
    client = Client(url, key)
    if not info.has_ids:
        return _chat(client, info), info, ""
    why = "no tokenizer of its model was found; name its folder or file with --tokenizer"
    if model is not None:
        try:
            tokenizer = Tokenizer(model)
        except EngineError as error:
            why = str(error)
        else:
            dialect = _dialect(client, info, tokenizer)
            why = differing(tokenizer, dialect, texts)
            if not why:
                engine = RemoteEngine(
                    info,
                    dialect,
                    tokenizer,
                    fingerprint=_fingerprint(info, model),
                    end_ids=tokenizer.eos_ids(),
                    new_stream=tokenizer.stream,
                    rank=_rank(client, info),
                )
                return engine, info, ""
            why = f"{model.name} is not the tokenizer of the server's model: {why}"
    info = replace(info, has_ids=False, has_logprobs=False, has_quotes=False)
    return _chat(client, info), info, why


def _dialect(client: Client, info: ServerInfo, tokenizer: Tokenizer) -> Dialect:
    if info.kind is Kind.VLLM:
        return VllmServer(client, info.model)
    if info.kind is Kind.SGLANG:
        return SglangServer(client, info.model)

    def is_plain(token_id: int) -> bool:
        text = tokenizer.decode([token_id])
        return bool(text) and "\ufffd" not in text and "\0" not in text

    return LlamaServer(client, tokenizer.vocab_size, tokenizer.encode(_PLAIN)[-1], is_plain)


def _chat(client: Client, info: ServerInfo) -> RemoteEngine:
    tokenizer = TextTokenizer()
    dialect = ChatServer(client, info.model, tokenizer)
    rank = _rank(client, info)
    return RemoteEngine(info, dialect, tokenizer, fingerprint=_named(info), rank=rank)


def _rank(client: Client, info: ServerInfo) -> Callable[[str, Sequence[str]], list[float]] | None:
    return None if info.ranking is None else partial(relevance, client, info.ranking)


def _fingerprint(info: ServerInfo, model: Path) -> str:
    """The file's own, with what activations in eight bits add to it, where a llama-server on this
    machine says that it serves that file and has as many parameters."""
    from engine.engine import fingerprint
    from engine.gguf.info import read_info

    if info.is_local and info.model_path and model.is_file():
        try:
            is_served = Path(info.model_path).samefile(model)
            if is_served and read_info(model).num_parameters == info.num_parameters:
                return fingerprint(model) + FAST
        except (EngineError, OSError):
            pass
    return _named(info)


def _named(info: ServerInfo) -> str:
    facts = [info.kind, info.model, info.model_path, info.num_parameters, info.num_bytes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

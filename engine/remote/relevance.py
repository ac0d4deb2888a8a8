"""How well texts answer a question, by a model that a server has for just that.

`/v1/rerank` as Jina has it (llama-server, vLLM, SGLang and proxies follow), `/v1/embeddings` as
OpenAI has it (Ollama and LM Studio, too). Numbers of two models mean different things: what comes
of them is an order.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import Any, Final, TypeVar

from engine.errors import KeyRefusedError, ServerError
from engine.remote.client import Client
from engine.remote.dialect import RankingModel

# What such models are called by Ollama, LM Studio and on the hub. A chat model's own embeddings,
# which some servers tell as well, know little of what answers what.
_RERANKERS: Final = re.compile(r"rerank|cross-encoder", re.IGNORECASE)
_EMBEDDERS: Final = re.compile(
    r"embed|minilm|paraphrase-|(?<![a-z])(?:bge|e5|gte)(?![a-z0-9])", re.IGNORECASE
)
MAX_BYTES: Final = 1_600  # of a text: many of these models take 512 tokens
MAX_TEXTS: Final = 32  # in one request, which the strictest of servers takes
_MAX_DIMENSIONS: Final = 16_384
_MOST_TRIED: Final = 3  # models, each of which may have to be loaded
_LARGEST: Final = 1e30
_SECONDS: Final = 120.0

T = TypeVar("T")


def is_for_ranking(model: str) -> bool:
    """Whether the name is that of a model that writes nothing."""
    return bool(_RERANKERS.search(model) or _EMBEDDERS.search(model))


def find(client: Client, models: Sequence[str]) -> RankingModel | None:
    """The first of `models` that is for ranking by its name, and was seen to rank a text as long as
    any; rerankers come before embeddings."""
    rerankers = [RankingModel(one, True) for one in models if _RERANKERS.search(one)]
    others = [RankingModel(one, False) for one in models if _EMBEDDERS.search(one)]
    for model in [*rerankers, *others][:_MOST_TRIED]:
        try:
            relevance(client, model, "Who?", ["word " * MAX_BYTES, "It was she."])
        except KeyRefusedError:
            raise
        except ServerError:
            continue
        return model
    return None


def relevance(
    client: Client, model: RankingModel, question: str, texts: Sequence[str]
) -> list[float]:
    """Of each text, higher is better. Raises ServerError for an answer of another form."""
    rank = _reranked if model.is_reranker else _similar
    batches = [texts[at : at + MAX_TEXTS] for at in range(0, len(texts), MAX_TEXTS)]
    return [
        one for batch in batches for one in rank(client, model, _cut(question), [*map(_cut, batch)])
    ]


def _reranked(
    client: Client, model: RankingModel, question: str, texts: Sequence[str]
) -> list[float]:
    body = {"model": model.name, "query": question, "documents": texts, "top_n": len(texts)}
    told = client.post("/v1/rerank", body, _SECONDS)
    rows = told.get("results", told.get("data"))  # SGLang's answer is the list alone
    return _in_order(client, model, rows, len(texts), _score)


def _similar(
    client: Client, model: RankingModel, question: str, texts: Sequence[str]
) -> list[float]:
    body = {"model": model.name, "input": [question, *texts], "encoding_format": "float"}
    rows = client.post("/v1/embeddings", body, _SECONDS).get("data")
    asked, *others = _in_order(client, model, rows, 1 + len(texts), _direction)
    if any(len(one) != len(asked) for one in others):
        raise _wrong(client, model, "vectors of different lengths")
    return [sum(map(mul, asked, one)) for one in others]


def _in_order(
    client: Client,
    model: RankingModel,
    rows: object,
    count: int,
    read: Callable[[Mapping[str, Any]], T | None],
) -> list[T]:
    """What `read` makes of the row of each text, in the order of texts."""
    if not isinstance(rows, list) or len(rows) != count:
        found = len(rows) if isinstance(rows, list) else "no"
        raise _wrong(client, model, f"{found} rows for {count} texts")
    values: dict[int, T] = {}
    for row in rows:
        value = read(row) if isinstance(row, Mapping) else None
        if value is None:
            raise _wrong(client, model, "no finite numbers")
        values[row["index"] if type(row.get("index")) is int else -1] = value
    if values.keys() != set(range(count)):
        raise _wrong(client, model, "rows of other texts than were sent")
    return [values[at] for at in range(count)]


def _score(row: Mapping[str, Any]) -> float | None:
    value = row.get("relevance_score", row.get("score"))
    return float(value) if _is_number(value) else None


def _direction(row: Mapping[str, Any]) -> list[float] | None:
    """Of length 1, which not every server makes its vectors."""
    vector = row.get("embedding")
    if not isinstance(vector, list) or not 0 < len(vector) <= _MAX_DIMENSIONS:
        return None
    if not all(map(_is_number, vector)):
        return None
    length = math.hypot(*vector)
    return [one / length for one in vector] if 0 < length < math.inf else None


def _is_number(value: object) -> bool:
    """NaN, infinities and integers past any float are none."""
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST


def _wrong(client: Client, model: RankingModel, what: str) -> ServerError:
    return ServerError(
        f"{client.host}: {model.name} was asked which texts answer a question and told {what}; "
        "take it off the server, or mend it there"
    )


def _cut(text: str) -> str:
    return text.encode()[:MAX_BYTES].decode(errors="ignore")

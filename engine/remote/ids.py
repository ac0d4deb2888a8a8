"""What vLLM and SGLang have in common: ids in and out, and how text becomes ids."""

from engine.remote.client import Client
from engine.remote.dialect import WithoutSlots


class ServerOfIds(WithoutSlots):
    tells_all_ids = True

    def __init__(self, client: Client, model: str) -> None:
        self._client, self._model = client, model

    def tokenize(self, text: str, *, is_markup: bool) -> list[int] | None:
        """It parses control strings in any text, so that it can say nothing of text with some."""
        del is_markup
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        told = self._client.find("/tokenize", body)
        found = None if told is None else told.get("tokens")
        return found if isinstance(found, list) else None

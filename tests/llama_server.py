"""The real llama-server, in this process, on a port of this machine's own address."""

import json
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest


class LlamaServer:
    def __init__(self, gguf, num_tokens=512):
        xllamacpp = pytest.importorskip("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(gguf)
        parameters.n_ctx, parameters.n_parallel, parameters.warmup = num_tokens, 1, False
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.hostnames, parameters.port = ["127.0.0.1"], 0
        self._server = xllamacpp.Server(parameters)
        self._at = self._server.listening_address

    def post(self, path, body):
        request = urllib.request.Request(
            self._at + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def log_probs(self, token_ids, vocab_size):
        """[vocab] float64: log p of every token behind `token_ids`."""
        answer = self.post(
            "/completion",
            {
                "prompt": list(token_ids),
                "n_predict": 1,
                "n_probs": vocab_size,
                "temperature": 0,
                "cache_prompt": False,
                "ignore_eos": True,  # else nothing is told where the likeliest token ends the answer
            },
        )
        found = np.full(vocab_size, np.nan)
        for token in answer["completion_probabilities"][0]["top_logprobs"]:
            found[token["id"]] = token["logprob"]
        return found

    def tokenize(self, text, *, is_markup=False):
        body = {"content": text, "add_special": False, "parse_special": is_markup}
        return self.post("/tokenize", body)["tokens"]


@contextmanager
def serving(gguf, num_tokens=512):
    server = LlamaServer(gguf, num_tokens)
    try:
        yield server
    finally:
        del server

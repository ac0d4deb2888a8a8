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
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.hostnames, parameters.port = ["127.0.0.1"], 0
        self._server = xllamacpp.Server(parameters)
        self._at = self._server.listening_address

    def post(self, path, body):
        request = urllib.request.Request(
            self._at + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def log_probs(self, token_ids, vocab_size, visible_id=10):
        """[vocab] float64: log p of every token behind `token_ids`. `visible_id` is any that writes
        text."""
        answer = self.post(
            "/completion",
            {
                "prompt": list(token_ids),
                "n_predict": 1,
                "n_probs": vocab_size,
                "temperature": 0,
                "cache_prompt": False,
                # Nothing is told of a token that ends the answer or is half a character, so one is
                # forced that is neither; what is told is not touched by that.
                "logit_bias": [[visible_id, 1000]],
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

"""The real llama-server, in a process of its own, on a port of this machine's own address.

In this process it would do as well, but for its end: now and then its destructor waits forever.
"""

import importlib.util
import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest


class LlamaServer:
    """Skips the test where xllamacpp is not installed. `slots` is where slots are saved. With
    `ranks`, a pooling ("RANK", "MEAN"), it also ranks texts or tells embeddings, as "a-reranker" or
    "an-embedder"."""

    def __init__(self, gguf, num_tokens=512, key="", slots="", ranks=""):
        if importlib.util.find_spec("xllamacpp") is None:
            pytest.skip("needs xllamacpp")
        command = [sys.executable, __file__, str(gguf), str(num_tokens), key, str(slots), ranks]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self):
        self._at = self._process.stdout.readline().decode().strip()
        assert self._at.startswith("http"), "llama-server does not load the file"
        return self

    def __exit__(self, *_):
        self.kill()
        self._process.communicate()

    @property
    def url(self):
        return self._at

    def kill(self):
        self._process.kill()
        self._process.wait()

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


def serve(gguf, num_tokens, key="", slots="", ranks=""):
    """Writes the address to stdout and serves until stdin ends."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = num_tokens, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # float32 throughout, so that what differs is the model and not its rounding.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.flash_attn_type = off
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    if key:
        parameters.api_keys = [key]
    if slots:
        parameters.slot_save_path = f"{slots}/"
    if ranks:
        parameters.embedding, parameters.n_ubatch = True, num_tokens
        parameters.pooling_type = xllamacpp.llama_pooling_type[f"LLAMA_POOLING_TYPE_{ranks}"]
        parameters.model_alias = {"a-reranker" if ranks == "RANK" else "an-embedder"}
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

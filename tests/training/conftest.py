import json
import random

import pytest
import torch
from tiny import llama_config, write_checkpoint

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "hat", "where", "rats", "ate", "1234567"]


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def parent(tmp_path_factory):
    config = llama_config(num_hidden_layers=4, head_dim=16)
    return write_checkpoint(tmp_path_factory.mktemp("parent") / "llama", config)


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """A file of texts and one of questions, from enough sources that some are held out."""
    directory, draw = tmp_path_factory.mktemp("records"), random.Random(1)

    def words(count):
        return " ".join(draw.choice(WORDS) for _ in range(count))

    texts = [{"source": f"owner/{n}:file", "text": words(90)} for n in range(400)]
    questions = [
        {"set": "s", "prompt": f"{words(12)}\n{words(4)}?", "answer": words(2)} for _ in range(400)
    ]
    for name, rows in (("text", texts), ("qa", questions)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(lines)
    return directory

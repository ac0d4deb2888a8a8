"""A small world to measure in: a book, records to hold out, and engines that know or do not."""

import gzip
import json
import lzma
import random
import re
from types import SimpleNamespace

import pytest
import torch
from tiny import mm1_config, write_checkpoint, write_tokenizer

from benchmarks.quality.subject import Subject
from engine.api import Capabilities
from engine.tokenizer import Tokenizer

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "hat",
    "where",
    "rats",
    "ate",
    "that",
    "other",
    "day",
    "with",
    "seven",
    "green",
    "owls",
]


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sentences(draw, count):
    return " ".join(f"{' '.join(draw.choices(WORDS, k=8)).capitalize()}." for _ in range(count))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """corpora/ and train/ as in the shared folder; every passage names its own number."""
    folder, draw = tmp_path_factory.mktemp("shared"), random.Random(1)
    (folder / "corpora").mkdir()
    (folder / "train").mkdir()
    unusual = " ".join("".join(draw.choices("bcdfgaeiou", k=6)) for _ in range(400))
    paragraphs = "\n\n".join(sentences(draw, 12) for _ in range(60))
    with gzip.open(folder / "corpora" / "book.txt.gz", "wt", encoding="utf-8") as file:
        file.write(f"Title\n\n{paragraphs}\n\n{unusual}.")
    texts = [{"source": f"o/{n}:f", "text": sentences(draw, 12)} for n in range(150)]
    questions = []
    for n in range(300):
        passage = f"{sentences(draw, 3)} Box {n} weighs {7 * n + 1000} grams. {sentences(draw, 3)}"
        prompt = (
            "Extract the answer to the question from the following context.\n"
            f"Question: How much does box {n} weigh?\nContext: {passage}\n"
        )
        questions.append({"set": "s", "prompt": prompt, "answer": str(7 * n + 1000)})
    for n in range(120):
        lines = [f"Speaker {k % 3}: {sentences(draw, 1)} {n} {k}" for k in range(40)]
        span = {"query": f"Who said {n} {20}?", "answer": "x", "relevant_text_span": [["20", "21"]]}
        questions.append({"set": "m", "meeting": lines, "queries": [span]})
    for name, rows in (("text", texts), ("qa", questions)):
        packed = lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
        (folder / "train" / f"{name}.jsonl.xz").write_bytes(packed)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    config = mm1_config(max_position_embeddings=1024)
    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", config)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return Tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


class Spoken:
    """The context of an engine that only remembers text."""

    reused_tokens = None

    def __init__(self, engine, token_ids=()):
        self.engine, self.token_ids = engine, list(token_ids)

    def __len__(self):
        return len(self.token_ids)

    def extend(self, token_ids, on_progress=None):
        self.token_ids += token_ids
        self.engine.num_read += len(token_ids)

    def fork(self):
        return Spoken(self.engine, self.token_ids)

    def end_of_documents(self):
        pass

    def select(self, token_ids, first=0):
        return []

    @property
    def text(self):
        return self.engine.tokenizer.decode(self.token_ids)

    def score(self, token_ids, given=()):
        tokenizer = self.engine.tokenizer
        read = self.text + (tokenizer.decode(given) if given else "")
        value = self.engine.likelihood(read, tokenizer.decode(token_ids))
        return torch.full((len(token_ids),), float(value))


CAPABILITIES = Capabilities(
    has_logprobs=True,
    has_token_scores=True,
    has_grammars=False,
    ends_grammars=False,
    has_quotes=False,
    has_attention=False,
    can_save=False,
    prefers_batches=False,
)


class StubEngine:
    """Stands where an engine does: `reply` writes, `likelihood` scores, both from text alone."""

    def __init__(self, tokenizer, reply, likelihood=lambda text, asked: -1.0):
        self.tokenizer, self.reply, self.likelihood = tokenizer, reply, likelihood
        self.config = SimpleNamespace(max_positions=4096)
        self.max_positions = self.max_tokens = 4096
        self.token_flops = 10**6
        self.capabilities = CAPABILITIES
        self.fingerprint = f"stub {id(self)}"
        self.num_read = 0
        self.io_stats = None

    def new_context(self, *, is_saved_kind=False):
        return Spoken(self)

    def map_requests(self, works, num_tokens):
        return [work() for work in works]

    def decode(self, context, *, max_tokens, max_positions=None, **_):
        return _Written(self.reply(context.text))


class _Written(list):
    token_ids, stop_reason, num_drafted, num_accepted = (), "end", 0, 0

    def __init__(self, text):
        super().__init__([text])


def copy_number(text):
    """Writes the number of the line that shares the most words with what was asked last."""
    *_, asked = text.split("\n\n")
    words = set(re.findall(r"\w+", asked))
    lines = [line for line in text.splitlines() if re.search(r"\b\d{7}\b", line)]
    best = max(lines, key=lambda line: len(words & set(re.findall(r"\w+", line))), default="")
    return " " + "".join(re.findall(r"\b\d{7}\b", best)[:1])


def say_nothing_new(text):
    return " 0"


@pytest.fixture
def copier(tokenizer):
    return Subject("copier", StubEngine(tokenizer, copy_number))


@pytest.fixture
def constant(tokenizer):
    return Subject("constant", StubEngine(tokenizer, say_nothing_new))


@pytest.fixture
def knowing(tokenizer):
    """Likes a question, and dislikes to refuse, where the box asked for is weighed."""

    def likelihood(text, asked):
        box = (re.findall(r"How much does box (\d+) weigh", asked + text) or ["none"])[-1]
        is_there = re.search(rf"Box {box} weighs", text) is not None
        return -1.0 - 3.0 * (is_there if asked.startswith("Not found") else not is_there)

    return Subject("knowing", StubEngine(tokenizer, say_nothing_new, likelihood))

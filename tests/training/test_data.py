"""Red here means training sees what is held out, or an answer is not where it is said to be."""

import gzip
import json
import lzma
import random
import re

import pytest
import torch

from engine.tokenizer import Tokenizer
from training import checkpointing
from training.data import Reader
from training.data_mixture import Mixture
from training.decontamination import Overlap, evaluation_files, evaluation_text
from training.schedule import Schedule


@pytest.fixture(scope="module")
def tokenizer(parent):
    return Tokenizer(parent)


def read(tokenizer, records, *, seed=0, count=50):
    return Reader(tokenizer, seed).read(
        records / "text.jsonl", records / "qa.jsonl", sequence_tokens=128, num_sequences=count
    )


def test_the_seed_alone_decides_what_is_read(tokenizer, records):
    first, again, other = (read(tokenizer, records, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.token_ids, again.token_ids)
    assert not torch.equal(first.token_ids, other.token_ids)
    assert first.token_ids.shape == (50, 128)
    assert first.order(3, 0) != first.order(3, 1) != first.order(4, 1)
    assert sorted(first.order(3, 0)) == list(range(50))


def test_sources_held_out_are_not_trained_on(tokenizer, tmp_path):
    rows = [
        {"source": f"owner/{n}:{part}", "text": f"owner{n} "} for n in range(300) for part in "ab"
    ]
    path = tmp_path / "text.jsonl.xz"
    path.write_bytes(lzma.compress("\n".join(map(json.dumps, rows)).encode()))
    found = []
    for held_out in (False, True):
        data = Reader(tokenizer, 0, held_out).read(
            path, None, sequence_tokens=2, num_sequences=10**6
        )
        found.append(set(tokenizer.decode(data.token_ids.flatten().tolist()).split()))
    train, judged = found
    assert len(judged) >= 2
    assert len(train) > 10 * len(judged)
    assert not train & judged


def test_answers_are_marked_and_end_their_turn(tokenizer, records):
    data = read(tokenizer, records, count=200)
    lines = (records / "qa.jsonl").read_text().splitlines()
    answers = {json.loads(line)["answer"] for line in lines}
    num_marked = 0
    for index in range(len(data)):
        ids, is_answer = data.at(index)
        run = []
        for token_id, flag in zip([*ids.tolist(), 0], [*is_answer.tolist(), False], strict=True):
            if flag:
                run.append(token_id)
            elif run:
                assert tokenizer.decode(run) in answers
                assert run[-1] == tokenizer.eos_ids()[0]
                num_marked += 1
                run = []
    assert num_marked > 20


def test_what_repeats_an_evaluation_text_is_left_out_and_counted(tokenizer, tmp_path):
    repeated = " ".join(f"word{n}" for n in range(13))
    texts = [f"before {repeated.upper()}, after", "the cat sat " * 20, "the hat ate " * 20]
    rows = [{"source": f"a{n}", "text": text} for n, text in enumerate(texts)]
    rows += [{"source": "b", "text": ""}, {"source": "c", "meeting": []}]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = Overlap([f"An evaluation: {repeated}!"])
    data = Reader(tokenizer, 0, False, known).read(path, None, sequence_tokens=4, num_sequences=999)
    assert (data.num_overlapping, data.num_unread) == (1, 2)
    assert "WORD" not in tokenizer.decode(data.token_ids.flatten().tolist())


def test_some_source_is_held_out_of_a_few(tokenizer, tmp_path):
    """None of these has a hash that one in fifty has; judging on nothing would go unnoticed."""
    names = "encode/httpx ollama/ollama mozilla/pdf.js simonw/llm py-pdf/pypdf a/b c/d e/f g/h i/j"
    rows = [{"source": f"{name}:file", "text": "the cat sat " * 9} for name in names.split()]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = [
        len(Reader(tokenizer, 0, held_out).read(path, None, sequence_tokens=4, num_sequences=999))
        for held_out in (False, True)
    ]
    assert counts[1] == pytest.approx(sum(counts) * 3 / 10, rel=0.1)


def test_evaluation_texts_are_found_and_unpacked(tmp_path):
    """So that a haystack or a benchmark's question is not trained on without being named."""
    root = tmp_path / "main"
    for path, data in {
        "shared/corpora/book.txt.gz": gzip.compress(b"a book"),
        "main/benchmarks/quality/asked.jsonl": b'{"q": ["asked"]}\n\n{"q": "twice"}\n',
        "main/benchmarks/code.py": b"no text",
        "main/examples/paper.md": b"a paper",
        "more.json.xz": lzma.compress(b'{"a": {"b": "more"}}'),
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    texts = [evaluation_text(path) for path in evaluation_files(root)]
    assert texts == ["a book", "asked\ntwice", "a paper"]
    assert evaluation_text(tmp_path / "more.json.xz") == "more"


def test_what_a_checkout_sees_and_more_is_not_trained_on(tmp_path):
    words = [" ".join(f"{name}{n}" for n in range(13)) for name in "abc"]
    (tmp_path / "main/benchmarks").mkdir(parents=True)
    (tmp_path / "main/benchmarks/asked.txt").write_text(words[0])
    (tmp_path / "more.txt").write_text(words[1])
    known = Overlap.with_evaluation([tmp_path / "more.txt"], tmp_path / "main")
    assert [known.shares_with(text) for text in words] == [True, True, False]


def test_a_mixture_is_shared_among_what_is_there():
    mixture = Mixture.parse("35,25,40")
    both = mixture.counts(1000, has_text=True, has_qa=True)
    assert both == {"text": 350, "qa": 250, "generated": 400}
    assert mixture.counts(1000, has_text=True, has_qa=False) == {"text": 467, "generated": 533}
    assert mixture.counts(1000, has_text=False, has_qa=True) == {"qa": 1000}
    for wrong in ("35,25", "0,0,0", "a,b,c", "1,2,-3", "."):
        with pytest.raises(ValueError, match=r"mixture|expected shares"):
            Mixture.parse(wrong)


def test_generated_tasks_are_made_of_what_is_read_and_no_more(tokenizer, tmp_path):
    rows = [{"source": f"o/{n}:f", "text": f"owner{n} " * 60} for n in range(60)]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = []
    for held_out in (False, True):
        data = Reader(tokenizer, 0, held_out).read(
            path, None, sequence_tokens=400, num_sequences=40, mixture=Mixture(0, 0, 1)
        )
        assert 0.01 < data.is_answer.float().mean() < 0.5
        text = tokenizer.decode(data.token_ids.flatten().tolist())
        names.append(set(re.findall(r"owner\d+", text)))
    assert len(names[1]) >= 3
    assert len(names[0]) > 10
    assert not names[0] & names[1]


def test_single_prompts_end_with_one_end_token_of_the_answer(tokenizer, records):
    data = Reader(tokenizer, 0).read(
        None, records / "qa.jsonl", sequence_tokens=128, num_sequences=20, single=True
    )
    lines = (records / "qa.jsonl").read_text().splitlines()
    pairs = {json.loads(line)["prompt"]: json.loads(line)["answer"] for line in lines}
    end = tokenizer.eos_ids()[0]
    assert len(data) == 20
    for index in range(20):
        ids, is_answer = data.at(index)
        first, last = is_answer.nonzero().flatten()[[0, -1]].tolist()
        assert is_answer[first : last + 1].all()
        assert set(ids[last:].tolist()) == {end}
        asked = tokenizer.decode(ids[:first].tolist())
        assert [tokenizer.decode(ids[first:last].tolist())] == [
            answer for prompt, answer in pairs.items() if prompt in asked
        ]


def test_few_answers_are_lost_where_sequences_are_cut(tokenizer, tmp_path):
    """Documents of up to a whole sequence: cutting in order would lose a third of them."""
    draw = random.Random(2)
    rows = [
        {"prompt": f"{n}" + " the cat" * draw.randint(1, 36), "answer": "a mat"} for n in range(300)
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Reader(tokenizer, 0).read(None, path, sequence_tokens=128, num_sequences=100)
    starts = data.is_answer & ~data.is_answer.roll(1, dims=1)
    lengths = [len(tokenizer.encode(row["prompt"])) + 20 for row in rows]
    possible = 100 * 128 / (sum(lengths) / len(lengths))
    assert starts.sum() > 0.8 * possible


def test_an_answer_without_its_question_is_not_marked(tokenizer, tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps({"prompt": "the cat sat " * 200, "answer": "a mat"}) + "\n")
    data = Reader(tokenizer, 0).read(None, path, sequence_tokens=64, num_sequences=9)
    assert len(data)
    assert not data.is_answer.any()


def test_twelve_words_in_common_are_no_overlap():
    words = [f"w{n}" for n in range(13)]
    known = Overlap([" ".join(words)])
    assert known.shares_with("x " + " ".join(words) + " y")
    assert not known.shares_with("x " + " ".join(words[1:]) + " y")
    assert not known.shares_with(" ".join(reversed(words)))
    assert not Overlap([]).shares_with(" ".join(words))


def test_no_data_is_said(tokenizer, tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("")
    with pytest.raises(ValueError, match="no sequence of 8 tokens"):
        Reader(tokenizer, 0).read(path, None, sequence_tokens=8, num_sequences=3)


def test_the_rate_rises_and_falls():
    schedule = Schedule(100, 2, 64, 1e-2, 1e-4, 10, 1.0, 5, 5, 1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1e-2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=0.1)


def test_a_kill_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpointing.save(tmp_path, 1, {"x": torch.ones(2)}, {"recipe": {}})
    write = checkpointing.durable.write

    def killed(path, fill):
        if path.name == "checkpoint.json":
            raise KeyboardInterrupt
        write(path, fill)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpointing.durable, "write", killed)
        checkpointing.save(tmp_path, 2, {"x": torch.zeros(2)}, {"recipe": {}})
    facts, tensors = checkpointing.load(tmp_path)
    assert facts["step"] == 1
    assert torch.equal(tensors["x"], torch.ones(2))
    checkpointing.save(tmp_path, 3, {"x": torch.zeros(2)}, {})
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".part")
    assert names == ["checkpoint-00000003.safetensors", "checkpoint.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 1, "tensors": "../x"}', '{"step": 1}'])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(ValueError, match=r"damaged .*start in another folder"):
        checkpointing.load(tmp_path)

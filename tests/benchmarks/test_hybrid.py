"""Red here means a long run that was killed reports another time than it took."""

from dataclasses import replace

import pytest
from tiny import llama_config, mm1_config, write_checkpoint

from benchmarks import hybrid, machine
from engine.families import read_config


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "product_flops", lambda repeats=5: 1e9)
    model = write_checkpoint(tmp_path / "model", mm1_config())
    return hybrid.Task("tiny", model, 2500, tmp_path / "saved", (), 1, None)


def test_a_killed_length_goes_on_with_the_time_it_took(task, monkeypatch, capsys):
    add = hybrid.Journal.add

    def dying(self, first, last, took_s):
        add(self, first, last, took_s)
        if last == 2048:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hybrid.Journal, "add", dying)
        hybrid.measure(task)
    before = hybrid.Journal(task.folder / "times.jsonl").chunks
    assert [chunk["last"] for chunk in before] == [1024, 2048]
    row = hybrid.measure(task)
    after = hybrid.Journal(task.folder / "times.jsonl").chunks
    assert row["resumed_after_tokens"] == 2048 and after[:2] == before
    assert row["prefill_s"] == sum(chunk["s"] for chunk in after)
    assert [chunk["last"] for chunk in after] == [1024, 2048, 2500]
    assert "2,048 read before" in capsys.readouterr().err
    again = hybrid.measure(task)
    assert again["prefill_s"] == row["prefill_s"]
    assert again["decode_tok_s"] > 0 and again["saved_bytes"] > 0
    assert "about" not in capsys.readouterr().err


def test_a_context_whose_time_nobody_took_is_read_again(task):
    hybrid.measure(task)
    (task.folder / "times.jsonl").unlink()
    assert hybrid.measure(task)["resumed_after_tokens"] == 0


def test_int8_keys_and_values_are_saved_as_such(task, tmp_path):
    small = hybrid.measure(replace(task, folder=tmp_path / "small", kv="int8"))
    assert small["saved_bytes"] < 0.6 * hybrid.measure(task)["saved_bytes"]
    assert small["tokens"] == task.tokens and small["decode_tok_s"] > 0


def test_a_softmax_model_stops_at_its_length_and_says_so(tmp_path):
    model = write_checkpoint(tmp_path / "model", llama_config())
    limit = read_config(model).max_positions
    task = hybrid.Task("tiny", model, limit + 1, tmp_path / "saved", (), 1, None)
    (row,) = hybrid.run([task], beyond=False)
    assert "--beyond" in row["left_out"] and row["left_out"] in hybrid.line(row)


def test_texts_are_read_in_order_and_repeated(task, tmp_path):
    import gzip

    from engine.engine import Engine

    (tmp_path / "a.txt").write_text("hello world. ")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"the cat sat"))
    engine = Engine(task.directory)
    texts = (tmp_path / "a.txt", tmp_path / "b.txt.gz")
    once = engine.tokenizer.encode("hello world. ") + engine.tokenizer.encode("the cat sat")
    assert hybrid.token_ids(engine, texts, 2 * len(once) + 3) == [*once, *once, *once[:3]]

"""Red here means the one command for the quality report breaks, or reports what it did not run."""

import json
import math
import shutil

import pytest
import torch
from tiny import load_model

from benchmarks.quality import __main__ as quality
from benchmarks.quality import needle, perplexity
from benchmarks.quality.command import main
from benchmarks.quality.perplexity import spans, windows
from benchmarks.quality.subject import Subject, load
from engine.context import Context
from engine.engine import Engine

SMALL = (
    "perplexity --windows 128 --limit 2 --curve 1024",
    "needle --lengths 600 --depths 0 1 --seeds 1",
    "multikey --lengths 900 --keys 2",
    "ruler --lengths 1500 --limit 1 --tasks niah_single frequent_words",
    "evidence --limit 1 --sets meetings",
    "quotes --limit 1 --max-tokens 4",
    "abstention --limit 1",
)


def words(shared, tmp_path, *models):
    given = [word for small in SMALL for word in ("--with", small)]
    given += [word for model in models for word in ("--model", str(model))]
    paths = {"--shared": shared, "--cache": tmp_path / "r.jsonl", "--out": tmp_path / "docs"}
    return [*given, *(str(word) for pair in paths.items() for word in pair)]


def run(capsys, *given):
    quality.main(given)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_every_table_is_measured_and_written(tiny_model, shared, tmp_path, capsys):
    report = run(capsys, *words(shared, tmp_path, tiny_model))
    assert [table["table"] for table in report["tables"]] == list(quality.NAMES)
    for table in report["tables"]:
        columns = {name for row in table["rows"] for name in row["results"]}
        assert "tiny" in columns, table["table"]
        assert "bm25 alone" in columns or table["table"] == "perplexity"
        cells = [cell for row in table["rows"] for cell in row["results"].values()]
        numbers = [cell for cell in cells if cell != "none written"]
        assert all(c["low"] is None or c["low"] <= c["value"] <= c["high"] for c in numbers)
    text = (tmp_path / "docs" / "quality.md").read_text()
    assert "python -m benchmarks.quality.needle" in text
    assert "1,500 tokens is beyond the 1,024 positions tiny was trained for: run" in text


def test_a_second_run_measures_nothing_and_models_stand_side_by_side(
    tiny_model, shared, tmp_path, capsys
):
    twin = shutil.copytree(tiny_model, tmp_path / "twin" / "model")
    config = json.loads((twin / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-2}))
    given = [*words(shared, tmp_path, tiny_model, twin), "--only", "perplexity", "needle"]
    first = run(capsys, *given)
    assert [model["name"] for model in first["models"]] == ["tiny", "twin"]
    nats = [
        row["results"] for t in first["tables"] for row in t["rows"] if row["measure"] == "nats"
    ]
    assert nats
    assert all(row["tiny"]["value"] != row["twin"]["value"] for row in nats)
    kept = (tmp_path / "r.jsonl").read_text()
    again = run(capsys, *given, "--minutes", "0")
    assert (tmp_path / "r.jsonl").read_text() == kept
    assert [t["rows"] for t in again["tables"]] == [t["rows"] for t in first["tables"]]


def test_without_time_the_tables_say_what_was_not_run(tiny_model, shared, tmp_path, capsys):
    given = [*words(shared, tmp_path, tiny_model), "--minutes", "0", "--only", "needle", "evidence"]
    report = run(capsys, *given)
    for table in report["tables"]:
        assert any("items not run, the time was over" in note for note in table["notes"])
        assert not any("tiny" in row["results"] for row in table["rows"])


def test_one_table_ends_in_one_json_line(tiny_model, shared, tmp_path, capsys):
    given = ["--model", str(tiny_model), "--shared", str(shared), "--lengths", "600"]
    given += ["--depths", "0.5", "--seeds", "1", "--cache", str(tmp_path / "r.jsonl")]
    main(needle.COMMAND, given)
    *table, line = capsys.readouterr().out.splitlines()
    assert json.loads(line)["benchmark"] == "quality.needle"
    assert table[0].startswith("Needle in a haystack")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--with", "nedle --seeds 1"], "no table 'nedle'; there are perplexity"),
        (["--with", "needle --lengths none"], "invalid positive value: 'none'"),
        (["--with", "needle --depths 2"], "invalid depth value: '2'"),
        (["--model", "/nowhere"], "no model '/nowhere'"),
    ],
)
def test_slips_cost_no_work(given, message, shared, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        quality.main([*given, "--shared", str(shared), "--cache", str(tmp_path / "r")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_called_model_is_named_after_its_run(tiny_model, tmp_path):
    run = shutil.copytree(tiny_model, tmp_path / "distil" / "model")
    names = [subject.name for subject in load([str(run), str(tiny_model), str(tiny_model)], 1)]
    assert names[:2] == ["distil", "tiny"]
    assert names[2].startswith("tiny ")


def test_likelihood_in_a_context_is_that_of_the_whole_text_at_once(tiny_model, shared):
    subject = Subject("tiny", Engine(tiny_model, chunk_tokens=50))
    (window,) = windows(subject, shared, "book", 333, 1, 0)
    found = perplexity.score(subject, window)["nats"]
    ids = torch.tensor(window[0])
    model = load_model(tiny_model)
    with torch.inference_mode():
        logits = model.logits(model(ids, model.empty_states(), 0))
    nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:])
    # A last chunk of few tokens is read with weights in float16.
    assert found == pytest.approx(float(nats), abs=1e-3)
    assert 0 < found < 2 * math.log(320)


def test_reading_while_scoring_leaves_the_context_as_reading_does(tiny_model):
    model = load_model(tiny_model)
    ids = list(range(40, 110))
    plain, scored = Context(model, 16), Context(model, 16)
    plain.extend(ids[:10])
    scored.extend(ids[:10])
    expected = plain.score(ids[10:])
    found = []
    scored.extend(ids[10:], on_scores=lambda scores: found.append(scores.log_p))
    plain.extend(ids[10:])
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-5, rtol=0)
    assert scored.token_ids == plain.token_ids
    torch.testing.assert_close(scored.logits, plain.logits, atol=1e-6, rtol=0)


def test_held_out_windows_come_from_records_training_does_not_read(tiny_model, shared):
    subject = Subject("tiny", Engine(tiny_model))
    found = windows(subject, shared, "questions", 400, 2, 0)
    assert all(len(ids) == 400 for ids, _ in found)
    assert any(any(is_answer) for _, is_answer in found)
    with pytest.raises(ValueError, match="no sequence"):
        windows(subject, shared, "text", 10**6, 1, 0)


def test_the_curve_is_told_in_doublings():
    assert spans(4096) == [(0, 512), (512, 1024), (1024, 2048), (2048, 4096)]
    assert spans(700) == [(0, 512), (512, 700)]
    assert spans(300) == [(0, 300)]

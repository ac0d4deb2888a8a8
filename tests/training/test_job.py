"""Red here means a job on another machine starts from other weights, or its results are lost."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms
from safetensors.torch import load_file, save_file
from tiny import load_model

from engine.engine import Engine
from training import (
    align,
    assemble,
    checkpointing,
    encoding,
    file_parts,
    job,
    pack,
    packed,
    reinforce,
    shards,
)
from training.data import Sequences

STAGES = "align:1,distil:2"
SMALL = ["--preset", "smoke", "--device", "cpu", "--precision", "bfloat16"]
SMALL += ["--only", "align=--keep 1:8,3:0", "--micro-batch-sequences", "2", "--seed", "3"]


def weights(directory):
    return load_file(directory / "model.safetensors")


@pytest.fixture(scope="module")
def folder(parent, records, tmp_path_factory):
    out = tmp_path_factory.mktemp("folder") / "data"
    given = ["--parent", parent, "--text", records / "text.jsonl", "--qa", records / "qa.jsonl"]
    given += ["--out", out, "--sequence-tokens", 128, "--max-sequences", 40, "--held-out", 4]
    given += ["--preset", "smoke"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "PART_BYTES", 2**20 + 90_000)
        pack.command([str(option) for option in given])
    return out


def run_job(folder, out, *more):
    given = ["--data", folder, "--out", out, "--minutes", "20", *SMALL, *more]
    job.command([str(option) for option in given])


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("job")
    run_job(folder, out, "--stages", STAGES)
    return out


def test_a_job_runs_from_its_folder_alone(done, parent):
    got, want = weights(done / "work" / "parent"), weights(parent)
    assert all(torch.equal(got[name], want[name]) for name in want)
    log = [json.loads(line) for line in (done / "distil" / "log.jsonl").read_text().splitlines()]
    assert log[0]["recipe"]["products"] == "bfloat16"
    assert log[-1]["held_out"]["kl"] < 0.95 * log[0]["held_out"]["kl"]
    events = [json.loads(line)["event"] for line in (done / "job.jsonl").read_text().splitlines()]
    assert events == ["unpacked", *["begins", "delivered"] * 2, "ends"]


def test_results_and_parent_make_a_model_the_engine_opens(done, parent, tmp_path):
    assemble.command([str(path) for path in (done / "distil", parent, tmp_path / "model")])
    got, want = weights(tmp_path / "model"), weights(done / "work" / "distil" / "model")
    assert got.keys() == want.keys()
    before = weights(parent)
    for name, tensor in want.items():
        if name in before and torch.equal(before[name], tensor):
            assert torch.equal(got[name], tensor), name
        else:
            assert relative_rms(got[name], tensor) < 0.02, name
    engine = Engine(tmp_path / "model")
    context = engine.new_context()
    context.extend([5, 6, 7])
    assert list(engine.decode(context, max_tokens=3))


def test_only_what_changed_is_delivered(done, parent):
    _, changed = shards.read(done / "align")
    assert "model.layers.0.self_attn.output_gate.weight" in changed
    assert not any("mlp." in name or "embed" in name for name in changed)
    assert "model.layers.1.self_attn.o_proj.weight" not in changed  # it stays softmax


def test_a_job_goes_on_from_shards(folder, done, tmp_path):
    run_job(folder, tmp_path, "--stages", "distil", "--from", done / "align", "--steps", "10")
    log = [json.loads(line) for line in (tmp_path / "distil/log.jsonl").read_text().splitlines()]
    first = json.loads((done / "distil" / "log.jsonl").read_text().splitlines()[0])
    assert log[0]["held_out"]["kl"] == pytest.approx(first["held_out"]["kl"], rel=0.05)
    assert log[-1]["step"] == 10


def test_a_killed_job_goes_on(folder, done, tmp_path, monkeypatch):
    class Kill(BaseException):
        pass

    learn, calls = align.Alignment.learn, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 15:
            raise Kill
        return learn(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(align.Alignment, "learn", dying)
        run_job(folder, tmp_path, "--stages", "align")
    run_job(folder, tmp_path, "--stages", "align")
    got, want = (weights(out / "work" / "align" / "model") for out in (tmp_path, done))
    # The plans may differ in when they were made, and the rate in its last digits.
    assert all(relative_rms(got[name], want[name]) < 1e-3 for name in want)


LAST = ["--stages", "lengthen:1,read:1,reinforce:1"]
LAST += ["--only", "reinforce=--group 4 --max-tokens 6"]


@pytest.fixture
def paid(monkeypatch):
    """Random answers are never right: something they can be paid for."""

    def reward(_prompt, _wanted, answer):
        return float(len(answer) % 3)

    monkeypatch.setattr(reinforce.Reinforcement.__init__, "__defaults__", (reward,))


def events_of(out):
    lines = (out / "job.jsonl").read_text().splitlines()
    return [(line["event"], line.get("stage")) for line in map(json.loads, lines)]


def test_the_later_stages_run_from_the_folder_too_and_go_on_after_a_kill(
    folder, done, parent, paid, tmp_path, monkeypatch
):
    class Kill(BaseException):
        pass

    learn, calls = reinforce.Reinforcement.learn, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 2 * 2 * 3:  # a batch and each of its two columns
            raise Kill
        return learn(self, *arguments)

    begun, out = [*LAST, "--from", done / "distil"], tmp_path / "job"
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(reinforce.Reinforcement, "learn", dying)
        run_job(folder, out, *begun)
    step = checkpointing.load(out / "work" / "reinforce")[0]["step"]
    assert 0 < step < 4
    run_job(folder, out, *begun)
    stages = ["lengthen", "read", "reinforce"]
    assert [stage for event, stage in events_of(out) if event == "delivered"] == stages
    log = [json.loads(line) for line in (out / "reinforce/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(5))
    assert log[0]["recipe"]["stage"] == "reinforce"
    assemble.assemble(out / "reinforce", parent, tmp_path / "model")
    got, want = weights(tmp_path / "model"), weights(out / "work" / "reinforce" / "model")
    before = weights(out / "work" / "read" / "model")
    assert all(relative_rms(got[name], want[name]) < 0.02 for name in want)
    assert any(not torch.equal(want[name], before[name]) for name in want)


def test_reinforce_is_left_out_when_the_time_is_used_up(folder, done, tmp_path, capsys):
    begun = ["--stages", "reinforce:1", "--from", done / "distil", "--only", LAST[-1]]
    run_job(folder, tmp_path, *begun, "--minutes", "0.5")
    assert events_of(tmp_path)[1:] == [("left out", "reinforce"), ("ends", None)]
    told = capsys.readouterr().err.splitlines()
    assert any(re.match(r"reinforce is left out: \d+ s are left for it, ", line) for line in told)
    assert not (tmp_path / "reinforce").exists()
    run_job(folder, tmp_path, *begun)
    assert ("delivered", "reinforce") in events_of(tmp_path)


def test_a_folder_without_prompts_is_refused_before_any_stage_runs(
    parent, records, tmp_path, capsys
):
    given = ["--parent", parent, "--text", records / "text.jsonl", "--out", tmp_path / "data"]
    given += ["--sequence-tokens", 128, "--max-sequences", 4, "--held-out", 2, "--for"]
    pack.command([str(option) for option in given])
    with pytest.raises(SystemExit) as ended:
        run_job(tmp_path / "data", tmp_path / "out", "--stages", "align:1,reinforce:1")
    assert ended.value.code == 2
    assert "has no prompts; pack it with --for reinforce" in capsys.readouterr().err
    assert not (tmp_path / "out" / "align").exists()


def test_each_stage_is_packed_as_it_reads(folder, tmp_path):
    """Red: a stage meets sequences of a length or kind that it cannot read."""
    names = file_parts.join(folder, tmp_path)
    assert {name for name in names if name.endswith(pack.TOKENS)} == {
        name + pack.TOKENS for name in ("main", "lengthen", "read", "reinforce")
    }
    found = []
    for stage, (presets, _, single) in pack.OWN.items():
        preset = presets["smoke"]
        data, held_out = packed.read(tmp_path / (stage + pack.TOKENS), preset.sequence_tokens)
        assert len(data) == preset.steps * preset.batch_sequences
        assert 0 < len(held_out) <= preset.num_held_out  # of few sources
        found.append(data)
        if single:
            reinforce._check_prompts(data)
            reinforce._check_prompts(held_out)
    assert not torch.equal(found[0].token_ids, found[1].token_ids)


@pytest.mark.parametrize("stage", ["align:3", "read:x", "distil"])
def test_sets_that_cannot_be_packed_are_refused(parent, records, tmp_path, capsys, stage):
    given = ["--parent", parent, "--text", records / "text.jsonl", "--out", tmp_path / "data"]
    with pytest.raises(SystemExit) as ended:
        pack.command([str(option) for option in [*given, "--for", stage]])
    assert ended.value.code == 2
    assert "is not like lengthen or read or reinforce:1000" in capsys.readouterr().err


def test_a_missing_or_damaged_part_is_said(folder, tmp_path):
    copy = tmp_path / "copy"
    for path in folder.rglob("*.*"):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    last = sorted(copy.glob("part-*/*.bin"))[-1]
    assert last.parent.name != "part-00"
    last.write_bytes(last.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged; carry it again"):
        file_parts.join(copy, tmp_path / "out")
    last.unlink()
    with pytest.raises(ValueError, match="part missing"):
        file_parts.join(copy, tmp_path / "out")


def test_shards_of_another_parent_or_damaged_are_refused(done, parent, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tensors = weights(parent)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(ValueError, match="is not the model that"):
        assemble.assemble(done / "align", other, tmp_path / "model")
    copy = tmp_path / "shards"
    copy.mkdir()
    for path in (done / "align").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = next(copy.glob("shard-*"))
    shard.write_bytes(shard.read_bytes() + b" ")
    with pytest.raises(ValueError, match="damaged; fetch it again"):
        assemble.assemble(copy, parent, tmp_path / "model")


@pytest.mark.parametrize(("form", "error"), [("int8", 0.012), ("bfloat16", 0.003)])
def test_the_form_of_shards_bounds_their_error(done, tmp_path, monkeypatch, form, error):
    monkeypatch.setattr(shards, "SHARD_BYTES", 9_000)
    model, parent = done / "work" / "align" / "model", done / "work" / "parent"
    shards.write(model, parent, tmp_path, form, {})
    assert len(list(tmp_path.glob("shard-*"))) > 2
    _, changed = shards.read(tmp_path)
    want = weights(model)
    for name, tensor in changed.items():
        assert relative_rms(tensor, want[name]) < error, name
        assert tensor.dim() > 1 or torch.equal(tensor, want[name])


def test_weights_that_were_quantised_come_back_exactly_and_small():
    generator = torch.Generator().manual_seed(0)
    step = torch.rand(64, 4, 1, generator=generator).half().float() + 0.01
    step = step.half().float()
    low = (-8 * step).half().float()
    q4 = torch.randint(0, 16, (64, 4, 32), generator=generator)
    q4[..., 0], q4[..., 31] = 0, 15
    q8 = torch.randint(-127, 128, (64, 4, 32), generator=generator)
    q8[..., 7] = 127
    tensors = {
        "four": (step * q4 + low).flatten(1),
        "eight": (step * q8).flatten(1),
        "zero": torch.zeros(3, 64),
        "half": torch.randn(5, 7, generator=generator).half().float(),
        "plain": torch.randn(6, 64, generator=generator),
        "vector": torch.randn(9, generator=generator),
    }
    small = encoding.encode(tensors)
    back = encoding.decode(small)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    bits = {
        name: 8 * sum(part.nbytes for key, part in small.items() if key.startswith(name + "|"))
        for name in tensors
    }
    assert bits["four"] == 5 * 64 * 128
    assert bits["eight"] == 8.5 * 64 * 128


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.sampled_from([4, 8, 12]), st.booleans(), st.integers(0, 99))
def test_packed_sequences_come_back(tmp_path_factory, count, length, large, seed):
    generator = torch.Generator().manual_seed(seed)
    top = 100_000 if large else 60_000
    ids = torch.randint(0, top, (count, length), generator=generator, dtype=torch.int32)
    data = Sequences(ids, torch.rand(count, length, generator=generator) > 0.5)
    path = tmp_path_factory.mktemp("packed") / "x.safetensors"
    packed.write(path, data, data)
    for sequence_tokens in (length, 2):
        for got in packed.read(path, sequence_tokens):
            assert torch.equal(got.token_ids.flatten(), data.token_ids.flatten())
            assert torch.equal(got.is_answer.flatten(), data.is_answer.flatten())
            assert got.token_ids.shape[1] == sequence_tokens
    with pytest.raises(ValueError, match="not sequences of 7 tokens"):
        packed.read(path, 7)


@pytest.mark.parametrize("text", ["align:x", "align:0", "../x:1", "align:1,dis til"])
def test_stages_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="is not like align:5,distil:12"):
        job.Step.parse(text)


def test_a_model_of_a_job_reads_like_the_one_it_trained(done, parent, tmp_path):
    assemble.assemble(done / "align", parent, tmp_path / "model")
    ids = torch.arange(5, 60)
    logits = []
    for directory in (tmp_path / "model", done / "work" / "align" / "model"):
        model = load_model(directory)
        with torch.inference_mode():
            logits.append(model.logits(model(ids, model.empty_states(), 0)))
    assert relative_rms(*logits) < 0.05

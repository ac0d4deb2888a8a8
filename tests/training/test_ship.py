"""Red here means a model that was shipped is not the one people get, or its card says too much."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from measure import relative_rms
from mini import pin_tiny

from engine.checkpoint import Checkpoint
from engine.engine import Engine
from engine.weight_delta import read
from mm1cli.commands import models, models_list
from mm1cli.errors import ModelError
from mm1cli.models import delta, library
from mm1cli.settings import Settings
from training import align, ship

NAME = "tiny-hybrid"


def ignore(stage, done, total): ...


@pytest.fixture(scope="module")
def shop(records, tmp_path_factory):
    """A tiny embedded model, a hybrid aligned to it, and the folder that was shipped."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        pin_tiny(folder, patch)
        patch.setenv("MM1_DATA_DIR", str(folder / "data"))
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder / "links"))
        parent = library.pull("mini", ignore)
        given = ["--parent", parent, "--text", records / "text.jsonl", "--steps", 4]
        given += ["--mixture", "100,0,0", "--keep", "1:8", "--preset", "smoke"]
        given += ["--run", folder / "run", "--device", "cpu"]
        align.command([str(option) for option in given])
        (folder / "out").mkdir()
        given = ["--student", folder / "run" / "model", "--parent", parent]
        given += ["--out", folder / "out" / NAME, "--text", records / "text.jsonl"]
        patch.setattr(ship, "HELD_OUT_TOKENS", 64)
        ship.command([str(option) for option in given])
        yield folder


@pytest.fixture
def shipped(shop, tmp_path):
    return Path(shutil.copytree(shop / "out" / NAME, tmp_path / NAME))


@pytest.fixture
def data(shop, tmp_path, monkeypatch):
    """A data directory with the parent in it, and no way to fetch anything."""
    shutil.copytree(shop / "data", tmp_path / "data")
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    return tmp_path / "data" / "models"


def tensors(directory):
    checkpoint = Checkpoint(directory)
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


def change(folder, **facts):
    path = folder / delta.SHIPPED
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_what_is_pulled_is_the_student_up_to_rounding(shop, shipped, data):
    path = library.pull(str(shipped), ignore)
    assert path == data / NAME
    got, want = tensors(path), tensors(shop / "run" / "model")
    before = tensors(data / "mini")
    assert got.keys() == want.keys()
    _, changed = read(shipped)
    assert changed and "model.embed_tokens.weight" not in changed
    for name, tensor in want.items():
        if name in changed:
            assert relative_rms(got[name], tensor) < 0.012 or not tensor.any(), name
        else:
            assert torch.equal(got[name], tensor) and torch.equal(got[name], before[name]), name
    assert (path / "parent-model.safetensors").samefile(data / "mini/model.safetensors")
    rows = []
    for directory in (path, shop / "run" / "model"):
        context = Engine(directory).new_context()
        context.extend([5, 60, 70, 80, 9])
        rows.append(context.logits)
    assert 0 < relative_rms(*rows) < 0.05


def test_list_show_and_verify_know_it(shipped, data, capsys):
    library.pull(str(shipped), ignore)
    settings = Settings()
    models_list.show_list(settings, sys.stdout, as_json=True)
    (row,) = [m for m in json.loads(capsys.readouterr().out)["models"] if m["name"] == NAME]
    assert row["installed"] and row["parent"] == "mini"
    models.show(NAME, settings, sys.stdout, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["lightning_layers"], told["parent"]) == (1, "mini")
    assert told["licence"] == "Apache-2.0" and Path(told["model_card"]).exists()
    models.verify(NAME, (), settings, sys.stdout, as_json=True)
    assert json.loads(capsys.readouterr().out)["passed"]
    weights = data / NAME / "changed.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelError, match=f"models pull {NAME}"):
        models.verify(NAME, (), settings, sys.stdout, as_json=False)


def test_a_second_pull_does_nothing_and_repairs_what_was_damaged(shipped, data):
    path = library.pull(str(shipped), ignore)
    steps = []
    library.pull(NAME, lambda *step: steps.append(step))
    assert not steps
    (path / "config.json").unlink()
    with pytest.raises(ModelError, match="not complete"):
        library.resolve(NAME)
    assert library.verify_files(library.pull(NAME, ignore)) == []


def test_an_interrupted_pull_keeps_the_parent_and_leaves_nothing_else(shipped, data):
    def interrupt(stage, done, total):
        if stage == "combining" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.pull(str(shipped), interrupt)
    assert {path.name for path in data.iterdir()} == {".lock", "mini"}
    (data / ".pull-0123abcd").mkdir()  # as one that was killed leaves it
    (data / ".pull-notes").mkdir()  # somebody's
    library.pull(str(shipped), ignore)
    assert {path.name for path in data.iterdir()} == {".lock", ".pull-notes", "mini", NAME}


def test_one_that_comes_with_mm1_is_listed_and_pulled_on_first_use(shipped, data, monkeypatch):
    monkeypatch.setattr(delta, "PACKAGED", shipped.parent)

    def listed(name):
        (found,) = [model for model in library.list_models() if model.name == name]
        return found

    assert (listed(NAME).installed, listed(NAME).parent) == (False, "mini")
    assert listed("mini").installed
    assert library.ensure(NAME, ignore) == data / NAME
    assert listed(NAME).installed
    change(shipped, description="trained for longer")  # the next mm1 comes with another
    assert not listed(NAME).installed
    library.ensure(NAME, ignore)
    assert listed(NAME).description == "trained for longer"


def test_the_parent_is_fetched_first(shop, shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "empty"))
    stages = []
    library.pull(str(shipped), lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["downloading", "checking", "converting", "combining"]


def test_files_that_are_not_what_was_shipped_are_refused(shipped, data):
    shard = shipped / "shard-00.safetensors"
    content = shard.read_bytes()
    for broken in (content[:-1] + bytes([content[-1] ^ 1]), content[:100], b""):
        shard.write_bytes(broken)
        with pytest.raises(ModelError, match="missing or not what was shipped"):
            library.pull(str(shipped), ignore)
    shard.unlink()
    with pytest.raises(ModelError, match="missing or not what was shipped"):
        library.pull(str(shipped), ignore)
    assert {path.name for path in data.iterdir()} == {".lock", "mini"}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"result": "0" * 64}, "not the model that was shipped"),
        ({"parent": "0" * 64}, "is not the model that"),
        ({"name": "../mini-2"}, "cannot be read"),
        ({"name": "mini"}, "made from 'mini' was expected"),
        ({"files": {"../../secret": {"sha256": ""}}}, "cannot be read"),
        ({"files": {}}, "cannot be read"),
        ({"shards": []}, "no manifest of shards"),
        ({"config": {"model_type": "pickle"}}, "is not supported"),
        ({"parent_model": {"name": "mini", "gguf_sha256": "0" * 64}}, "made from another"),
        ({"parent_model": None}, "cannot be read"),
    ],
)
def test_a_manifest_of_something_else_is_refused(shipped, data, facts, message):
    change(shipped, **facts)
    with pytest.raises(ModelError, match=message):
        library.pull(str(shipped), ignore)
    assert {path.name for path in data.iterdir()} <= {".lock", "mini"}


def test_too_large_a_model_is_not_written(shop, tmp_path, monkeypatch, capsys):
    given = ["--student", shop / "run" / "model", "--parent", shop / "data/models/mini"]
    given += ["--out", tmp_path / NAME]
    size = ship.folder_bytes(shop / "out" / NAME)
    monkeypatch.setattr(ship, "MAX_BYTES", size - 3_000)
    with pytest.raises(SystemExit) as ended:
        ship.command([str(option) for option in given])
    assert ended.value.code == 2 and "--int4" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
    ship.command([str(x) for x in [*given, "--int4", "*.qkv_proj.weight", "*.o_proj.weight"]])
    assert ship.folder_bytes(tmp_path / NAME) < size - 3_000
    _, changed = read(tmp_path / NAME)
    want = tensors(shop / "run" / "model")
    name = "model.layers.0.self_attn.qkv_proj.weight"
    assert 0.02 < relative_rms(changed[name], want[name]) < 0.15


def test_a_parent_that_nobody_can_pull_is_refused(shop, tmp_path):
    for name in ("mine", "mini"):
        parent = shutil.copytree(shop / "data/models/mini", tmp_path / name)
        if name == "mine":
            (parent / library.MANIFEST).unlink()
        else:
            (parent / "config.json").write_text("{}")
        shipment = ship.Shipment(shop / "run/model", parent, tmp_path / "out", "", "MIT")
        with pytest.raises(ValueError, match=r"is not 'mini'|config\.json has"):
            ship.ship(shipment)


def test_the_card_has_the_numbers_of_the_log_and_no_others(shop, tmp_path):
    card = (shop / "out" / NAME / "MODEL_CARD.md").read_text()
    log = [json.loads(line) for line in (shop / "run/log.jsonl").read_text().splitlines()]
    assert f"| align | {log[-1]['tokens']:,} | {log[-1]['flops']:.2e} |" in card
    judged = [line["held_out"]["variance_explained"] for line in log if "held_out" in line]
    assert f"| variance_explained | {judged[0]:.4f} | {judged[-1]:.4f} |" in card
    assert f"of {NAME}: not measured." in card and "held-out tokens it changes" in card
    assert library.MINI.sha256 in card and library.MINI.member_sha256 in card
    assert "AdversarialQA | CC BY-SA 4.0" in card
    result = {"value": 0.625, "low": 0.5, "high": 0.75, "num": 8}
    table = {"title": "Needles", "rows": [{"tokens": "1,024", "results": {NAME: result}}]}
    quality = tmp_path / "quality.json"
    quality.write_text(json.dumps({"tables": [table, {"title": "Other", "rows": []}]}))
    parent = shop / "data/models/mini"
    out = tmp_path / NAME
    ship.ship(ship.Shipment(shop / "run/model", parent, out, "", "MIT", quality=quality))
    card = (out / "MODEL_CARD.md").read_text()
    assert "| 1,024 | 0.625 (0.5 to 0.75), n = 8 |" in card
    assert "to scores was not measured" in card and "Other" not in card

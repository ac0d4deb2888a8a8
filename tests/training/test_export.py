"""Red here means a trained model is not the one that is written."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import (
    EXPERTS,
    all_logits,
    llama_config,
    load_model,
    minimax_config,
    mm1_config,
    write_checkpoint,
)

from engine.engine import check_tensors
from training import shards
from training.assemble import assemble
from training.export import write_model

IDS = torch.randint(4, 290, (50,), generator=torch.Generator().manual_seed(6)).tolist()
CONFIGS = {
    "experts": mm1_config(**EXPERTS),
    "a shared expert": mm1_config(**EXPERTS, shared_intermediate_size=20),
    "dense": mm1_config(tie_word_embeddings=False),
    "minimax": minimax_config(shared_intermediate_size=20),
    "llama": llama_config(),
}


def config_of(directory):
    return json.loads((directory / "config.json").read_text())


def altered(directory):
    """The model with every weight a little other than in its file, and those logits."""
    model = load_model(directory)
    for number, parameter in enumerate(model.parameters()):
        parameter.data.mul_(1 + 0.01 * (1 + number % 7))
    return model, all_logits(model, IDS, 16)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_and_read_again_gives_the_same_bits(tmp_path, name):
    origin = write_checkpoint(tmp_path / "origin", CONFIGS[name])
    model, want = altered(origin)
    assert not torch.equal(want, all_logits(load_model(origin), IDS, 16))
    write_model(model, CONFIGS[name], origin, tmp_path / "written")
    shapes = [
        {n: t.shape for n, t in load_file(path / "model.safetensors").items()}
        for path in (origin, tmp_path / "written")
    ]
    assert shapes[0] == shapes[1]
    assert check_tensors(tmp_path / "written") == len(shapes[0])
    assert torch.equal(all_logits(load_model(tmp_path / "written"), IDS, 16), want)


def test_changed_experts_travel_in_shards(tmp_path):
    config = CONFIGS["a shared expert"]
    parent = write_checkpoint(tmp_path / "parent", config)
    model, _ = altered(parent)
    write_model(model, config, parent, tmp_path / "model")
    shards.write(tmp_path / "model", parent, tmp_path / "shards", "bfloat16", {})
    assemble(tmp_path / "shards", parent, tmp_path / "back")
    assert config_of(tmp_path / "back") == config
    got = load_file(tmp_path / "back" / "model.safetensors")
    for key, tensor in load_file(tmp_path / "model" / "model.safetensors").items():
        assert torch.equal(got[key], tensor.bfloat16().float() if tensor.dim() > 1 else tensor)

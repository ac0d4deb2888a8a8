"""Red here means a model that comes with mm1 cannot be put together, or is not what it says."""

import json

import pytest

from engine.api import fingerprint
from engine.config import Mixer
from engine.families import family_named, family_of
from engine.weight_delta import read
from mm1cli.models import ability, calibration, delta, library
from mm1cli.models.fetch import sha256_of

MODELS = {model.name: model for model in delta.in_package()}


def test_the_hybrid_comes_with_mm1_and_is_selectable():
    assert "mini-hybrid" in MODELS
    assert "mini-hybrid" in {model.name for model in library.list_models()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_file_is_the_one_that_was_shipped(name):
    model = MODELS[name]
    found = {path.name for path in model.folder.iterdir()} - {delta.SHIPPED}
    assert found == set(model.files)
    for file, wanted in model.files.items():
        assert sha256_of(model.folder / file) == wanted
    assert sum(path.stat().st_size for path in model.folder.iterdir()) < 40_000_000
    assert model.parent_sha256 == library.MINI.member_sha256


@pytest.mark.parametrize("name", sorted(MODELS))
def test_its_tensors_are_those_of_its_config(name):
    """All mixers but none of the parent's MLPs, each with numbers in it that are numbers."""
    folder = MODELS[name].folder
    manifest, changed = read(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == manifest["config"]
    config = family_of(manifest["config"]).read_config(manifest["config"])
    assert config.count(Mixer.LIGHTNING) > config.num_layers // 2
    known = {x for group in family_named(config.family).sources(config).values() for x in group}
    mixers = {x for x in known if ".self_attn." in x}
    assert mixers <= changed.keys() <= known
    assert not any(".mlp." in name or "embed" in name for name in changed)
    for tensor in changed.values():
        assert tensor.isfinite().all() and tensor.std() > 0


@pytest.mark.parametrize("name", sorted(MODELS))
def test_its_card_says_where_it_is_from_and_what_it_reaches(name):
    card = (MODELS[name].folder / delta.CARD).read_text(encoding="utf-8")
    wanted = ["Apache-2.0", MODELS[name].parent_sha256, "CC BY-SA", "## Recipe", "## Compute"]
    assert [text for text in wanted if text not in card] == []
    assert "not measured" not in card.split("## Results")[1]


def test_what_was_measured_of_mini_is_known_of_it_as_it_is_fetched_now(mini_dir):
    """Red: a fresh fetch has other bytes, and the model is taken for one nobody measured."""
    found = ability.measured(fingerprint(mini_dir))
    assert found is not None and found.name == "mini"
    assert calibration.of(mini_dir) is not None

"""Red here means Ring-linear-2.0, Ling/Ring 2.5 and 2.6 or MiniCPM-SALA is computed otherwise than
by its authors.

`recorded/` has random checkpoints of Ring and SALA in their published form, and logits that the
official code gave of 724 tokens; what may stand for others of Ling is bailing.py, which agrees with
its official outputs to 6e-6.
"""

import json
import shutil
from pathlib import Path

import bailing
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import all_logits, load_model

from engine import placement
from engine.api import ContextPlan
from engine.checkpoint import Checkpoint
from engine.config import Mixer
from engine.context import Context
from engine.errors import CheckpointError, ConfigError
from engine.families import family_of, read_config
from engine.layers import kv_cache
from engine.model import Model
from engine.pipeline_parallel.model import Stage
from engine.placement.weight_bytes import shapes
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from engine.store import manifest, state_tensors, writer
from engine.store.manifest import Compatibility
from engine.store.store import Store
from engine.streamed.model import stream
from engine.verify import verify
from engine.weights import load, source_rows

RECORDED = Path(__file__).parent / "recorded"
GOLDEN = Path(__file__).parents[2].parent / "shared/golden"
TOLERANCE = 1e-4
CPU = torch.device("cpu")
WEIGHTS = {"ring": "ring", "sala": "sala", "sala-sparse": "sala"}
LING = {
    "ling": bailing.HYBRID,
    "ling yarn": {**bailing.HYBRID, "rope_scaling": bailing.YARN, "q_lora_rank": None},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, found = tmp_path_factory.mktemp("siblings"), {}
    for name, weights in WEIGHTS.items():
        found[name] = root / name
        found[name].mkdir()
        shutil.copyfile(RECORDED / f"{name}.json", root / name / "config.json")
        shutil.copyfile(RECORDED / f"{weights}.safetensors", root / name / "model.safetensors")
    for name, raw in LING.items():
        found[name] = bailing.write(root / name, raw, published_shapes(raw))
    return found


def published_shapes(raw):
    """By the names of the checkpoint."""
    family = family_of(raw)
    config, found = family.read_config(raw), {}
    sources = family.sources(config)
    for name, shape in shapes(config).items():
        width = shape[-1:] if len(shape) > 1 else ()
        rows = torch.Size(shape).numel() // (width[0] if width else 1)
        each = source_rows(config, name, rows, len(sources[name]))
        found |= {s: (n, *width) for s, n in zip(sources[name], each, strict=True)}
    return found


@pytest.fixture(params=["ring", "sala-sparse", "ling"])
def recorded(request, folders):
    return of_name(request.param, folders)


def of_name(name, folders):
    """A checkpoint, ids, positions, and the logits after these."""
    if name in LING:
        ids = torch.randint(96, (80,), generator=torch.Generator().manual_seed(1)).tolist()
        return folders[name], ids, torch.arange(80), logits_of(folders[name], tuple(ids))
    known = load_file(RECORDED / f"{name}-logits.safetensors")
    return folders[name], known["token_ids"].tolist(), known["positions"], known["logits"]


_KNOWN = {}


def logits_of(folder, ids):
    key = (folder, ids)
    if key not in _KNOWN:
        _KNOWN[key] = bailing.Reference(folder).logits(ids).float()
    return _KNOWN[key]


def assert_recorded(got, positions, want):
    assert want.std() > 0.3  # else an absolute tolerance would say nothing
    assert (got[positions] - want).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", [*WEIGHTS, *LING])
def test_logits_are_those_of_the_official_code(name, folders):
    folder, ids, positions, want = of_name(name, folders)
    model = load_model(folder)
    for chunk_tokens, num_tokens in ((7, 60), (256, 724)):
        known = positions < num_tokens
        got = all_logits(model, ids[:num_tokens], chunk_tokens, 9)
        assert_recorded(got, positions[known], want[known])


@pytest.mark.parametrize("name", ["ring", "ling"])
def test_the_slopes_of_the_hub_are_a_switch(name, folders, tmp_path):
    """Red: the published off-by-one cannot be had, or is had without being asked for."""
    folder = folders[name]
    shutil.copytree(folder, tmp_path / "hub")
    raw = json.loads((folder / "config.json").read_text())
    (tmp_path / "hub/config.json").write_text(json.dumps(raw | {"slope_layer_offset": -1}))
    layers = range(read_config(folder).num_layers)
    usual, hub = (Model(read_config(x)).layers for x in (folder, tmp_path / "hub"))
    lightning = [n for n in layers if read_config(folder).layers[n].mixer is Mixer.LIGHTNING]
    count = len(layers) - 1
    for n in lightning:
        ratio = hub[n].mixer.slopes() / usual[n].mixer.slopes()
        torch.testing.assert_close(
            ratio, torch.full_like(ratio, (1 - (n - 1) / count + 1e-5) / (1 - n / count + 1e-5))
        )


def test_streamed_staged_and_batched_layers_compute_the_same(recorded):
    """Red: a weight is left out, or another, where layers are read on demand or lie on several
    devices; or sequences that stand beside each other are mixed up."""
    folder, ids, positions, want = recorded
    how = {"device": CPU, "dtype": torch.float32, "pool_bytes": 10**7}
    streamed = stream(Checkpoint(folder), read_config(folder), **how)
    streamed.prepare_for_inference()
    got = all_logits(streamed, ids, 256)
    streamed.pool.close()
    assert_recorded(got, positions, want)
    config = read_config(folder)
    stages = [Stage(0, 2, CPU), Stage(2, config.num_layers, CPU)]
    how = {"device": CPU, "dtype": torch.float32, "stages": stages}
    assert_recorded(all_logits(load(Checkpoint(folder), config, **how), ids, 64), positions, want)
    model, half = load_model(folder), len(ids) // 2
    with torch.inference_mode():
        both = torch.tensor([ids[:half], ids[-half:]]).T
        beside = model(both, model.empty_states(num_sequences=2), 0)
        for column, alone in enumerate((ids[:half], ids[-half:])):
            own = model(torch.tensor(alone), model.empty_states(), 0)
            assert (beside[:, column] - own).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("name", "form"), [("ring", Form.INT8), ("sala", Form.INT4_64), ("ling", Form.INT8)]
)
def test_quantised_is_the_plain_model_of_the_rounded_weights(name, form, folders, tmp_path):
    """Red: rows of another order are quantised, or a bias or a norm is taken for a matrix."""
    folder, ids, *_ = of_name(name, folders)
    quantize(folder, tmp_path / "small", form)
    small, plain = load_model(tmp_path / "small"), load_model(folder)
    num_rounded = 0
    for name, parameter in list(plain.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        weight = getattr(small.get_submodule(owner), leaf)
        if not isinstance(weight, torch.Tensor):
            parameter.data = weight.dequantize().view(parameter.shape)
            num_rounded += 1
        else:
            assert torch.equal(weight, parameter)  # router, biases and norms as they were
    assert num_rounded > 3 * len(plain.layers)
    got, want = (all_logits(model, ids[:40], 32) for model in (small, plain))
    assert (got - want).abs().max() < 2e-3


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 64)
    for module in (manifest, writer, state_tensors):
        monkeypatch.setattr(module, "SEGMENT_TOKENS", 64)
    monkeypatch.setattr(state_tensors, "STATE_EVERY_TOKENS", 128)
    monkeypatch.setattr("engine.durable.os.fsync", lambda _descriptor: None)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kv", ["float32", "int8"])
@pytest.mark.parametrize("name", ["ling", "sala-sparse"])
def test_grown_in_steps_forked_and_restored_is_bit_for_bit_the_same(name, kv, folders, tmp_path):
    """Red: what a layer keeps of its tokens is lost, shared or saved wrongly. What follows is read
    one by one, and as a draft of which some is taken back."""
    folder, ids, *_ = of_name(name, folders)
    ids, model = ids[:470], load_model(folder)
    model.prepare_for_inference()
    end = len(ids) - 8
    grown = Context(model, 32, kv_dtype=torch.int8 if kv == "int8" else None)
    for first, last in ((0, 32), (32, 64), (64, end)):
        grown.extend(ids[first:last])
    store = Store(tmp_path / "kept", model, Compatibility("a" * 64, 32, kv))
    at_once = store.build(ContextPlan(ids[:end], (), {})).context
    contexts = [grown, at_once, store.open(), grown.fork()]
    for context in contexts:
        for token in ids[end:-4]:
            context.extend([token])
    *drafted, alone = contexts
    for token in ids[-4:]:
        alone.extend([token])
    for context in drafted:
        context.verify_draft([*ids[-4:-2], 3, 4, 5])
        context.accept(2)
        context.verify_draft(ids[-2:])
        context.accept(2)
        assert torch.equal(context.logits, alone.logits)


def test_fp8_matrices_with_a_scale_for_each_block_are_read(folders, tmp_path):
    """Red: the published fp8 files are refused, or their blocks get each other's scales."""
    folder, ids, *_ = of_name("ling", folders)
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        scale = torch.full((1, 1), 0.5 + 0.01 * len(tensors))
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale
    plain = {n: t for n, t in tensors.items() if not n.endswith("_scale_inv")}
    for name, tensor in plain.items():
        if tensor.dtype == torch.float8_e4m3fn:
            plain[name] = (tensor.float() * tensors[f"{name}_scale_inv"]).bfloat16()
    for kind, held in (("fp8", tensors), ("plain", plain)):
        (tmp_path / kind).mkdir()
        shutil.copyfile(folder / "config.json", tmp_path / kind / "config.json")
        save_file(held, tmp_path / kind / "model.safetensors")
    want = all_logits(load_model(tmp_path / "plain"), ids[:40], 256)
    assert torch.equal(all_logits(load_model(tmp_path / "fp8"), ids[:40], 256), want)
    how = {"device": CPU, "dtype": torch.float32, "pool_bytes": 10**7}
    streamed = stream(Checkpoint(tmp_path / "fp8"), read_config(tmp_path / "fp8"), **how)
    streamed.prepare_for_inference()
    assert (all_logits(streamed, ids[:40], 256) - want).abs().max() < TOLERANCE
    streamed.pool.close()
    wide = torch.randn(130, 200).to(torch.float8_e4m3fn)
    scales = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    save_file({"x.weight": wide, "x.weight_scale": scales}, tmp_path / "model.safetensors")
    got, corner = Checkpoint(tmp_path).read("x.weight").float(), wide.float()[[0, 0, 129, 129]]
    for at, (row, column) in enumerate(((0, 5), (0, 199), (129, 5), (129, 199))):
        assert got[row, column] == corner[at, column] * 2**at
    save_file({"x.weight": wide, "x.weight_scale": scales[:1]}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="128 x 128"):
        Checkpoint(tmp_path)


def test_the_plan_counts_what_is_loaded_and_kept(recorded):
    """Red: a run is planned with other weights or other states than it has."""
    folder, ids, *_ = recorded
    config, model = read_config(folder), load_model(folder)
    device = placement.plan(config, len(ids), 64, torch.float32).devices[0]
    assert device.weights_bytes == sum(each.nbytes for each in model.parameters())
    context = Context(model, 64)
    context.extend(ids)
    kept = sum(s.num_bytes for s in context.states if isinstance(s, kv_cache.KVCache))
    assert kept <= device.kv_bytes < 1.7 * kept  # rooms double


def test_a_router_keeps_its_bias_in_float32(folders):
    """Red: a rounded bias chooses other experts."""
    model = load(
        Checkpoint(folders["ring"]), read_config(folders["ring"]), device=CPU, dtype=torch.bfloat16
    )
    kept = {name: p.dtype for name, p in model.named_parameters() if "router" in name}
    assert len(kept) == 2 * 3 and set(kept.values()) == {torch.float32}


def test_attention_received_adds_up_to_one(folders):
    folder, ids, *_ = of_name("ling", folders)
    context = Context(load_model(folder), 32)
    context.extend(ids[:60])
    share = context.attention(ids[60:70])
    assert share.shape == (60,) and 0.3 < share.sum() < 1


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("ring", {"architectures": None}, "architectures must name BailingMoeLinearV2"),
        ("ring", {"architectures": ["BailingMoeLinearForCausalLM"]}, "is not supported"),
        ("ring", {"n_group": 3}, "groups of 8 experts"),
        ("ring", {"topk_group": 9}, "groups of 8 experts"),
        ("ring", {"n_group": 8}, "groups of 1 experts"),
        ("ring", {"slope_layer_offset": 1}, "slope_layer_offset"),
        ("ring", {"layer_group_size": 0}, "layer_group_size"),
        ("ring", {"score_function": "softmax"}, "score_function"),
        ("ring", {"linear_silu": True}, "linear_silu"),
        ("ling", {"short_conv_kernel_size": 4}, "Ling 3"),
        ("ling", {"architectures": ["BailingMoeV3ForCausalLM"]}, "BailingMoeV3"),
        ("ling", {"kv_lora_rank": 10**9}, "kv_rank"),
        ("ling", {"qk_rope_head_dim": 7}, "must be even"),
        ("sala", {"mixer_types": ["minicpm4"]}, "must list 6"),
        ("sala", {"mixer_types": ["mamba"] * 6}, "mamba"),
        ("sala", {"lightning_nkv": 2}, "lightning_nkv"),
        ("sala", {"sparse_config": {"kernel_size": 48}}, "kernel_size"),
        (
            "sala",
            {"sparse_config": {"kernel_stride": 0, "kernel_size": 0, "block_size": 0}},
            "stri",
        ),
        ("sala", {"sparse_config": {"topk": 0}}, "num_blocks"),
        ("sala", {"sparse_config": {"dense_len": 100}}, "128 tokens"),
        ("sala", {"sparse_config": {"topk": 1, "init_blocks": 9}}, "more blocks"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(name, changes, reason, folders, tmp_path):
    raw = json.loads((folders[name] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(ConfigError, match=reason) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_group_that_is_not_whole_is_softmax_and_draft_layers_are_left_alone(folders):
    raw = json.loads((folders["ring"] / "config.json").read_text())
    raw |= {"num_hidden_layers": 7, "layer_group_size": 3, "num_nextn_predict_layers": 1}
    config = family_of(raw).read_config(raw)
    softmax = [n for n, layer in enumerate(config.layers) if layer.mixer is Mixer.SOFTMAX]
    assert softmax == [2, 5, 6]
    assert not any(source.startswith("model.layers.7.") for source in published_shapes(raw))


needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")
GOLDENS = ("ring-tiny", "ring-yarn-tiny", "ling25-tiny", "sala-tiny", "sala-sparse-tiny")


@needs_golden
@pytest.mark.parametrize("name", GOLDENS)
def test_the_official_outputs_verify(name):
    result = verify(GOLDEN / name, [256])
    assert result.passed
    for difference in result.differences:
        assert difference.largest <= TOLERANCE * max(difference.scale, 1), difference


@needs_golden
@pytest.mark.parametrize("name", ["ring-tiny", "ling25-tiny"])
def test_what_stands_for_the_official_code_agrees_with_it(name):
    known = load_file(GOLDEN / name / "expected.safetensors")
    got = bailing.Reference(GOLDEN / name).logits(known["token_ids"][:40].tolist())
    assert (got - known["prefill.logits"][:40]).abs().max() < 1e-5

"""Red here means that a model of gated delta layers is kept, drafted for, streamed or rounded
wrongly."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import all_logits, llama_config, load_model

from engine.api import ContextPlan
from engine.checkpoint import Checkpoint
from engine.config import Mixer
from engine.context import Context
from engine.errors import CheckpointError, ConfigError
from engine.families import family_named, read_config
from engine.placement.activations import chunk_bytes
from engine.placement.flops import of_layers
from engine.placement.weight_bytes import shapes
from engine.prompt_lookup import supports
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from engine.store.manifest import Compatibility
from engine.store.store import Store
from engine.streamed.model import stream
from engine.weights import meta_model, source_rows
from kernels.linear import fp16_weight

IDS = torch.randint(4, 290, (90,), generator=torch.Generator().manual_seed(3)).tolist()
DELTA = {
    "linear_num_key_heads": 8,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "num_hidden_layers": 4,
    "intermediate_size": 48,
    "hidden_size": 32,
    "head_dim": 16,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 16,
}


def delta_config(model_type, **changes):
    common = {key: value for key, value in llama_config().items() if key != "architectures"}
    config = {**common, **DELTA, "model_type": model_type, **changes}
    if model_type not in {"qwen3_5", "qwen3_5_moe"}:
        return config
    kind = config.pop("model_type")
    return {"model_type": kind, "text_config": config, "vision_config": {"depth": 1}}


CONFIGS = {
    "dense": delta_config("qwen3_5_text"),
    "sees": delta_config("qwen3_5", tie_word_embeddings=False),
    "experts": delta_config("qwen3_5_moe_text", **EXPERTS),
    "next": delta_config("qwen3_next", **EXPERTS, mlp_only_layers=[1]),
}


def write(directory, config):
    """A random checkpoint, and beside it tensors that are not ours."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ours = read_config(directory)
    generator = torch.Generator().manual_seed(0)
    tensors = {"mtp.fc.weight": torch.ones(2, 2), "model.visual.pos_embed.weight": torch.ones(3)}
    for name, sources in family_named(ours.family).sources(ours).items():
        shape = shapes(ours)[name]
        flat = shape if len(shape) < 3 else (shape[0] * shape[1], shape[2])
        rows = source_rows(ours, name, flat[0], len(sources))
        for source, count in zip(sources, rows, strict=True):
            between = (1,) if name.endswith("convolution") else ()
            tensor = 0.2 * torch.randn(count, *between, *flat[1:], generator=generator)
            tensors[source] = tensor
    save_file(tensors, directory / "model.safetensors")
    return directory


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("models")
    return {name: write(top / name, config) for name, config in CONFIGS.items()}


@pytest.fixture(params=CONFIGS)
def folder(request, folders):
    return folders[request.param]


def read_to(model, count):
    context = Context(model, 16)
    context.extend(IDS[:count])
    return context


def streamed(folder):
    where = {"device": torch.device("cpu"), "dtype": torch.float32}
    return stream(Checkpoint(folder), read_config(folder), pool_bytes=1 << 20, **where)


def test_three_of_four_layers_are_delta(folder):
    config = read_config(folder)
    assert [layer.mixer for layer in config.layers] == [Mixer.DELTA] * 3 + [Mixer.SOFTMAX]
    assert config.num_full_kv_layers == 1
    assert config.norm_offset == 1
    assert config.rotary_dim == 4  # a quarter of a head
    names = [
        name for group in family_named(config.family).sources(config).values() for name in group
    ]
    assert len(names) == len(set(names))
    assert not any("mtp" in name or "visual" in name for name in names)


def test_a_saved_context_goes_on_as_if_it_had_not_been(folder, tmp_path):
    """Red: the rows that the convolution still needs, or the state, are not kept."""
    model = load_model(folder)
    facts = Compatibility(fingerprint="a" * 64, chunk_tokens=16, kv="float32")
    Store(tmp_path / "kept", model, facts).build(ContextPlan(IDS[:70], (), {}))
    opened = Store(tmp_path / "kept", load_model(folder), facts).open()
    opened.extend(IDS[70:])
    whole = read_to(model, 70)
    whole.extend(IDS[70:])
    assert opened.token_ids == whole.token_ids
    assert torch.equal(opened.logits, whole.logits)


@pytest.mark.parametrize("accepted", [1, 2, 5, 8])
def test_a_verified_draft_leaves_the_bits_of_decoding(folder, accepted):
    model = load_model(folder)  # as it is loaded, plain weights take a few rows one by one
    decoded = read_to(model, 60)
    drafted = decoded.fork()
    drafted.verify_draft(IDS[60:68])
    drafted.accept(accepted)
    for token in IDS[60 : 60 + accepted]:
        decoded.extend([token])
    assert drafted.token_ids == decoded.token_ids
    assert torch.equal(drafted.logits, decoded.logits)
    for each in (drafted, decoded):
        each.extend(IDS[70:])
    assert torch.equal(drafted.logits, decoded.logits)


@pytest.mark.skipif(not fp16_weight.is_usable(), reason="no matmul of small M here")
def test_drafts_are_read_where_rows_are_whole_vectors(folders, tmp_path):
    narrow = delta_config("qwen3_5_text", linear_num_key_heads=4, linear_num_value_heads=4)
    for folder, is_served in ((folders["dense"], True), (write(tmp_path / "m", narrow), False)):
        model = load_model(folder)
        model.prepare_for_inference(small_m=True)
        assert supports(Context(model, 16)) is is_served


def test_a_streamed_model_says_the_same(folder):
    contexts = [Context(model, 32) for model in (load_model(folder), streamed(folder))]
    for context in contexts:
        context.extend(IDS)
    assert (contexts[0].logits - contexts[1].logits).abs().max() < 1e-4


@pytest.mark.parametrize("is_streamed", [False, True])
def test_experts_stored_as_stacks_are_those_stored_one_by_one(folders, tmp_path, is_streamed):
    """Red: Qwen3.5 as it is published is read wrongly."""
    tensors = load_file(folders["experts"] / "model.safetensors")
    config = (folders["experts"] / "config.json").read_text(encoding="utf-8")
    for layer in range(4):
        prefix = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (
            torch.stack([tensors.pop(f"{prefix}.{e}.{part}_proj.weight") for e in range(4)])
            for part in ("gate", "up", "down")
        )
        tensors[f"{prefix}.gate_up_proj"] = torch.cat([gate, up], dim=1)
        tensors[f"{prefix}.down_proj"] = down
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    save_file(tensors, tmp_path / "model.safetensors")
    models = [load_model(folders["experts"]), load_model(tmp_path)]
    if is_streamed:
        models = [streamed(folders["experts"]), streamed(tmp_path)]
    one_by_one, stacked = (read_to(model, 90).logits for model in models)
    assert torch.equal(one_by_one, stacked)
    quantize(tmp_path, tmp_path / "small", Form.INT8)
    rounded = read_to(load_model(tmp_path / "small"), 90).logits
    assert torch.cosine_similarity(rounded, stacked, dim=0) > 0.95


@pytest.mark.parametrize("form", [Form.INT8, Form.INT4_32])
def test_a_rounded_model_is_near(folder, tmp_path, form):
    quantize(folder, tmp_path / "small", form)
    want = all_logits(load_model(folder), IDS, 32)
    got = all_logits(load_model(tmp_path / "small"), IDS, 32)
    # The median, for a token whose router takes another expert is another token.
    likeness = torch.cosine_similarity(got, want, dim=-1).median()
    assert likeness > (0.99 if form is Form.INT8 else 0.7)


def test_bytes_and_flops_of_a_run_are_counted(folder):
    config = read_config(folder)
    assert chunk_bytes(config, 1000, 256, torch.float32, 512) > 0
    flops = of_layers(config, 100)
    assert flops[0].lightning > 0 == flops[0].softmax
    assert flops[3].softmax > 0 == flops[3].lightning


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"linear_num_key_heads": 3}, "16 value heads of a delta layer do not divide into 3"),
        ({"linear_key_head_dim": 0}, "key_dim is 0"),
        ({"linear_conv_kernel_dim": 10**6}, "taps is 1000000"),
        ({"linear_value_head_dim": True}, "linear_value_head_dim must be an integer"),
        ({"layer_types": ["linear_attention"]}, "layer_types must list 4 layers"),
        ({"layer_types": ["mamba"] * 4}, "layer type 'mamba'"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor is 2"),
        ({"full_attention_interval": "4"}, "full_attention_interval must be an integer"),
        ({"num_hidden_layers": 10**9}, "layers, expected 1 to 1,000"),
    ],
)
def test_what_cannot_be_a_delta_model_is_refused(tmp_path, changes, reason):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(delta_config("qwen3_5_text", **changes)), encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        read_config(tmp_path)


def test_a_convolution_of_another_shape_is_refused(tmp_path):
    folder = write(tmp_path / "model", CONFIGS["dense"])
    narrower = delta_config("qwen3_5_text", linear_conv_kernel_dim=3)
    (folder / "config.json").write_text(json.dumps(narrower), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"conv1d.weight has shape \(384, 1, 4\)"):
        meta_model(Checkpoint(folder), read_config(folder))

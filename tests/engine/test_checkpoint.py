"""Red here means a damaged or hostile checkpoint is loaded, or takes memory before refusal."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import load_model, minimax_config, random_weights, write_checkpoint, write_index

import engine.checkpoint
from engine.checkpoint import Checkpoint, _sample
from engine.errors import CheckpointError, EngineError, PlacementError
from engine.families import read_config
from engine.weights import load

CONFIG = minimax_config(shared_intermediate_size=20)
WEIGHTS = random_weights(CONFIG)
SHARD = "model-00001-of-00003.safetensors"


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "m1", CONFIG, WEIGHTS, num_shards=3)


@pytest.fixture
def nothing_allocated(monkeypatch):
    """Real memory may be taken only after all shapes and dtypes have been checked."""

    def allocate(*_, **__):
        raise AssertionError("allocated before the checkpoint was found sound")

    monkeypatch.setattr(engine.checkpoint.Checkpoint, "read", allocate)


def assert_refused(directory, reason):
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_model(directory)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def layer_0(model):
    return dict(model.layers[0].named_parameters())


def test_tensors_stand_where_the_names_say(directory):
    model = load_model(directory)
    first, third = layer_0(model), dict(model.layers[2].named_parameters())
    at = "model.layers.0"
    for ours, theirs in {
        "mixer.qkv": "self_attn.qkv_proj",
        "mixer.gate": "self_attn.output_gate",
        "mixer.out": "self_attn.out_proj",
        "mixer.norm.weight": "self_attn.norm",
        "mixer_norm.weight": "input_layernorm",
        "mlp_norm.weight": "post_attention_layernorm",
        "mlp.router": "block_sparse_moe.gate",
        "mlp.shared.down": "shared_mlp.down_proj",
        "mlp.shared_coefficient": "coefficient",
    }.items():
        assert torch.equal(first[ours], WEIGHTS[f"{at}.{theirs}.weight"]), ours
    for expert in range(4):
        w1, w2, w3 = (
            WEIGHTS[f"{at}.block_sparse_moe.experts.{expert}.w{n}.weight"] for n in (1, 2, 3)
        )
        assert torch.equal(first["mlp.gate_up"][expert], torch.cat([w1, w3]))
        assert torch.equal(first["mlp.down"][expert], w2)
    qkv = [WEIGHTS[f"model.layers.2.self_attn.{x}_proj.weight"] for x in "qkv"]
    assert torch.equal(third["mixer.qkv"], torch.cat(qkv))
    assert torch.equal(model.head.weight, WEIGHTS["lm_head.weight"])


@pytest.mark.parametrize("num_shards", [1, 2, 7])
def test_the_number_of_shards_does_not_matter(tmp_path, directory, num_shards):
    other = load_model(write_checkpoint(tmp_path / "n", CONFIG, WEIGHTS, num_shards=num_shards))
    found = dict(other.named_parameters())
    for name, parameter in load_model(directory).named_parameters():
        assert torch.equal(parameter, found[name])


def test_half_precision_is_widened_and_what_must_stay_float32_stays(tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in WEIGHTS.items()}
    directory = write_checkpoint(tmp_path / "half", CONFIG, half)
    model = load_model(directory)
    assert torch.equal(
        layer_0(model)["mixer.gate"], half["model.layers.0.self_attn.output_gate.weight"].float()
    )
    config = read_config(directory)
    narrow = load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=torch.bfloat16)
    wide = {name for name, p in narrow.named_parameters() if p.dtype == torch.float32}
    assert {"norm.weight", "head.weight", "layers.0.mlp.router"} <= wide
    assert all("norm" in name or name.endswith("router") for name in wide - {"head.weight"})
    assert narrow.embed.weight.dtype == torch.bfloat16


def test_progress_counts_every_byte_once(directory):
    seen = []
    load(
        Checkpoint(directory),
        read_config(directory),
        device=torch.device("cpu"),
        dtype=torch.float32,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    total = sum(tensor.nbytes for tensor in WEIGHTS.values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_tensors_nobody_asks_for_are_left_alone(tmp_path):
    extra = WEIGHTS | {"model.layers.0.self_attn.slope_rate": torch.zeros(4, dtype=torch.int8)}
    load_model(write_checkpoint(tmp_path / "m", CONFIG, extra))


def test_the_fingerprint_is_of_names_shapes_dtypes_and_weights(tmp_path, directory):
    fingerprint = Checkpoint(directory).fingerprint()
    single = write_checkpoint(tmp_path / "single", CONFIG, WEIGHTS)
    assert Checkpoint(single).fingerprint() == fingerprint
    for changed in (
        WEIGHTS | {"more": torch.zeros(1)},
        WEIGHTS | {"lm_head.weight": WEIGHTS["lm_head.weight"].half()},
        WEIGHTS | {"lm_head.weight": WEIGHTS["lm_head.weight"][:-1].contiguous()},
        {name: tensor * (1 + 1e-6) for name, tensor in WEIGHTS.items()},  # trained on
        WEIGHTS | {"lm_head.weight": WEIGHTS["lm_head.weight"] * 1.001},
    ):
        other = write_checkpoint(tmp_path / "other", CONFIG, changed)
        assert Checkpoint(other).fingerprint() != fingerprint


def test_the_fingerprint_reads_little_and_only_what_it_can(tmp_path):
    """Red: a hostile file fills the memory before any check, or an odd tensor stops a model."""
    tensors = {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.0),
        "cube": torch.rand(3, 5, 7),
        "long": torch.rand(100_000),
        "wide": torch.rand(2, 100_000),
        "odd": torch.zeros(4, 4, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    fingerprint = checkpoint.fingerprint()
    file = checkpoint._open("model.safetensors")
    read = {name: len(_sample(file, name, tuple(x.shape))) for name, x in tensors.items()}
    few = {"empty": 0, "scalar": 4, "cube": 7 * 4, "odd": 4}
    assert read == few | {"long": 4096 * 4, "wide": 4096 * 4}
    tensors["cube"][1, 2, 3] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    assert Checkpoint(tmp_path).fingerprint() != fingerprint
    save_file({}, tmp_path / "model.safetensors")
    Checkpoint(tmp_path).fingerprint()  # what is missing is said when it is looked for


def test_a_missing_shard_is_named(directory, nothing_allocated):
    (directory / SHARD).unlink()
    assert_refused(directory, f"{SHARD} is missing, one of 3 shards; fetch it again")


def test_a_directory_without_weights_says_so(tmp_path, nothing_allocated):
    directory = write_checkpoint(tmp_path / "m", CONFIG, WEIGHTS)
    (directory / "model.safetensors").unlink()
    assert_refused(directory, r"model\.safetensors is missing, the only shard")


@pytest.mark.parametrize("kept", [0, 4, 8, 500, -1, -1000])
def test_a_cut_shard_is_named(directory, nothing_allocated, kept):
    content = (directory / SHARD).read_bytes()
    (directory / SHARD).write_bytes(content[:kept])
    assert_refused(directory, f"{SHARD}: cut or damaged")


def rewrite_header(path, change):
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + size :])


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(shape=[2**40]),
        lambda entry: entry.update(shape=[2**63, 2**63]),
        lambda entry: entry.update(shape=[33]),
        lambda entry: entry.update(shape=[-32]),
        lambda entry: entry.update(data_offsets=[0, 2**60]),
        lambda entry: entry.update(data_offsets=[64, 0]),
        lambda entry: entry.update(dtype="F64"),
        lambda entry: entry.update(dtype="Q9"),
        lambda entry: entry.pop("dtype"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, nothing_allocated, change):
    directory = write_checkpoint(tmp_path / "m", CONFIG, WEIGHTS)
    rewrite_header(directory / "model.safetensors", lambda header: change(header[NORM]))
    assert_refused(directory, "cut or damaged")


def test_a_header_longer_than_the_file_is_refused(tmp_path, nothing_allocated):
    directory = write_checkpoint(tmp_path / "m", CONFIG, WEIGHTS)
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + content[8:])
    assert_refused(directory, "cut or damaged")


QKV = "model.layers.0.self_attn.qkv_proj.weight"
W1, W3 = (f"model.layers.1.block_sparse_moe.experts.2.w{n}.weight" for n in (1, 3))
Q, K = (f"model.layers.2.self_attn.{x}_proj.weight" for x in "qk")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({QKV: torch.zeros(192, 33)}, r"qkv_proj\.weight has shape \(192, 33\).*\(192, 32\)"),
        ({QKV: torch.zeros(191, 32)}, r"shape \(191, 32\), config.json asks \(192, 32\)"),
        ({QKV: torch.zeros(192 * 32)}, r"shape \(6144,\)"),
        ({QKV: torch.tensor(1.0)}, r"shape \(\)"),
        ({QKV: torch.zeros(1, 192, 32)}, r"shape \(1, 192, 32\)"),
        ({QKV: torch.zeros(192, 32, dtype=torch.int8)}, "is I8; supported: BF16, F16, F32, F64"),
        ({NORM: torch.zeros(32, 1)}, r"norm\.weight has shape \(32, 1\).*asks \(32,\)"),
        ({NORM: torch.zeros(31)}, r"shape \(31,\)"),
        ({W1: torch.zeros(25, 32), W3: torch.zeros(23, 32)}, r"w1\.weight has shape \(25, 32\)"),
        ({Q: torch.zeros(32, 32), K: torch.zeros(64, 32)}, r"q_proj\.weight has shape \(32, 32\)"),
        ({"lm_head.weight": torch.zeros(319, 32)}, r"asks \(320, 32\)"),
    ],
)
def test_shapes_and_dtypes_must_be_those_of_the_config(
    tmp_path, nothing_allocated, changed, reason
):
    assert_refused(write_checkpoint(tmp_path / "m", CONFIG, WEIGHTS | changed), reason)


@pytest.mark.parametrize("name", [NORM, W3, Q, "lm_head.weight", "model.embed_tokens.weight"])
def test_a_missing_tensor_is_named(tmp_path, nothing_allocated, name):
    rest = {key: tensor for key, tensor in WEIGHTS.items() if key != name}
    assert_refused(write_checkpoint(tmp_path / "m", CONFIG, rest), f"tensor {name} is missing")


def test_a_tensor_its_shard_does_not_hold_is_named(directory, nothing_allocated):
    index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    write_index(directory, index | {NORM: SHARD, "other": SHARD, "line\nbreak": SHARD})
    assert_refused(directory, f"2 tensors of the index .* first line break in {SHARD}")


@pytest.mark.parametrize(
    "shard",
    ["../x", "/etc/passwd", "a/b", "..", ".", "", "a/", 7, None, ["x"], "x\x00y", "x\ny"],
)
def test_a_shard_outside_the_directory_is_refused(directory, nothing_allocated, shard):
    write_index(directory, {NORM: shard})
    assert_refused(directory, "bad shard name|is missing")


@pytest.mark.parametrize("weight_map", [{}, None, [], "model.safetensors", 7])
def test_an_index_without_a_map_is_refused(directory, nothing_allocated, weight_map):
    write_index(directory, weight_map)
    assert_refused(directory, "no weight_map")


SIZES = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_local_experts",
    "shared_intermediate_size",
    "num_hidden_layers",
]
HUGE = [2**15, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**62, 2**64]


@settings(max_examples=120, deadline=2000)
@given(
    changes=st.dictionaries(st.sampled_from(SIZES), st.sampled_from(HUGE), min_size=1, max_size=9)
)
def test_absurd_sizes_are_refused_quickly_and_without_memory(tmp_path_factory, changes):
    directory = tmp_path_factory.getbasetemp() / "absurd"
    if not directory.exists():
        write_checkpoint(directory, CONFIG, WEIGHTS)
    (directory / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "read", lambda *_: pytest.fail("read before the check"))
        with pytest.raises(EngineError) as caught:
            load_model(directory)
    assert str(caught.value).isprintable()


def test_many_layers_of_many_experts_are_refused_quickly(tmp_path, nothing_allocated):
    layers = minimax_config(num_hidden_layers=128, attn_type_list=[0] * 128, num_local_experts=1024)
    directory = write_checkpoint(tmp_path / "m", CONFIG, WEIGHTS)
    (directory / "config.json").write_text(json.dumps(layers))
    assert_refused(directory, "gate.weight has shape|is missing")


def test_a_shard_that_is_a_folder_is_missing(directory):
    (directory / SHARD).unlink()
    (directory / SHARD).mkdir()
    assert_refused(directory, f"{SHARD} is missing")


def test_a_tensor_in_two_shards_is_taken_from_where_the_index_says(directory):
    index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    liar = {NORM: torch.full((32,), 7.0), "extra": torch.zeros(1)}
    save_file(liar, directory / "extra.safetensors")
    write_index(directory, index | {"extra": "extra.safetensors"})
    assert torch.equal(load_model(directory).norm.weight, WEIGHTS[NORM])


def test_a_shard_that_may_not_be_mapped_is_a_matter_of_memory(tmp_path, monkeypatch):
    """Red: a limit of the process ends as an internal error, or is called damage."""
    directory = write_checkpoint(tmp_path / "m", minimax_config())

    def forbidden(*_, **__):
        raise RuntimeError("unable to mmap 538090408 bytes: Cannot allocate memory (12)")

    monkeypatch.setattr("engine.checkpoint.safe_open", forbidden)
    with pytest.raises(PlacementError, match=r"no room to map its .* allow this process more"):
        Checkpoint(directory)

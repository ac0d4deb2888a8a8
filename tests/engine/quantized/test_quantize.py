"""Checkpoints in int8 and int4: written, read, refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import (
    EXPERTS,
    all_logits,
    llama_config,
    load_model,
    minimax_config,
    mm1_config,
    random_weights,
    write_checkpoint,
    write_config,
)

from engine import placement
from engine.checkpoint import Checkpoint
from engine.engine import Engine, check_tensors, num_parameters
from engine.errors import CheckpointError, ConfigError, EngineError
from engine.families import family_named, read_config
from engine.model_source import ModelSource
from engine.quantized import writer as shard_writer
from engine.quantized.forms import KEY, Form, is_matrix
from engine.quantized.quantize import quantize
from engine.quantized.scores import score_error
from engine.quantized.writer import Slice
from engine.weights import meta_model
from kernels import Int4Weight, Int8Weight

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "m1-tiny"
IDS = torch.randint(0, 300, (40,), generator=torch.Generator().manual_seed(2)).tolist()
CONFIGS = {
    # 24 inner columns divide into no group, 48 into none of 32: those become int8
    "minimax": minimax_config(shared_intermediate_size=32, tie_word_embeddings=True),
    "llama": llama_config(intermediate_size=64),
    "mm1": mm1_config(intermediate_size=64),
    "mm1 with experts": mm1_config(**EXPERTS, shared_intermediate_size=32),
}
FORMS = [Form.INT8, Form.INT4_32, Form.INT4_64]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    made = {name: write_checkpoint(root / name, config) for name, config in CONFIGS.items()}
    return made | ({"golden": GOLDEN} if GOLDEN.exists() else {})


@pytest.fixture
def llama4(plain, tmp_path):
    """A llama in int4, in one file."""
    quantize(plain["llama"], tmp_path / "llama4", Form.INT4_32)
    return tmp_path / "llama4"


def weight_of(tensors, name):
    codes, scales = tensors[f"{name}.codes"], tensors[f"{name}.scales"]
    if codes.dtype == torch.int8:
        return Int8Weight(codes, scales)
    return Int4Weight(codes, scales, tensors[f"{name}.offsets"])


def dequantized(source, target):
    """The quantised checkpoint with every matrix written out, as a plain one."""
    checkpoint, tensors = Checkpoint(source), {}
    for name in checkpoint.tensors:
        own, _, suffix = name.rpartition(".")
        if suffix == "codes":
            parts = {n: checkpoint.read(n) for n in checkpoint.tensors if n.startswith(f"{own}.")}
            tensors[own] = weight_of(parts, own).dequantize()
        elif suffix == "weight":
            tensors[name] = checkpoint.read(name)
    config = json.loads((source / "config.json").read_text())
    del config[KEY]
    target.mkdir()
    write_config(target, config)
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", [*CONFIGS, "golden"])
def test_logits_are_those_of_the_dequantised_weights(plain, tmp_path, family, form):
    """Red: codes of one source meet the scales of another, or a fused parameter is in disorder."""
    if family not in plain:
        pytest.skip("needs shared/golden")
    written = quantize(plain[family], tmp_path / "small", form)
    small = load_model(tmp_path / "small")
    rows = all_logits(small, IDS, 16, decode_tokens=3)
    same = load_model(dequantized(tmp_path / "small", tmp_path / "same"))
    assert (rows - all_logits(same, IDS, 16, decode_tokens=3)).abs().max() < 1e-4
    assert (rows - all_logits(small, IDS, 7)).abs().max() < 1e-4
    assert 1e-3 < written.relative_rms < (0.012 if form is Form.INT8 else 0.12)
    held = {type(getattr(m, "qkv", None)) for m in small.modules() if hasattr(m, "qkv")}
    assert held <= {Int8Weight, Int4Weight}, "weights were made plain while they were read"


@pytest.mark.parametrize("form", FORMS)
def test_only_matrices_change_and_errors_are_those_of_the_weights(plain, tmp_path, form):
    """Red: the router or the embedding is rounded, or the report tells other errors."""
    source = plain["minimax"]
    written = quantize(source, tmp_path / "small", form)
    before, after = Checkpoint(source), Checkpoint(tmp_path / "small")
    told = {error.name: error for error in written.errors}
    config = ModelSource(source).config
    for name, names in family_named(config.family).sources(config).items():
        for each in names:
            assert is_matrix(name) == (each in told)
            if each not in told:
                assert torch.equal(after.read(each), before.read(each)), each
                continue
            tensors = {n: after.read(n) for n in after.tensors if n.startswith(f"{each}.")}
            off = weight_of(tensors, each).dequantize() - before.read(each)
            rms = (off.square().sum() / before.read(each).square().sum()).sqrt().item()
            assert told[each].relative_rms == pytest.approx(rms, rel=1e-5)
    order = [error.relative_rms for error in written.worst_first]
    assert order == sorted(order, reverse=True)
    assert written.num_bytes == sum(
        tensor.nbytes for tensor in load_file(tmp_path / "small/model.safetensors").values()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_what_is_copied_keeps_its_dtype(tmp_path, dtype):
    """Red: a checkpoint in bfloat16, as the published ones are, doubles in size or in rounding."""
    weights = {n: t.to(dtype) for n, t in random_weights(CONFIGS["llama"]).items()}
    source = write_checkpoint(tmp_path / "source", CONFIGS["llama"], weights)
    quantize(source, tmp_path / "small", Form.INT4_32)
    after = Checkpoint(tmp_path / "small")
    for name in ("model.embed_tokens.weight", "model.layers.1.input_layernorm.weight"):
        assert torch.equal(after.read(name), weights[name]) and after.read(name).dtype == dtype
    want = Int4Weight.quantize(weights[OUT].float(), 32, search=True)
    assert torch.equal(after.read(f"{OUT}.codes"), want.packed)
    assert torch.equal(after.read(f"{OUT}.scales"), want.scales)


def test_rows_that_do_not_divide_take_the_next_more_exact_form(plain, tmp_path):
    quantize(plain["minimax"], tmp_path / "small", Form.INT4_128)
    told = read_config(tmp_path / "small").quantization
    assert told.form_of("layers.2.mixer.qkv") is Form.INT4_32  # 32 columns
    assert told.form_of("layers.2.mixer.out") is Form.INT4_64  # 64
    assert told.form_of("layers.2.mlp.down") is Form.INT8  # 24
    assert told.form_of("layers.2.mlp.router") is Form.PLAIN
    assert ModelSource(tmp_path / "small").precision.startswith("int4/128, ")


def test_slices_and_shards_change_nothing(plain, tmp_path, monkeypatch):
    """Red: memory of one slice is paid for with other weights, or an index that misses some."""
    quantize(plain["minimax"], tmp_path / "one", Form.INT4_32)
    monkeypatch.setattr("engine.quantized.quantize.SLICE_ELEMENTS", 700)
    steps = []
    quantize(
        plain["minimax"],
        tmp_path / "many",
        Form.INT4_32,
        lambda done, total: steps.append((done, total)),
        shard_bytes=10_000,
    )
    one, many = Checkpoint(tmp_path / "one"), Checkpoint(tmp_path / "many")
    shard_sizes = [
        [tensor.nbytes for tensor in load_file(file).values()]
        for file in (tmp_path / "many").glob("*.safetensors")
    ]
    assert len(shard_sizes) > 3
    assert all(sum(sizes) <= 10_000 or len(sizes) == 1 for sizes in shard_sizes)
    assert one.tensors.keys() == many.tensors.keys()
    assert all(torch.equal(one.read(name), many.read(name)) for name in one.tensors)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


def test_sequences_beside_each_other_are_each_their_own(plain, tmp_path):
    """Red: several contexts cannot be decoded together by a quantised model."""
    quantize(plain["minimax"], tmp_path / "small", Form.INT4_32)
    model = load_model(tmp_path / "small")
    pair = torch.tensor([IDS[:9], IDS[9:18]]).T  # [T, 2]
    with torch.inference_mode():
        both = model(pair, model.empty_states(num_sequences=2), 0)
        for column in range(2):
            alone = model(pair[:, column], model.empty_states(), 0)
            assert (both[:, column] - alone).abs().max() < 1e-5


def test_small_files_come_along(plain, tmp_path):
    """Red: the smaller model has no tokenizer, or lost its licence."""
    source = Path(shutil.copytree(plain["llama"], tmp_path / "source"))
    (source / "LICENSE-MODEL").write_text("free")
    (source / "mm1-model.json").write_text("{}")
    (source / "expected.safetensors").write_bytes(b"of other weights")
    quantize(source, tmp_path / "small", Form.INT8)
    names = {path.name for path in (tmp_path / "small").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"} | {
        "tokenizer_config.json",
        "LICENSE-MODEL",
    }
    for name in names - {"config.json", "model.safetensors"}:
        assert (tmp_path / "small" / name).read_bytes() == (source / name).read_bytes()


def test_an_engine_takes_it_as_any_other(plain, llama4):
    engine = Engine(llama4, num_tokens=50)
    context = engine.new_context()
    context.extend(IDS)
    text = "".join(engine.decode(context, max_tokens=5))
    again = engine.new_context()
    again.extend(IDS)
    assert text == "".join(engine.decode(again, max_tokens=5))
    assert engine.fingerprint != Engine(plain["llama"]).fingerprint


def test_sizes_are_told_without_reading_weights(plain, llama4):
    """Red: a plan counts the weights as if they were plain, or a model grows by its scales."""
    assert num_parameters(llama4) == num_parameters(plain["llama"])
    assert check_tensors(llama4) == len(Checkpoint(llama4).tensors)
    config = ModelSource(llama4).config
    planned = placement.plan(config, 10, 10, torch.float32).weights_bytes
    model = load_model(llama4)
    held = sum(parameter.nbytes for parameter in model.parameters())
    for module in model.modules():
        weights = [w for w in vars(module).values() if isinstance(w, Int4Weight | Int8Weight)]
        held += sum(weight.num_bytes for weight in weights)
    head = 4 * config.vocab_size * config.hidden_size  # `settle` gives a tied head its own matrix
    assert planned == held + head


def test_the_change_of_scores_is_that_of_the_logits(plain, llama4):
    ids = torch.tensor(IDS)
    told = score_error(plain["llama"], llama4, [ids])
    want, got = (all_logits(load_model(d), IDS, 64)[:-1] for d in (plain["llama"], llama4))
    p, q = want.double().log_softmax(-1), got.double().log_softmax(-1)
    assert told.kl == pytest.approx(
        torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item() / (len(IDS) - 1),
        rel=1e-6,
    )
    nll = -q.gather(1, ids[1:, None]).mean().item()
    assert told.nll_after == pytest.approx(nll) and told.num_tokens == len(IDS) - 1
    assert told.same_top == (want.argmax(-1) == got.argmax(-1)).double().mean()
    none = score_error(llama4, llama4, [ids])
    assert (none.kl, none.same_top, none.logits) == (0, 1, 0)


def rewrite(directory, change):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


OUT = "model.layers.1.self_attn.o_proj.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(f"{OUT}.scales"), f"{OUT}.scales is missing"),
        (lambda t: t.pop(f"{OUT}.codes"), f"{OUT}.codes is missing"),
        (lambda t: t.update({f"{OUT}.codes": t[f"{OUT}.codes"].char()}), "is I8; supported: U8"),
        (lambda t: t.update({f"{OUT}.scales": t[f"{OUT}.scales"].float()}), "is F32"),
        (lambda t: t.update({f"{OUT}.codes": t[f"{OUT}.codes"][:, :8].clone()}), "shape"),
        (lambda t: t.update({f"{OUT}.offsets": t[f"{OUT}.offsets"][:3].clone()}), "shape"),
        (lambda t: t[f"{OUT}.scales"].fill_(float("nan")), "scales is not finite"),
        (lambda t: t[f"{OUT}.offsets"].fill_(float("inf")), "offsets is not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(llama4, change, reason):
    rewrite(llama4, change)
    with pytest.raises(CheckpointError, match=reason):
        load_model(llama4)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("int4", "object"),
        ({}, "form None"),
        ({"format": "int3"}, "'int3', not one of"),
        ({"format": "int4/32", "bits": 4}, "object of format and exceptions"),
        ({"format": "int4/32", "exceptions": ["x"]}, "name to form"),
        ({"format": "int4/32", "exceptions": {"embed.weight": "int8"}}, "no matrix"),
        ({"format": "int4/32", "exceptions": {"layers.9.mixer.qkv": "int8"}}, "does not have"),
        ({"format": "int4/32", "exceptions": {"layers.0.mixer.qkv": 8}}, "form 8"),
        ({"format": "int4/128"}, "do not divide"),
        ({"format": "int8"}, "is U8; supported: I8"),
        ({"format": "plain"}, "is missing"),
        (
            {"format": "int4/32", "exceptions": {f"layers.{n}.out": "int8" for n in range(20_000)}},
            "name to form",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_anything_is_read(llama4, entry, reason):
    raw = json.loads((llama4 / "config.json").read_text())
    write_config(llama4, raw | {KEY: entry})
    with pytest.raises((CheckpointError, ConfigError), match=reason):
        meta_model(Checkpoint(llama4), ModelSource(llama4).config)


def test_what_cannot_be_done_is_said_before_it_is_begun(plain, llama4, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EngineError, match="exists already"):
        quantize(plain["llama"], llama4, Form.INT8)
    with pytest.raises(EngineError, match="quantised already"):
        quantize(llama4, tmp_path / "again", Form.INT8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(EngineError, match=r"0\.0 GB are free"):
        quantize(plain["llama"], tmp_path / "full", Form.INT8)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / ".full.partial").mkdir()
    with pytest.raises(EngineError, match="one was killed"):
        quantize(plain["llama"], tmp_path / "full", Form.INT8)


def test_nothing_is_left_of_what_was_stopped_or_is_not_finite(plain, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(plain["llama"], tmp_path / "small", Form.INT8, interrupt)
    assert list(tmp_path.iterdir()) == []
    weights = random_weights(CONFIGS["llama"])
    for value, form in ((float("nan"), Form.INT8), (1e9, Form.INT4_32)):
        weights[OUT][2, 3] = value
        source = write_checkpoint(tmp_path / "bad", CONFIGS["llama"], weights)
        with pytest.raises(CheckpointError, match=OUT):
            quantize(source, tmp_path / "small", form)
        shutil.rmtree(source)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_holds_at_least_one_tensor(tmp_path):
    rows = torch.arange(12.0).view(3, 4)
    outputs = [
        shard_writer.Output(name, (3, 4), Form.PLAIN, "F32", lambda: iter([Slice(rows)]))
        for name in "abc"
    ]
    written = shard_writer.write(tmp_path, outputs, shard_bytes=1)
    assert len(written.sha256) == 3 and written.num_bytes == 3 * 48
    (tmp_path / "config.json").write_text("{}")
    assert all(torch.equal(Checkpoint(tmp_path).read(name), rows) for name in "abc")

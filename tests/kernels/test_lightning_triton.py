"""Red here means that on a GPU Lightning layers compute something else than their definition."""

import faulthandler
import importlib
import os
import resource
import signal
from functools import partial

import pytest
import torch
from measure import relative_rms

import kernels
from engine.config import LayerConfig, LightningOptions, Mixer, ModelConfig
from engine.layers.lightning import LightningAttention, LightningState
from kernels import lightning
from kernels.lightning import dense, naive
from tests.kernels.interpreted import DEVICE, mutated, spread
from tests.kernels.interpreted import poisoned as poisoned

triton_form = importlib.import_module("kernels.lightning.triton")
decode = importlib.import_module("kernels.lightning.triton_decode")
layer = importlib.import_module("kernels.lightning.triton_layer")
prefill = importlib.import_module("kernels.lightning.triton_prefill")

pytestmark = pytest.mark.usefixtures("poisoned")

# How far the bits of an output may round, and what adds up in float32.
ROUNDING = {torch.bfloat16: 3e-3, torch.float16: 4e-4, torch.float32: 1e-6}
STATE_ROUNDING = 1e-5
SLOPES = [0.9, 0.05, 0.0004]


def inputs(num_tokens, num_heads=2, key_dim=16, value_dim=16, dtype=torch.bfloat16, slopes=SLOPES):
    """Views of fused rows [q_h|k_h|v_h], as a layer has them, and a random state."""
    generator = torch.Generator().manual_seed(num_tokens)
    width = 2 * key_dim + value_dim
    fused = torch.randn(num_tokens, num_heads, width, generator=generator).to(DEVICE, dtype)
    q, k, v = fused.split([key_dim, key_dim, value_dim], dim=-1)
    state = 5 * torch.randn(num_heads, key_dim, value_dim, generator=generator)
    return q, k, v, torch.tensor(slopes[:num_heads], device=DEVICE), state.to(DEVICE)


def triton_attention(*arguments):
    return kernels.lightning_attention(*arguments, implementation="triton")


def errors(module, arguments):
    """How far outputs and state are from the definition."""
    out, state = module.lightning_attention(*arguments)
    want_out, want_state = naive.lightning_attention(*arguments)
    return relative_rms(out, want_out), relative_rms(state, want_state)


def is_right(module, arguments):
    out_error, state_error = errors(module, arguments)
    return out_error < ROUNDING[arguments[0].dtype] and state_error < STATE_ROUNDING


@pytest.mark.parametrize("num_tokens", [1, 2, 63, 64, 65, 127, 129, 257])
def test_blocks_equal_the_recurrence_from_a_random_state(num_tokens):
    arguments = inputs(num_tokens)
    before = [x.clone() for x in arguments]
    assert is_right(prefill, arguments)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))


@pytest.mark.parametrize(("key_dim", "value_dim"), [(24, 40), (64, 64), (96, 96), (128, 128)])
def test_blocks_equal_the_recurrence_at_every_head_size(key_dim, value_dim):
    assert is_right(prefill, inputs(65, 1, key_dim, value_dim))


def test_groups_equal_the_recurrence():
    """Three groups, the last of them short: each starts from the sums of those before it."""
    arguments = inputs(1100, num_heads=3)
    assert prefill._group_tokens(1100, 64, 3) == 512
    assert is_right(prefill, arguments)


def test_many_heads_need_no_second_group_and_few_bounded_sums():
    for num_heads in (1, 3, 9, 16, 64, 100):
        for num_tokens in (1, 513, 4096, 2**20):
            programs = num_heads * 2  # two tiles of 64 value channels
            tokens = prefill._group_tokens(num_tokens, 64, programs)
            num_groups = -(-num_tokens // tokens)
            assert num_groups == 1 or num_groups * programs <= prefill._NUM_PROGRAMS
            assert tokens % 64 == 0 and (num_groups - 1) * tokens < num_tokens


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("num_tokens", [1, 2, 5])
def test_tokens_in_turn_equal_the_recurrence(num_tokens, dtype):
    assert is_right(decode, inputs(num_tokens, 3, 24, 40, dtype))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("num_tokens", [16, 17])
def test_the_public_door_takes_any_dtype_and_length(num_tokens, dtype):
    arguments = inputs(num_tokens, dtype=dtype)
    out, state = triton_attention(*arguments)
    want_out, want_state = naive.lightning_attention(*arguments)
    assert (out.dtype, state.dtype) == (dtype, torch.float32)
    assert relative_rms(out, want_out) < ROUNDING[dtype]
    assert relative_rms(state, want_state) < STATE_ROUNDING


@pytest.mark.parametrize("slopes", [[8.0, 1.0], [4.9e-5, 1e-9], [0.0, 100.0]], ids=str)
def test_steep_and_nearly_flat_slopes_stay_exact(slopes):
    assert is_right(prefill, inputs(200, slopes=slopes))


def test_where_a_sequence_is_cut_does_not_matter():
    q, k, v, slopes, state = inputs(300)
    whole_out, whole_state = triton_attention(q, k, v, slopes, state)
    outs, start = [], 0
    for size in (129, 1, 7, 163):
        end = start + size
        out, state = triton_attention(q[start:end], k[start:end], v[start:end], slopes, state)
        outs.append(out)
        start = end
    assert relative_rms(torch.cat(outs), whole_out) < ROUNDING[torch.bfloat16]
    assert relative_rms(state, whole_state) < STATE_ROUNDING


@pytest.mark.parametrize("dtype", ROUNDING)
def test_verified_tokens_get_the_bits_of_decoded_ones(dtype):
    """And committing the first n of them leaves the bits of having decoded those alone."""
    q, k, v, slopes, first = inputs(6, dtype=dtype)
    verified, _ = triton_attention(q, k, v, slopes, first)
    state, states = first, [first]
    for t in range(6):
        out, state = triton_attention(q[t : t + 1], k[t : t + 1], v[t : t + 1], slopes, state)
        states.append(state)
        assert torch.equal(out[0], verified[t])
    for accepted, want in enumerate(states):
        count = torch.tensor(accepted, device=DEVICE)
        got = kernels.lightning_state(k, v, slopes, first, count, implementation="triton")
        assert torch.equal(got, want)
        for other in ("chunked", "naive"):
            got = kernels.lightning_state(k, v, slopes, first, count, implementation=other)
            assert relative_rms(got, want) < 1e-6


FAR = 2**24 + 512  # elements from token to token: 128 of them pass 2^31


@pytest.mark.parametrize("which", [0, 1, 2])
def test_tokens_beyond_two_to_the_31_elements_are_found(which, monkeypatch):
    monkeypatch.undo()  # filling the space between the tokens would take gigabytes
    rows = list(inputs(140, num_heads=1)[:3])
    slopes, state = inputs(1, num_heads=1)[3:]
    rows[which] = spread(rows[which], 0, FAR)
    assert rows[which].stride(0) * 139 > 2**31
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for module in (prefill, decode):
        assert is_right(module, (*rows, slopes, state))
    if DEVICE.type == "cpu":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_heads_beyond_two_to_the_31_elements_are_found(monkeypatch):
    monkeypatch.undo()
    q, k, v, slopes, state = inputs(20, num_heads=3)
    q, k, v = (spread(x, 1, 2**30 + 64) for x in (q, k, v))
    for module in (prefill, decode):
        assert is_right(module, (q, k, v, slopes, state))


def test_channels_that_are_not_dense_are_copied():
    q, k, v, slopes, state = inputs(20)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert turned[0].stride(-1) != 1
    got = triton_attention(*turned, slopes, state)
    assert all(map(torch.equal, got, triton_attention(q, k, v, slopes, state)))


def test_a_gradient_is_never_lost():
    q, k, v, slopes, state = inputs(20, dtype=torch.float32)
    k = k.clone().requires_grad_()
    triton_attention(q, k, v, slopes, state)[0].square().sum().backward()
    assert k.grad is not None and k.grad.abs().max() > 0
    weight = torch.ones(32, device=DEVICE, requires_grad=True)
    out, gate = torch.randn(2, 3, 2, 16, device=DEVICE)
    kernels.lightning_output(
        out, gate.flatten(1), weight, 1e-6, implementation="triton"
    ).sum().backward()
    assert weight.grad is not None and weight.grad.abs().max() > 0


NORM_WEIGHTS = (0.5 + torch.arange(24) / 24, 1.5 - torch.arange(24) / 24)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(
    ("silu", "norm", "half", "scale", "together"),
    [
        (1, 0, 0, 1.0, 1),
        (0, 1, 4, 0.3, 9),
        (1, 1, 12, 2.0, 3),
        (0, 0, 6, 1.0, 1),
        (0, 0, 0, 0.1, 1),
    ],
    ids=str,
)
def test_inputs_equal_their_definition(silu, norm, half, scale, together, dtype):
    generator = torch.Generator().manual_seed(half)
    qkv = torch.randn(3, 9 * 3 * 24, generator=generator).to(DEVICE, dtype)
    angle = 3 * torch.randn(3, 1, half, generator=generator).to(DEVICE)
    weights = [x.to(DEVICE) for x in NORM_WEIGHTS]
    options = (
        bool(silu),
        (*weights, 1e-3) if norm else None,
        (angle.cos(), angle.sin()) if half else None,
        scale,
        together,
    )
    got = triton_form.lightning_inputs(qkv, 9, *options)
    want = naive.lightning_inputs(qkv, 9, *options)
    in_torch = dense.lightning_inputs(qkv, 9, *options)
    for x, y, z in zip(got, want, in_torch, strict=True):
        assert x.dtype == z.dtype == dtype
        assert relative_rms(x, y) < ROUNDING[dtype]
        assert relative_rms(z, y) < 2 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("num_heads", "groups"), [(3, 1), (4, 4), (40, 1)])
def test_output_equals_its_definition(num_heads, groups, dtype):
    generator = torch.Generator().manual_seed(groups)
    out = 3 * torch.randn(5, num_heads, 24, generator=generator).to(DEVICE, dtype)
    gate, weight = torch.randn(2, 5, num_heads * 24, generator=generator).to(DEVICE, dtype)
    want = naive.lightning_output(out, gate, weight[0], 1e-3, groups)
    for form in (triton_form, dense):
        got = form.lightning_output(out, gate, weight[0], 1e-3, groups)
        assert got.dtype == dtype
        assert relative_rms(got, want) < 2 * ROUNDING[dtype]


OPTIONS = [
    LightningOptions(),
    LightningOptions(
        silu=False, qk_norm=True, rotary_frequencies=(1.0, 0.1, 0.01), scale=0.25, norm_groups=2
    ),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["MiniMax-M1", "a sibling"])
def test_a_layer_gives_the_same_through_triton(options, monkeypatch):
    kind = LayerConfig(Mixer.LIGHTNING, lightning=options)
    config = ModelConfig("test", 9, 24, 3, 3, 16, (), 8, (kind,) * 2, max_positions=99)
    mixer = LightningAttention(config, 0).to(DEVICE).requires_grad_(False)
    for parameter in mixer.parameters():
        parameter.copy_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)))
    hidden = torch.randn(30, 24, generator=torch.Generator().manual_seed(2)).to(DEVICE)

    def run():
        state = LightningState.empty(config, DEVICE)
        outs = [mixer(hidden[a:b], state, a) for a, b in ((0, 21), (21, 22), (22, 30))]
        return torch.cat(outs), state.tensor

    def through(attention, around):
        with monkeypatch.context() as patch:
            for registry, name in (
                (lightning.REGISTRY, attention),
                (lightning.INPUTS, around),
                (lightning.OUTPUT, around),
            ):
                choose = partial(registry.choose, name=name)
                patch.setattr(
                    registry, "choose", lambda device, dtype, _, c=choose: c(device, dtype)
                )
            return run()

    pairs = zip(through("triton", "triton"), through("chunked", "dense"), strict=True)
    for got, want in pairs:
        assert relative_rms(got, want) < 1e-5


# Faults that other engines had or that these kernels could have: (text, its replacement).
FAULTS = {
    "a kernel of zeros": ("o_rows.to(tl.bfloat16),", "(o_rows * 0).to(tl.bfloat16),"),
    "history off by one decay": ("tl.exp(-slope * (i + 1))", "tl.exp(-slope * i)"),
    "history off by one decay from the second block on": (
        "tl.exp(-slope * (i + 1))",
        "tl.exp(-slope * tl.where(start > 0, i, i + 1))",
    ),
    "state in bfloat16": (
        "    return S + tl.dot(tl.trans(k_rows), low)",
        "    return (S + tl.dot(tl.trans(k_rows), low)).to(tl.bfloat16).to(tl.float32)",
    ),
    "decayed values in bfloat16": ("    return S + tl.dot(tl.trans(k_rows), low)", "    return S"),
    "no initial state": ("S = tl.load(state +", "S = 0 * tl.load(state +"),
    "state decayed as by a full block": (
        "S = S * tl.exp(-slope * m)",
        "S = S * tl.exp(-slope * 64)",
    ),
    "a token sees the next": ("distance >= 0", "distance >= -1"),
    "the next head's slope": ("tl.load(slopes + head)", "tl.load(slopes + (head + 1) % H)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_blocks_is_caught(fault, tmp_path):
    arguments = inputs(129)
    assert is_right(prefill, arguments)
    assert not is_right(mutated(prefill, tmp_path, *FAULTS[fault]), arguments)


GROUP_FAULTS = {
    "groups decay as by a block": ("tl.exp(-slope * group_tokens)", "tl.exp(-slope * BLOCK_T)"),
    "the last sum alone": ("S = S * tl.exp(-slope * group_tokens)", "S = 0 * S"),
    "the first group's state": ("== tl.num_programs(2) - 1", "== 0"),
}


@pytest.mark.parametrize("fault", GROUP_FAULTS)
def test_a_fault_between_groups_is_caught(fault, tmp_path):
    arguments = inputs(520, num_heads=1, slopes=[0.0004])
    assert not is_right(mutated(prefill, tmp_path, *GROUP_FAULTS[fault]), arguments)


DECODE_FAULTS = {
    "zeros": ("o_t.to(", "(o_t * 0).to("),
    "output before the update": (
        "o_t = tl.sum(q_t[:, None] * S",
        "o_t = tl.sum(q_t[:, None] * S / decay",
    ),
    "state in bfloat16": ("decay * S)", "(decay * S).to(tl.bfloat16).to(tl.float32))"),
}


@pytest.mark.parametrize("fault", DECODE_FAULTS)
def test_a_fault_in_decoding_is_caught(fault, tmp_path):
    arguments = inputs(5, dtype=torch.float32)
    assert is_right(decode, arguments)
    assert not is_right(mutated(decode, tmp_path, *DECODE_FAULTS[fault]), arguments)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a wrong address would end the whole process")
def test_addresses_of_32_bits_are_caught(tmp_path, monkeypatch):
    """Were the tests of far tokens and heads unable to fail, they would prove nothing."""
    monkeypatch.undo()
    q, k, v, slopes, state = inputs(20, num_heads=3)
    q = spread(q, 1, 2**30 + 64)
    mutant = mutated(prefill, tmp_path, "tl.program_id(1).to(tl.int64)", "tl.program_id(1)")
    child = os.fork()
    if not child:
        faulthandler.disable()
        os._exit(0 if is_right(mutant, (q, k, v, slopes, state)) else 1)
    assert os.waitpid(child, 0)[1] == signal.SIGSEGV

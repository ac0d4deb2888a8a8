"""Red here means the gated delta rule no longer is its recurrence: wrong answers from Qwen3.5."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms
from torch.nn.functional import normalize

import kernels
from kernels.delta import chunked, jit, naive, plain

FORMS = [chunked.gated_delta, jit.gated_delta]
CONVOLUTIONS = [plain.short_convolution, jit.short_convolution]
LENGTHS = [1, 2, 16, 17, 63, 64, 65, 127, 128, 129, 200]
# Of the decays: next to none, all kinds, and kinds that forget everything beside ones that do not.
GATES = {"slow": (1e-6, 1e-4), "mixed": (1e-4, 5.0), "extreme": (1e-3, 1e5)}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tiny matmuls gain nothing from threads, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inputs(num_tokens, sizes=(2, 2, 16, 24), gates="mixed", seed=0):
    """q, k, v, decay, beta, state; `sizes` are key heads, value heads of each, D and E."""
    generator = torch.Generator().manual_seed(seed)
    num_key_heads, ratio, key_dim, value_dim = sizes
    num_heads = num_key_heads * ratio

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    q, k = (normalize(random(num_tokens, num_key_heads, key_dim), dim=-1) for _ in "qk")
    least, most = torch.tensor(GATES[gates]).log().tolist()
    place = torch.rand(num_tokens, num_heads, generator=generator)
    decay = -torch.exp(least + (most - least) * place)
    beta = torch.rand(num_tokens, num_heads, generator=generator)
    beta[place < 0.1], beta[place > 0.9] = 0.0, 1.0
    v = random(num_tokens, num_heads, value_dim)
    return q, k, v, decay, beta, 2 * random(num_heads, key_dim, value_dim)


def piece(arguments, start, end, state):
    return *(x[start:end] for x in arguments[:-1]), state


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("function", FORMS)
@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_each_form_equals_the_recurrence_from_a_random_state(num_tokens, function, gates):
    arguments = inputs(num_tokens, gates=gates)
    before = [x.clone() for x in arguments]
    got = function(*arguments)
    for found, want in zip(got, naive.gated_delta(*arguments), strict=True):
        assert found.dtype == torch.float32
        assert relative_rms(found, want) < 1e-5
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))


@pytest.mark.parametrize("function", FORMS)
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200),
    st.tuples(*(st.integers(1, top) for top in (3, 3, 40, 40))),
    st.sampled_from(list(GATES)),
    st.integers(0, 2**31),
)
def test_any_shape_equals_the_recurrence(function, num_tokens, sizes, gates, seed):
    arguments = inputs(num_tokens, sizes, gates, seed)
    got = function(*arguments)
    state = arguments[-1]  # what an output sums: of one number, it may be next to nothing
    for found, want in zip(got, naive.gated_delta(*arguments), strict=True):
        assert relative_rms(found, want, state) < 1e-5


@pytest.mark.parametrize("function", FORMS)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=5),
    st.sampled_from(list(GATES)),
    st.integers(0, 2**31),
)
def test_where_a_sequence_is_cut_does_not_matter(function, cuts, gates, seed):
    arguments = inputs(sum(cuts), gates=gates, seed=seed)
    whole_out, whole_state = function(*arguments)
    outs, start, state = [], 0, arguments[-1]
    for size in cuts:
        out, state = function(*piece(arguments, start, start + size, state))
        outs.append(out)
        start += size
    assert relative_rms(torch.cat(outs), whole_out) < 1e-5
    assert relative_rms(state, whole_state) < 1e-5


@pytest.mark.parametrize("function", FORMS)
def test_many_heads_keep_their_own_gates_and_state(function):
    """Red: heads that are taken together read the state or the gates of others."""
    for num_tokens in (3, 100):
        arguments = inputs(num_tokens, (21, 2, 8, 8))
        for got, want in zip(function(*arguments), naive.gated_delta(*arguments), strict=True):
            assert relative_rms(got, want) < 1e-5


@pytest.mark.parametrize("function", FORMS)
def test_a_key_that_comes_again_and_again_is_overwritten(function):
    """Red: sums are inverted by a series that explodes where keys are alike and beta is 1."""
    _, _, v, decay, beta, state = inputs(150, gates="slow")
    key = normalize(torch.ones(150, 2, 16), dim=-1)
    arguments = key, key, v, torch.zeros_like(decay), torch.ones_like(beta), state
    out, _ = function(*arguments)
    assert relative_rms(out, v.double()) < 1e-4  # what was written last is what is read
    assert relative_rms(out, naive.gated_delta(*arguments)[0]) < 1e-4


@pytest.mark.parametrize("function", FORMS)
def test_nothing_is_written_where_beta_is_0_and_nothing_kept_where_the_decay_is_endless(function):
    for num_tokens in (5, 70):
        q, k, v, decay, beta, state = inputs(num_tokens)
        kept = function(q, k, v, torch.zeros_like(decay), torch.zeros_like(beta), state)[1]
        assert relative_rms(kept, state) < 1e-6
        decay = torch.full_like(decay, -torch.inf)
        got = function(q, k, v, decay, beta, state)
        for found, want in zip(got, naive.gated_delta(q, k, v, decay, beta, state), strict=True):
            assert relative_rms(found, want) < 1e-5


@pytest.mark.rest
@pytest.mark.parametrize("gates", ["slow", "mixed"])
def test_a_hundred_thousand_tokens_stay_finite_and_what_they_are(gates):
    """Red: errors grow with length, or an exponent does. In blocks, and as decoding takes them."""
    arguments = inputs(100_000, (1, 2, 8, 8), gates)
    want = naive.gated_delta(*arguments)
    outs, state = [], arguments[-1]
    for start in range(0, 100_000, 16):
        out, state = jit.gated_delta(*piece(arguments, start, start + 16, state))
        outs.append(out)
    for got in (chunked.gated_delta(*arguments), (torch.cat(outs), state)):
        for found, expected in zip(got, want, strict=True):
            assert found.isfinite().all()
            assert relative_rms(found, expected) < 1e-3


@pytest.mark.parametrize("function", FORMS)
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 16), st.sampled_from(list(GATES)), st.integers(0, 2**31))
def test_few_tokens_get_the_bits_each_gets_alone(function, num_tokens, gates, seed):
    """Red: what a verified draft says differs from what decoding says."""
    arguments = inputs(num_tokens, (2, 2, 35, 37), gates, seed)
    out, state = function(*arguments)
    moved = arguments[-1]
    for token in range(num_tokens):
        row, moved = function(*piece(arguments, token, token + 1, moved))
        assert torch.equal(row[0], out[token])
    assert torch.equal(moved, state)


@pytest.mark.parametrize("num_tokens", range(9))
def test_the_state_of_the_first_tokens_has_the_bits_of_decoding_them(num_tokens):
    arguments = inputs(8)
    _, *rest = arguments
    got = kernels.gated_delta_state(*rest, torch.tensor(num_tokens))
    state = arguments[-1]
    for token in range(num_tokens):
        _, state = kernels.gated_delta(*piece(arguments, token, token + 1, state))
    assert torch.equal(got, state)
    naively = [x.double() for x in rest]
    want = kernels.gated_delta_state(*naively, torch.tensor(num_tokens))
    assert relative_rms(got, want) < 1e-5


@pytest.mark.parametrize("function", FORMS)
def test_views_of_fused_rows_are_welcome(function):
    for num_tokens in (4, 90):
        q, k, v, *rest = inputs(num_tokens, (2, 1, 16, 16))
        fused = torch.cat([q, k, v], dim=-1)
        views = fused[..., :16], fused[..., 16:32], fused[..., 32:]
        assert torch.equal(function(*views, *rest)[0], function(q, k, v, *rest)[0])


@pytest.mark.parametrize("num_tokens", [3, 130])
def test_half_precision_keeps_a_float32_state(num_tokens):
    q, k, v, *rest = inputs(num_tokens)
    half = [x.bfloat16() for x in (q, k, v)]
    out, state = kernels.gated_delta(*half, *rest)
    want_out, want_state = naive.gated_delta(*half, *rest)
    assert out.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert relative_rms(out, want_out) < 4e-3
    assert relative_rms(state, want_state) < 1e-5


def convolution_inputs(num_tokens, channels=37, taps=4, has_bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((num_tokens, channels), (channels, taps), (channels,), (taps - 1, channels))
    x, weight, bias, state = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, weight, bias if has_bias else None, state


@pytest.mark.parametrize("function", CONVOLUTIONS)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=4),
    st.integers(1, 70),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_the_convolution_is_its_definition_however_it_is_cut(
    function, cuts, channels, taps, has_bias, silu
):
    x, weight, bias, state = convolution_inputs(sum(cuts), channels, taps, has_bias)
    want_out, want_state = naive.short_convolution(x, weight, bias, state, silu)
    outs, start = [], 0
    for size in cuts:
        out, state = function(x[start : start + size], weight, bias, state, silu)
        outs.append(out)
        start += size
    assert relative_rms(torch.cat(outs), want_out) < 1e-5
    assert torch.equal(state.double(), want_state)


@pytest.mark.parametrize("function", CONVOLUTIONS)
def test_the_convolution_gives_few_tokens_the_bits_each_gets_alone(function):
    x, weight, bias, state = convolution_inputs(16, channels=48)
    out, moved = function(x, weight, bias, state, True)
    for token in range(16):
        row, state = function(x[token : token + 1], weight, bias, state, True)
        assert torch.equal(row[0], out[token])
    assert torch.equal(state, moved)


def test_the_convolution_takes_views_and_half_precision():
    x, weight, bias, state = convolution_inputs(5, channels=32)
    wide = torch.cat([x, x], dim=1)
    seen = kernels.short_convolution(wide[:, :32], weight, bias, state)
    assert torch.equal(seen[0], kernels.short_convolution(x, weight, bias, state)[0])
    half, half_state = x.bfloat16(), state.bfloat16()
    out, moved = kernels.short_convolution(half, weight, bias, half_state, silu=True)
    want, _ = naive.short_convolution(half, weight, bias, half_state, True)
    assert out.dtype == moved.dtype == torch.bfloat16
    assert relative_rms(out, want) < 4e-3

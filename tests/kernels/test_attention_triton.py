"""Red here means the GPU's softmax attention leaves its definition.

Interpreted on the CPU where there is no GPU. Outputs are full of NaN before a kernel fills them.
"""

import pytest
import torch
from measure import relative_rms

from kernels import Int8Tensor, KeyBlocks
from kernels.attention import blocks, naive, triton, triton_blocks
from kernels.attention.block_table import BlockTable
from tests.kernels.interpreted import DEVICE, mutated, spread
from tests.kernels.interpreted import poisoned as poisoned

pytestmark = pytest.mark.usefixtures("poisoned")
CLOSE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 6e-3}


def case(num_queries, cuts, *, heads=(4, 2), head_dim=64, dtype=torch.float16, int8=False, size=1):
    """Queries and segments; each segment is the start of a block whose rest is NaN."""
    generator = torch.Generator().manual_seed(num_queries)
    num_heads, num_kv_heads = heads

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    def block(num_tokens, scale=1.0):
        rows = torch.full((num_kv_heads, num_tokens + 40, head_dim), float("nan"))
        rows = rows.to(DEVICE, dtype).transpose(0, 1)
        rows[:num_tokens] = scale * random(num_tokens, num_kv_heads, head_dim)
        if not int8:
            return rows[:num_tokens]
        quantised = Int8Tensor.quantize(rows[:num_tokens])
        whole = Int8Tensor(rows.nan_to_num(77).to(torch.int8), rows[..., 0].float().clone())
        whole.values[:num_tokens], whole.scales[:num_tokens] = quantised.values, quantised.scales
        return whole[:num_tokens]

    q = (2 * size * random(num_queries, num_heads, head_dim)).to(DEVICE, dtype)
    return q, [(block(count, 2.0), block(count)) for count in cuts]


def assert_defined(q, segments, window=None, sinks=0, num_splits=None, kernel=triton):
    table = BlockTable.of(segments, q.dtype)
    got = kernel.attend(q, table, 0.125, window, sinks, num_splits=num_splits)
    want = naive.attention(q, segments, 0.125, window, sinks)
    assert got.dtype == q.dtype
    assert relative_rms(got, want) < CLOSE[q.dtype]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_prefill_equals_the_definition(dtype, int8, head_dim):
    assert_defined(*case(35, [150, 83], dtype=dtype, int8=int8, head_dim=head_dim))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(("num_queries", "num_splits"), [(1, 3), (16, None)])
def test_split_decode_equals_the_definition(dtype, int8, num_queries, num_splits):
    arguments = case(num_queries, [300, 233], heads=(2, 1), dtype=dtype, int8=int8)
    assert_defined(*arguments, num_splits=num_splits)


@pytest.mark.parametrize("heads", [(2, 2), (3, 1), (8, 1)])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_heads_read_their_own_group(heads, num_queries):
    assert_defined(*case(num_queries, [70, 3], heads=heads))


@pytest.mark.parametrize("cuts", [[1], [130], [1, 1, 1, 60], [64, 64], [31, 97, 5]])
@pytest.mark.parametrize("num_queries", [1, 61])
def test_where_the_keys_are_cut_does_not_matter(cuts, num_queries):
    assert_defined(*case(min(num_queries, sum(cuts)), cuts))


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (1, 5), (40, 3), (100, 130), (500, 2)])
@pytest.mark.parametrize(("num_queries", "num_splits"), [(1, 1), (45, 1), (45, 3)])
def test_a_window_equals_the_definition(window, sinks, num_queries, num_splits):
    assert_defined(*case(num_queries, [90, 110], heads=(2, 1)), window, sinks, num_splits)


@pytest.mark.parametrize("int8", [False, True])
def test_large_scores_do_not_overflow(int8):
    assert_defined(*case(9, [150], size=300, int8=int8), num_splits=2)


def test_values_of_any_size_keep_their_precision_in_float16():
    """Their scales alone would be subnormal."""
    q, ((k, v),) = case(5, [90], dtype=torch.float16, int8=True)
    got = [
        triton.attention(q, [(k, Int8Tensor(v.values, v.scales * 2.0**exponent))], 0.125)
        for exponent in (0, -9)
    ]
    assert relative_rms(got[1].double() * 2**9, got[0]) < 2e-3


@pytest.mark.parametrize("num_splits", [2, 5])
def test_more_splits_change_only_the_rounding(num_splits):
    q, segments = case(2, [140, 60], heads=(2, 1), dtype=torch.float32)
    table = BlockTable.of(segments, q.dtype)
    whole, split = (triton.attend(q, table, 0.125, num_splits=n) for n in (1, num_splits))
    assert relative_rms(split, whole) < 2e-6
    assert torch.equal(split, triton.attend(q, table, 0.125, num_splits=num_splits))


def test_the_number_of_splits_depends_on_the_shapes_alone():
    assert [triton.split_count(8, n) for n in (1, 511, 512, 16_384, 1_000_000)] == [1, 1, 2, 64, 64]
    assert triton.split_count(2048, 1_000_000) == 1  # tiles of rows alone fill the GPU


def test_the_future_cannot_be_seen():
    q, [(k, v)] = case(40, [100])
    before = triton.attention(q, [(k, v)], 0.125)
    k[90:], v[90:] = -k[90:], 1e4
    after = triton.attention(q, [(k, v)], 0.125)
    assert torch.equal(after[:30], before[:30])  # query 29 stands at position 89
    assert (after[30:] - before[30:]).abs().amin(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("int8", [False, True])
def test_blocks_that_fill_are_read_up_to_where_they_are_filled(int8):
    """What lies behind is NaN; the count is set on the device between calls."""
    q, segments = case(1, [700], int8=int8, heads=(4, 2))
    (k, v), count = segments[0], torch.zeros(1, dtype=torch.int64, device=DEVICE)
    cuts = [(k[at : at + 100], v[at : at + 100]) for at in range(0, 700, 100)]
    if not int8:
        cuts.append((torch.full_like(k[:100], torch.nan), torch.full_like(v[:100], torch.nan)))
    keys = KeyBlocks(cuts, count)
    for num_keys, window, sinks in ((1, None, 0), (100, None, 0), (301, 120, 3), (699, None, 0)):
        count.fill_(num_keys)
        want = naive.attention(q, [(k[:num_keys], v[:num_keys])], 0.125, window, sinks)
        got = triton_blocks.attention(q, keys, 0.125, window, sinks)
        assert relative_rms(got, want) < CLOSE[q.dtype]
        # Scores are float16 there.
        got = blocks.attention(q, keys, 0.125, window, sinks)
        assert relative_rms(got, want) < 3 * CLOSE[q.dtype]


def test_blocks_that_would_be_copied_are_refused():
    """A copy would not see the rows that come later."""
    odd = torch.zeros(8, 2, 65, dtype=torch.float16, device=DEVICE)[..., 1:]
    keys = KeyBlocks([(odd, odd)], torch.ones(1, dtype=torch.int64, device=DEVICE))
    with pytest.raises(ValueError, match="multiples of 16"):
        triton_blocks.attention(odd[:1], keys, 1.0, None, 0)


@pytest.mark.parametrize("side", ["queries", "keys", "out"])
def test_addresses_beyond_int32(side):
    """The last head or token lies more than 2^31 elements behind the first."""
    q, [(k, v)] = case(2, [70], dtype=torch.float16)
    want = triton.attention(q, [(k, v)], 0.125)
    out = None
    if side == "queries":
        q = spread(q, 0, 2**31 + 64)
    elif side == "keys":
        k, v = spread(k, 1, 2**31 + 64), spread(v, 1, 2**31 - 4096)
    else:
        out = spread(torch.zeros_like(q), 0, 2**31 + 64)
    got = triton.attend(q, BlockTable.of([(k, v)], q.dtype), 0.125, out=out)
    assert torch.equal(got, want)


def test_rows_without_alignment_are_copied():
    q, [(k, v)] = case(3, [50], dtype=torch.float16)
    odd = torch.zeros(50, 2, 65, dtype=k.dtype, device=DEVICE)
    odd[..., 1:] = k
    assert torch.equal(
        triton.attention(q, [(odd[..., 1:], v)], 0.125), triton.attention(q, [(k, v)], 0.125)
    )


def test_a_cache_of_mixed_kinds_is_refused():
    q, [(k, v)] = case(2, [8])
    with pytest.raises(ValueError, match=r"torch\.float16, torch\.int8"):
        triton.attention(q, [(k, Int8Tensor.quantize(v))], 0.125)


def test_with_gradients_torch_computes():
    q, segments = case(2, [8])
    triton.attention(q.requires_grad_(), segments, 0.125).sum().backward()
    assert q.grad is not None and q.grad.abs().max() > 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN is what some of them make
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tl.store(out_at, out.to(", "tl.store(out_at, 0 * out.to("),
        ("(ahead <= here)", "(ahead <= here + 1)"),
        ("(ahead <= here)", "(ahead < here)"),
        ("tl.minimum(first_position + 1,", "tl.minimum(first_position + 64,"),
        ("there = split < num_splits", "there = split < num_splits - 1"),
        ("behind > here - window", "behind >= here - window"),
        ("mask=there[:, None], other=0)", ")"),
        ("* (k_scale * scale)[None, :]", "* scale"),
    ],
)  # fmt: skip
def test_faults_are_caught(tmp_path, old, new):
    fault = mutated(triton, tmp_path, old, new)
    with pytest.raises(AssertionError):
        assert_defined(*case(40, [60, 140]), kernel=fault)
        assert_defined(*case(1, [300, 233], int8=True), num_splits=3, kernel=fault)
        assert_defined(*case(40, [90, 63]), 20, 2, kernel=fault)

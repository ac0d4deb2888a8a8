"""Red here means the delta layers' JIT is not made, is wrong elsewhere, or has no fallback."""

import pytest
import torch

from kernels.delta import chunked, jit, plain

needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="another processor"
)


@needs_avx2
def test_processors_with_avx2_are_served():
    assert jit.is_usable()
    assert all(jit.convolves(4, has_bias, silu) for has_bias in (True, False) for silu in (0, 1))


def test_other_processors_have_every_instruction_it_takes(instructions_of):
    from kernels.delta import jit_ir

    assert {"ret", "retq"} & instructions_of(jit_ir.write_recurrence)
    for taps, has_bias, silu in ((4, False, True), (8, True, True), (1, True, False)):

        def write(function, shape=(taps, has_bias, silu)):
            jit_ir.write_convolution(function, *shape)

        assert {"ret", "retq"} & instructions_of(write)


def test_where_it_cannot_be_made_torch_does_it(monkeypatch):
    def unavailable(*_):
        raise RuntimeError("no FMA")

    from kernels.delta import jit_ir

    monkeypatch.setattr(jit_ir, "recurrence", unavailable)
    monkeypatch.setattr(jit_ir, "convolution", unavailable)
    assert not jit.is_usable.__wrapped__()
    assert not jit.convolves.__wrapped__(4, False, True)


def test_one_that_is_wrong_is_not_used(monkeypatch):
    """Red: whoever has a processor for which LLVM errs gets nonsense."""
    right, right_rows = jit._recurrence, jit._convolution

    def wrong(*arguments):
        out, state = right(*arguments)
        return out, 1.001 * state

    def wrong_rows(*arguments):
        out, state = right_rows(*arguments)
        return 1.001 * out, state

    monkeypatch.setattr(jit, "_recurrence", wrong)
    monkeypatch.setattr(jit, "_convolution", wrong_rows)
    assert not jit.is_usable.__wrapped__()
    assert not jit.convolves.__wrapped__(4, False, True)


def test_what_is_not_supported_goes_to_torch(monkeypatch):
    def unexpected(*_):
        raise AssertionError("went to the JIT")

    monkeypatch.setattr(jit, "_recurrence", unexpected)
    monkeypatch.setattr(jit, "_convolution", unexpected)
    q, k = torch.randn(2, 17, 2, 8)
    v, gate, state = torch.randn(17, 2, 8), torch.rand(17, 2), torch.randn(2, 8, 8)
    arguments = (q, k / 8, v, -gate, gate, state)
    assert torch.equal(jit.gated_delta(*arguments)[0], chunked.gated_delta(*arguments)[0])
    jit.gated_delta(
        q[:2].bfloat16(), k[:2].bfloat16(), v[:2].bfloat16(), -gate[:2], gate[:2], state
    )
    rows, weight, before = torch.randn(2, 8), torch.randn(8, 9), torch.randn(8, 8)
    got = jit.short_convolution(rows, weight, None, before, True)
    assert torch.equal(got[0], plain.short_convolution(rows, weight, None, before, True)[0])

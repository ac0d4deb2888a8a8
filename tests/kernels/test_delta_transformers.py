"""Red here means another gated delta rule than the one Qwen3-Next and Qwen3.5 were trained with."""

import pytest
import torch
from measure import relative_rms

import kernels

published = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")


def inputs(num_tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, num_tokens, 2, 16, generator=generator)
    v = torch.randn(num_tokens, 4, 24, generator=generator)
    decay = -3 * torch.rand(num_tokens, 4, generator=generator) ** 4
    beta = torch.rand(num_tokens, 4, generator=generator)
    return q, k, v, decay, beta, torch.randn(4, 16, 24, generator=generator)


@pytest.mark.parametrize(
    "name", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"]
)
@pytest.mark.parametrize("num_tokens", [1, 5, 64, 65, 200])
def test_it_is_the_rule_of_transformers(name, num_tokens):
    q, k, v, decay, beta, state = inputs(num_tokens)
    want_out, want_state = getattr(published, name)(
        q[None],
        k[None],
        v[None],
        g=decay[None],
        beta=beta[None],
        initial_state=state[None],
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    q, k = published.l2norm(q) * 16**-0.5, published.l2norm(k)
    out, new_state = kernels.gated_delta(q, k, v, decay, beta, state)
    assert relative_rms(out, want_out[0].double()) < 1e-5
    assert relative_rms(new_state, want_state[0].double()) < 1e-5


@pytest.mark.parametrize("num_tokens", [1, 5, 200])
def test_the_convolution_is_that_of_transformers(num_tokens):
    generator = torch.Generator().manual_seed(1)
    x, state = torch.randn(num_tokens, 40, generator=generator), torch.zeros(3, 40)
    weight = torch.randn(40, 4, generator=generator)
    want = published.causal_conv1d_fn(x.T[None], weight, None, activation="silu")[0].T
    out, _ = kernels.short_convolution(x, weight, None, state, silu=True)
    assert relative_rms(out, want.double()) < 1e-5

"""Red here means the share of attention that a passage is shown with is not the model's."""

import pytest
import tiny
import torch

import kernels
from engine.context import Context
from kernels.attention import naive

IDS = torch.randint(4, 290, (170,), generator=torch.Generator().manual_seed(7)).tolist()

CONFIGS = {
    "llama": tiny.llama_config(),
    "minimax": tiny.minimax_config(),
    "windows": tiny.mm1_config(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return tiny.load_model(tiny.write_checkpoint(folder, CONFIGS[request.param]))


def read(model, ids):
    context = Context(model, 16)
    context.extend(ids)
    return context


@pytest.mark.parametrize("globally", [False, True])
def test_shares_are_the_mean_of_the_layers_that_look_at_everything(model, monkeypatch, globally):
    context = read(model, IDS[:150])
    if globally:
        context.end_of_documents()
    before = context.logits.clone()
    seen = []
    attention = kernels.attention

    def spy(q, segments, scale, *, window=None, **options):
        if window is None:
            seen.append(naive.attention_received(q, segments, scale)[:150] / q[..., 0].numel())
        return attention(q, segments, scale, window=window, **options)

    monkeypatch.setattr(kernels, "attention", spy)
    shares = context.attention(IDS[150:])  # 20 tokens: the grid cuts them into 10 and 10
    expected = torch.stack(seen).mean(dim=0)
    assert shares.shape == (150,)
    assert (shares - expected).abs().max() < 1e-5
    assert 0.2 < float(shares.sum()) < 1
    assert len(context) == 150 and torch.equal(context.logits, before)
    assert context.attention(IDS[150:]).equal(shares), "asking must change nothing"


def test_a_model_that_keeps_no_keys_says_nothing(tmp_path):
    config = tiny.minimax_config(attn_type_list=[0, 0, 0, 0])
    model = tiny.load_model(tiny.write_checkpoint(tmp_path, config))
    assert read(model, IDS[:20]).attention(IDS[20:25]) is None

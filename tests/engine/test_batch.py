"""Red here means sequences that stand beside each other mix, or learn what they would not alone."""

import pytest
import torch
from measure import relative_rms
from tiny import hf_spelling, llama_config, load_model, minimax_config, mm1_config, write_checkpoint

CONFIGS = {
    "m1": minimax_config(),
    "hf": hf_spelling(minimax_config(shared_intermediate_size=20)),
    "llama": llama_config(),
    "mm1": mm1_config(),
}
IDS = torch.randint(4, 290, (140, 3), generator=torch.Generator().manual_seed(3))  # [T, B]
WANTED = torch.randn(140, 3, 320, generator=torch.Generator().manual_seed(4))


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def directory(request, tmp_path):
    return write_checkpoint(tmp_path / "m", request.param)


def run(model, token_ids, cuts, differentiable):
    """Logits [T, B, vocab] of all positions, read in one piece or cut, and the states."""
    states = model.empty_states(differentiable=differentiable, num_sequences=token_ids.shape[1])
    rows = [
        model(piece, states, start)
        for piece, start in zip(torch.tensor_split(token_ids, cuts), [0, *cuts], strict=True)
    ]
    return model.logits(torch.cat(rows))


@pytest.mark.parametrize("cuts", [[], [1, 70]])
def test_a_batch_is_its_sequences_one_by_one(directory, cuts):
    model = load_model(directory)
    with torch.inference_mode():
        together = run(model, IDS, cuts, differentiable=False)
        assert together.std() > 0.5
        for column in range(3):
            states = model.empty_states()
            alone = model.logits(model(IDS[:, column], states, 0))
            assert relative_rms(together[:, column], alone) < 1e-5


def test_a_batch_has_the_gradients_of_its_sequences(directory):
    gradients = []
    for columns in ([[0, 1, 2]], [[0], [1], [2]]):
        model = load_model(directory).requires_grad_(True)
        for column in columns:
            logits = run(model, IDS[:, column], [], differentiable=True)
            (logits * WANTED[:, column]).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    together, alone = gradients
    for name, gradient in alone.items():
        if gradient is not None and gradient.norm():
            assert relative_rms(together[name], gradient) < 1e-5, name


def test_gradients_pass_a_cut(directory):
    """What later tokens ask of earlier ones must reach them, whatever the pieces."""
    gradients = []
    for cuts in ([], [60]):
        model = load_model(directory).requires_grad_(True)
        logits = run(model, IDS, cuts, differentiable=True)
        (logits * WANTED)[100:].sum().backward()
        gradients.append(model.embed.weight.grad)
    assert relative_rms(gradients[1], gradients[0]) < 1e-4


def test_bf16_products_keep_a_float32_state(directory):
    model = load_model(directory).requires_grad_(True)
    want = run(model, IDS, [], differentiable=True)
    with torch.autocast("cpu", torch.bfloat16):
        states = model.empty_states(differentiable=True, num_sequences=3)
        got = model.logits(model(IDS, states, 0))
    assert got.dtype == torch.float32
    assert {state.tensor.dtype for state in states if hasattr(state, "tensor")} <= {torch.float32}
    assert 1e-4 < relative_rms(got.detach(), want.detach()) < 0.1
    (got * WANTED).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)

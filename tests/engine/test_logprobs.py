"""Red here means a token's likelihood is another token's, or that asking for it changes reading."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import all_logits, load_model, minimax_config, write_checkpoint

from engine import logprobs
from engine.context import Context

IDS = torch.randint(4, 290, (200,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_checkpoint(tmp_path_factory.mktemp("m1"), minimax_config()))


def scored(model, sizes, chunk_tokens):
    """The context after calls of `sizes` tokens, and log_p, entropy, best_log_p [3, T]."""
    context, found, at = Context(model, chunk_tokens), [torch.empty(3, 0)], 0

    def note(scores):
        found.append(torch.stack([scores.log_p, scores.entropy, scores.best_log_p]))

    for size in sizes:
        context.extend(IDS[at : at + size], on_scores=note)
        at += size
    return context, torch.cat(found, dim=1)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4).map(lambda sizes: [*sizes, 2]),
    st.sampled_from([1, 7, 16, 512]),
    st.sampled_from([1, 5, 64]),
)
def test_scores_are_those_of_the_definition_however_the_tokens_come(
    model, sizes, chunk_tokens, rows
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "ROWS", rows)
        context, found = scored(model, sizes, chunk_tokens)
    assert found.shape == (3, len(context)) and found.dtype == torch.float32
    assert found[:, 0].isnan().all(), "nothing stands before the first token"
    log_p = all_logits(model, context.token_ids, 512)[:-1].double().log_softmax(-1)
    targets = torch.tensor(context.token_ids[1:], dtype=torch.int64)
    expected = torch.stack(
        [
            log_p.gather(1, targets[:, None])[:, 0],
            -(log_p.exp() * log_p).sum(-1),
            log_p.max(-1).values,
        ]
    )
    assert (found[:, 1:] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("chunk_tokens", [1, 16, 64])
def test_a_context_is_bit_equal_whether_or_not_scores_are_asked_for(model, chunk_tokens):
    plain = Context(model, chunk_tokens)
    for first in range(0, 90, 45):
        plain.extend(IDS[first : first + 45])
    context, _ = scored(model, [45, 45], chunk_tokens)
    assert torch.equal(context.logits, plain.logits)
    plain.extend(IDS[90:120])
    context.extend(IDS[90:120])
    assert torch.equal(context.logits, plain.logits)


def test_who_stops_while_scoring_can_go_on(model):
    """Red: Ctrl-C during a surprise map costs the context."""
    context = Context(model, 16)

    def stop(_scores):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        context.extend(IDS[:50], on_scores=stop)
    assert context.is_whole and len(context) == 16
    context.extend(IDS[16:50])
    whole = Context(model, 16)
    whole.extend(IDS[:50])
    assert torch.equal(context.logits, whole.logits)

"""What every family's logits are held to; `pytest -rP` shows how near they are."""

from tiny import all_logits, load_model

from engine.context import Context

TOLERANCE = 1e-4
NUM_TOKENS, DECODED = 100, 12
CHUNKS = (1, 7, 256)


def assert_same_logits(folder, ids, want):
    """Of all positions, in chunks, the last tokens one at a time."""
    ours, differences = load_model(folder), {}
    for chunk_tokens in CHUNKS:
        got = all_logits(ours, ids, chunk_tokens, DECODED)
        differences[chunk_tokens] = float((got - want).abs().max())
    print(f"largest difference of a logit: {max(differences.values()):.1e}")
    assert max(differences.values()) < TOLERANCE, differences


def assert_same_grown(folder, ids, want):
    """A context grown in steps, and a fork of it."""
    context = Context(load_model(folder), 16)
    for first, last in ((0, 5), (5, 50), (50, 51), (51, 90)):
        context.extend(ids[first:last])
    fork = context.fork()
    for each in (fork, context):
        each.extend(ids[90:])
        assert (each.logits - want[-1]).abs().max() < TOLERANCE

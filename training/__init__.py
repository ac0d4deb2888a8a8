"""How the embedded hybrid is made from its parent: one command per stage, each resumable.

    python -m training.align  --parent DIR --text text.jsonl.xz --qa qa.jsonl.xz --run runs/align
    python -m training.distil --parent DIR --student runs/align/model --text ... --run runs/distil

`align` turns the parent's local layers into Lightning layers that imitate its attention outputs,
all at once; `distil` then trains the whole hybrid to the parent's distribution. Both run the
engine's own layers with gradients. A run killed at any moment goes on from its last checkpoint,
with the parameters an uninterrupted run would have had.
"""

"""How the embedded hybrid is made from its parent: one command per stage, each resumable.

    align      turns the parent's local layers into Lightning layers that imitate its attention
    choose     measures what each of them costs; some go back to softmax with a window
    distil     trains the whole hybrid to the parent's distribution
    lengthen   long sequences; softmax layers may lose rotation and get a gate
    read       answers, quotes, refusals
    reinforce  rewards what a program finds right in the hybrid's own answers
    debian     makes more text to train on

All are run as `python -m training.NAME` and told in docs/training.md. They run the engine's own
layers with gradients. A run killed at any moment goes on from its last checkpoint, with the
parameters an uninterrupted run would have had.
"""

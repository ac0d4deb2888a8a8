"""What a model can do, one command per table, models and baselines side by side.

    python -m benchmarks.quality.<table> --model DIR_OR_NAME [--model ...]
    python -m benchmarks.quality --minutes 30   # all of them, written to quality.md and .json here

Results are kept under .cache/quality as they come: a run that was stopped goes on from there.
"""

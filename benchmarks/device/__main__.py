"""The GPU day in one command.

    python -m benchmarks.device --minutes 25 [--out DIR] [--anew] [--only STEP ...]
    python -m benchmarks.device --dry-run

Runs the GPU's tests, measures ceilings, every kernel and real layers, in that order, and writes
results.json and results.md to DIR. Each step's result is kept as soon as it is there: the same
command goes on where the last one ended, failed steps first tried again. A step that may not end in
the minutes left is skipped, with the reason. --dry-run proves on a CPU that the command works.
"""

import argparse
import os
import sys
import time
from pathlib import Path


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="for this run (25)")
    parser.add_argument("--out", type=Path, help="default: build/device, or build/device-dry")
    parser.add_argument("--anew", action="store_true", help="set earlier results aside")
    parser.add_argument("--only", nargs="+", default=[], help="steps that begin with one of these")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, at toy sizes")
    # Started by itself after an error that left the device unusable: goes on with the next step.
    parser.add_argument("--going-on", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args(given)
    folder = "build/device-dry" if found.dry_run else "build/device"
    found.out = found.out or Path(folder)
    return found


def main() -> None:
    options = arguments()
    end = time.monotonic() + 60 * options.minutes
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # read once, when Triton is imported
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from benchmarks.device.run import DeviceLostError, run

    try:
        failed = run(options, end)
    except DeviceLostError:
        left = max((end - time.monotonic()) / 60, 0.1)
        again = ["--minutes", f"{left:.2f}", "--out", str(options.out), "--going-on"]
        again += ["--only", *options.only] if options.only else []
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.device", *again])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

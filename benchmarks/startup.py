"""How long a person waits: `mm1 --help`, and the demo's question with everything in place.

python -m benchmarks.startup [--repeats 5]
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import machine

ROOT = Path(__file__).parent.parent
QUESTION = "How much did the harbour crossing cost?"
COMMANDS = {
    "mm1 --help": ["--help"],
    "mm1 tokens examples/papers": ["tokens", "examples/papers"],
    "mm1 analyze examples/papers": ["analyze", "examples/papers", "--ask", QUESTION],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    mm1 = str(Path(sys.executable).with_name("mm1"))
    rows: list[dict[str, object]] = []
    print(f"{'command':<28}  {'best s':>6}  {'median s':>8}")
    for name, words in COMMANDS.items():
        run = partial(subprocess.run, [mm1, *words], cwd=ROOT, check=True, capture_output=True)
        run()  # warm: files in memory, the model fetched
        took = sorted(machine.seconds(run) for _ in range(repeats))
        best, median = took[0], took[len(took) // 2]
        rows.append({"command": name, "best_s": best, "median_s": median})
        print(f"{name:<28}  {best:>6.2f}  {median:>8.2f}")
    machine.print_result("startup", rows)


if __name__ == "__main__":
    main()

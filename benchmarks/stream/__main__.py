"""`python -m benchmarks.stream PART ...`; each part says with --help what it takes."""

import sys
from importlib import import_module

PARTS = ("peers",)


def main() -> None:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part not in PARTS:
        raise SystemExit(f"usage: python -m benchmarks.stream {{{','.join(PARTS)}}} ...")
    sys.argv[0:2] = [f"benchmarks.stream {part}"]
    import_module(f"benchmarks.stream.{part}").main()


if __name__ == "__main__":
    main()

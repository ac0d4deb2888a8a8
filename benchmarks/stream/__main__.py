"""python -m benchmarks.stream TABLE [options]; without a table, what there is."""

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    tables = sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")
    )
    if len(sys.argv) < 2 or sys.argv[1] not in tables:
        sys.exit(f"usage: python -m benchmarks.stream {'|'.join(tables)} [options]")
    import_module(f"benchmarks.stream.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()

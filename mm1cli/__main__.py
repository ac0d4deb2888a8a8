"""Entry point of `mm1`, and of `python -m mm1cli`. Importing this imports nothing slow."""

from mm1cli import interrupts


def main() -> None:
    """Signals are caught before the command line itself is imported."""
    interrupts.catch()
    try:
        from mm1cli.app import run

        run()
    finally:
        interrupts.settle()


if __name__ == "__main__":
    main()

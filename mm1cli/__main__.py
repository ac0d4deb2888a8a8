"""Entry point of `mm1`, and of `python -m mm1cli`. Importing this imports nothing slow."""

import gc
import os

from mm1cli import interrupts, streams
from mm1cli.errors import ExitCode


def main() -> None:
    """Signals are caught, and streams put right, before the command line itself is imported."""
    interrupts.catch()
    streams.prepare()
    try:
        gc.disable()  # what is imported stays: it need not be looked through for garbage
        from mm1cli.app import run

        gc.freeze()
        gc.enable()
        run()
    except (MemoryError, ImportError, OSError) as error:
        if "MM1_DEBUG" in os.environ or isinstance(error, BrokenPipeError):
            raise
        if streams.is_lack_of_memory(error):
            streams.fail(streams.no_memory_message(), ExitCode.BUDGET)
        told = " ".join(f"{type(error).__name__}: {error}".split())
        streams.fail(f"mm1 cannot start ({told}); install it again", ExitCode.INTERNAL)
    finally:
        interrupts.settle()


if __name__ == "__main__":
    main()

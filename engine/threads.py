"""Threads that take little memory."""

import threading

STACK_BYTES = 2 << 20  # the usual 8 MB of each count where memory is limited


def start(thread: threading.Thread) -> None:
    """Starts it with a small stack. Raises RuntimeError if there is no room for one."""
    usual = threading.stack_size(STACK_BYTES)
    try:
        thread.start()
    finally:
        threading.stack_size(usual)

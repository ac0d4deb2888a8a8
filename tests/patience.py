"""Tests of threads end, whatever the threads do."""

import faulthandler
import signal
import threading
from functools import wraps

PATIENCE_S = 60.0


def ends(test):
    """The test on a thread of its own; it fails if that is not done in time."""

    @wraps(test)
    def patient(*args, **kwargs):
        found = []

        def run():
            try:
                test(*args, **kwargs)
                found.append(None)
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        if not found:
            faulthandler.dump_traceback(all_threads=True)
        assert found, f"not done after {PATIENCE_S:.0f} s"
        if found[0] is not None:
            raise found[0]

    return patient


def ends_here(test):
    """As `ends`, for what needs the main thread: an alarm interrupts it, again and again."""

    def ring(*_):
        raise AssertionError(f"not done after {PATIENCE_S:.0f} s")

    @wraps(test)
    def patient(*args, **kwargs):
        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1.0)
        try:
            test(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return patient


def others_alive():
    """Threads of stages and of work; none must be left."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("stage ", "work"))]

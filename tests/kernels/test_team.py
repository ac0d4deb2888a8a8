"""Red here means that jobs are lost, done by too many threads or waited for without need."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from kernels.ggml import BlockType
from kernels.ggml.random import random_weight
from kernels.jit import run, team
from kernels.linear.ggml import jit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no futex")
JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@pytest.fixture
def started():
    found = team.team()
    assert found is not None, "small matmuls wait for OpenMP's threads again"
    found.grow(3)
    return found


def parallel(found, work, num_threads):
    """`work` as a job; it may be called by several threads at once."""
    job = JOB(lambda _: work())
    run._parallel(found.address)(ctypes.cast(job, ctypes.c_void_p).value, None, num_threads, 0)


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_a_job_is_done_by_no_more_threads_than_asked_and_waited_for(started, num_threads):
    """Red: a workspace for two is written by three, or a result is read before it is there."""
    for _ in range(50):
        lock, inside, done = threading.Lock(), [], []

        def work(lock=lock, inside=inside, done=done):
            with lock:
                inside.append(threading.get_ident())
            time.sleep(0.001)
            with lock:
                done.append(threading.get_ident())

        parallel(started, work, num_threads)
        assert len(done) == len(inside) == len(set(inside)) <= num_threads
        assert threading.get_ident() in inside


def test_a_helper_that_does_not_come_is_not_waited_for(started):
    """Red: where a program holds the other core, a small matmul takes milliseconds."""
    came, release = threading.Semaphore(0), threading.Event()

    def hold():
        came.release()
        release.wait(60)

    holder = threading.Thread(target=parallel, args=(started, hold, 4))
    holder.start()
    for _ in range(4):
        assert came.acquire(timeout=30), "helpers never come"
    # All helpers are in that job now: this one is done by its caller alone, at once.
    seen = []
    parallel(started, lambda: seen.append(threading.get_ident()), 4)
    assert seen == [threading.get_ident()]
    release.set()
    holder.join(30)
    assert not holder.is_alive()


def test_threads_that_ask_at_the_same_time_get_what_they_get_alone(started):
    """Red: two questions answered together mix their results."""
    weight = random_weight(BlockType.Q5_0, 512, 352, torch.Generator().manual_seed(1))
    rows = torch.randn(8, 352, generator=torch.Generator().manual_seed(2))
    want = [jit.linear(row[None], weight) for row in rows]
    wrong = []

    def ask(number):
        for _ in range(200):
            if not torch.equal(jit.linear(rows[number][None], weight), want[number]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_multiplies_alone(started):
    """Red: a child waits for threads that it does not have."""
    weight = random_weight(BlockType.Q8_0, 64, 352, torch.Generator().manual_seed(1))
    x = torch.randn(1, 352)
    want = jit.linear(x, weight)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(jit.linear(x, weight), want) else 1)
    for _ in range(200):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("the child hangs")
    assert status == 0


def test_the_process_ends_with_helpers_asleep_or_spinning():
    """Red: a command that printed its answer ends in a crash, or never."""
    code = """
import torch
torch.set_num_threads(2)
from kernels.ggml import BlockType
from kernels.ggml.random import random_weight
from kernels.linear.ggml import jit
weight = random_weight(BlockType.Q8_0, 64, 352, torch.Generator())
for _ in range(100):
    jit.linear(torch.randn(1, 352), weight)
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert ended.returncode == 0


def test_openmp_does_not_spin():
    """Red: where another program holds a core, a parallel region takes milliseconds."""
    code = "import {}, os; assert os.environ['OMP_WAIT_POLICY'] == 'passive'"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for package in ("kernels", "engine"):
        command = [sys.executable, "-c", code.format(package)]
        assert subprocess.run(command, env=environment, check=False).returncode == 0

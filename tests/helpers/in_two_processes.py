"""A function run by two processes that form a group, forked from one that has imported what it needs.

Importing torch and what stands on it takes longer than most tests compute; here it is done once for both.
A process of pytest has threads of its own, which a fork would lose: so one starts anew, alone.
`python in_two_processes.py file.py function killed argument ...` is that one.
"""

from __future__ import annotations

import gc
import inspect
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import torch.multiprocessing as multiprocessing

WORLD, PATIENCE_S = 2, 200
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
ALONE |= {"PYTHONFAULTHANDLER": "1", "GLOO_SOCKET_IFNAME": "lo"}


def in_two_processes(function: Callable[..., None], *told: str, killed: str = "") -> None:
    """Call a function of a file's top level in both, with the environment that torchrun gives.

    The function starts and ends the group itself. What it raises in either process fails the test.
    With `killed` another pair calls it before with that alone, and one of them must die by SIGKILL.
    """
    command = [sys.executable, __file__, inspect.getfile(function), function.__name__, killed, *told]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ALONE | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGABRT)  # each process says where its threads are
        said, _ = run.communicate()
    assert run.returncode == 0, said[-12000:]


def main(path: str, name: str, killed: str, *told: str) -> None:
    """Import the function's file, fork twice, and wait; what one raises ends both."""
    function = runpy.run_path(path)[name]
    gc.freeze()  # a trainer looks for garbage, and what was imported is none
    if killed:
        try:
            start(function, killed)
        except multiprocessing.ProcessExitedException as end:
            assert end.signal_name == "SIGKILL", end
        else:
            raise AssertionError("both processes ended by themselves; one was to be killed")
    start(function, *told)


def start(function: Callable[..., None], *told: str) -> None:
    """Fork twice and wait."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}

    def act(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD)}
        function(*told)

    multiprocessing.start_processes(act, nprocs=WORLD, start_method="fork")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A function run by two processes that form a group, forked from one that has imported what it needs.

Importing torch and what stands on it takes longer than most tests compute; here it is done once for all
that one worker of pytest tests in this way.
`python -m in_two_processes file.py function killed argument ...` is the process that both are forked from.
"""

from __future__ import annotations

import faulthandler
import gc
import inspect
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch.multiprocessing as multiprocessing
from forked import Forked

WORLD, PATIENCE_S = 2, 200
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
ALONE |= {"GLOO_SOCKET_IFNAME": "lo"}
IMPORTS = ("pytest", "torch.multiprocessing", "tacit_learning.act_hsa.policy", "tacit_learning.engine.loop")


def in_two_processes(function: Callable[..., None], *told: str, killed: str = "") -> None:
    """Call a function of a file's top level in both, with the environment that torchrun gives.

    The function starts and ends the group itself. What it raises in either process fails the test.
    With `killed` another pair calls it before with that alone, and one of them must die by SIGKILL.
    """
    with tempfile.TemporaryFile("w+") as said:
        words = [inspect.getfile(function), function.__name__, killed, *told]
        env = os.environ | ALONE
        run = Forked("in_two_processes", *words, imports=IMPORTS, env=env, output=said)
        try:
            run.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGABRT)  # each process says where its threads are
            run.wait(PATIENCE_S)
        said.seek(0)
        assert run.returncode == 0, said.read()[-12000:]


def main(path: str, name: str, killed: str, *told: str) -> None:
    """Import the function's file, fork twice, and wait; what one raises ends both."""
    os.setpgrp()  # with its two, so that all can be asked where they are
    faulthandler.enable()
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

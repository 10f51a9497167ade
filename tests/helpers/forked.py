"""Python programs forked from one that has imported what they need: a start costs no second of imports.

`Forked(module, word, ...)` stands for `Popen([sys.executable, "-m", module, word, ...])`. A process of
pytest has threads of its own, which a fork would lose: so one server starts anew, alone, imports what it
is asked for, and forks. What a program imports is there already; its environment, its folder, its
signals, its exit code and its handlers of the exit are those of a fresh one. Only its modules are not
taken apart at its end: a test of that starts a process of its own.
`python forked.py` is the server; it ends with its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


class Forked:
    """A running program.

    Args:
        module: What `python -m` would run.
        told: The words after it.
        imports: What it will import besides, which is worth to be there.
        env: Its environment; that of this process by default.
        output: Where what it says goes, errors too; to where this process says things by default.
        stdin: What it reads; nothing by default.

    Attributes:
        pid: Its number.
        returncode: As `Popen` has it; None while it runs.
    """

    def __init__(
        self,
        module: str,
        *told: object,
        imports: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        output: IO[str] | None = None,
        stdin: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        request = {
            "words": [module, *map(str, told)],
            "imports": [*imports, module],
            "env": dict(os.environ if env is None else env),
            "cwd": os.getcwd(),
            "path": sys.path,
        }
        said = os.dup(1) if output is None else output.fileno()
        self._line = socket.socket(socket.AF_UNIX)
        with open(os.devnull) as nothing:
            self._line.connect(_server())
            reads = nothing.fileno() if stdin is None else stdin
            data = json.dumps(request).encode()
            socket.send_fds(self._line, [len(data).to_bytes(4, "big")], [reads, said])
            self._line.sendall(data)
        pid = self._hear(120.0)
        assert pid is not None, f"no fork within two minutes: {module}"
        self.pid = pid

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.wait(0.0, must=False)

    def wait(self, timeout: float | None = None, must: bool = True) -> int | None:
        """Return its exit code as soon as it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not within `timeout` [s].
        """
        if self.returncode is None:
            self.returncode = self._hear(timeout)
        if self.returncode is None and must:
            raise subprocess.TimeoutExpired(f"forked {self.pid}", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _hear(self, timeout: float | None) -> int | None:
        if not select.select([self._line], [], [], timeout)[0]:
            return None
        return int.from_bytes(self._line.recv(4, socket.MSG_WAITALL), "big", signed=True)


@functools.cache
def _server() -> str:
    """Start the server of this process; returns its address."""
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None
    atexit.register(server.stdin.close)
    return server.stdout.readline().rstrip("\n").replace("@", "\0", 1)


# --- the server -----------------------------------------------------------------------------------


def main() -> None:
    """Fork for each who asks, until the standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who watches a program ends by itself
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0tacit-forked-{os.getpid()}")
        listener.listen()
        sys.stdout.write(f"@tacit-forked-{os.getpid()}\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            line, _ = listener.accept()
            size, handles, _, _ = socket.recv_fds(line, 4, 2)
            request = json.loads(line.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
            _prepare(request)
            if os.fork() == 0:
                listener.close()
                _watch(line, request, handles)
            line.close()
            for handle in handles:
                os.close(handle)


def _prepare(request: Mapping[str, Any]) -> None:
    """Import what a program will; what cannot be imported is the program's to report."""
    sys.path += [path for path in request["path"] if path not in sys.path]
    os.environ |= request["env"]  # some libraries read theirs as they are imported
    for name in request["imports"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # what is there for all is nobody's garbage


def _watch(line: socket.socket, request: Mapping[str, Any], handles: list[int]) -> None:
    """Fork the program; tell who asked its number and how it ended, and end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        line.close()
        _become(request, handles)
    line.sendall(pid.to_bytes(4, "big", signed=True))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        line.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _become(request: Mapping[str, Any], handles: list[int]) -> None:
    """Be the program, to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reads, says = handles
    for place, handle in ((0, reads), (1, says), (2, says)):
        os.dup2(handle, place)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path[:] = request["path"]
    sys.argv = list(request["words"])
    sys.modules.pop(sys.argv[0], None)  # or runpy warns that it was imported
    code = 1
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = _code_of(end)
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        _end(code)


def _code_of(end: SystemExit) -> int:
    if isinstance(end.code, str):
        sys.stderr.write(f"{end.code}\n")
        return 1
    return int(end.code or 0)


def _end(code: int) -> None:
    """End as an interpreter does, but for what it would take apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

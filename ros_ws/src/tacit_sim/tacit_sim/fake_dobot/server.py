"""Both ports of a fake controller on this machine."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from functools import partial

from tacit.threads import OnFailure, WatchedThread
from tacit_sim.fake_dobot.controller import PACKET_S, FakeController
from tacit_sim.fake_dobot.plant import Plant

DASHBOARD, FEEDBACK = 0, 1


class FakeDobot(FakeController):
    """Serves until `close`.

    Args:
        plant: The arm behind it.
        on_failure: Told what ended one of its threads.
        ports: Dashboard and feedback; 0 takes a free one.

    Attributes:
        ports: Those that it listens on.
    """

    def __init__(self, plant: Plant, on_failure: OnFailure, ports: tuple[int, int] = (0, 0)) -> None:
        super().__init__(plant)
        self._on_failure = on_failure
        self._clients: dict[int, list[socket.socket]] = {DASHBOARD: [], FEEDBACK: []}
        self._servers = [socket.create_server(("127.0.0.1", port)) for port in ports]
        self.ports = tuple(server.getsockname()[1] for server in self._servers)
        self._threads = [
            WatchedThread("fake-dashboard", lambda: self._accept(DASHBOARD), on_failure),
            WatchedThread("fake-feedback", lambda: self._accept(FEEDBACK), on_failure),
            WatchedThread("fake-arm", self._run, on_failure),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop serving."""
        for thread in self._threads:
            thread.stopping.set()
        self.drop()
        for thread in list(self._threads):
            thread.stop()
        for server in self._servers:
            server.close()

    def drop(self) -> None:
        """Cut all connections, as a pulled cable does; whoever comes back is served again."""
        self.note("connections cut")
        with self._lock:
            clients = [*self._clients[DASHBOARD], *self._clients[FEEDBACK]]
            self._clients = {DASHBOARD: [], FEEDBACK: []}
        for client in clients:
            _end(client)

    def _accept(self, which: int) -> None:
        server, thread = self._servers[which], self._threads[which]
        server.settimeout(0.1)
        while not thread.stopping.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self.faults.is_offline or (which == DASHBOARD and self._clients[DASHBOARD]):
                self.note(f"connection to {self.ports[which]} refused")
                _end(client)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._clients[which].append(client)
            if which == DASHBOARD:
                self._threads.append(
                    WatchedThread("fake-client", partial(self._serve, client), self._on_failure).start()
                )

    def _serve(self, client: socket.socket) -> None:
        """Answer one dashboard connection, command after command."""
        text = ""
        try:
            while data := client.recv(4096):
                text += data.decode()
                *commands, text = re.split(r"(?<=\))\s*", text)
                for command in commands:
                    time.sleep(self.faults.latency_s)
                    client.sendall(f"{self.answer(command)};".encode())
        except OSError:
            pass
        with self._lock:
            if client in self._clients[DASHBOARD]:
                self._clients[DASHBOARD].remove(client)
        self.forget_client()
        client.close()

    def _run(self) -> None:
        thread, deadline = self._threads[2], time.monotonic()
        while not thread.stopping.is_set():
            deadline = max(deadline + PACKET_S, time.monotonic() - 10 * PACKET_S)
            time.sleep(max(0.0, deadline - time.monotonic()))
            packet = self.advance()
            with self._lock:
                clients = list(self._clients[FEEDBACK])
            for client in [] if self.faults.is_mute else clients:
                self._tell(client, packet)

    def _tell(self, client: socket.socket, packet: bytes) -> None:
        try:
            client.sendall(packet)
        except OSError:
            with self._lock:
                if client in self._clients[FEEDBACK]:
                    self._clients[FEEDBACK].remove(client)
            client.close()


def _end(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    client.close()

"""A request to another thread is done in time or not at all, and always answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tacit.errors import ConfigError, TacitError
from tacit.threads import requests
from tacit.threads.requests import Requests


@pytest.fixture
def served() -> Iterator[tuple[Requests, threading.Event]]:
    """Requests with a thread that serves them while the event is set."""
    open_door, stop = threading.Event(), threading.Event()
    made = Requests("the cell", ConfigError, lambda: None)

    def work() -> None:
        while not stop.is_set():
            if open_door.wait(0.01):
                made.serve()

    thread = threading.Thread(target=work)
    thread.start()
    open_door.set()
    yield made, open_door
    stop.set()
    open_door.set()
    thread.join()


def test_result_and_error_of_the_serving_thread_reach_who_asked(served: tuple) -> None:
    made, _ = served
    assert made.ask(lambda: threading.current_thread().name) != threading.current_thread().name

    def refuse() -> None:
        raise TacitError("no such task")

    with pytest.raises(TacitError, match="no such task"):
        made.ask(refuse)


def test_request_that_is_not_begun_in_time_is_answered_and_never_done(
    served: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, open_door = served
    open_door.clear()
    threading.Event().wait(0.05)  # the thread is at its closed door
    done: list[str] = []
    monkeypatch.setattr(requests, "TIMEOUT_S", 0.05)
    with pytest.raises(ConfigError, match=r"the cell did not answer within 0\.05 s.*withdrawn"):
        made.ask(lambda: done.append("late"))
    monkeypatch.undo()
    open_door.set()
    made.ask(lambda: done.append("next"))
    assert done == ["next"]


def test_request_that_is_under_way_when_time_is_up_says_so(
    served: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = served
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(requests, "TIMEOUT_S", 0.5)
    with pytest.raises(ConfigError, match="being carried out"):
        made.ask(slow)
    assert begun.is_set()
    go_on.set()


def test_nobody_waits_for_a_thread_that_has_ended() -> None:
    made = Requests("the cell", ConfigError, lambda: None)
    asked: list[str] = []

    def ask() -> None:
        with pytest.raises(ConfigError, match="the cell has failed: out of memory"):
            made.ask(lambda: asked.append("done"))

    thread = threading.Thread(target=ask)
    thread.start()
    _until(lambda: made.are_waiting)
    made.refuse("out of memory")
    thread.join(10)
    assert not thread.is_alive()
    ask()
    assert not asked


def _until(fact: Callable[[], bool]) -> None:
    for _ in range(1000):
        if fact():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the fact never held")

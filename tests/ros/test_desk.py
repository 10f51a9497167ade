"""The operator's desk as it is used: `tacit up record --desk`, a robot of messages, a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from browser import chromium, console_errors, layout_faults
from rclpy.node import Node
from std_msgs.msg import String

from benches import testing
from benches.synthetic import SyntheticRobot
from tacit.episode import EpisodeReader
from tacit.rig import load_rig, parse_rig
from tacit_ros.wire.environment import child_environment

PATIENCE_S = 60.0
"""A browser, a stack and a robot share the machine with other tests: slow is no fault here."""

PICTURES = os.environ.get("TACIT_DESK_PICTURES", "")
"""Where to keep pictures of the page, for people."""


class Desk:
    """The stack in a process, a synthetic robot on a thread."""

    def __init__(self, folder: Path) -> None:
        rig = parse_rig(load_rig("nova2_sim").model_dump(mode="json") | {"simulation": None}, "test")
        (folder / "rig.yaml").write_text(rig.to_yaml(), encoding="utf-8")
        (folder / "say.txt").write_text("put the cube on the pad\nput it back\n", encoding="utf-8")
        self.data = folder / "data" / "lift"
        self._node = Node("robot_of_messages")
        self.robot = SyntheticRobot(self._node, rig)
        self.typed: list[str] = []
        self._node.create_subscription(String, "/teleop/keys", lambda m: self.typed.append(m.data), 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.robot.run, args=(self._stop.is_set,))
        self._thread.start()
        self.log: list[str] = []
        words = ["up", "record", "--desk", "--rig", str(folder / "rig.yaml"), "port=0", "task=lift"]
        words += [f"root={folder / 'data'}", f"instructions={folder / 'say.txt'}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tacit.cli", *words],
            env=child_environment() | {"ROS_PYTHON_CHECK_FIELDS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        """The address in the log, with its token."""
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]+", "\n".join(self.log))
        return found.group(0) if found else ""

    def until_heard(self, keys: str) -> None:
        """Wait for keys of the page on their topic."""

        def heard() -> bool:
            rclpy.spin_once(self._node, timeout_sec=0.05)
            return keys in self.typed

        wait_until(heard, f"the keys {keys!r}")

    def close(self) -> None:
        """End the stack as Ctrl-C does; whatever becomes of it, nothing is left that publishes."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self._reader.join(5)
            self._stop.set()
            self._thread.join(5)
            self._node.destroy_node()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(iter(self.process.stdout.readline, ""))


@pytest.fixture
def desk(ros: rclpy.Context, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    try:
        wait_until(lambda: made.url, "the address of the desk")
        yield made
    finally:
        made.close()


def wait_until(fact: Callable[[], object], what: str) -> None:
    testing.wait_until(fact, what, PATIENCE_S)


def answer(url: str, host: str = "", data: bytes | None = None) -> tuple[int, bytes]:
    """Ask as a program would."""
    request = urllib.request.Request(url, data=data, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def keep(driver: Any, name: str) -> None:
    if PICTURES:
        driver.save_screenshot(str(Path(PICTURES) / f"desk_{name}.png"))


def outcome(path: Path) -> tuple[str, bool | None, str]:
    with EpisodeReader(path) as reader:
        return reader.state, reader.success, str(reader.attribute("language_instruction"))


def refuses_who_has_no_token(desk: Desk) -> None:
    """Any other page, machine or path; one stack serves both halves of the test."""
    url, _, token = desk.url.partition("/?token=")
    assert answer(f"{url}/?token={token}")[0] == 200
    for path in ("/", "/state", "/picture/top"):
        assert answer(url + path)[0] == 403 and answer(f"{url}{path}?token=wrong")[0] == 403
    assert answer(f"{url}/do/start", data=b"")[0] == 403
    assert answer(f"{url}/?token={token}", host="evil.example")[0] == 403
    assert answer(f"{url}/picture/nothing?token={token}")[0] == 404
    assert answer(f"{url}/do/launch?token={token}", data=b"")[0] == 404
    status, body = answer(f"{url}/do/mark?token={token}", data=b"")
    assert status == 200 and b"nothing is being recorded" in body
    assert answer(f"{url}/keys", data=b"v")[0] == 403


def test_operator_records_by_keys_sees_a_camera_die_and_is_alone_at_the_desk(desk: Desk) -> None:
    with chromium() as driver:
        page: Any = driver
        page.get(desk.url)
        banner = lambda: page.execute_script("return document.getElementById('banner').className")  # noqa: E731
        text = lambda one: page.execute_script(f"return document.getElementById('{one}').textContent")  # noqa: E731

        def press(key: str) -> None:
            page.find_element("tag name", "body").send_keys(key)

        try:
            wait_until(lambda: banner() == "ready", "a ready recorder")
        except TimeoutError:
            pytest.fail(f"not ready: {text('detail')}; {text('reasons')}\n" + "\n".join(desk.log[-20:]))
        seen = "return [...document.querySelectorAll('.picture img')].every((i) => i.naturalWidth > 0)"
        wait_until(lambda: page.execute_script(seen), "all pictures")
        assert layout_faults(page, 400) == [] and layout_faults(page, 1400) == []
        assert "progress" in page.execute_script("return FACTS.optional"), "its silence is no fault"
        assert not any("already registered" in line for line in desk.log), "two nodes of one name"
        keep(page, "idle")

        press("i")
        wait_until(lambda: text("detail") == "put it back", "the next instruction")
        press("s")
        wait_until(lambda: banner() == "recording", "a recording")
        wait_until(lambda: re.search(r"\d\d ticks", text("detail")), "some ticks")
        press("m")
        keep(page, "recording")
        press("y")
        wait_until(lambda: "saved" in text("said"), "the end of the episode")
        assert outcome(desk.data / "episode_0.hdf5") == ("complete", True, "put it back")

        wait_until(lambda: banner() == "ready", "a ready recorder")
        press(" ")
        wait_until(lambda: banner() == "recording", "a recording by the pedal")
        wait_until(lambda: " 0 ticks" not in text("detail"), "some ticks")
        press(" ")
        wait_until(lambda: "Was the task done?" in text("doing"), "the question")
        assert outcome(desk.data / "episode_1.hdf5")[1] is None
        press("n")
        wait_until(lambda: "labelled episode_1.hdf5: failure" in text("said"), "the label")
        assert outcome(desk.data / "episode_1.hdf5")[1] is False
        wait_until(lambda: "1success1failure0unlabelled" in text("tally"), "the count")

        assert page.execute_script("return document.getElementById('hand-take').disabled")
        press("j")
        page.find_element("id", "moves").click()
        press("g")  # down and up at once
        desk.until_heard("g")
        desk.until_heard("")
        assert "j" not in desk.typed  # typed before the keys were to move anything
        keep(page, "moves")

        desk.robot.faults.silent.add("top")
        dead = "return document.getElementById('picture-top').className"
        wait_until(lambda: "dead" in page.execute_script(dead), "a dead camera")
        wait_until(lambda: "top" in text("reasons"), "the reason")
        assert "dead" not in page.execute_script(dead.replace("top", "wrist"))
        keep(page, "camera_dead")
        assert layout_faults(page, 400) == []
        keep(page, "narrow")
        assert console_errors(page) == []
    refuses_who_has_no_token(desk)

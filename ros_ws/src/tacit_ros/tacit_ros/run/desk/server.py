"""The desk's web server: a page, pictures and actions, for this machine alone (`tacit.view.server`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from tacit.errors import ConfigError, ImageError, TacitError
from tacit.rig import Rig
from tacit.teleop.devices import EVENT_KEYS, FASTER, FRAME_KEY, GRIPPER_KEYS, MOVES, SLOWER
from tacit.threads import OnFailure, WatchedThread
from tacit.view.server import LocalSite
from tacit_ros.run.desk.clerk import Clerk
from tacit_ros.run.desk.views import Views
from tacit_ros.run.operator import MEANING, Action

PAGE = Path(__file__).with_name("desk.html")
START_S = 10.0
MAX_BODY = 64 << 10
MOST_KEYS = 16
MEANT = frozenset([*MOVES, *GRIPPER_KEYS, *EVENT_KEYS, FRAME_KEY, FASTER, SLOWER])


class Hands(Protocol):
    """Passes on the keys that move the robot."""

    def press(self, keys: str) -> None:
        """Say which keys are down, on any thread."""

    def state(self) -> str:
        """Return what the node that moves the robot says of itself; "" without one."""


class Server:
    """Serves the desk from a thread of its own.

    Args:
        rig: Its streams are shown.
        views: The pictures.
        clerk: Carries out actions.
        keys: What each key does.
        hands: Moves the robot.
        port: 0 for any that is free.
        on_failure: Told what ended the thread.

    Attributes:
        url: Where the page is, with the token.

    Raises:
        ConfigError: The port is taken.
    """

    def __init__(
        self,
        rig: Rig,
        views: Views,
        clerk: Clerk,
        keys: Mapping[str, Action],
        hands: Hands,
        port: int,
        on_failure: OnFailure,
    ) -> None:
        self._rig, self._views, self._clerk, self._keys = rig, views, clerk, keys
        self._hands = hands
        self._site = LocalSite("the desk", PAGE, self._facts, self._routes(), MAX_BODY)
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._bound: Future[str] = Future()
        self._thread = WatchedThread("desk server", lambda: self._serve(port), on_failure)
        self._thread.start()
        try:
            self.url = self._bound.result(START_S)
        except OSError as problem:
            raise ConfigError(
                f"port {port}: the desk cannot listen there ({problem}); is another desk running? "
                "Choose another with port=<number>, or port=0 for any"
            ) from None

    def close(self) -> None:
        """End the server and its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.stop()

    def _serve(self, port: int) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._until_ended(port))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def _until_ended(self, port: int) -> None:
        try:
            await self._site.run(port, self._bound.set_result, self._ended)
        except OSError as problem:
            if self._bound.done():
                raise
            self._bound.set_exception(problem)

    def _routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/state", self._state),
            web.get("/picture/{name}", self._picture),
            web.post("/do/{action}", self._do),
            web.post("/keys", self._press),
            web.post("/instruction", self._instruction),
        ]

    def _facts(self) -> dict[str, object]:
        return {
            "rig": self._rig.name,
            "cameras": list(self._rig.cameras),
            "tactile": list(self._rig.tactile),
            "rates": {name: spec.rate_hz for name, spec in self._rig.specs.items()},
            "optional": [name for name, spec in self._rig.specs.items() if not spec.required],
            "rate_hz": self._rig.alignment.rate_hz,
            "keys": {key: action.value for key, action in self._keys.items()},
            "meaning": {action.value: text for action, text in MEANING.items()},
        }

    async def _state(self, request: web.Request) -> web.Response:
        report = {**self._clerk.report, "ages_s": self._views.ages_s(), "robot": self._hands.state()}
        return web.json_response(report)

    async def _picture(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._views.shown_names:
            raise web.HTTPNotFound(text=f"no image stream {name!r}")
        after = request.query.get("after", "0")
        number = int(after) if after.isdecimal() and len(after) < 19 else 0
        try:
            shown = await asyncio.get_running_loop().run_in_executor(None, self._views.shown, name, number)
        except ImageError as problem:
            raise web.HTTPUnprocessableEntity(text=str(problem)) from None
        if shown is None:
            return web.Response(status=204)
        headers = {"X-Number": str(shown.number)}
        return web.Response(body=shown.jpeg, content_type="image/jpeg", headers=headers)

    async def _do(self, request: web.Request) -> web.Response:
        name = request.match_info["action"]
        if name not in Action.__members__:
            raise web.HTTPNotFound(text=f"no action {name!r}")
        return await _answered(self._clerk.do(Action[name]))

    async def _press(self, request: web.Request) -> web.Response:
        """Pass on the keys that are down, those that mean something; they count for a fifth of a second."""
        keys = (await request.text())[:MOST_KEYS]
        self._hands.press("".join(key for key in keys if key in MEANT))
        return web.Response(status=204)

    async def _instruction(self, request: web.Request) -> web.Response:
        return await _answered(self._clerk.choose(await request.text()))


async def _answered(future: Future[str]) -> web.Response:
    """Return what was answered; a refusal is no error of the server."""
    answer: dict[str, Any]
    try:
        answer = {"ok": True, "text": await asyncio.wrap_future(future)}
    except (TacitError, OSError) as problem:
        answer = {"ok": False, "text": str(problem)}
    return web.json_response(answer)

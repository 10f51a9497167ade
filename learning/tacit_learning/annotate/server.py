"""The page of `tacit annotate`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tacit.errors import ConfigError, TacitError
from tacit.view.server import LocalSite
from tacit_learning.annotate.session import Session

PAGE = Path(__file__).with_name("annotate.html")
MAX_BODY = 1 << 20


class Server:
    """Answers the page.

    Args:
        session: What is annotated.
        steps: Names of the steps that keys 1 to 9 stand for.
    """

    def __init__(self, session: Session, steps: tuple[str, ...]) -> None:
        self._session = session
        facts = {"steps": steps, "fps": session.collection.fps}
        routes = [
            web.get("/clips", self._clips),
            web.get("/picture/{frame}", self._picture),
            web.post("/label", self._label),
            web.post("/transfer", lambda request: self._answer(session.transfer)),
            web.post("/save", lambda request: self._answer(session.save)),
        ]
        self._site = LocalSite("tacit annotate", PAGE, lambda: facts, routes, MAX_BODY)

    async def run(self, port: int, listening: Callable[[str], None], ended: asyncio.Event) -> None:
        """Serve until `ended`; see `LocalSite.run`.

        Raises:
            ConfigError: The port is taken.
        """
        try:
            await self._site.run(port, listening, ended)
        except OSError as problem:
            raise ConfigError(
                f"--port {port}: cannot be listened on ({problem}); choose another, or 0"
            ) from None

    async def _clips(self, request: web.Request) -> web.Response:
        return web.json_response(self._session.report())

    async def _picture(self, request: web.Request) -> web.Response:
        frame, name = request.match_info["frame"], request.query.get("clip", "")
        if not (frame.isdecimal() and len(frame) < 10):
            raise web.HTTPNotFound(text=f"no frame {frame!r}")
        try:
            jpeg = await asyncio.get_running_loop().run_in_executor(
                None, self._session.picture, name, int(frame)
            )
        except (TacitError, OSError) as problem:
            raise web.HTTPUnprocessableEntity(text=str(problem)) from None
        # Pictures never change, so that scrubbing back and forth asks for each once.
        return web.Response(
            body=jpeg, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"}
        )

    async def _label(self, request: web.Request) -> web.Response:
        try:
            said = await request.json()
        except ValueError:
            raise web.HTTPBadRequest(text="expected JSON: {clip, cuts}") from None
        if not isinstance(said, dict):
            raise web.HTTPBadRequest(text="expected JSON: {clip, cuts}")
        return await self._answer(lambda: self._session.label(str(said.get("clip")), said.get("cuts")))

    async def _answer(self, work: Callable[[], str]) -> web.Response:
        """Do what was asked and say how it went; a refusal is no error of the server."""
        try:
            text, ok = await asyncio.get_running_loop().run_in_executor(None, work), True
        except (TacitError, OSError) as problem:
            text, ok = str(problem), False
        return web.json_response({"ok": ok, "text": text, "clips": self._session.report()})

"""The page of `tacit annotate`: served to this machine alone, with a token in its address."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from tacit.errors import ConfigError, TacitError
from tacit.view.page import STYLE
from tacit_learning.annotate.session import Session

HOST = "127.0.0.1"
NAMES_OF_THIS_MACHINE = (HOST, "localhost")
PAGE = Path(__file__).with_name("annotate.html")
MAX_BODY = 1 << 20
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers the page.

    Args:
        session: What is annotated.
        steps: Names of the steps that keys 1 to 9 stand for.
    """

    def __init__(self, session: Session, steps: tuple[str, ...]) -> None:
        self._session, self._steps, self._token = session, steps, secrets.token_urlsafe(16)

    async def run(self, port: int, listening: Callable[[str], None], ended: asyncio.Event) -> None:
        """Serve until `ended`.

        Args:
            port: 0 for any that is free.
            listening: Told the address of the page, with the token.
            ended: Set from outside.

        Raises:
            ConfigError: The port is taken.
        """
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, port, shutdown_timeout=1.0)
            try:
                await site.start()
            except OSError as problem:
                raise ConfigError(
                    f"--port {port}: cannot be listened on ({problem}); choose another, or 0"
                ) from None
            listening(f"http://{HOST}:{runner.addresses[0][1]}/?token={self._token}")
            await ended.wait()
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/clips", self._clips),
                web.get("/picture/{frame}", self._picture),
                web.post("/label", self._label),
                web.post("/transfer", lambda request: self._answer(self._session.transfer)),
                web.post("/save", lambda request: self._answer(self._session.save)),
            ]
        )
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in only who knows the token and means this machine: no page of another site can."""
        host = (request.host or "").rpartition(":")[0] or request.host
        given = request.headers.get("X-Tacit-Token") or request.query.get("token", "")
        if host not in NAMES_OF_THIS_MACHINE:
            raise web.HTTPForbidden(text=f"host {host!r}: the page answers to {HOST} and localhost only")
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(
                text="token: missing or wrong; open the address that `tacit annotate` has said"
            )
        response = await handler(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _page(self, request: web.Request) -> web.Response:
        facts = {"token": self._token, "steps": self._steps, "fps": self._session.collection.fps}
        text = PAGE.read_text(encoding="utf-8").replace("/*STYLE*/", STYLE.read_text(encoding="utf-8"))
        # `<` would end the script element where a step is named so.
        text = text.replace("/*FACTS*/null", json.dumps(facts).replace("<", "\\u003c"))
        return web.Response(text=text, content_type="text/html")

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

"""A page that is served to this machine alone, with a token in its address.

Every request must carry the token and name this machine as its host: no page of another site can read a
picture or press a button. The desk and `tacit annotate` are such pages.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from aiohttp import web

from tacit.view.page import STYLE

HOST = "127.0.0.1"
NAMES_OF_THIS_MACHINE = (HOST, "localhost")
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LocalSite:
    """Serves one page and what it asks for.

    Args:
        name: What the site is, for who is refused, such as "the desk".
        page: HTML with `/*STYLE*/` where the common style goes and `/*FACTS*/null` where its facts go.
        facts: Called for what the page is told when it is opened; the token comes beside.
        routes: What else is answered.
        largest: Bytes of a request at most.
    """

    def __init__(
        self,
        name: str,
        page: Path,
        facts: Callable[[], Mapping[str, object]],
        routes: Iterable[web.AbstractRouteDef],
        largest: int,
    ) -> None:
        self._name, self._page_file, self._facts, self._routes = name, page, facts, tuple(routes)
        self._largest, self._token = largest, secrets.token_urlsafe(16)

    async def run(self, port: int, listening: Callable[[str], None], ended: asyncio.Event) -> None:
        """Serve until `ended`.

        Args:
            port: 0 for any that is free.
            listening: Told the address of the page, with the token.
            ended: Set from outside.

        Raises:
            OSError: The port is taken.
        """
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port, shutdown_timeout=1.0).start()
            listening(f"http://{HOST}:{runner.addresses[0][1]}/?token={self._token}")
            await ended.wait()
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=self._largest)
        application.add_routes([web.get("/", self._page), *self._routes])
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in only who knows the token and means this machine."""
        host = (request.host or "").rpartition(":")[0] or request.host
        given = request.headers.get("X-Tacit-Token") or request.query.get("token", "")
        if host not in NAMES_OF_THIS_MACHINE:
            raise web.HTTPForbidden(text=f"host {host!r}: {self._name} answers to {HOST} and localhost only")
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(
                text=f"token: missing or wrong; open the address that {self._name} has said"
            )
        response = await handler(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _page(self, request: web.Request) -> web.Response:
        facts = json.dumps({"token": self._token, **self._facts()})
        text = self._page_file.read_text(encoding="utf-8")
        text = text.replace("/*STYLE*/", STYLE.read_text(encoding="utf-8"))
        # `<` would end the script element where something is named so.
        text = text.replace("/*FACTS*/null", facts.replace("<", "\\u003c"))
        return web.Response(text=text, content_type="text/html")

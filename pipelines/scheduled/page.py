"""The portfolio page on a port: read-only, loopback unless told otherwise, looked at again every so often.

What people ask for is answered from what was looked up last, so that no question waits for the lake and none can wear
it out. Only GET is answered, under this machine's names: a page of another origin reads nothing and frames nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lake.errors import ConfigError, ForedriftError
from pipelines.reports.alert_words import ALERTS
from pipelines.reports.portfolio_page import ASSETS, HERE, decision_page, page, trouble_page
from pipelines.reports.words import as_sentence

EVERY_S = 30.0  # between two looks at the stores
BEAT_S = 5.0  # between two words to a page that is open
LET_GO_S = 0.25  # after which an open page sees that the server ends
LEAST_TOKEN = 16
OLD = "-old"
OPEN_PAGES = 32  # event streams at once
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip
STRICT = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
Look = Callable[[], Mapping[str, Any]]
Explain = Callable[[str], Mapping[str, Any]]


class PortTaken(ConfigError):
    """Something else answers on the port of the page."""


class Looked:
    """What every vault's portfolio was when it was last looked at, drawn; one thread looks, all others read."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self.looks = dict(looks)
        none: tuple[str, Mapping[str, Any] | None, str] = ("", None, trouble_page("The stores are being read."))
        self.found = dict.fromkeys(looks, none)
        self.closing = False  # open pages are let go at once: cut off by the server they would end in a traceback

    def look(self) -> None:
        """Look at every vault; one that cannot be read keeps what was known and says why in its place otherwise."""
        for name, look in self.looks.items():
            try:
                data = look()
            except (ForedriftError, OSError) as error:
                structlog.get_logger().warning("page", vault=name, error=str(error))
                version, known, _ = self.found[name]
                words = "the stores cannot be read just now; the log says why"
                version = version.removesuffix(OLD) + OLD
                shown = trouble_page(words) if known is None else page(_old(known, words), list(self.looks), version)
                self.found[name] = version, known, shown
                continue
            told = json.dumps({k: v for k, v in data.items() if k != "at"}, default=str, sort_keys=True)
            version = hashlib.sha256(told.encode()).hexdigest()[:16]
            self.found[name] = version, data, page(data, list(self.looks), version)


def _old(known: Mapping[str, Any], words: str) -> dict[str, Any]:
    """Return what was known with an alert in front that it is no longer looked after."""
    alert = {
        "alert": "stale",
        "says": as_sentence(f"{words}; this is of {known['at'][:16]} UTC"),
        "do": ALERTS["stale"],
    }
    return {**known, "alerts": [alert, *known["alerts"]]}


class Guarded:
    """Lets in GET with the right password, where one is asked for; adds the headers that keep a browser strict."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def strict(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *STRICT]
            await send(message)

        await (self.app if refusal is None else refusal)(scope, receive, strict)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("this page is read only", 405)
        if self.token is None or scope["path"] == "/health":
            return None
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if hmac.compare_digest(_password(given).encode(), self.token.encode()):
            return None
        return PlainTextResponse("the page asks for its token as password", 401, {"WWW-Authenticate": "Basic"})


def _password(header: str) -> str:
    """Return the password of a Basic header, or a Bearer's token; empty where it is neither."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def application(looked: Looked, explain: Explain, hosts: Sequence[str], token: str | None = None) -> Guarded:
    """Return the page over what ``looked`` knows; ``hosts``: the names it may be asked under."""
    names = list(looked.looks)
    streams: set[object] = set()

    def chosen(request: Request) -> str | None:
        name = request.query_params.get("vault", names[0])
        return name if name in looked.found else None

    def answered(make: Callable[[str], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            name = chosen(request)
            if name is None:
                return PlainTextResponse("there is no such vault here", 404)
            return await asyncio.to_thread(make, name)

        return answer

    def whole(name: str) -> Response:
        return HTMLResponse(looked.found[name][2])

    def raw(name: str) -> Response:
        data = looked.found[name][1]
        return JSONResponse(None if data is None else json.loads(json.dumps(data, default=str)))

    async def decision(request: Request) -> Response:
        try:
            found = await asyncio.to_thread(explain, request.path_params["id"])
        except ForedriftError:
            return PlainTextResponse("there is no such decision", 404)
        return HTMLResponse(decision_page(found))

    async def events(request: Request) -> Response:
        name = chosen(request)
        if name is None or len(streams) >= OPEN_PAGES:
            return PlainTextResponse("no", 404 if name is None else 503)

        async def told() -> AsyncIterator[str]:
            mark = object()
            streams.add(mark)
            try:
                while not looked.closing:
                    yield f"event: version\ndata: {looked.found[name][0]}\n\n"
                    for _ in range(round(BEAT_S / LET_GO_S)):
                        await asyncio.sleep(0.0 if looked.closing else LET_GO_S)
            finally:
                streams.discard(mark)

        return StreamingResponse(told(), media_type="text/event-stream")

    def asset(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            del request
            return Response((HERE / name).read_bytes(), media_type=ASSETS[name])

        return answer

    async def no_icon(request: Request) -> Response:
        del request
        return Response(status_code=204)

    async def health(request: Request) -> Response:
        del request
        return PlainTextResponse("ok")

    routes = [
        Route("/", answered(whole)), Route("/portfolio.json", answered(raw)), Route("/events", events),
        Route("/decision/{id:str}", decision), Route("/health", health), Route("/favicon.ico", no_icon),
        *(Route(f"/{name}", asset(name)) for name in ASSETS),
    ]  # fmt: skip
    trusted = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))]
    return Guarded(Starlette(routes=routes, middleware=trusted), token)


def loopback(bind: str) -> bool:
    """Return whether ``bind`` is this machine alone."""
    try:
        return bind == "localhost" or ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def token_of(bind: str, file: Path | None) -> str | None:
    """Return the page's password. ConfigError where an address for others has none, or a weak or readable one."""
    if file is None:
        if not loopback(bind):
            raise ConfigError(f"[page] bind = {bind!r} lets other machines ask: set token_file, or bind to 127.0.0.1")
        return None
    try:
        token, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[page] token_file {file.name} cannot be read: {type(error).__name__}") from None
    if mode & 0o077:
        raise ConfigError(f"[page] token_file {file.name} is open to others: chmod 600 {file}")
    if len(token) < LEAST_TOKEN:
        raise ConfigError(f"[page] token_file {file.name} holds {len(token)} characters, {LEAST_TOKEN} are required")
    return token


@contextmanager
def page_port(
    looks: Mapping[str, Look],
    explain: Explain,
    where: tuple[str, int],
    token_file: Path | None = None,
    every_s: float = EVERY_S,
) -> Iterator[str]:
    """Serve the page at ``where`` (address, port) while the block lasts; yield its address.

    ``looks``: by vault's name, what its portfolio is now. PortTaken where something else answers
    there, ConfigError where a token is missing.
    """  # fmt: skip
    bind, port = where
    token = token_of(bind, token_file)
    looked, done = Looked(looks), threading.Event()
    hosts = ["127.0.0.1", "localhost", "[::1]", "::1"] if loopback(bind) else ["*"]
    config = uvicorn.Config(
        application(looked, explain, hosts, token), host=bind, port=port, log_level="warning", access_log=False,
        lifespan="off", server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(server.serve())
        except (SystemExit, OSError) as error:
            failed.append(error)

    def refresh() -> None:
        while not done.is_set():
            looked.look()
            done.wait(every_s)

    threads = [threading.Thread(target=f, name=f"page {f.__name__}", daemon=True) for f in (run, refresh)]
    threads[0].start()
    while not server.started and threads[0].is_alive():
        time.sleep(0.02)
    if not server.started:
        raise PortTaken(f"the page cannot answer on {bind}:{port}: is it taken? Set [page] port to another one")
    threads[1].start()
    try:
        yield f"http://{'127.0.0.1' if bind in {'0.0.0.0', '::'} else bind}:{port}/"  # noqa: S104 - compared, not bound
    finally:
        done.set()
        looked.closing = server.should_exit = True
        for thread in threads:
            thread.join(10)

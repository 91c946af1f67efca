"""Ask an ASGI application as a server would, without a socket: any header, any peer, any body."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

Header = tuple[bytes, bytes]
HOST: Header = (b"host", b"127.0.0.1:8080")
LOCAL = "127.0.0.1"
PATIENCE = 240.0
"""Seconds after which a request counts as hanging, far more than the busiest machine needs."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Asker:
    """Sends requests to a running application, one after the other."""

    app: ASGIApp
    portal: BlockingPortal

    def __call__(
        self,
        method: str = "POST",
        path: str = "/",
        *,
        key: str | None = None,
        headers: Sequence[Header] = (HOST,),
        body: bytes | Sequence[bytes] = b"",
        peer: str | None = LOCAL,
    ) -> Answer:
        """Send a request; several bodies are its chunks."""
        given = [*headers, *([] if key is None else [(b"authorization", f"Bearer {key}".encode())])]
        return self.portal.call(answer, self.app, scope_of(method, path, given, peer), body)


def scope_of(method: str, path: str, headers: Sequence[Header], peer: str | None) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": None if peer is None else (peer, 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }


async def answer(app: ASGIApp, scope: Scope, body: bytes | Sequence[bytes]) -> Answer:
    chunks = [body] if isinstance(body, bytes) else list(body)
    coming = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]
    sent: list[Message] = []
    done = anyio.Event()

    async def receive() -> Message:
        if coming:
            return coming.pop(0)
        await done.wait()  # a client that stays until it has its answer
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            done.set()

    with anyio.fail_after(PATIENCE):
        await app(scope, receive, send)
    (start,) = (message for message in sent if message["type"] == "http.response.start")
    return Answer(
        start["status"],
        {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body"),
    )


@contextmanager
def running(app: Any) -> Iterator[Asker]:
    """Run an application with its lifespan in an event loop of its own."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
    ):
        yield Asker(app, portal)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

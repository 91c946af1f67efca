"""The bodies of requests: how long, how deep and how many calls, found out before anything parses them."""

from __future__ import annotations

import re

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectormigrate_dagster.sidecar.codes import INVALID_REQUEST, TOO_LARGE, TOO_SLOW
from vectormigrate_dagster.sidecar.middleware import Guard
from vectormigrate_dagster.sidecar.refusals import Refusal
from vectormigrate_dagster.sidecar.requests import header_values
from vectormigrate_dagster.sidecar.settings import Limits, Settings

_CALLS = "vectormigrate.calls"
_DIGITS = 400
"""More digits than any number has that a caller of ours can mean; the largest double has 309."""

# A string, or one that never ends; possessive, so that its time grows with the body's length and no faster.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_DIGITS + 1))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_BLANK = b" \t\r\n"


def calls_of(scope: Scope) -> int:
    """How many calls a request holds; the guard of bodies has counted them."""
    return int(scope.get(_CALLS, 1))


class BodyGuard(Guard):
    """Read a request's body within its limits, then hand it on whole."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(app)
        self._limits = settings.limits

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._read(scope, receive)
        if body is None:
            return  # the caller has gone
        refusal = body if isinstance(body, Refusal) else self._check(body, scope)
        if refusal is not None:
            await refusal.answer(scope, send)
        elif isinstance(body, bytes):
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | Refusal | None:
        limits = self._limits
        too_large = Refusal(413, TOO_LARGE, "body", f"a request may hold {limits.body_bytes} bytes")
        if any(_length(value) > limits.body_bytes for value in header_values(scope, b"content-length")):
            return too_large
        body = bytearray()
        with anyio.move_on_after(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > limits.body_bytes:
                    return too_large
                if not message.get("more_body", False):
                    return bytes(body)
        return Refusal(408, TOO_SLOW, "slow", f"the body did not come within {limits.body_seconds:g} s")

    def _check(self, body: bytes, scope: Scope) -> Refusal | None:
        calls = measure(body, self._limits)
        if isinstance(calls, int):
            scope[_CALLS] = calls
            return None
        return calls


def measure(body: bytes, limits: Limits) -> int | Refusal:
    """How many calls a body holds, or why it is refused; looks at its brackets and commas only."""
    if 0 in body:  # UTF-16 or 32, which some parsers take too, and whose brackets could not be told from its letters
        return Refusal(400, INVALID_REQUEST, "encoding", "a request is JSON in UTF-8")
    bare = _STRING.sub(b'""', body)
    if _LONG_NUMBER.search(bare):
        return Refusal(400, INVALID_REQUEST, "number", f"a number may have {_DIGITS} digits")
    depth, commas = 0, 0
    for character in bare.translate(None, _NOT_STRUCTURE):
        if character in b"[{":
            depth += 1
            if depth > limits.depth:
                return Refusal(400, INVALID_REQUEST, "depth", f"a request may be {limits.depth} levels deep")
        elif character in b"]}":
            depth -= 1
        elif depth == 1:
            commas += 1
    calls = commas + 1 if bare.lstrip(_BLANK)[:1] == b"[" else 1
    if calls > limits.batch:
        return Refusal(400, INVALID_REQUEST, "batch", f"a request may hold {limits.batch} calls")
    return calls


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read, and then whatever comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _length(value: bytes) -> int:
    """What a Content-Length says; more than anybody may send if it says nothing that makes sense."""
    return int(value) if value.isdigit() and len(value) < 20 else 1 << 62

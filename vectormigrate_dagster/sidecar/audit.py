"""One line for every call and every refusal: who, what and how it ended; never a key and never a payload."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.middleware import Guard
from vectormigrate_dagster.sidecar.principal import PRINCIPAL, Principal
from vectormigrate_dagster.sidecar.refusals import REFUSED
from vectormigrate_dagster.sidecar.requests import peer_of, route_of

LOGGER = "vectormigrate.audit"
REQUEST_ID = "vectormigrate.request_id"
_CALLED = "vectormigrate.called"
_QUIET_ROUTES = {"/healthz", "/readyz", "/metrics"}
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}

_LOG = logging.getLogger(LOGGER)


def log_to(stream: TextIO = sys.stderr) -> None:
    """Write the audit's lines to a stream, and nowhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOG.handlers[:] = [handler]
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False


def note_call(
    scope: Scope, name: str, *, migration_id: str | None = None, outcome: str = "ok", run_id: str | None = None
) -> None:
    """Tell the audit what a request called; a batch tells it once for each call.

    Args:
        scope: of the request.
        name: of one of our functions; never what a caller made up.
        migration_id: of a migration that there is.
        outcome: "ok", or the code of the error that was answered.
        run_id: the Dagster run that was started or stopped.
    """
    called = {"call": name, "migration": migration_id, "outcome": outcome, "run": run_id}
    scope.setdefault(_CALLED, []).append({key: value for key, value in called.items() if value is not None})


class AuditGuard(Guard):
    """Number each request, count it, and write down what became of it."""

    def __init__(self, app: ASGIApp, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(app)
        self._counters = counters
        self._clock = clock

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope[REQUEST_ID] = uuid.uuid4().hex
        began, status, seconds = self._clock(), 0, 0.0

        async def told(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], self._clock() - began
                message = {**message, "headers": _headers(message.get("headers", ()), request_id)}
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            self._tell(scope, status, seconds)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route, refused = route_of(scope), scope.get(REFUSED)
        self._counters.count(route, status, seconds)
        if refused is not None:
            self._counters.refuse(refused)
        elif route in _QUIET_ROUTES:
            return  # probes would drown everything else
        principal = scope.get(PRINCIPAL)
        line: dict[str, Any] = {
            "at": datetime.now(UTC),
            "request": scope[REQUEST_ID],
            "principal": principal.masked if isinstance(principal, Principal) else None,
            "peer": peer_of(scope),
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": route,
            "status": status or None,
            "refused": refused,
            "seconds": round(seconds, 4),
        }
        calls: list[dict[str, Any]] = scope.get(_CALLED) or [{}]
        for called in calls:
            _LOG.info("%s", to_json({**line, **called}).decode())


def _headers(given: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with ours, which no browser may guess about or keep."""
    headers = list(given)
    there = {name.lower() for name, _ in headers}
    ours = (
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    )
    return [*headers, *((name, value) for name, value in ours if name not in there)]

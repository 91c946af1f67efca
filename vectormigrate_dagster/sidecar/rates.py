"""How often a caller may call."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from vectormigrate_dagster.sidecar.authentication import ANYBODY
from vectormigrate_dagster.sidecar.bodies import calls_of
from vectormigrate_dagster.sidecar.limiter import Buckets
from vectormigrate_dagster.sidecar.middleware import Guard
from vectormigrate_dagster.sidecar.principal import principal_of
from vectormigrate_dagster.sidecar.refusals import too_often
from vectormigrate_dagster.sidecar.settings import Settings


class RateGuard(Guard):
    """Let through so many calls a minute of each key; a batch costs as many as it holds.

    Those who need no key are not counted: what they may ask for is answered from memory.
    """

    def __init__(self, app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(app)
        self._limit = settings.limits.requests_per_minute
        self._buckets = Buckets(self._limit, settings.limits.remembered, clock)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        if wait := self._wait(scope):
            message = f"a key may make {self._limit} calls a minute; wait as long as Retry-After says"
            await too_often("rate", message, wait).answer(scope, send)
        else:
            await self._app(scope, receive, send)

    def _wait(self, scope: Scope) -> float:
        principal = principal_of(scope)
        return 0.0 if principal is ANYBODY else self._buckets.take(principal, calls_of(scope))

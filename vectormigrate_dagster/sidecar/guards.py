"""What every request goes through before anything of ours looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.middleware import Middleware

from vectormigrate_dagster.sidecar.audit import AuditGuard
from vectormigrate_dagster.sidecar.authentication import BearerGuard
from vectormigrate_dagster.sidecar.bodies import BodyGuard
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.failures import LastResort
from vectormigrate_dagster.sidecar.hosts import HostGuard
from vectormigrate_dagster.sidecar.rates import RateGuard
from vectormigrate_dagster.sidecar.settings import Settings


def guards(
    settings: Settings, counters: Counters | None = None, *, clock: Callable[[], float] = time.monotonic
) -> list[Middleware]:
    """The middleware of the sidecar, outermost first.

    The order is what makes it safe: all that follows is audited; nobody reads a body who does not know the caller; and
    calls are counted when it is known how many a body holds.
    """
    return [
        Middleware(AuditGuard, counters=counters or Counters(), clock=clock),
        Middleware(LastResort),
        Middleware(HostGuard, settings=settings),
        Middleware(BearerGuard, settings=settings, clock=clock),
        Middleware(BodyGuard, settings=settings),
        Middleware(RateGuard, settings=settings, clock=clock),
    ]

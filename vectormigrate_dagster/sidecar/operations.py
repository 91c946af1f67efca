"""What those ask who operate the sidecar: is it alive, can it answer, what are the figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vectormigrate_dagster.errors import VectorMigrateError
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.metrics import exposition
from vectormigrate_dagster.sidecar.patience import Question

STORAGE_SECONDS = 3.0
"""Within which Dagster's storage must answer for the sidecar to be ready."""

KEPT_SECONDS = 5.0
"""How long an answer of `/readyz` is kept, so that probes cost nothing."""

SCRAPE_SECONDS = 10.0
"""Prometheus waits as long by default."""

_LOG = logging.getLogger("vectormigrate.sidecar")


def operations(reader: Reader, counters: Counters, *, clock: Callable[[], float] = time.monotonic) -> list[Route]:
    """Routes `/healthz`, `/readyz` and `/metrics`; who may ask is the guards' business."""
    readiness, figures = Readiness(reader, clock), Figures(reader, counters)
    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readiness.readyz, methods=["GET"]),
        Route("/metrics", figures.metrics, methods=["GET"]),
    ]


async def healthz(_: Request) -> Response:
    """200 while the process runs and its event loop turns."""
    return JSONResponse({"status": "ok"})


class Readiness:
    """200 while Dagster's storage answers in time, else 503."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        self._storage = Question(reader.ask_storage)
        self._clock = clock
        self._kept: tuple[float, bool] | None = None

    async def readyz(self, _: Request) -> Response:
        """Say whether the sidecar can answer."""
        if self._kept is None or self._clock() - self._kept[0] >= KEPT_SECONDS:
            self._kept = (self._clock(), await self._answers())
        return JSONResponse({"status": "ready"}) if self._kept[1] else _silent()

    async def _answers(self) -> bool:
        try:
            await self._storage.answer(STORAGE_SECONDS)
        except (VectorMigrateError, TimeoutError) as error:
            _LOG.warning("not ready: Dagster's storage does not answer (%s)", type(error).__name__)
            return False
        return True


class Figures:
    """The page that Prometheus reads."""

    def __init__(self, reader: Reader, counters: Counters) -> None:
        self._page = Question(lambda: exposition(reader, counters))

    async def metrics(self, _: Request) -> Response:
        """The figures, or 503 if they are not to be had in time."""
        try:
            return Response(await self._page.answer(SCRAPE_SECONDS), media_type=CONTENT_TYPE_LATEST)
        except TimeoutError:
            return _silent()


def _silent() -> Response:
    return JSONResponse({"status": "storage does not answer"}, 503)

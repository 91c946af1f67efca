"""Rates of requests, by token buckets that hold the requests of one second."""

from __future__ import annotations

import time
from collections.abc import Callable

from vectormigrate_dagster_tests.emulators.pinecone.errors import Kind, Refused
from vectormigrate_dagster_tests.emulators.pinecone.settings import Settings


class Rates:
    """How many requests of each method and index are left.

    Args:
        settings: the rates; a method without one is not limited.
        clock: seconds that only grow.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._left: dict[tuple[str, str], tuple[float, float]] = {}

    def spend(self, index: str, method: str) -> None:
        """Count a request.

        Raises:
            Refused: there were too many; none is counted.
        """
        rate = self._settings.rates.get(method)
        if rate is None:
            return
        now = self._clock()
        left, since = self._left.get((index, method), (max(rate, 1.0), now))
        left = min(max(rate, 1.0), left + (now - since) * rate)
        self._left[index, method] = (left - (left >= 1), now)
        if left < 1:
            raise Refused(
                Kind.THROTTLED,
                f"Too many requests. You have reached the max {method} requests per second for index {index}.",
                self._settings.retry_after,
            )

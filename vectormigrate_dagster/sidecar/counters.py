"""What the sidecar counts of itself; `/metrics` shows it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict


class Counters:
    """Requests by where they went and how they ended; several threads may count.

    Labels are words of ours, never what a caller sent, so that their number is bounded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._refusals: Counter[str] = Counter()

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: which of our routes; "other" for any other path.
            status: the HTTP status; 0 if the caller went before there was one.
            seconds: until its answer began.
        """
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds

    def refuse(self, reason: str) -> None:
        """Count a refusal by the guards."""
        with self._lock:
            self._refusals[reason] += 1

    def requests(self) -> dict[tuple[str, int], int]:
        """Requests by route and status."""
        with self._lock:
            return dict(self._requests)

    def seconds(self) -> dict[str, float]:
        """Time until answers began, in all, by route."""
        with self._lock:
            return dict(self._seconds)

    def refusals(self) -> dict[str, int]:
        """Refusals by reason."""
        with self._lock:
            return dict(self._refusals)

"""Token buckets: so many requests a minute, with a bounded number of callers remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from cachetools import LRUCache


@dataclass
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """A bucket for each caller; the one that was unheard for the longest makes room for a new one.

    To be used from one thread, which an event loop is.

    Args:
        per_minute: tokens that a bucket holds, and that it gets back in a minute.
        remembered: buckets at a time.
        clock: seconds, never going back.
    """

    def __init__(self, per_minute: int, remembered: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60.0
        self._clock = clock
        self._buckets: LRUCache[Hashable, _Bucket] = LRUCache(remembered)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: Hashable, tokens: int = 1) -> float:
        """Take tokens, all or none; return 0, or the seconds until so many will be there.

        What is more than a bucket holds can never be had at once: it takes a full bucket.
        """
        wanted = min(float(tokens), self._capacity)
        bucket = self._filled(caller)
        if bucket.tokens < wanted:
            return (wanted - bucket.tokens) / self._per_second
        bucket.tokens -= wanted
        return 0.0

    def wait(self, caller: Hashable) -> float:
        """Seconds until the caller has a token, 0 if it has one; takes none and remembers nobody."""
        if caller not in self._buckets:
            return 0.0
        return max(0.0, (1.0 - self._filled(caller).tokens) / self._per_second)

    def _filled(self, caller: Hashable) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._capacity, now)
        bucket.tokens = min(self._capacity, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket

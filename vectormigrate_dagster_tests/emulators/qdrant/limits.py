"""Strict mode: what a collection refuses by its own settings, and how fast it may be read and written.

lib/collection/src/operations/verification/, lib/common/common/src/rate_limiting.rs and
lib/collection/src/shards/local_shard/mod.rs of server 1.19. Reads cost a token each, but one for every id that is
fetched; writes cost one for every point. A request that costs more than a minute's tokens never gets through, and is
told so by the absence of Retry-After.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Literal

from qdrant_client import models

from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused, bad_request
from vectormigrate_dagster_tests.emulators.qdrant.json_path import as_listed


class TokenBucket:
    """So many tokens a minute, all of which may be spent at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._tokens = float(per_minute)
        self._checked = clock()

    def take(self, kind: Literal["Read", "Write"], cost: int) -> None:
        """Spend tokens.

        Raises:
            Refused: there are not so many now, or never.
        """
        if cost > self.per_minute:
            raise Refused(
                Kind.RATE_LIMIT,
                f"{kind} rate limit exceeded, request larger than rate limiter capacity, "
                "please try to split your request",
            )
        now = self._clock()
        self._tokens = min(self.per_minute, self._tokens + (now - self._checked) * self.per_minute / 60)
        self._checked = now
        if self._tokens < cost:
            wait = (cost - self._tokens) * 60 / self.per_minute
            raise Refused(
                Kind.RATE_LIMIT,
                f"{kind} rate limit exceeded: Operation requires {cost} tokens but only {self._tokens:.1f} were "
                f"available. Retry after {math.ceil(wait)}s",
                retry_after=wait,
            )
        self._tokens -= cost


class StrictMode:
    """The limits of one collection.

    Args:
        settings: reads its settings, which may change.
        indexed: reads the names of its indexed payload fields.
    """

    def __init__(self, settings: Callable[[], models.StrictModeConfig | None], indexed: Callable[[], set[str]]) -> None:
        self._settings = settings
        self._indexed = indexed
        self._buckets: dict[tuple[str, Hashable], TokenBucket] = {}

    def _setting(self, name: str) -> Any:
        settings = self._settings()
        return getattr(settings, name) if settings is not None and settings.enabled else None

    def spend(self, kind: Literal["Read", "Write"], shard: Hashable, cost: int) -> None:
        """Count a request against a shard's rate limit."""
        per_minute = self._setting(f"{kind.lower()}_rate_limit")
        if per_minute is None:
            return
        bucket = self._buckets.get((kind, shard))
        if bucket is None or bucket.per_minute != per_minute:
            bucket = self._buckets[kind, shard] = TokenBucket(per_minute)
        bucket.take(kind, max(1, cost))

    def limit(self, setting: str, value: float | None, name: str) -> None:
        """Check a number against one of the settings."""
        allowed = self._setting(setting)
        if value is not None and allowed is not None and value > allowed:
            raise _strict(
                f'Limit exceeded {value} > {allowed} for "{name}"',
                f'Reduce the "{name}" parameter to or below {allowed}.',
            )

    def filter(self, condition: models.Filter | None, setting: str) -> None:
        """Check that a filter is not too long, and uses indexed fields only if it must."""
        if condition is None:
            return
        conditions = list(conditions_of(condition))
        allowed = self._setting("filter_max_conditions")
        if allowed is not None and len(conditions) > allowed:
            raise _strict(
                f"Filter condition limit reached ({len(conditions)} > {allowed})",
                "Reduce the amount of conditions of your filter.",
            )
        if self._setting(setting) is False:
            for key in (each.key for each in conditions if isinstance(each, models.FieldCondition)):
                if as_listed(key) not in self._indexed():
                    raise _strict(
                        f'Index required but not found for "{key}" of one of the following types',
                        "Create an index for this key or use a different filter.",
                    )

    def query(self, request: models.QueryRequest) -> None:
        """Check a query."""
        self.limit("max_query_limit", request.limit, "limit")
        self.filter(request.filter, "unindexed_filtering_retrieve")
        if request.params is not None:
            if request.params.exact and self._setting("search_allow_exact") is False:
                raise _strict("Exact search disabled!", "Set exact=false.")
            self.limit("search_max_hnsw_ef", request.params.hnsw_ef, "hnsw_ef")

    def room(self, points: int, vector_bytes: int, payload_bytes: Callable[[], int]) -> None:
        """Check that there is room for more points; a collection may outgrow its limit by the batch that reaches it."""
        allowed = self._setting("max_collection_vector_size_bytes")
        if allowed is not None and vector_bytes >= allowed:
            raise bad_request(f"Max vector storage size limit of {_megabytes(allowed)}MB reached!")
        allowed = self._setting("max_collection_payload_size_bytes")
        if allowed is not None and payload_bytes() >= allowed:
            raise bad_request(f"Max payload storage size limit of {_megabytes(allowed)}MB reached!")
        allowed = self._setting("max_points_count")
        if allowed is not None and points >= allowed:
            raise bad_request(f"Max points count limit of {allowed} reached!")


def _strict(error: str, solution: str) -> Refused:
    return bad_request(f"{error}. Help: {solution}")


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:g}"


def conditions_of(condition: models.Filter) -> Iterator[Any]:
    """All conditions of a filter, those of filters in it among them."""
    for clause in (condition.must, condition.must_not, condition.should):
        for each in clause if isinstance(clause, list) else [clause]:
            if isinstance(each, models.Filter):
                yield from conditions_of(each)
            elif each is not None:
                yield each

"""A source whose every call is repeated while it fails for a while; for planning, which makes one of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Fetched, Hits, Source
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema, IdColumn, Split
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Throttle

T = TypeVar("T")


class PatientSource(Source):
    """Another source, with the retries and the rate of `throttle.source`; only `ping` asks once.

    Each method raises what the source raises for longer than the retry policy allows.
    """

    def __init__(self, source: Source, throttle: Throttle) -> None:
        super().__init__(source)
        self._source = source
        self._throttle = throttle

    def probe(self) -> Capabilities:
        """See `Database.probe`."""
        return self._retry(super().probe)

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        return self._retry(super().describe)

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        return self._retry(partial(super().count, scope))

    def repeated(self, scope: str | None = None) -> int:
        """See `Database.repeated`."""
        return self._retry(partial(super().repeated, scope))

    def scopes(self) -> list[str]:
        """See `Database.scopes`."""
        return self._retry(super().scopes)

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`."""
        return self._retry(partial(super().plan_splits, target_records, scopes))

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; after a failure it goes on behind the last record that was read."""
        return read_split(self._source, split, throttle=self._throttle, after=after, batch_records=batch_records)

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        return self._retry(partial(super().fetch, ids, scope))

    def search(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        *,
        vector: str = "",
        exact: bool = False,
        scope: str | None = None,
    ) -> Hits:
        """See `Database.search`."""
        return self._retry(partial(super().search, vectors, k, vector=vector, exact=exact, scope=scope))

    def _retry(self, call: Callable[[], T]) -> T:
        return self._throttle.source.call(call)

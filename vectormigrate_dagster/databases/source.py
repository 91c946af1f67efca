"""A collection as a migration reads it: the contract of a database without any method that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from vectormigrate_dagster.databases.base import Database, Fetched, Hits, Queries, Where
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema, IdColumn, Split

T = TypeVar("T")


class Source:
    """A collection that can be read and has no method that writes."""

    def __init__(self, database: Database | Source) -> None:
        self._database = database
        self.endpoint: Endpoint = database.endpoint

    @property
    def capabilities(self) -> Capabilities:
        """See `Database.capabilities`."""
        return self._database.capabilities

    def probe(self) -> Capabilities:
        """See `Database.probe`."""
        return self._ask(self._database.probe)

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        return self._ask(self._database.describe)

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        return self._ask(partial(self._database.count, scope))

    def about(self, scope: str | None = None) -> int:
        """See `Database.about`."""
        return self._ask(partial(self._database.about, scope))

    def repeated(self, scope: str | None = None) -> int:
        """See `Database.repeated`."""
        return self._ask(partial(self._database.repeated, scope))

    def scopes(self) -> list[str]:
        """See `Database.scopes`."""
        return self._ask(self._database.scopes)

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`."""
        return self._ask(partial(self._database.plan_splits, target_records, scopes))

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`."""
        return self._database.scan(split, after, batch_records)

    def scan_field(
        self,
        split: Split,
        after: str | None = None,
        batch_records: int = 1000,
        *,
        field: str,
        at_least: float | None = None,
    ) -> Iterator[Batch]:
        """See `Database.scan_field`."""
        return self._database.scan_field(split, after, batch_records, field=field, at_least=at_least)

    def filters_by(self, field: str) -> bool:
        """See `Database.filters_by`."""
        return self._ask(partial(self._database.filters_by, field))

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        return self._ask(partial(self._database.fetch, ids, scope))

    def search(
        self,
        vectors: Queries,
        k: int,
        *,
        vector: str = "",
        exact: bool = False,
        scope: str | None = None,
        where: Where | None = None,
    ) -> Hits:
        """See `Database.search`."""
        return self._ask(
            partial(self._database.search, vectors, k, vector=vector, exact=exact, scope=scope, where=where)
        )

    def ping(self) -> None:
        """See `Database.ping`."""
        self._database.ping()

    def as_of_now(self) -> AbstractContextManager[None]:
        """See `Database.as_of_now`."""
        return self._database.as_of_now()

    def close(self) -> None:
        """See `Database.close`."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Callable[[], T]) -> T:
        """Make a call that reads; a subclass may make it more than once."""
        return call()


class FieldSource(Source):
    """A source of which one field is read: its scans are those of `Database.scan_field`.

    Args:
        source: the whole; it stays open.
        field, at_least: as `Database.scan_field` takes them.
    """

    def __init__(self, source: Source, field: str, at_least: float | None = None) -> None:
        super().__init__(source)
        self._field = field
        self._at_least = at_least

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan_field`."""
        return self.scan_field(split, after, batch_records, field=self._field, at_least=self._at_least)

"""The contract of every database: the same methods, in the same order, with declared capabilities.

`Database` is the whole contract; `source.Source` is a view of it that has no method that writes.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.endpoint import Endpoint, Options
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    IdColumn,
    IdKind,
    Multi,
    Sparse,
    Split,
)

T = TypeVar("T")
Sleep = Callable[[float], None]
"""Waits a number of seconds; what it raises ends the wait."""

Queries = npt.NDArray[np.float32] | Sparse | Multi
Where = Mapping[str, bool | int | str]
"""Fields and the values that they must hold."""


@dataclass(frozen=True)
class Refusal:
    """One record that was not moved, and why."""

    id: str
    reason: str
    scope: str | None = None


@dataclass(frozen=True)
class Fetched:
    """Records that were asked for by id.

    Args:
        batch: those found, in ascending order of id; may be empty.
        missing: those not found.
    """

    batch: Batch
    missing: IdColumn


@dataclass(frozen=True)
class Hits:
    """Answers to q queries, best first.

    Args:
        ids: q columns of up to k ids.
        scores: q arrays float32 (<=k,), in the database's own convention (see its module).
    """

    ids: Sequence[IdColumn]
    scores: Sequence[npt.NDArray[np.float32]]


class Database(ABC):
    """One collection of one database, open for reading and writing.

    Methods raise only errors of `errors.DatabaseError`. A call is made once; retrying is the caller's
    business (`transfer.throttle`). Safe to use from a reading and a writing thread at the same time.

    Where a method waits for the database (for an index, for a collection to come into memory), it waits by `sleep`, in
    short pieces; what that raises, such as `Stopped`, leaves the method.
    """

    capabilities: Capabilities
    """Of a server; an instance that was opened on a folder carries `embedded_capabilities` under this name."""

    embedded_capabilities: Capabilities
    options_model: type[Options] = Options

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.sleep: Sleep = time.sleep
        if endpoint.embedded:
            self.capabilities = self.embedded_capabilities

    @abstractmethod
    def probe(self) -> Capabilities:
        """Ask the server for its version, narrow `capabilities` to what this very server can do, and return them.

        Asks once; an embedded database knows without asking.

        Raises:
            Unavailable: it does not answer.
            AuthenticationFailed: it does not accept the key.
        """

    @abstractmethod
    def describe(self) -> CollectionSchema:
        """Read the collection's schema.

        Raises:
            NotFound: there is no such collection.
        """

    @abstractmethod
    def create(self, schema: CollectionSchema) -> None:
        """Create the collection exactly so, under the endpoint's collection name.

        Raises:
            SchemaMismatch: the database cannot make such a collection, or there is one already.
        """

    @abstractmethod
    def drop(self) -> None:
        """Delete the collection; nothing happens if there is none."""

    @abstractmethod
    def count(self, scope: str | None = None) -> int:
        """Count records exactly, of one scope or (None) of all."""

    def about(self, scope: str | None = None) -> int:
        """About how many records `count` would find, for plans; what is believed, where counting them takes hours."""
        return self.count(scope)

    def repeated(self, scope: str | None = None) -> int:
        """Count rows that `count` counts and no reader sees, because another row has the same id.

        It may read every id; ask when a count is not what it should be. 0 where ids are unique.
        """
        del scope
        return 0

    def repeated_ids(self, scope: str | None = None) -> IdColumn:  # noqa: ARG002  # ids are unique in most databases
        """The first ids that several of the rows have that `repeated` counts, a thousand about; it costs as much."""
        return IdColumn.of(IdKind.TEXT, [])

    @abstractmethod
    def scopes(self) -> list[str]:
        """List scopes; empty where the collection is not divided."""

    @abstractmethod
    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """Tile the id space into splits of about `target_records`, in O(splits) calls.

        Args:
            target_records: records that a split should hold.
            scopes: only these scopes; None is all of them.
        """

    @abstractmethod
    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """Yield a split's records in strictly ascending order of id.

        Args:
            split: what to read.
            after: text of the last id that is not wanted any more; None starts at the split's beginning.
            batch_records: most records in one batch; the last may be shorter, none is empty.

        Raises:
            BrokenScan: the database returned ids out of order.
        """

    def scan_field(
        self,
        split: Split,
        after: str | None = None,
        batch_records: int = 1000,
        *,
        field: str,
        at_least: float | None = None,
    ) -> Iterator[Batch]:
        """As `scan`, for who looks at one field only: what can be left out easily is, vectors first of all.

        Args:
            split, after, batch_records: as `scan` takes them.
            field: a top-level key of payloads; other keys may be left out.
            at_least: every record comes of which the field is a number not below it, of others any; None is all. A
                database that compares rounded numbers has to round both: that leaves none out.
        """
        del field, at_least
        return self.scan(split, after, batch_records)

    def filters_by(self, field: str) -> bool:  # noqa: ARG002  # most cannot, whatever it is called
        """Whether `scan_field` leaves out records by a number in this field; it reads the schema, of servers too.

        This is no part of `Capabilities`, as it depends on the field: its name, its column's type, its index.
        """
        return False

    @abstractmethod
    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """Read records by id."""

    @abstractmethod
    def upsert(self, batch: Batch) -> list[Refusal]:
        """Write records, replacing those with the same id; return those that were refused one by one.

        Returns only when the database has accepted the others durably.

        Raises:
            InvalidRecord: the database refused the whole batch because of some of its records.
        """

    @abstractmethod
    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """Delete records by id; ids that do not exist are ignored."""

    @abstractmethod
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
        """Find the k records nearest to each of `vectors` by the vector named `vector`.

        Args:
            vectors: float32 (q, d) components (bits as 0 and 1), or a column of a kind in `Capabilities.searches`.
            k: answers per query.
            vector: the vector's name.
            exact: leave no record out for speed.
            scope: only records of this scope.
            where: only records whose fields hold these values: booleans, integers or texts of top-level fields.

        Raises:
            SchemaMismatch: it cannot search so, such as by a field that it cannot filter by.
        """

    def index_settings(self) -> dict[str, Any] | None:
        """What `prepare_bulk_load` would change, as it is now, in JSON; None if it would change nothing.

        Whoever defers indexing keeps it durably first: it is what `resume_indexing` puts back, in another process too.
        """
        return None

    @abstractmethod
    def prepare_bulk_load(self) -> None:
        """Defer indexing, where the database can (`Capabilities.defers_indexing`)."""

    def resume_indexing(self, settings: Mapping[str, Any]) -> None:
        """Undo `prepare_bulk_load`, without waiting for what is indexed then; may be called again.

        Args:
            settings: what `index_settings` told before.
        """
        del settings

    @abstractmethod
    def finish_bulk_load(self) -> None:
        """See that everything written is indexed, and wait for it; undo `prepare_bulk_load` before.

        Raises:
            DatabaseError: the database cannot build an index.
        """

    @abstractmethod
    def wait_indexed(self) -> None:
        """Wait until no record waits to be indexed; writes nothing, and starts no indexing that does not run."""

    @abstractmethod
    def wait_visible(self) -> None:
        """Wait until everything written can be read."""

    @abstractmethod
    def ping(self) -> None:
        """Ask the database whether it is there.

        Raises:
            Unavailable: it does not answer.
            AuthenticationFailed: it does not accept the key.
        """

    def hold(self, scopes: Sequence[str] | None = None) -> AbstractContextManager[None]:
        """Keep the collection ready for the many short-lived objects, in other processes too, that a load makes.

        It is left as it was found. A collection that is missing, or a server that does not answer, is no error here.

        Args:
            scopes: those that will be read; None is all of them.
        """
        del scopes
        return nullcontext()

    def as_of_now(self) -> AbstractContextManager[None]:
        """Let reads within see at least everything that was written before, by whomever, but wait for it only once.

        Some servers take their time to say how far they are, which adds up over many small reads. What is written
        after its beginning may be seen or not.
        """
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Give back connections and folders; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""The contract of every database: the same methods, in the same order, with declared capabilities.

`Database` is the whole contract; `Source` is a view of it that has no method that writes.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.endpoint import Endpoint, Options
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema, IdColumn, Split, VectorKind

T = TypeVar("T")
Sleep = Callable[[float], None]
"""Waits a number of seconds; what it raises ends the wait."""


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

    def repeated(self, scope: str | None = None) -> int:
        """Count rows that `count` counts and no reader sees, because another row has the same id.

        It may read every id; ask when a count is not what it should be. 0 where ids are unique.
        """
        del scope
        return 0

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
        vectors: npt.NDArray[np.float32],
        k: int,
        *,
        vector: str = "",
        exact: bool = False,
        scope: str | None = None,
    ) -> Hits:
        """Find the k records nearest to each of `vectors`, float32 (q, d), by the vector named `vector`."""

    @abstractmethod
    def prepare_bulk_load(self) -> None:
        """Defer indexing, where the database can."""

    @abstractmethod
    def finish_bulk_load(self) -> None:
        """Undo `prepare_bulk_load` and wait until indexes are built."""

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

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        return self._ask(partial(self._database.fetch, ids, scope))

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
        return self._ask(partial(self._database.search, vectors, k, vector=vector, exact=exact, scope=scope))

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


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a database's reported settings without anything that looks like a secret."""
    return {
        key: "********" if any(word in key.lower() for word in ("key", "token", "password", "secret")) else value
        for key, value in settings.items()
    }


def check_schema(schema: CollectionSchema, can: Capabilities) -> None:
    """Check that a database can hold such a collection, before anything is made.

    Indexes and quantization are intent and not checked: where there is no such thing, none is built.

    Raises:
        SchemaMismatch: it cannot; every reason is named.
    """
    problems = []
    if not any(kind in can.id_kinds for kind in schema.ids.kinds):
        problems.append(f"ids are {_names(schema.ids.kinds)}, possible are {_names(can.id_kinds)}")
    elif len(schema.ids.kinds) > 1 and not can.mixed_id_kinds:
        problems.append(f"ids are of several kinds ({_names(schema.ids.kinds)}), possible is one")
    if can.max_vectors is not None and len(schema.vectors) > can.max_vectors:
        problems.append(f"it has {len(schema.vectors)} vectors, possible are {can.max_vectors}")
    for kind, number in Counter(vector.kind for vector in schema.vectors).items():
        if can.max_per_kind is not None and number > can.max_per_kind:
            problems.append(f"it has {number} {kind.value} vectors, possible are {can.max_per_kind}")
    for vector in schema.vectors:
        name = f"vector '{vector.name}'"
        if vector.kind not in can.vector_kinds:
            problems.append(f"{name} is {vector.kind.value}, possible are {_names(can.vector_kinds)}")
        elif vector.metric is not None and vector.metric not in can.metrics[vector.kind]:
            problems.append(
                f"{name} is compared by {vector.metric.value}, possible are {_names(can.metrics[vector.kind])}"
            )
        if vector.element not in can.elements:
            problems.append(f"{name} holds {vector.element.value}, possible are {_names(can.elements)}")
        if vector.dim is not None and not 1 <= vector.dim <= can.max_dim:
            problems.append(f"{name} has {vector.dim} dimensions, possible are 1 to {can.max_dim}")
        may_lack = can.missing_vectors or (can.missing_sparse and vector.kind is VectorKind.SPARSE)
        if vector.optional and not may_lack:
            problems.append(f"{name} may be missing, which is not possible")
    problems += [
        f"field '{f.name}' is {f.type.value}, possible are {_names(can.field_types)}"
        for f in schema.fields
        if f.declared and f.type not in can.field_types
    ]
    fields = [f.name for f in schema.fields if f.declared]
    patterns = (
        ("a field", fields, can.field_name_pattern),
        ("a vector", [v.name for v in schema.vectors], can.vector_name_pattern or can.field_name_pattern),
    )
    problems += [
        f"'{name}' is no name for {what} (pattern {pattern})"
        for what, names, pattern in patterns
        for name in names
        if pattern is not None and re.fullmatch(pattern, name) is None
    ]
    problems += [f"'{name}' is reserved and no name for a field" for name in fields if name in can.reserved_keys]
    if problems:
        raise SchemaMismatch(f"{can.title} cannot hold collection '{schema.name}': {'; '.join(problems)}")


def _names(values: Iterable[StrEnum]) -> str:
    return ", ".join(value.value for value in values) or "none"

"""Weaviate: servers by address.

Scores: cosine and dot are similarities (higher is better); euclidean is the squared distance, manhattan and hamming
are distances (lower is better). Ids are ordered by their bytes; a page begins behind the id it is given, which need
not exist: https://docs.weaviate.io/weaviate/manage-objects/read-all-objects
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.base import Fetched, Hits, Queries, Refusal, Where
from vectormigrate_dagster.databases.columns import ascending, beginning, found, joined, query_rows
from vectormigrate_dagster.databases.schema_check import check_schema
from vectormigrate_dagster.databases.weaviate.capabilities import MULTI_VECTORS
from vectormigrate_dagster.databases.weaviate.connection import ids_filter
from vectormigrate_dagster.databases.weaviate.errors import points_nowhere
from vectormigrate_dagster.databases.weaviate.plan import splits_of
from vectormigrate_dagster.databases.weaviate.records import matrix_octets, named_vector, uuid_column
from vectormigrate_dagster.databases.weaviate.schema import creation
from vectormigrate_dagster.databases.weaviate.searching import filter_of
from vectormigrate_dagster.databases.weaviate.writing import AT_ONCE, WeaviateWriting
from vectormigrate_dagster.errors import NotFound, SchemaMismatch
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    IdColumn,
    IdKind,
    Metric,
    ScopeKind,
    Split,
    VectorKind,
    VectorSchema,
    tile,
)

_POLL_SECONDS = 0.5


class Weaviate(WeaviateWriting):
    """One Weaviate collection."""

    def describe(self) -> CollectionSchema:
        """See `Database.describe`; a collection may be named by an alias, and in any case of its first letter."""
        self._schema_read = self._described()
        return self._schema_read

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`; vectors are provided by who writes them, so nothing is ever embedded.

        Raises:
            SchemaMismatch: the name, a property or a vector is not possible, there is such a collection, or one is
                missing that a reference points to.
        """
        check_schema(schema, self.probe())
        body = creation(schema, self._name, replication_factor=self.options.replication_factor)
        try:
            with self._client("create") as wire:
                wire.rest("POST", "schema", body=body)
        except SchemaMismatch as error:
            if not points_nowhere(error):
                raise
            raise self._lacks_targets(schema) from error
        self._forget()

    def drop(self) -> None:
        """See `Database.drop`.

        Raises:
            SchemaMismatch: it is called by an alias, whose collection somebody else may use.
        """
        try:
            real = self._class()["class"]
        except NotFound:
            return
        if real != self._name:
            raise SchemaMismatch(f"'{self._name}' is an alias of collection '{real}' at {self.endpoint.address}")
        with self._client("write") as wire:
            wire.rest("DELETE", "schema", self._name)
        self._forget()

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        if scope is not None:
            return self._count(scope) if self._has(scope) else 0
        if self._schema.scope is not ScopeKind.TENANT:
            return self._count(None)
        tenants = self.scopes()
        self._require_active(tenants)
        return sum(ahead(self._count, tenants))

    def scopes(self) -> list[str]:
        """See `Database.scopes`: tenants, whatever their state."""
        if self._schema.scope is not ScopeKind.TENANT:
            return []
        with self._client("read") as wire:
            return sorted(self._tenants.states(wire))

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; cuts evenly, see `plan`.

        Raises:
            DatabaseError: tenants are inactive or offloaded; it names them.
        """
        tenants = self.scopes() if scopes is None else list(scopes)
        if self._lacks_tenants(next(iter(tenants), None)):
            return tile(IdKind.UUID, [])
        self._tenants.forget()  # what is planned now is read for hours
        self._require_active(tenants)
        divided: list[str | None] = list(tenants) or [None]
        planned = ahead(
            lambda scope: splits_of(scope, self._count(scope), target_records, self._first_after(scope)), divided
        )
        return [split for splits in planned for split in splits]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; each batch is one page, read when it is asked for."""
        yield from self._scan(split, after, batch_records)

    def scan_field(
        self,
        split: Split,
        after: str | None = None,
        batch_records: int = 1000,
        *,
        field: str,
        at_least: float | None = None,
    ) -> Iterator[Batch]:
        """See `Database.scan_field`; a cursor cannot be combined with a filter, so all records come.

        https://docs.weaviate.io/weaviate/manage-objects/read-all-objects
        """
        del at_least
        yield from self._scan(split, after, batch_records, self._schema.of_field(field))

    def _scan(
        self, split: Split, after: str | None, batch_records: int, schema: CollectionSchema | None = None
    ) -> Iterator[Batch]:
        """Records with what `schema` names of them; None is everything."""
        if self._lacks_tenants(split.scope):
            return
        last: Any = beginning(split, after)
        upper: Any = split.upper
        size = self._page_size(batch_records, schema)
        while upper is None or last is None or last < upper:
            page = self._page(last, split.scope, size, schema=schema)
            if page is None:
                continue
            if not len(page):
                return
            page = ascending(page, last, str(self.endpoint))
            last = page.ids[len(page) - 1]
            inside = _up_to(page, upper)
            if len(inside):
                yield inside
            if len(inside) < len(page):
                return

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        size = self._page_size(AT_ONCE)
        parts: list[Batch] = [self._nothing(scope)]
        rest = ids if self._has(scope) else ids.slice(0, 0)
        while len(rest):
            part = rest.slice(0, min(size.records, len(rest)))
            batch = self._page(None, scope, size, limit=len(part), filters=ids_filter(part))
            if batch is not None:
                parts.append(batch)
                rest = rest.slice(len(part), len(rest))
        return found(joined([part for part in parts if len(part)] or parts), ids)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; makes the tenant that `batch.scope` names if there is none.

        A record with a key that no property has is refused here: a server would make a property of it, and guess its
        type. References are written after their objects: the objects that they point to may not be there yet.
        """
        if len(batch) == 0:
            return []
        self.probe()
        self._require_place(batch.scope)
        return self._write(batch)

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """See `Database.delete`."""
        if len(ids) and self._has(scope):
            self._delete(ids, scope)

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
        """See `Database.search`; "" is the collection's only vector."""
        known = self._vector(vector)
        if exact and (known.index is None or known.index.type != "flat" or known.quantization is not None):
            kind = "its default index" if known.index is None else f"index {known.index.type}"
            raise SchemaMismatch(f"vector '{known.name}' of {self.endpoint} has {kind}; only a plain flat one is exact")
        self.probe()
        filters = filter_of(where, self._schema)
        replies = list(
            ahead(
                lambda row: self._named(
                    None,
                    scope,
                    k,
                    metadata={"uuid": True, "distance": True},
                    near_vector=self._near(known, row),
                    filters=filters,
                ),
                query_rows(vectors),
            )
        )
        distances = [np.asarray([hit.distance for hit in hits], dtype=np.float32) for hits in replies]
        return Hits(
            ids=[uuid_column(hit.id for hit in hits) for hits in replies],
            scores=[_scores(known, values) for values in distances],
        )

    def prepare_bulk_load(self) -> None:
        """Do nothing: a server indexes while it loads, or defers it by itself (its own setting ASYNC_INDEXING).

        A class can be made without an index (`skip`), but never get one: https://docs.weaviate.io/weaviate/config-refs/indexing/vector-index#immutable-parameters
        """

    def finish_bulk_load(self) -> None:
        """Wait until no vector waits to be indexed."""
        self.wait_indexed()

    def wait_indexed(self) -> None:
        """See `Database.wait_indexed`: no shard is indexing, or has a queue of vectors; what the official client asks.

        https://docs.weaviate.io/weaviate/config-refs/indexing/vector-index#asynchronous-indexing
        """
        while True:
            with self._client("read") as wire:
                shards = wire.rest("GET", "schema", self._name, "shards")
            if not any(shard.get("vectorQueueSize") or shard.get("status") == "INDEXING" for shard in shards or ()):
                return
            self.sleep(_POLL_SECONDS)

    def wait_visible(self) -> None:
        """Do nothing: an acknowledged object can be read."""

    def ping(self) -> None:
        """See `Database.ping`; asks both of its ports."""
        with self._client("read") as wire:
            wire.rest("GET", "meta")
            wire.check_health()

    def close(self) -> None:
        """See `Database.close`; tenants that were inactive before are so afterwards."""
        try:
            self._put_back()
        finally:
            super().close()

    # What is particular to Weaviate from here on.

    def _require_active(self, tenants: Sequence[str]) -> None:
        """Have several tenants active, asking about all of them at once."""
        if tenants:
            with self._client("read") as wire:
                self._tenants.require_active(wire, tenants, self.sleep)

    def _lacks_tenants(self, scope: str | None) -> bool:
        """Whether no tenant is named because the collection has none, though it is divided into tenants."""
        return scope is None and self._schema.scope is ScopeKind.TENANT and not self.scopes()

    def _lacks_targets(self, schema: CollectionSchema) -> SchemaMismatch:
        """What to do about references to collections that are not there."""
        named = [(field.name, target) for field in schema.fields for target in field.targets if target != self._name]
        shown = ", ".join(f"'{name}' to '{target}'" for name, target in named)
        return SchemaMismatch(
            f"{self.endpoint} cannot be created: a reference of it points to a collection that is not there ({shown}); "
            "move that collection first, or leave the property out. A reference keeps the name it points to, so a "
            "collection that refers to itself keeps its own name, too"
        )

    def _count(self, scope: str | None) -> int:
        from weaviate.proto.v1 import aggregate_pb2

        request = aggregate_pb2.AggregateRequest(collection=self._name, tenant=scope or "", objects_count=True)
        with self._on(scope, "read") as wire:
            return int(wire.call("Aggregate", request).single_result.objects_count)

    def _vector(self, name: str) -> VectorSchema:
        vectors = {vector.name: vector for vector in self._schema.vectors}
        if not name and "" not in vectors and len(vectors) == 1:
            return next(iter(vectors.values()))
        if name not in vectors:
            raise SchemaMismatch(f"{self.endpoint} has no vector '{name}', but {', '.join(vectors) or 'none'}")
        return vectors[name]

    def _near(self, vector: VectorSchema, row: npt.NDArray[np.float32]) -> Any:
        """What a query asks for; one row where vectors are of several."""
        from weaviate.proto.v1 import base_search_pb2

        multi = vector.kind is VectorKind.MULTI
        octets = matrix_octets(np.atleast_2d(row)) if multi else row.astype("<f4", copy=False).tobytes()
        targets = base_search_pb2.Targets(target_vectors=[vector.name]) if vector.name else None
        if self._version < MULTI_VECTORS:
            return base_search_pb2.NearVector(vector_bytes=octets, targets=targets)
        return base_search_pb2.NearVector(vectors=[named_vector(vector.name, octets, multi=multi)], targets=targets)


def _up_to(page: Batch, upper: Any) -> Batch:
    """The records of an ascending page that are not behind `upper`."""
    if upper is None or page.ids[len(page) - 1] <= upper:
        return page
    ids = page.ids.to_pylist()
    return page.slice(0, next(i for i, value in enumerate(ids) if value > upper))


def _scores(vector: VectorSchema, distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """https://docs.weaviate.io/weaviate/config-refs/distances.

    The distance between vectors of several is minus the sum of the largest products, also for cosine.
    """
    if vector.kind is VectorKind.MULTI or vector.metric is Metric.DOT:
        return -distances
    return np.asarray(1 - distances, dtype=np.float32) if vector.metric is Metric.COSINE else distances

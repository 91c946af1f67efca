"""Qdrant: servers by address, over REST or gRPC; its embedded mode by folder.

Scores: cosine and dot are similarities (higher is better), euclidean and manhattan true distances (lower is better).
Ids are ordered integers first, then UUIDs by their bytes; a scroll's offset is the first id that it returns, and
need not exist: https://qdrant.tech/documentation/concepts/points/#scroll-points
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.base import Fetched, Hits, Queries, Refusal, Where
from vectormigrate_dagster.databases.client import Doing
from vectormigrate_dagster.databases.columns import beginning, found, pieces, require_elements
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.databases.pages import PageSize
from vectormigrate_dagster.databases.qdrant import errors, grpc, indexing, records
from vectormigrate_dagster.databases.qdrant.capabilities import LISTS_SHARD_KEYS, METADATA
from vectormigrate_dagster.databases.qdrant.connection import QdrantConnection
from vectormigrate_dagster.databases.qdrant.folder import large_folder_is_no_news, vectors_kept
from vectormigrate_dagster.databases.qdrant.limits import Limits
from vectormigrate_dagster.databases.qdrant.plan import plan_scope
from vectormigrate_dagster.databases.qdrant.records import Wanted, belongs, check_order, first_after, id_column, id_of
from vectormigrate_dagster.databases.qdrant.schema import creation, later, payload_index, read_schema
from vectormigrate_dagster.databases.qdrant.scopes import scope_of, shard_key_of
from vectormigrate_dagster.databases.qdrant.searching import filter_of, path_of, queries_of, range_filter
from vectormigrate_dagster.databases.schema_check import check_schema
from vectormigrate_dagster.errors import DatabaseError, SchemaMismatch, Unavailable
from vectormigrate_dagster.model import Batch, CollectionSchema, Id, IdColumn, ScopeKind, Split

_POLL_SECONDS = 1.0
_SEARCHES = 100
"""Queries in one request."""


class Qdrant(QdrantConnection):
    """One Qdrant collection."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._limits_read: Limits | None = None
        self._scopes_known: frozenset[str] = frozenset()

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        with self._client("read") as client:
            info = client.get_collection(self._name)
            aliases = client.get_collection_aliases(self._name).aliases
        return read_schema(self._name, info, [alias.alias_name for alias in aliases])

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`; a server older than 1.16 keeps no marker."""
        can = self.probe()
        settings = creation(schema)
        if not self.endpoint.embedded:
            self._require_version(schema)
            if self._version < METADATA:
                settings["metadata"] = None
        check_schema(schema, can)
        indexes = {field.name: payload_index(field) for field in schema.fields if field.index is not None}
        with self._client("create") as client:
            client.create_collection(self._name, **settings)
            if (rest := later(schema)) is not None:
                client.update_collection(self._name, collection_params=rest)
            for name, index in indexes.items() if can.payload_indexes else ():
                client.create_payload_index(self._name, field_name=name, field_schema=index, wait=True)
        self._forget()

    def drop(self) -> None:
        """See `Database.drop`."""
        if self._missing_folder:
            return
        with self._client("write") as client:
            client.delete_collection(self._name)
        self._forget()

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        if not self._has(scope):
            return 0
        with self._client("read") as client:
            return int(client.count(self._name, exact=True, shard_key_selector=shard_key_of(scope)).count)

    def scopes(self) -> list[str]:
        """See `Database.scopes`: shard keys, as `scopes` writes them."""
        if self.describe().scope is not ScopeKind.SHARD_KEY:
            return []
        self.probe()
        with self._client("read") as client:
            if self._version >= LISTS_SHARD_KEYS:
                keys = [shard.key for shard in client.list_shard_keys(self._name).shard_keys or ()]
            else:
                info = client.collection_cluster_info(self._name)
                keys = [shard.shard_key for shard in (*info.local_shards, *info.remote_shards)]
        return sorted({scope_of(key) for key in keys if key is not None})

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; cuts at quantiles of a sample of ids, see `plan`."""
        self.probe()
        divided: Sequence[str | None] = self.scopes() if scopes is None else scopes
        splits: list[Split] = []
        for scope in divided or [None]:
            total = self.count(scope)
            with self._client("read") as client:
                splits += plan_scope(
                    client,
                    self._name,
                    total=total,
                    target_records=target_records,
                    scope=scope,
                    page=self._limits().page,
                    version=self._version,
                )
        return splits

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; each batch is one page, read when it is asked for."""
        yield from self._scan(split, after, batch_records, Wanted(self._limits().vectors))

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
        yield from self._scan(split, after, batch_records, self._of_field(field, at_least))

    def filters_by(self, field: str) -> bool:
        """See `Database.filters_by`."""
        return self._of_field(field, 0.0).filter is not None

    def _scan(self, split: Split, after: str | None, batch_records: int, wanted: Wanted) -> Iterator[Batch]:
        last = beginning(split, after)
        start = first_after(split.kind, last)
        size = PageSize(batch_records, 0)
        while start is not None:
            page = self._page(split, start, size, wanted)
            # Before records of other splits go: one of them in the wrong place would end this scan too early.
            check_order(page.ids, start, str(self.endpoint))
            inside = _inside(page, split)
            complete = page.more and len(inside) == len(page.ids)
            if inside:
                batch = self._wire.batch_of(inside, split.kind, split.scope, wanted.vectors or ())
                last = batch.ids[len(batch) - 1]
                del page, inside
                yield batch
            start = first_after(split.kind, last) if complete else None

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        points: list[Any] = []
        vectors = self._limits().vectors
        if self._has(scope):
            for part in pieces(ids, self._limits().fetch):
                with self._client("read") as client:
                    points += self._wire.retrieve(client, self._name, vectors, ids=part, key=shard_key_of(scope))
        return found(self._wire.batch_of(points, ids.kind, scope, vectors), ids)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; Qdrant takes or refuses a whole request. Creates a missing shard key."""
        if len(batch) == 0:
            return []
        require_elements(batch, self.capabilities.elements)
        requests: Iterable[Any] = [batch]
        if not self.endpoint.embedded:
            requests = self._wire.requests(batch, self._limits(), str(self.endpoint))
            self._ensure(batch.scope)
        for request in requests:
            with self._client("write") as client, large_folder_is_no_news():
                status = self._wire.upsert(client, self._name, request, key=shard_key_of(batch.scope))
            self._require_applied(status)
        return []

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """See `Database.delete`."""
        if not self._has(scope):
            return
        for part in pieces(ids, min(self._limits().batch, self.capabilities.max_page_records)):
            with self._client("write") as client:
                status = self._wire.delete(client, self._name, part, key=shard_key_of(scope))
            self._require_applied(status)

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
        """See `Database.search`; an answer with ids of both kinds comes back as their texts."""
        from qdrant_client import models

        # The embedded mode is always exact, and warns about settings that it does not need.
        params = models.SearchParams(exact=True) if exact and not self.endpoint.embedded else None
        wanted = {"using": vector or None, "limit": k, "params": params, "shard_key": shard_key_of(scope)}
        asked = [models.QueryRequest(query=query, filter=filter_of(where), **wanted) for query in queries_of(vectors)]
        answers: list[Any] = []
        for first in range(0, len(asked), size := min(_SEARCHES, self._limits().searches)):
            with self._client("read") as client, self._undisturbed(client):
                answers += client.query_batch_points(self._name, requests=asked[first : first + size])
        return Hits(
            ids=[id_column([id_of(point.id) for point in answer.points]) for answer in answers],
            scores=[np.asarray([point.score for point in answer.points], dtype=np.float32) for answer in answers],
        )

    def index_settings(self) -> dict[str, Any] | None:
        """See `Database.index_settings`; the embedded mode has no index."""
        if self.endpoint.embedded:
            return None
        with self._client("read") as client:
            return indexing.settings_of(client.get_collection(self._name))

    def prepare_bulk_load(self) -> None:
        """See `Database.prepare_bulk_load`; how is in `indexing`. Payload indexes are built as ever."""
        if self.index_settings() is not None:
            self._set_optimizers(indexing.deferred())

    def resume_indexing(self, settings: Mapping[str, Any]) -> None:
        """See `Database.resume_indexing`; the server begins at once."""
        self._set_optimizers(indexing.resumed(settings))

    def finish_bulk_load(self) -> None:
        """Wait until a server has built its indexes (its status is green); the embedded mode has none.

        A grey status means that optimizations wait for a change of the collection since a restart:
        https://qdrant.tech/documentation/concepts/collections/#grey-collection-status
        """
        from qdrant_client import models

        while self._settled() == models.CollectionStatus.GREY:
            self._set_optimizers(models.OptimizersConfigDiff())
            self.sleep(_POLL_SECONDS)

    def wait_indexed(self) -> None:
        """See `Database.wait_indexed`: until the status is green, or grey, when nothing is being built."""
        self._settled()

    def wait_visible(self) -> None:
        """Do nothing: `upsert` waits until its records can be read."""

    def ping(self) -> None:
        """See `Database.ping`; a folder that does not exist yet has nobody to ask."""
        if self._missing_folder:
            return
        with self._client("read") as client:
            client.get_collections()

    # What is particular to Qdrant from here on.

    @property
    def _name(self) -> str:
        return self.endpoint.collection

    @property
    def _speaks_json(self) -> bool:
        self._connected("read")  # which finds out whether gRPC can be reached
        return self.options.grpc_url is None

    @property
    def _wire(self) -> ModuleType:
        """Which of two modules with the same functions reads and writes points."""
        return records if self.endpoint.embedded or self._speaks_json else grpc

    def _settled(self) -> Any:
        """The collection's status once nothing is being built; None in the embedded mode, which builds nothing.

        Raises:
            DatabaseError: the server has given it up.
        """
        from qdrant_client import models

        while not self.endpoint.embedded:
            with self._client("read") as client:
                info = client.get_collection(self._name)
            if info.status in (models.CollectionStatus.GREEN, models.CollectionStatus.GREY):
                return info.status
            if info.status is models.CollectionStatus.RED:
                raise DatabaseError(f"{self.endpoint} cannot build its indexes: {info.optimizer_status}")
            self.sleep(_POLL_SECONDS)
        return None

    def _set_optimizers(self, settings: Any) -> None:
        with self._client("write") as client:
            client.update_collection(self._name, optimizers_config=settings)

    def _limits(self) -> Limits:
        """What the collection allows in one request, read once."""
        if self._limits_read is None:
            self._limits_read = Limits.of(self.describe(), self.capabilities)
        return self._limits_read

    def _forget(self) -> None:
        """Forget what was read of the collection, which has changed."""
        self._limits_read = None
        self._scopes_known = frozenset()

    def _of_field(self, field: str, number: float | None) -> Wanted:
        """What to ask for of one field: no more of the payload if a path can name it."""
        return Wanted(None, path_of(field), None if number is None else range_filter(field, number, self._limits()))

    def _page(self, split: Split, start: Id, size: PageSize, wanted: Wanted) -> records.Page:
        """A page of records; `size` shrinks if that is too much for one answer."""
        while True:
            limit, key = min(size.records, self._limits().page), shard_key_of(split.scope)
            try:
                with self._client("read") as client:
                    page: records.Page = self._wire.scroll(
                        client, self._name, wanted, start=start, limit=limit, key=key
                    )
                    return page
            except Unavailable as error:
                if not (errors.is_too_large(error) and size.shrink()):
                    raise

    def _undisturbed(self, client: Any) -> AbstractContextManager[None]:
        """Leave vectors as they are while the embedded mode searches."""
        return vectors_kept(client, self._name) if self.endpoint.embedded else nullcontext()

    def _has(self, scope: str | None) -> bool:
        """Whether there is such a shard key; one that is there is asked for once."""
        if scope is None or scope in self._scopes_known:
            return True
        self._scopes_known = frozenset(self.scopes())
        return scope in self._scopes_known

    def _ensure(self, scope: str | None) -> None:
        """Create the shard key that a scope is called after, unless there is one."""
        if self._has(scope):
            return
        if self.describe().scope is not ScopeKind.SHARD_KEY:
            raise SchemaMismatch(f"{self.endpoint} is not divided by shard keys, so there is no place for '{scope}'")
        try:
            with self._client("create") as client:
                client.create_shard_key(self._name, shard_key=shard_key_of(scope))
        except SchemaMismatch:
            if not self._has(scope):  # else another worker was quicker
                raise

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        translated = super()._translate(error, doing)
        if errors.is_strict(translated):
            self._limits_read = None  # it was set since we read it
        return translated


def _inside(page: records.Page, split: Split) -> list[Any]:
    """The points of a page in ascending order that belong to a split: all of them if the first and the last do."""
    if page.ids and belongs(page.ids[0], split) and belongs(page.ids[-1], split):
        return page.points
    return [point for value, point in zip(page.ids, page.points, strict=True) if belongs(value, split)]

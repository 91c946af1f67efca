"""Milvus: servers by address, Milvus Lite by folder.

Scores: cosine and dot are similarities (higher is better), euclidean is the squared distance, hamming and jaccard
are distances (lower is better): https://milvus.io/docs/metric.md
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Fetched, Hits, Refusal, check_schema
from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.databases.columns import ascending, beginning, found, pieces, require_elements
from vectormigrate_dagster.databases.endpoint import MilvusOptions
from vectormigrate_dagster.databases.milvus_capabilities import EMBEDDED, SERVER
from vectormigrate_dagster.databases.milvus_folder import ENGINE, client_of
from vectormigrate_dagster.databases.milvus_records import among, anything, batch_of, between, rows_of
from vectormigrate_dagster.databases.milvus_schema import (
    DEFAULT_PARTITION,
    creation,
    read_schema,
)
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Id,
    IdColumn,
    ScopeKind,
    Split,
    tile,
)

_EXACT_INDEXES = ("FLAT", "BIN_FLAT", "SPARSE_INVERTED_INDEX")
_INDEX_POLL_SECONDS = 0.5

_IN_ORDER = {"iterator": "True", "reduce_stop_for_best": "True"}
"""What the client's own iterator sends. Without it a page holds any rows, not those with the smallest ids."""

_ONCE = {"retry_on_rate_limit": False}
"""When to call again is for `transfer.throttle` to say."""

_SLOW_DOWN = (8, 9)
_NO_COLLECTION = 100
_NO_PART = (200, 700, 800)
_NO_ENTRY = (1400, 1401)
_SERVER_AT_FAULT = frozenset((2, 3, 4, 5, 11, 12, 103, 106, 202, 401, 503, *range(901, 907), 1001, 1002, 1302, 10_001))
"""Unavailable, short of memory, at its limit, recovering, a node or the message queue failing, too late."""

_GAVE_UP = ("Retry timeout", "Retry run out of")
"""What the client says where it has retried in vain (pymilvus/decorators.py)."""

_DATA_AT_FAULT = frozenset((1100, 1101, 1102, 1700, 1701, 1804, 1806))
"""A parameter is invalid, missing or too large, there is no such field, or data or a primary key make no sense."""

_SCHEMA_VALIDATION = 6
"""Data at fault, as Milvus Lite says it (milvus_lite/adapter/grpc/errors.py); a server means something else by 6."""


class Milvus(ClientDatabase):
    """One Milvus collection."""

    capabilities = SERVER
    embedded_capabilities = EMBEDDED
    engine = ENGINE
    options_model = MilvusOptions
    options: MilvusOptions

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        with self._client("read") as client:
            described = client.describe_collection(self._name, timeout=self._timeout)
            names = client.list_indexes(self._name)
            indexes = [client.describe_index(self._name, name, timeout=self._timeout) for name in names]
            partitions = client.list_partitions(self._name, timeout=self._timeout)
            aliases = client.list_aliases(self._name, timeout=self._timeout)["aliases"]
        return read_schema(self._name, described, indexes, partitions, list(aliases))

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`; a vector without a metric gets no index, and a server cannot read it then."""
        check_schema(schema, self.capabilities)
        settings = creation(schema)
        with self._client("create") as client:
            if client.has_collection(self._name, timeout=self._timeout):
                raise SchemaMismatch(f"{self.endpoint} cannot be created: there is one already")
            client.create_collection(self._name, timeout=self._timeout, **settings)
        self._forget()

    def drop(self) -> None:
        """See `Database.drop`."""
        if self._missing_folder:
            return
        with self._client("write") as client:
            client.drop_collection(self._name, timeout=self._timeout)
        self._forget()

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        everything = "" if scope is None else anything(self._key, self._schema.ids.kinds[0])
        return int(self._query(everything, scope, output_fields=["count(*)"])[0]["count(*)"])

    def scopes(self) -> list[str]:
        """See `Database.scopes`."""
        if self.describe().scope is not ScopeKind.PARTITION:
            return []
        with self._client("read") as client:
            return sorted(client.list_partitions(self._name, timeout=self._timeout))

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; walks over the ids in strides of at most 16,384, reading one id a stride."""
        divided: Sequence[str | None] = self.scopes() if scopes is None else scopes
        return [split for scope in divided or [None] for split in self._plan(target_records, scope)]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; each batch is one page, read when it is asked for.

        The client's `query_iterator` is not used: it pastes text ids into filters without escaping them, and
        against old servers it may return nothing at all right after a write.
        """
        last = beginning(split, after)
        page = self._page(batch_records)
        while True:
            rows = self._query(
                between(self._key, last, split.upper), split.scope, output_fields=["*"], limit=page, **_IN_ORDER
            )
            if not rows:
                return
            batch = ascending(batch_of(rows, self._schema, split.scope), last, str(self.endpoint))
            last = batch.ids[len(batch) - 1]
            yield batch
            if last == split.upper:
                return

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        rows: list[dict[str, Any]] = []
        there = self._has_partition(scope)
        for part in pieces(ids, self._page(self.capabilities.max_page_records)) if there else ():
            rows += self._query(among(self._key, part.to_pylist()), scope, output_fields=["*"])
        return found(batch_of(rows, self._schema, scope), ids)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; makes the partition that `batch.scope` names if there is none."""
        require_elements(batch, self.capabilities.elements)
        rows, refusals = rows_of(
            batch,
            self._schema,
            missing_vectors=self.capabilities.missing_vectors,
            json_scalars=not self.endpoint.embedded,
        )
        if rows:
            there = self._has_partition(batch.scope)
            with self._client("write") as client:
                if not there:
                    client.create_partition(self._name, batch.scope, timeout=self._timeout)
                # Milvus Lite's upsert keeps keys of the old record, its insert replaces it; a server does it the right
                # way round.
                write = client.insert if self.endpoint.embedded else client.upsert
                write(self._name, rows, partition_name=batch.scope, timeout=self._timeout, **_ONCE)
        return refusals

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """See `Database.delete`."""
        there = self._has_partition(scope)
        for part in pieces(ids, self.capabilities.max_page_records) if there else ():
            with self._client("write") as client:
                client.delete(
                    self._name,
                    filter=among(self._key, part.to_pylist()),
                    partition_name=scope,
                    timeout=self._timeout,
                    **_ONCE,
                )

    def search(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        *,
        vector: str = "",
        exact: bool = False,
        scope: str | None = None,
    ) -> Hits:
        """See `Database.search`; "" is the collection's only vector."""
        name = vector or self._schema.vectors[0].name
        index = self._schema.vector(name).index
        if exact and index is not None and index.type not in _EXACT_INDEXES:
            raise SchemaMismatch(f"vector '{name}' of {self.endpoint} has index {index.type}; only FLAT is exact")
        with self._reading(scope) as client:
            answers = client.search(
                self._name,
                data=vectors.tolist(),
                anns_field=name,
                limit=k,
                output_fields=[self._key],
                partition_names=None if scope is None else [scope],
                consistency_level="Strong",
                timeout=self._timeout,
                **_ONCE,
            )
        kind = self._schema.ids.kinds[0]
        return Hits(
            ids=[IdColumn.of(kind, [hit[self._key] for hit in hits]) for hits in answers],
            scores=[np.asarray([hit["distance"] for hit in hits], dtype=np.float32) for hits in answers],
        )

    def prepare_bulk_load(self) -> None:
        """Do nothing: Milvus indexes sealed segments in the background while it loads."""

    def finish_bulk_load(self) -> None:
        """Seal what was written and wait until it is indexed."""
        with self._client("write") as client:
            client.flush(self._name, timeout=self._timeout)
            names = client.list_indexes(self._name)
        while any(self._pending(name) for name in names):
            time.sleep(_INDEX_POLL_SECONDS)

    def wait_visible(self) -> None:
        """Do nothing: every read asks for strong consistency."""

    def ping(self) -> None:
        """See `Database.ping`; a folder that does not exist yet has nobody to ask."""
        if self._missing_folder:
            return
        with self._client("read") as client:
            client.list_collections(timeout=self._timeout)

    def close(self) -> None:
        """See `Database.close`; a server's collection that was not loaded into memory before is not afterwards."""
        try:
            if self._loaded and not self.endpoint.embedded:
                with self._client("read") as client:
                    client.release_collection(self._name, timeout=self._timeout)
        finally:
            self._forget()
            super().close()

    # What is particular to Milvus from here on.

    _schema_read: CollectionSchema | None = None
    _readable = False
    _loaded = False
    _partitions: frozenset[str] = frozenset({DEFAULT_PARTITION})

    @property
    def _name(self) -> str:
        return self.endpoint.collection

    @property
    def _timeout(self) -> float:
        return self.options.timeout_s

    @property
    def _schema(self) -> CollectionSchema:
        if self._schema_read is None:
            self._schema_read = self.describe()
        return self._schema_read

    @property
    def _key(self) -> str:
        return self._schema.ids.field or "id"

    def _forget(self) -> None:
        self._schema_read, self._readable, self._loaded = None, False, False
        self._partitions = frozenset({DEFAULT_PARTITION})

    @contextmanager
    def _reading(self, scope: str | None) -> Iterator[Any]:
        """The client, once the collection is in memory, without which Milvus reads nothing.

        Raises:
            NotFound: there is no partition `scope`, of which Milvus Lite would read nothing without a word.
        """
        from pymilvus.client.types import LoadState

        if not self._has_partition(scope):
            raise NotFound(f"{self.endpoint} has no partition '{scope}'; it has {', '.join(self.scopes()) or 'none'}")
        with self._client("read") as client:
            if not self._readable:
                if client.get_load_state(self._name, timeout=self._timeout)["state"] != LoadState.Loaded:
                    client.load_collection(self._name, timeout=self._timeout)
                    self._loaded = True
                self._readable = True
            yield client

    def _query(self, filter: str, scope: str | None, **settings: Any) -> list[dict[str, Any]]:
        with self._reading(scope) as client:
            rows = client.query(
                self._name,
                filter=filter,
                partition_names=None if scope is None else [scope],
                consistency_level="Strong",
                timeout=self._timeout,
                **settings,
                **_ONCE,
            )
        return list(rows)

    def _page(self, records: int) -> int:
        """Records that one reply can hold, leaving as much room for payloads as for vectors."""
        width = sum(vector.element.dtype.itemsize * (vector.dim or 256) for vector in self._schema.vectors)
        return max(1, min(records, self.capabilities.max_page_records, self.capabilities.max_batch_bytes // width))

    def _plan(self, target_records: int, scope: str | None) -> list[Split]:
        total = self.count(scope)
        parts = max(1, math.ceil(total / target_records))
        bounds: list[Id] = []
        for i in range(1, parts):
            stride = total * i // parts - total * (i - 1) // parts
            bound = self._id_after(bounds[-1] if bounds else None, stride, scope)
            if bound is None:  # somebody deleted records meanwhile
                break
            bounds.append(bound)
        sizes = [total * (i + 1) // parts - total * i // parts for i in range(len(bounds) + 1)]
        return tile(self._schema.ids.kinds[0], bounds, scope=scope, records=sizes)

    def _id_after(self, after: Id | None, stride: int, scope: str | None) -> Id | None:
        """The id that stands `stride` places after `after`; None if there are not so many."""
        while stride:
            hop = min(stride, self.capabilities.max_page_records)
            rows = self._query(
                between(self._key, after, None), scope, output_fields=[self._key], offset=hop - 1, limit=1, **_IN_ORDER
            )
            if not rows:
                return None
            after = rows[0][self._key]
            stride -= hop
        return after

    def _has_partition(self, scope: str | None) -> bool:
        if scope is None or scope in self._partitions:
            return True
        with self._client("read") as client:
            there = bool(client.has_partition(self._name, scope, timeout=self._timeout))
        if there:
            self._partitions |= {scope}
        return there

    def _pending(self, index: str) -> bool:
        with self._client("read") as client:
            return int(client.describe_index(self._name, index, timeout=self._timeout)["pending_index_rows"]) > 0

    def _connect(self) -> Any:
        key = self.endpoint.api_key
        return client_of(
            self.endpoint.url or "",
            token=key.get_secret_value() if key is not None else "",
            db_name=self.options.database,
            timeout=self.options.timeout_s,
        )

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        import grpc
        from pymilvus.exceptions import MilvusException

        if isinstance(error, grpc.RpcError):
            return self._grpc(error.code().name, error.details(), doing)
        if isinstance(error, MilvusException) and isinstance(error.code, grpc.StatusCode):
            return self._grpc(error.code.name, error.message, doing)
        if isinstance(error, MilvusException):
            return self._milvus(error, doing)
        return DatabaseError(f"{self.endpoint} failed: {type(error).__name__}: {error}")

    def _milvus(self, error: Any, doing: Doing) -> DatabaseError:
        """Codes: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go."""
        reason = error.message or str(error)
        if error.code == _NO_COLLECTION:
            return NotFound(f"there is no {self.endpoint}")
        if error.code in _NO_PART:
            return NotFound(f"{self.endpoint} has no such partition, index or database: {reason}")
        if error.code in _SLOW_DOWN:
            return Throttled(f"{self.endpoint} asks us to slow down: {reason}")
        if error.code in _NO_ENTRY:
            return AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        if error.retriable or error.code in _SERVER_AT_FAULT or any(words in reason for words in _GAVE_UP):
            return Unavailable(f"{self.endpoint} does not answer: {reason}")
        blamed = doing != "write" or self._blames_data(error)
        return self._refused(reason, doing) if blamed else self._failed(reason)

    def _blames_data(self, error: Any) -> bool:
        """Whether an error is known to be about what was sent; records must not be given up for anything else."""
        from pymilvus import exceptions

        found_by_the_client = (
            exceptions.ParamError,
            exceptions.DataNotMatchException,
            exceptions.DataTypeNotMatchException,
            exceptions.DataTypeNotSupportException,
        )
        if isinstance(error, found_by_the_client) or error.code in _DATA_AT_FAULT:
            return True
        return self.endpoint.embedded and error.code == _SCHEMA_VALIDATION

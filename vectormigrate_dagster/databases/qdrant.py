"""Qdrant: servers by address, its embedded mode by folder.

Scores: cosine and dot are similarities (higher is better), euclidean and manhattan true distances (lower is better).
Ids are ordered integers first, then UUIDs by their bytes; a scroll's offset is the first id that it returns, and
need not exist: https://qdrant.tech/documentation/concepts/points/#scroll-points
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Fetched, Hits, Refusal, check_schema
from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.databases.columns import beginning, found, out_of_order, pieces, require_elements
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant_capabilities import EMBEDDED, SERVER
from vectormigrate_dagster.databases.qdrant_folder import ENGINE, large_folder_is_no_news
from vectormigrate_dagster.databases.qdrant_records import (
    batch_of,
    cut,
    first_after,
    id_column,
    id_of,
    kind_of,
    point_id,
    vector_rows,
)
from vectormigrate_dagster.databases.qdrant_schema import creation, payload_index, read_schema
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseError,
    NotFound,
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
    VectorSchema,
    id_text,
)

_SAMPLE_PER_SPLIT = 20
_SAMPLE_AT_LEAST = 10_000


class Qdrant(ClientDatabase):
    """One Qdrant collection."""

    capabilities = SERVER
    embedded_capabilities = EMBEDDED
    engine = ENGINE
    options_model = QdrantOptions
    options: QdrantOptions

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        with self._client("read") as client:
            info = client.get_collection(self._name)
            aliases = client.get_collection_aliases(self._name).aliases
        return read_schema(self._name, info, [alias.alias_name for alias in aliases])

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`."""
        check_schema(schema, self.capabilities)
        settings = creation(schema)
        indexes = {field.name: payload_index(field) for field in schema.fields if field.index is not None}
        with self._client("create") as client:
            client.create_collection(self._name, **settings)
            for name, index in indexes.items() if self.capabilities.payload_indexes else ():
                client.create_payload_index(self._name, field_name=name, field_schema=index, wait=True)
        self._vectors_read = None

    def drop(self) -> None:
        """See `Database.drop`."""
        if self._missing_folder:
            return
        with self._client("write") as client:
            client.delete_collection(self._name)
        self._vectors_read = None

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`."""
        with self._client("read") as client:
            return int(client.count(self._name, exact=True, shard_key_selector=scope).count)

    def scopes(self) -> list[str]:
        """See `Database.scopes`."""
        if self.describe().scope is not ScopeKind.SHARD_KEY:
            return []
        with self._client("read") as client:
            return sorted(str(shard.key) for shard in client.list_shard_keys(self._name).shard_keys)

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; cuts at quantiles of a random sample of ids, so two calls a scope."""
        divided: Sequence[str | None] = self.scopes() if scopes is None else scopes
        return [split for scope in divided or [None] for split in self._plan(target_records, scope)]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; each batch is one page, read when it is asked for."""
        last = beginning(split, after)
        page = min(batch_records, self.capabilities.max_page_records)
        vectors = self._vectors()
        start = first_after(split.kind, last)
        while start is not None:
            with self._client("read") as client:
                points, following = client.scroll(
                    self._name,
                    limit=page,
                    offset=point_id(start),
                    with_payload=True,
                    with_vectors=True,
                    shard_key_selector=split.scope,
                )
            # Before records of other splits go: one of them in the wrong place would end this scan too early.
            self._check_order(start, [id_of(point.id) for point in points])
            inside = [point for point in points if _belongs(id_of(point.id), split)]
            if inside:
                batch = batch_of(inside, split.kind, split.scope, vectors)
                last = batch.ids[len(batch) - 1]
                yield batch
            start = None if following is None or len(inside) < len(points) else first_after(split.kind, last)

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`."""
        points = []
        for part in pieces(ids, self.capabilities.max_page_records):
            with self._client("read") as client:
                points += client.retrieve(
                    self._name,
                    ids=[point_id(value) for value in part.to_pylist()],
                    with_payload=True,
                    with_vectors=True,
                    shard_key_selector=scope,
                )
        return found(batch_of(points, ids.kind, scope, self._vectors()), ids)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; Qdrant takes or refuses a whole batch."""
        from qdrant_client import models

        if len(batch) == 0:
            return []
        require_elements(batch, self.capabilities.elements)
        rows = zip(batch.ids.to_pylist(), vector_rows(batch), batch.payloads, strict=True)
        with self._client("write") as client, large_folder_is_no_news():
            points = [models.PointStruct(id=point_id(i), vector=vectors, payload=row) for i, vectors, row in rows]
            client.upsert(self._name, points=points, wait=True, shard_key_selector=batch.scope)
        return []

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """See `Database.delete`."""
        from qdrant_client import models

        for part in pieces(ids, self.capabilities.max_page_records):
            with self._client("write") as client:
                selector = models.PointIdsList(points=[point_id(value) for value in part.to_pylist()])
                client.delete(self._name, points_selector=selector, wait=True, shard_key_selector=scope)

    def search(
        self,
        vectors: npt.NDArray[np.float32],
        k: int,
        *,
        vector: str = "",
        exact: bool = False,
        scope: str | None = None,
    ) -> Hits:
        """See `Database.search`; an answer with ids of both kinds comes back as their texts."""
        from qdrant_client import models

        # The embedded mode is always exact, and warns about settings that it does not need.
        params = models.SearchParams(exact=True) if exact and not self.endpoint.embedded else None
        requests = [
            models.QueryRequest(query=row.tolist(), using=vector or None, limit=k, params=params, shard_key=scope)
            for row in vectors
        ]
        with self._client("read") as client, self._vectors_kept(client):
            answers = client.query_batch_points(self._name, requests=requests)
        return Hits(
            ids=[id_column([id_of(point.id) for point in answer.points]) for answer in answers],
            scores=[np.asarray([point.score for point in answer.points], dtype=np.float32) for answer in answers],
        )

    def prepare_bulk_load(self) -> None:
        """Do nothing: a server indexes in the background while it loads, and the embedded mode has no index.

        A threshold raised to hold indexing back would stay raised if this process were killed.
        """

    def finish_bulk_load(self) -> None:
        """Do nothing: see `prepare_bulk_load`."""

    def wait_visible(self) -> None:
        """Do nothing: `upsert` waits until its records can be read."""

    def ping(self) -> None:
        """See `Database.ping`; a folder that does not exist yet has nobody to ask."""
        if self._missing_folder:
            return
        with self._client("read") as client:
            client.get_collections()

    # What is particular to Qdrant from here on.

    @contextmanager
    def _vectors_kept(self, client: Any) -> Iterator[None]:
        """Undo what a search in the embedded mode does to vectors that are read later.

        It normalises the vectors of a cosine collection in place, which moves the last bit of those that are of
        unit length already (qdrant_client/local/distances.py, cosine_similarity, 1.20).
        """
        if not self.endpoint.embedded:
            yield
            return
        collection = client._client.collections.get(self._name)
        kept = {} if collection is None else {name: rows.copy() for name, rows in collection.vectors.items()}
        try:
            yield
        finally:
            if collection is not None:
                collection.vectors.update(kept)

    def _check_order(self, start: Id, page: Sequence[Id]) -> None:
        places = [_place(value) for value in page]
        if places and (places[0] < _place(start) or any(low >= high for low, high in pairwise(places))):
            raise out_of_order(page[0], f"id '{id_text(start)}'", str(self.endpoint))

    _vectors_read: tuple[VectorSchema, ...] | None = None

    @property
    def _name(self) -> str:
        return self.endpoint.collection

    def _vectors(self) -> tuple[VectorSchema, ...]:
        if self._vectors_read is None:
            self._vectors_read = self.describe().vectors
        return self._vectors_read

    def _plan(self, target_records: int, scope: str | None) -> list[Split]:
        from qdrant_client import models

        total = self.count(scope)
        ids: list[Id] = []
        if total:
            with self._client("read") as client:
                sample = client.query_points(
                    self._name,
                    query=models.SampleQuery(sample=models.Sample.RANDOM),
                    limit=min(total, max(_SAMPLE_AT_LEAST, _SAMPLE_PER_SPLIT * math.ceil(total / target_records))),
                    with_payload=False,
                    shard_key_selector=scope,
                )
            ids = [id_of(point.id) for point in sample.points]
        splits = []
        for kind in self.capabilities.id_kinds:
            known = sorted(value for value in ids if kind_of(value) is kind)
            splits += cut(kind, known, total / max(1, len(ids)), target_records, scope)
        return splits

    def _connect(self) -> Any:
        from qdrant_client import QdrantClient

        address: dict[str, Any] = {}
        if self.options.grpc_url is not None:
            grpc, http = urlsplit(self.options.grpc_url), urlsplit(self.endpoint.url or "")
            if grpc.hostname != http.hostname:
                raise ConfigurationError(
                    f"'grpc_url' is on host '{grpc.hostname}', 'url' on '{http.hostname}'; one Qdrant is on one host"
                )
            address = {"prefer_grpc": True, "grpc_port": grpc.port or 6334}
        return QdrantClient(
            url=self.endpoint.url,
            api_key=self.endpoint.api_key.get_secret_value() if self.endpoint.api_key else None,
            timeout=math.ceil(self.options.timeout_s),
            check_compatibility=False,
            **address,
        )

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        import grpc
        from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        reason = str(error)
        if isinstance(error, ResourceExhaustedResponse):
            return Throttled(f"{self.endpoint} asks us to slow down: {reason}", retry_after=error.retry_after_s)
        if isinstance(error, UnexpectedResponse):
            return self._http(error.status_code or 0, reason, doing)
        if isinstance(error, grpc.RpcError):
            return self._grpc(error.code().name, error.details(), doing)
        if isinstance(error, ResponseHandlingException):
            return Unavailable(f"{self.endpoint} does not answer: {error.source}")
        return self._local(error, doing)

    def _local(self, error: Exception, doing: Doing) -> DatabaseError:
        """The embedded mode raises what Python raises."""
        if isinstance(error, ValueError) and str(error) == f"Collection {self._name} not found":
            return NotFound(f"there is no {self.endpoint}")
        if isinstance(error, ValueError | TypeError | KeyError):
            return self._refused(str(error), doing)
        return DatabaseError(f"{self.endpoint} failed: {type(error).__name__}: {error}")

    def _http(self, status: int, reason: str, doing: Doing) -> DatabaseError:
        if status in (401, 403):
            return AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        if status == 404:
            return NotFound(f"there is no {self.endpoint}: {reason}")
        if status == 429:
            return Throttled(f"{self.endpoint} asks us to slow down: {reason}")
        return self._refused(reason, doing) if 400 <= status < 500 else Unavailable(f"{self.endpoint} failed: {reason}")


def _place(value: Id) -> tuple[bool, Id]:
    """Where an id stands in Qdrant's order; what is compared is of one type."""
    return isinstance(value, uuid.UUID), value


def _belongs(value: Id, split: Split) -> bool:
    return kind_of(value) is split.kind and split.contains(value)

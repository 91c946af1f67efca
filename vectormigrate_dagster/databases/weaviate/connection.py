"""One Weaviate server: how it is reached, what it is, and how records of a collection are asked for."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.client import Doing
from vectormigrate_dagster.databases.endpoint import Endpoint, WeaviateOptions, known_as
from vectormigrate_dagster.databases.pages import PageSize
from vectormigrate_dagster.databases.version import Version, version_of
from vectormigrate_dagster.databases.watch import about_to_write
from vectormigrate_dagster.databases.weaviate.capabilities import (
    ALIASES,
    DEFAULT_MESSAGE_BYTES,
    OLDEST,
    SERVER,
    at,
)
from vectormigrate_dagster.databases.weaviate.errors import WeaviateErrors, is_too_large
from vectormigrate_dagster.databases.weaviate.integers import names_of_integers, restored
from vectormigrate_dagster.databases.weaviate.object_reading import found_in
from vectormigrate_dagster.databases.weaviate.records import batch_of, properties_request, vectors_request
from vectormigrate_dagster.databases.weaviate.schema import read_schema
from vectormigrate_dagster.databases.weaviate.tenants import Tenants
from vectormigrate_dagster.databases.weaviate.wire import Wire
from vectormigrate_dagster.errors import DatabaseError, NotFound
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    FieldType,
    IdColumn,
    ScopeKind,
    VectorSchema,
    id_text,
)

_log = logging.getLogger(__name__)

_SAMPLED_PAGES, _SAMPLED_RECORDS, _SAMPLED_TENANTS = 10, 200, 10
_PAYLOAD_BYTES = 512
"""What the payload of a record is thought to weigh before one was read."""


class WeaviateConnection(WeaviateErrors):
    """What a Weaviate collection is reached through."""

    capabilities = SERVER
    embedded_capabilities = SERVER
    options_model = WeaviateOptions
    options: WeaviateOptions

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._version: Version = OLDEST
        self._message_bytes = DEFAULT_MESSAGE_BYTES
        self._schema_read: CollectionSchema | None = None
        self._tenants = Tenants(self._name, str(endpoint), may_activate=self.options.activate_tenants)

    @property
    def _name(self) -> str:
        """The collection's name as the server writes it."""
        return known_as(self.endpoint.type, self.endpoint.collection)

    @property
    def _schema(self) -> CollectionSchema:
        if self._schema_read is None:
            self._schema_read = self._described()
        return self._schema_read

    def _forget(self) -> None:
        """Forget what was read of the collection, which has changed."""
        self._schema_read = None
        self._tenants.forget()

    def _connect(self) -> Wire:
        return Wire(self.endpoint, self.options)

    def _probe(self) -> Capabilities:
        with self._client("read") as wire:
            meta = wire.rest("GET", "meta")
        try:
            self._version = version_of(meta["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatabaseError(f"{self.endpoint} does not tell its version; is it a Weaviate?") from error
        if self._version < OLDEST:
            raise DatabaseError(
                f"{self.endpoint} is a server {meta['version']}; {OLDEST[0]}.{OLDEST[1]} is the oldest that can be used"
            )
        self._message_bytes = int(meta.get("grpcMaxMessageSize") or DEFAULT_MESSAGE_BYTES)
        return at(self._version)

    @contextmanager
    def hold(self, scopes: Sequence[str] | None = None) -> Iterator[None]:
        """See `Database.hold`: if they may be activated, tenants stay active, and other processes owe nothing."""
        if self.options.activate_tenants:
            # Who needs a collection that is not there, or does not answer, is told so by a call of its own.
            with suppress(DatabaseError), self._client("read") as wire:
                names = sorted(self._tenants.states(wire)) if scopes is None else scopes
                self._tenants.require_active(wire, names, self.sleep)
        try:
            yield
        finally:
            self._put_back()

    def _put_back(self) -> None:
        """Make tenants inactive again that were so.

        Work that is done, or that ended with an error of its own, does not fail because of this: it is only logged.
        """
        if not self._tenants.owes:
            return
        try:
            with self._client("read") as wire:
                self._tenants.put_back(wire)
        except NotFound:
            return  # whoever dropped the collection meanwhile has put them back for good
        except DatabaseError as error:
            _log.warning("tenants of %s were activated and are left so: %s; make them inactive", self.endpoint, error)

    ########################################################################
    # The schema
    ########################################################################

    def _class(self) -> dict[str, Any]:
        """The class as the server describes it, also by an alias."""
        with self._client("read") as wire:
            found: dict[str, Any] = wire.rest("GET", "schema", self._name)
        return found

    def _described(self) -> CollectionSchema:
        """The schema, with the dimensions of vectors out of records where nothing else says them."""
        found = self._class()
        schema = read_schema(found, self._aliases(found["class"]))
        unknown = {vector.name for vector in schema.vectors if vector.dim is None}
        if not unknown:
            return schema
        dims = self._sampled(schema, unknown)
        vectors = tuple(
            vector.model_copy(update={"dim": vector.dim or dims.get(vector.name)}) for vector in schema.vectors
        )
        return schema.model_copy(update={"vectors": tuple(vector for vector in vectors if not _is_none(vector))})

    def _aliases(self, name: str) -> list[str]:
        self.probe()
        if self._version < ALIASES:
            return []
        with self._client("read") as wire:
            found = wire.rest("GET", "aliases", params={"class": name})
        return [alias["alias"] for alias in found["aliases"] or ()]

    def _sampled(self, schema: CollectionSchema, unknown: set[str]) -> dict[str, int]:
        """Dimensions of vectors, which no part of a class names, out of its first records."""
        dims: dict[str, int] = {}
        for tenant in self._some_tenants(schema):
            after: uuid.UUID | None = None
            for _ in range(_SAMPLED_PAGES):
                reply = self._search(
                    after, tenant, _SAMPLED_RECORDS, metadata=vectors_request(schema.vectors), properties=None
                )
                page = batch_of(found_in(reply), schema, tenant)
                dims |= {name: page.vectors[name].values.shape[1] for name in unknown if page.vectors[name].values.size}
                if unknown <= set(dims) or len(page) < _SAMPLED_RECORDS:
                    break
                after = page.ids[len(page) - 1]  # type: ignore[assignment]  # ids are UUIDs
            if unknown <= set(dims):
                break
        return dims

    def _some_tenants(self, schema: CollectionSchema) -> Sequence[str | None]:
        if schema.scope is not ScopeKind.TENANT:
            return [None]
        with self._client("read") as wire:
            states = self._tenants.states(wire)
        return [name for name, state in sorted(states.items()) if state == "ACTIVE"][:_SAMPLED_TENANTS]

    ########################################################################
    # Records
    ########################################################################

    def _search(
        self, after: uuid.UUID | None, scope: str | None, limit: int, *, metadata: Mapping[str, Any], **wanted: Any
    ) -> bytes:
        """A `SearchReply` of records behind `after`, in the order of their ids unless `wanted` says otherwise.

        Without a filter, a server returns objects in the order in which they are stored, which is that of the bytes of
        their ids, merged over its shards (adapters/repos/db/shard_read.go: `cursorObjectList`, index.go: `sortByID`).
        """
        from weaviate.proto.v1 import base_pb2, search_get_pb2

        request = search_get_pb2.SearchRequest(
            collection=self._name,
            tenant=scope or "",
            limit=limit,
            after="" if after is None else id_text(after),
            consistency_level=base_pb2.ConsistencyLevel.Value(f"CONSISTENCY_LEVEL_{self.options.read_consistency}"),
            metadata=search_get_pb2.MetadataRequest(**metadata),
            uses_127_api=True,
            **wanted,
        )
        with self._on(scope, "read") as wire:
            return wire.octets("Search", request.SerializeToString())

    def _named(self, after: uuid.UUID | None, scope: str | None, limit: int, **wanted: Any) -> list[Any]:
        """What a reply says of records beside their values: `MetadataResult` messages."""
        return [one.metadata for one in found_in(self._search(after, scope, limit, **wanted))]

    @contextmanager
    def _on(self, scope: str | None, doing: Doing) -> Iterator[Wire]:
        """The channels, once the tenant is active; None is a collection without tenants."""
        with self._client(doing) as wire:
            if scope is not None:
                self._tenants.require_active(wire, [scope], self.sleep)
                if doing == "write":
                    about_to_write()  # it may have taken a while
            try:
                yield wire
            except Exception:
                self._tenants.forget()  # somebody may have made it inactive
                raise

    def _page(
        self,
        after: uuid.UUID | None,
        scope: str | None,
        size: PageSize,
        *,
        schema: CollectionSchema | None = None,
        **wanted: Any,
    ) -> Batch | None:
        """Records; None if they were too many for a reply, after `size` was made smaller.

        Args:
            after, scope, wanted: as `_search` takes them.
            size: of pages.
            schema: has only those of the collection's fields and vectors that are wanted; None is whole records.
        """
        schema = schema or self._schema
        try:
            reply = self._search(
                after,
                scope,
                wanted.pop("limit", size.records),
                metadata=vectors_request(schema.vectors),
                properties=properties_request(schema.fields),
                **wanted,
            )
        except DatabaseError as error:
            if not is_too_large(error):
                raise
            if size.shrink():
                return None
            raise DatabaseError(
                f"the record behind id '{after}' of {self.endpoint} is larger than a message of this server; "
                f"raise its GRPC_MAX_MESSAGE_SIZE, which is {self._message_bytes}"
            ) from error
        found = found_in(reply)
        batch = batch_of(found, schema, scope)
        size.learn(len(batch), len(reply))
        self._add_references(batch, schema)
        if rows := [row for row, one in enumerate(found) if one.doubtful]:
            self._restore_integers(batch, rows)
        return batch

    def _restore_integers(self, batch: Batch, rows: Sequence[int]) -> None:
        """Replace integers that gRPC may have spoilt by those that REST tells."""
        names = names_of_integers(self._schema.fields)
        for row, stored in zip(rows, ahead(self._object_of(batch), batch.ids.take(rows).to_pylist()), strict=True):
            payload = batch.payloads[row]
            payload |= {name: restored(payload[name], stored.get(name)) for name in names if name in payload}

    def _add_references(self, batch: Batch, schema: CollectionSchema) -> None:
        """Put references, as the beacons that are stored, into the payloads of records.

        Over gRPC only those come of which the object exists; REST has all of them.
        """
        names = [field.name for field in schema.fields if field.type is FieldType.REFERENCE]
        if not names:
            return
        for payload, stored in zip(batch.payloads, ahead(self._object_of(batch), batch.ids.to_pylist()), strict=True):
            for name in names:
                if stored.get(name) is not None:
                    payload[name] = [reference["beacon"] for reference in stored[name]]

    def _object_of(self, batch: Batch) -> Any:
        """A function that returns the properties of an object of the batch, by its id; none if it was deleted."""
        params: dict[str, str] = {"consistency_level": self.options.read_consistency}
        if batch.scope is not None:
            params["tenant"] = batch.scope

        def properties(value: uuid.UUID) -> dict[str, Any]:
            try:
                with self._client("read") as wire:
                    found = wire.rest("GET", "objects", self._name, id_text(value), params=params)
            except NotFound:
                return {}
            return found.get("properties") or {}

        return properties

    def _first_after(self, scope: str | None) -> Any:
        """A function that returns the smallest id behind one."""

        def first(after: uuid.UUID | None) -> uuid.UUID | None:
            found = self._named(after, scope, 1, metadata={"uuid": True})
            return uuid.UUID(found[0].id) if found else None

        return first

    def _page_size(self, limit: int, schema: CollectionSchema | None = None) -> PageSize:
        vectors = sum(4 * (vector.dim or 0) for vector in (schema or self._schema).vectors)
        return PageSize(min(limit, self.capabilities.max_page_records), vectors + _PAYLOAD_BYTES)

    def _nothing(self, scope: str | None) -> Batch:
        return batch_of((), self._schema, scope)

    def _has(self, scope: str | None) -> bool:
        """Whether there is such a tenant; None is the collection, which there is."""
        if scope is None:
            return True
        with self._client("read") as wire:
            return self._tenants.exists(wire, scope)


def _is_none(vector: VectorSchema) -> bool:
    """Whether it is the unnamed vector of a collection that keeps none (`skip`), as far as anybody can see."""
    return not vector.name and vector.dim is None and bool(vector.index and vector.index.params.get("skip"))


def ids_filter(ids: IdColumn) -> Any:
    """A filter for records with one of these ids."""
    from weaviate.proto.v1 import base_pb2

    return base_pb2.Filters(
        operator=base_pb2.Filters.OPERATOR_CONTAINS_ANY,
        value_text_array=base_pb2.TextArray(values=[id_text(value) for value in ids.to_pylist()]),
        target=base_pb2.FilterTarget(property="_id"),
    )

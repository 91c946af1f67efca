"""How a Milvus collection is reached and asked: by the messages of a server, or by the client's rows in a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from vectormigrate_dagster.databases.endpoint import Endpoint, MilvusOptions
from vectormigrate_dagster.databases.milvus.capabilities import EMBEDDED, SERVER, of_version, version_of
from vectormigrate_dagster.databases.milvus.errors import MilvusErrors, is_too_large
from vectormigrate_dagster.databases.milvus.folder import ENGINE, client_of
from vectormigrate_dagster.databases.milvus.loading import Loading
from vectormigrate_dagster.databases.milvus.messages import Reply, batch_of_reply, column_of_message, is_empty
from vectormigrate_dagster.databases.milvus.records import batch_of
from vectormigrate_dagster.databases.milvus.schema import DEFAULT_PARTITION
from vectormigrate_dagster.databases.milvus.wire import Wire, tls_settings
from vectormigrate_dagster.databases.pages import PageSize
from vectormigrate_dagster.databases.patience import repeated
from vectormigrate_dagster.errors import DatabaseError, NotFound, Unavailable
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema

_log = logging.getLogger(__name__)

_PAYLOAD_BYTES = 512
"""What the payload of a record is thought to weigh before one was read."""

_DYNAMIC = "$meta"
"""The dynamic field."""

EMPTY_REPLIES = 6
"""A collection that is released between so many questions in a row is left to the caller's patience."""

ONCE = {"retry_on_rate_limit": False}
"""When to call again is for `transfer.throttle` to say."""


class MilvusConnection(MilvusErrors):
    """A Milvus collection, as far as asking for records goes.

    A server is asked for records by messages of its protocol (`wire`), for everything else through the official
    client; so is a folder of Milvus Lite for everything.
    """

    capabilities = SERVER
    embedded_capabilities = EMBEDDED
    engine = ENGINE
    options_model = MilvusOptions
    options: MilvusOptions

    _described: dict[str, Any] | None = None
    _schema_read: CollectionSchema | None = None
    _partitions: frozenset[str] = frozenset({DEFAULT_PARTITION})
    _wire: Wire | None = None
    _now: int | None = None
    """The time of the server's clock that reads wait for instead of their own, within `as_of_now`."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._loading = Loading(self._name, self._timeout)

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
        self._described, self._schema_read = None, None
        self._loading = Loading(self._name, self._timeout)
        self._partitions = frozenset({DEFAULT_PARTITION})

    @contextmanager
    def hold(self, scopes: Sequence[str] | None = None) -> Iterator[None]:
        """See `Database.hold`: other processes find the collection in the server's memory, and owe nothing."""
        del scopes  # it is loaded as a whole
        if not self.endpoint.embedded:
            # Who needs a collection that is not there, or does not answer, is told so by a call of its own.
            with suppress(DatabaseError), self._reading(None):
                pass
        try:
            yield
        finally:
            self._put_back()

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        """See `Database.as_of_now`: a read that waits for a time that has passed does not wait."""
        outer, self._now = self._now, self._server_time()
        try:
            yield
        finally:
            self._now = outer

    @contextmanager
    def _reading(self, scope: str | None) -> Iterator[Any]:
        """The client, once the collection is in memory, without which Milvus reads nothing.

        Raises:
            NotFound: there is no partition `scope`, of which Milvus Lite would read nothing without a word.
        """
        if not self._has_partition(scope):
            raise NotFound(f"{self.endpoint} has no partition '{scope}'; it has {', '.join(self.scopes()) or 'none'}")
        loading = self._loading
        try:
            with self._client("read") as client:
                loading.ensure(client, self.sleep)
                yield client
        except Unavailable:
            loading.check_again()
            raise

    def _put_back(self) -> None:
        """Take out of a server's memory what was not in it.

        Work that is done, or that ended with an error of its own, does not fail because of this: it is only logged.
        """
        loading = self._loading
        if not loading.owes or self.endpoint.embedded:
            return
        try:
            with self._client("read") as client:
                loading.put_back(client)
        except NotFound:
            return  # whoever dropped it meanwhile has put it back for good
        except DatabaseError as error:
            _log.warning("%s was loaded into memory and is left there: %s; release it by hand", self.endpoint, error)

    def _rows(self, filter: str, scope: str | None, fields: list[str], **params: Any) -> list[dict[str, Any]]:
        """What the client reads, as strongly consistent as it can."""
        with self._reading(scope) as client:
            partitions = None if scope is None else [scope]
            rows = client.query(
                self._name,
                filter=filter,
                output_fields=fields,
                partition_names=partitions,
                consistency_level="Strong",
                timeout=self._timeout,
                **params,
                **ONCE,
            )
        return list(rows)

    def _reply(
        self, filter: str, scope: str | None, fields: list[str], guarantee: int | None = None, **params: Any
    ) -> Reply:
        """What a server replies: everything that was written up to `guarantee` of its clock, or up to now."""
        guarantee = guarantee or self._now
        with self._reading(scope), self._translated("read"):
            return self._server.query(self._name, filter, fields=fields, partition=scope, guarantee=guarantee, **params)

    def _records_reply(self, filter: str, scope: str | None, *args: Any, **params: Any) -> Reply:
        """What a server replies to a question for records, as `_reply`; "there are none" is proved first.

        While somebody releases the collection, a server says that there are none, without an error (seen on 2.3.5).
        So it is asked until it says so between two looks at its memory that find all of the collection there, or all
        of the partition that was asked for.

        Raises:
            Unavailable: the collection is released again and again.
        """
        was_loaded = False
        for _ in range(EMPTY_REPLIES):
            reply = self._reply(filter, scope, *args, **params)
            if not is_empty(reply.message, self._key):
                return reply
            before, was_loaded = was_loaded, self._still_loaded(scope)
            if before and was_loaded:
                return reply
        raise self._released()

    def _released(self) -> Unavailable:
        return Unavailable(f"{self.endpoint} is released again and again while it is read; let the others wait")

    def _still_loaded(self, scope: str | None) -> bool:
        with self._client("read") as client:
            return self._loading.still_loaded(client, scope)

    def _page(
        self,
        filter: str,
        scope: str | None,
        size: PageSize,
        guarantee: int | None = None,
        *,
        doubt_empty: bool = True,
        schema: CollectionSchema | None = None,
        **params: Any,
    ) -> Batch | None:
        """Records; None if they were too many for a reply, after `size` was made smaller.

        Args:
            filter, scope, guarantee, params: as `_reply` takes them.
            size: of pages.
            doubt_empty: whether "there are none" is to be proved, as `_records_reply` does.
            schema: has only those of the collection's fields and vectors that are wanted; None is whole records.
        """
        names = ["*"] if schema is None else self._names(schema)
        schema = schema or self._schema
        if self.endpoint.embedded:
            return batch_of(self._rows(filter, scope, names, **params), schema, scope)
        ask = self._records_reply if doubt_empty else self._reply
        try:
            reply = ask(filter, scope, names, guarantee, **params)
        except DatabaseError as error:
            if is_too_large(error) and size.shrink():
                return None
            raise
        if is_empty(reply.message, self._key):
            return batch_of([], schema, scope)
        batch = batch_of_reply(reply, schema, scope)
        size.learn(len(batch), reply.size)
        return batch

    def _names(self, schema: CollectionSchema) -> list[str]:
        """What to ask for so that all comes that a schema has."""
        declared = [field.name for field in schema.fields if field.declared]
        return [self._key, *(vector.name for vector in schema.vectors), *declared, *([_DYNAMIC] * schema.dynamic)]

    def _column(
        self, name: str, filter: str, scope: str | None, guarantee: int | None = None, **params: Any
    ) -> list[Any]:
        """One field's values; of the many that a plan asks for, each is repeated alone."""
        return repeated(partial(self._column_once, name, filter, scope, guarantee, **params))

    def _column_once(
        self, name: str, filter: str, scope: str | None, guarantee: int | None, **params: Any
    ) -> list[Any]:
        if self.endpoint.embedded:
            return [row[name] for row in self._rows(filter, scope, [name], **params)]
        if name != self._key:
            return column_of_message(self._reply(filter, scope, [name], guarantee, **params).message, name)
        message = self._records_reply(filter, scope, [name], guarantee, **params).message
        return [] if is_empty(message, name) else column_of_message(message, name)

    def _nothing(self, scope: str | None) -> Batch:
        return batch_of([], self._schema, scope)

    def _count(self, filter: str, scope: str | None) -> int:
        return int(self._column("count(*)", filter, scope)[0])

    def _server_time(self) -> int | None:
        """What a read has to wait for to see everything that was written before; None where that cannot be said."""
        if self.endpoint.embedded or self._now is not None:
            return self._now
        with self._client("read"):
            return self._server.now()

    def _page_size(self, records: int, schema: CollectionSchema | None = None) -> PageSize:
        vectors = (schema or self._schema).vectors
        width = sum(vector.element.dtype.itemsize * (vector.dim or 256) for vector in vectors)
        return PageSize(min(records, self.capabilities.max_page_records), width + _PAYLOAD_BYTES)

    def _has_partition(self, scope: str | None) -> bool:
        if scope is None or scope in self._partitions:
            return True
        with self._client("read") as client:
            there = bool(client.has_partition(self._name, scope, timeout=self._timeout))
        if there:
            self._partitions |= {scope}
        return there

    @property
    def _server(self) -> Wire:
        if self._wire is None:
            raise Unavailable(f"{self.endpoint} was closed; open it again")
        return self._wire

    def _connect(self) -> Any:
        wire = Wire(self.endpoint, self.options)
        try:
            # The client would try for a minute, and knows no limit for a machine that does not answer at all.
            self._version = wire.version(self.options.connect_timeout_s)
            key = self.endpoint.api_key
            client = client_of(
                self.endpoint.url or "",
                token=key.get_secret_value() if key is not None else "",
                db_name=self.options.database,
                timeout=self.options.connect_timeout_s,
                **tls_settings(self.endpoint, self.options),
            )
        except BaseException:
            wire.close()
            raise
        self._wire = wire
        return client

    def _probe(self) -> Capabilities:
        with self._client("read"):
            return EMBEDDED.but(single_process=False) if self._is_lite else of_version(version_of(self._version))

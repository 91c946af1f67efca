"""Milvus: servers by address, Milvus Lite by folder.

Scores: cosine and dot are similarities (higher is better), euclidean is the squared distance, hamming and jaccard
are distances (lower is better): https://milvus.io/docs/metric.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.base import Fetched, Hits, Queries, Refusal, Where
from vectormigrate_dagster.databases.columns import ascending, beginning, found, joined, pieces, require_elements
from vectormigrate_dagster.databases.milvus.capabilities import require_version, version_of
from vectormigrate_dagster.databases.milvus.connection import EMPTY_REPLIES, ONCE, MilvusConnection
from vectormigrate_dagster.databases.milvus.quantiles import quantiles
from vectormigrate_dagster.databases.milvus.records import (
    UNREADABLE,
    among,
    anything,
    between,
    require_fit,
    rows_of,
    storable,
)
from vectormigrate_dagster.databases.milvus.requests import upsert_of
from vectormigrate_dagster.databases.milvus.schema import creation, read_schema
from vectormigrate_dagster.databases.milvus.searching import (
    expression,
    queries_of,
    range_expression,
    search_params,
    wait_served,
)
from vectormigrate_dagster.databases.schema_check import check_schema
from vectormigrate_dagster.errors import DatabaseError, NotFound, SchemaMismatch
from vectormigrate_dagster.model import Batch, CollectionSchema, Id, IdColumn, IdKind, ScopeKind, Split, tile

_REPEATED_IDS = 1000
"""Repeated ids that are looked for; each costs some counts."""

_LOOKS = 3
"""So often in a row a server has to say that there is no record with an id, until it is believed."""

_EXACT_INDEXES = ("FLAT", "BIN_FLAT", "SPARSE_INVERTED_INDEX")
_INDEX_POLL_SECONDS = 0.5
_IN_ORDER: dict[str, Any] = {"iterator": "True", "reduce_stop_for_best": "True"}
"""What the client's own iterator sends. Without it a page holds any rows, not those with the smallest ids."""


class Milvus(MilvusConnection):
    """One Milvus collection."""

    _times_the_limit = 1.0
    """How much more than its limit a page held that a scan read last."""

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        with self._client("read") as client:
            described = client.describe_collection(self._name, timeout=self._timeout)
            names = client.list_indexes(self._name, timeout=self._timeout)
            indexes = [client.describe_index(self._name, name, timeout=self._timeout) for name in names]
            partitions = client.list_partitions(self._name, timeout=self._timeout)
            # A server's answer has them; 2.3.5 itself looks for the list's collection in database "default".
            aliases = described["aliases"] or self._aliases(client)
        self._described = described
        return read_schema(self._name, described, indexes, partitions, list(aliases))

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`; a vector without a metric gets no index, and a server cannot read it then.

        The server goes on loading it into its memory afterwards, for which the first read waits; a write need not.
        """
        can = self.probe()
        if not self._is_lite:
            require_version(schema, version_of(self._version))
        check_schema(schema, can)
        settings, indexes = creation(schema)
        with self._client("create") as client:
            if client.has_collection(self._name, timeout=self._timeout):
                raise SchemaMismatch(f"{self.endpoint} cannot be created: there is one already")
            client.create_collection(self._name, timeout=self._timeout, **settings)
            if indexes:
                # There is nothing to index yet; the client would look half a second later, for each index.
                client.create_index(self._name, indexes, timeout=self._timeout, sync=False)
                client.load_collection(self._name, timeout=self._timeout, _async=True)
        self._forget()

    def drop(self) -> None:
        """See `Database.drop`."""
        if self._missing_folder:
            return
        # A server may still know the name of a collection that somebody else has just dropped.
        with suppress(NotFound), self._client("write") as client:
            client.drop_collection(self._name, timeout=self._timeout)
        self._forget()

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`; of several rows with one id, which a server's `insert` makes, every one counts."""
        if scope is None and self.endpoint.embedded and (scopes := self.scopes()):
            # Milvus Lite counts an id once that stands in two partitions.
            return sum(map(self.count, scopes))
        everything = "" if scope is None else anything(self._key, self._schema.ids.kinds[0])
        return self._count(everything, scope)

    def repeated(self, scope: str | None = None) -> int:
        """See `Database.repeated`; reads all ids."""
        after: Id | None = None
        distinct = 0
        while ids := self._column(
            self._key, between(self._key, after, None), scope, limit=self.capabilities.max_page_records, **_IN_ORDER
        ):
            distinct += len(ids)
            after = ids[-1]
        return self.count(scope) - distinct

    def repeated_ids(self, scope: str | None = None) -> IdColumn:
        """See `Database.repeated_ids`; a page of which more rows count than a reader sees is halved until it is one."""
        found: list[Id] = []
        after: Id | None = None
        size = self.capabilities.max_page_records
        while ids := self._column(self._key, between(self._key, after, None), scope, limit=size, **_IN_ORDER):
            found += self._repeated_among(after, ids, scope)
            after = ids[-1]
            if len(found) >= _REPEATED_IDS:
                break
        return IdColumn.of(self._schema.ids.kinds[0], found)

    def _repeated_among(self, after: Id | None, ids: list[Id], scope: str | None) -> list[Id]:
        """Those of `ids`, which are all that follow `after`, that several rows have."""
        if self._count(between(self._key, after, ids[-1]), scope) == len(ids):
            return []
        if len(ids) == 1:
            return ids
        middle = len(ids) // 2
        first, second = ids[:middle], ids[middle:]
        return self._repeated_among(after, first, scope) + self._repeated_among(first[-1], second, scope)

    def scopes(self) -> list[str]:
        """See `Database.scopes`."""
        if self.describe().scope is not ScopeKind.PARTITION:
            return []
        with self._client("read") as client:
            return sorted(client.list_partitions(self._name, timeout=self._timeout))

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; what it asks for is in `quantiles`."""
        divided: Sequence[str | None] = self.scopes() if scopes is None else scopes
        return [split for scope in divided or [None] for split in self._plan(target_records, scope)]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; each batch is one page, or a piece of one, read when it is asked for.

        Each segment of the collection gives up to a limit, and what comes is all up to the first one that has no more:
        with ten segments nearly ten times the limit (seen on 2.3.5). So the limit is what the page before it leads to.

        Every page waits for what was written before the scan began, and for no more: the newest state costs each page
        up to a tick of the server's clock (0.2 s). The client's `query_iterator` is not used: it pastes text ids into
        filters without escaping them, and it reads at the collection's own level of consistency whatever it is told
        (pymilvus/client/ts_utils.py), which right after a write may be nothing at all.
        """
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
        """See `Database.scan_field`; of the dynamic field, all comes."""
        passing = "" if at_least is None else range_expression(field, at_least, self._schema)
        yield from self._scan(split, after, batch_records, self._schema.of_field(field), passing)

    def filters_by(self, field: str) -> bool:
        """See `Database.filters_by`."""
        return bool(range_expression(field, 0.0, self._schema))

    def _scan(
        self,
        split: Split,
        after: str | None,
        batch_records: int,
        schema: CollectionSchema | None = None,
        passing: str = "",
    ) -> Iterator[Batch]:
        """Records that pass a filter, with what `schema` names of them; None is everything."""
        last = beginning(split, after)
        size = self._page_size(batch_records, schema)
        began = self._server_time()
        while True:
            wanted = " and ".join(filter(None, (between(self._key, last, split.upper), passing)))
            limit = max(1, int(size.records / self._times_the_limit))
            batch = self._page(wanted, split.scope, size, began, schema=schema, limit=limit, **_IN_ORDER)
            if batch is None:
                continue
            if not len(batch):
                return
            self._times_the_limit = max(1.0, len(batch) / limit)
            batch = ascending(batch, last, str(self.endpoint))
            last = batch.ids[len(batch) - 1]
            for start in range(0, len(batch), batch_records):
                yield batch.slice(start, min(start + batch_records, len(batch)))
            if last == split.upper:
                return

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`.

        What a server does not find it is asked for again, until that is so several times in a row: while others read
        and upsert, one reply in a hundred lacks records that were there all the time (seen on 2.3.5, whatever the
        client, at strong consistency). While somebody releases the collection it finds nothing at all, so its memory
        is looked at before and after.

        Raises:
            Unavailable: the collection is released again and again.
        """
        if not self._has_partition(scope):
            return Fetched(self._nothing(scope), ids)
        began = self._server_time()
        there, released = found(self._look_for(ids, scope, began), ids), 0
        while len(there.missing) and not self.endpoint.embedded:
            loaded = self._still_loaded(scope)
            looks = (self._look_for(there.missing, scope, began) for _ in range(_LOOKS - 1))
            if (more := next((batch for batch in looks if len(batch)), None)) is not None:
                there = found(joined([there.batch, more]), ids)
            elif loaded and self._still_loaded(scope):
                break
            elif (released := released + 1) == EMPTY_REPLIES:
                raise self._released()
        return there

    def _look_for(self, ids: IdColumn, scope: str | None, guarantee: int | None) -> Batch:
        """Records with some ids, in any order, as a server finds them at once."""
        size = self._page_size(self.capabilities.max_page_records)
        parts: list[Batch] = []
        rest = ids
        while len(rest):
            part = rest.slice(0, min(size.records, len(rest)))
            batch = self._page(among(self._key, part.to_pylist()), scope, size, guarantee, doubt_empty=False)
            if batch is not None:
                parts.append(batch)
                rest = rest.slice(len(part), len(rest))
        return joined(parts) if parts else self._nothing(scope)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; makes the partition that `batch.scope` names if there is none."""
        require_elements(batch, self.capabilities.elements)
        if not self._has_partition(batch.scope):
            with self._client("write") as client:
                client.create_partition(self._name, batch.scope, timeout=self._timeout)
        return self._upsert_embedded(batch) if self.endpoint.embedded else self._upsert_server(batch)

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
                    **ONCE,
                )

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
        name = vector or self._schema.vectors[0].name
        searched = self._schema.vector(name)
        index = searched.index
        if exact and index is not None and index.type not in _EXACT_INDEXES:
            raise SchemaMismatch(f"vector '{name}' of {self.endpoint} has index {index.type}; only FLAT is exact")
        with self._reading(scope) as client:
            answers = client.search(
                self._name,
                data=queries_of(searched, vectors),
                anns_field=name,
                limit=k,
                filter=expression(where, self._schema),
                output_fields=[self._key],
                search_params=search_params(index, k, self.options.search_ef),
                partition_names=None if scope is None else [scope],
                consistency_level="Strong",
                timeout=self._timeout,
                **ONCE,
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
        self._wait_built()

    def wait_indexed(self) -> None:
        """See `Database.wait_indexed`: of what is sealed; the rest is searched without an index, and exactly.

        A server goes on answering from a rougher index of its own for some seconds after the real one was built.
        """
        self._wait_built()
        approximate = [v for v in self._schema.vectors if v.index is not None and v.index.type not in _EXACT_INDEXES]
        if approximate and not self.endpoint.embedded:
            with self._client("read") as client:
                wait_served(client, self._name, timeout=self._timeout, sleep=self.sleep)

    def wait_visible(self) -> None:
        """Do nothing: every read asks for strong consistency."""

    def ping(self) -> None:
        """See `Database.ping`; a folder that does not exist yet has nobody to ask."""
        if self._missing_folder:
            return
        with self._client("read") as client:
            client.list_collections(timeout=self._timeout)

    def close(self) -> None:
        """See `Database.close`; what was not in a server's memory before is not afterwards."""
        try:
            self._put_back()
        finally:
            self._forget()
            super().close()
            if self._wire is not None:
                self._wire.close()

    # What is particular to Milvus from here on.

    def _aliases(self, client: Any) -> list[str]:
        """The aliases in a folder, where no description of a collection names them."""
        if not self.endpoint.embedded:
            return []
        return list(client.list_aliases(self._name, timeout=self._timeout)["aliases"])

    def _upsert_embedded(self, batch: Batch) -> list[Refusal]:
        rows, refusals = rows_of(batch, self._schema, missing_vectors=self.capabilities.missing_vectors, embedded=True)
        if rows:
            with self._client("write") as client:
                # Its upsert keeps keys of the old record, its insert replaces it; a server does it the right way round.
                client.insert(self._name, rows, partition_name=batch.scope, timeout=self._timeout, **ONCE)
        return refusals

    def _upsert_server(self, batch: Batch) -> list[Refusal]:
        require_fit(batch, self._schema)
        fit = storable(batch, self._schema, missing_vectors=not self._is_lite, embedded=self._is_lite)
        if len(fit.batch):
            with self._client("write"):
                request = upsert_of(
                    fit.batch,
                    fit.dynamic,
                    collection=self._name,
                    partition=batch.scope,
                    described=self._described or {},
                )
                self._server.upsert(b"".join(request))
        return fit.refusals

    def _plan(self, target_records: int, scope: str | None) -> list[Split]:
        total = self.count(scope)
        self._require_readable(scope)
        parts = max(1, -(-total // target_records))
        kind = self._schema.ids.kinds[0]
        bounds = quantiles(
            _Ids(self, scope), total, parts, page=self.capabilities.max_page_records, numbers=kind is IdKind.I64
        )
        sizes = [total * (i + 1) // parts - total * i // parts for i in range(len(bounds) + 1)]
        return tile(kind, bounds, scope=scope, records=sizes)

    def _require_readable(self, scope: str | None) -> None:
        """Refuse a collection that holds a record which no query returns.

        A server merges its answers by the smallest id, and takes the largest number there is for "none left":
        https://github.com/milvus-io/milvus/blob/master/internal/util/typeutil/schema.go (`SelectMinPK`).
        """
        if self._schema.ids.kinds[0] is IdKind.I64 and not self.endpoint.embedded:
            unreadable = self._count(among(self._key, [UNREADABLE]), scope)
            if unreadable:
                raise DatabaseError(
                    f"{self.endpoint} holds a record with id {UNREADABLE}, which Milvus counts and never returns; "
                    "store it under another id and delete it"
                )

    def _wait_built(self) -> None:
        with self._client("read") as client:
            names = client.list_indexes(self._name, timeout=self._timeout)
        while any(self._pending(name) for name in names):
            self.sleep(_INDEX_POLL_SECONDS)

    def _pending(self, index: str) -> bool:
        """Whether an index is still being built.

        Raises:
            DatabaseError: the server has given it up.
        """
        with self._client("read") as client:
            built = client.describe_index(self._name, index, timeout=self._timeout)
        if built["state"] == "Failed":
            with self._client("read"):
                reason = "" if self.endpoint.embedded else self._server.index_failure(self._name, index)
            raise DatabaseError(
                f"{self.endpoint} cannot build index '{index}': {reason or 'its log says why'}; "
                "drop the index, mend that, and make it again"
            )
        return int(built["pending_index_rows"]) > 0


class _Ids:
    """A scope's ids at one time, as `quantiles` asks for them."""

    def __init__(self, database: Milvus, scope: str | None) -> None:
        self._database, self._scope = database, scope
        self._key = database._key
        self._time = database._server_time()

    def at(self, after: Id | None, place: int) -> Id | None:
        wanted = between(self._key, after, None)
        ids = self._read(self._key, wanted, offset=place - 1, limit=1, **_IN_ORDER)
        return ids[0] if ids else None

    def count(self, after: Id | None, last: Id) -> int:
        return int(self._read("count(*)", between(self._key, after, last))[0])

    def _read(self, name: str, wanted: str, **params: Any) -> list[Any]:
        return self._database._column(name, wanted, self._scope, self._time, **params)

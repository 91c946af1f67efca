"""Pinecone: an index of either kind, with its namespaces; vectors API or documents API as its schema demands.

Scores: cosine is the similarity and dotproduct the product (higher is better), euclidean the squared distance (lower is
better). Ids come in the order of their bytes. Reads follow writes after a while; those of this object wait for its own
writes, see `writes`. https://docs.pinecone.io/guides/get-started/concepts

A scope is a namespace, the default one being called "__default__". An index with no other namespace is not divided: its
records have the scope None, which means the default namespace everywhere but in `count`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.base import Fetched, Hits, Queries, Refusal, Where
from vectormigrate_dagster.databases.columns import beginning, found, query_rows, require_elements
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.databases.pinecone.api import FETCH_LIMIT, Answer, IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE
from vectormigrate_dagster.databases.pinecone.errors import is_missing_namespace
from vectormigrate_dagster.databases.pinecone.reading import (
    FIRST_WAIT,
    LONGEST_WAIT,
    PineconeReader,
    namespace_of,
    pieces,
)
from vectormigrate_dagster.databases.pinecone.records import Row, batch_of, require_writable
from vectormigrate_dagster.databases.pinecone.requests import Outgoing, outgoing, requests
from vectormigrate_dagster.databases.pinecone.schema import creation, read_schema
from vectormigrate_dagster.databases.pinecone.searching import filter_of
from vectormigrate_dagster.databases.pinecone.writes import Unseen, Writes
from vectormigrate_dagster.databases.schema_check import check_schema
from vectormigrate_dagster.databases.watch import about_to_write
from vectormigrate_dagster.errors import DatabaseError, NotFound, Unavailable
from vectormigrate_dagster.model import Batch, CollectionSchema, IdColumn, IdKind, Split, VectorKind, VectorSchema

_POLL_SECONDS = 1.0

_COUNTED = 100_000
"""Records that are counted one by one where a number of about that size is wanted: a thousand calls."""


class Pinecone(PineconeReader):
    """One Pinecone index."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._writes = Writes()

    def describe(self) -> CollectionSchema:
        """See `Database.describe`."""
        model = self._model() if self.options.host is None else None
        return read_schema(self._name, model, self._api().vectors, self.scopes())

    def create(self, schema: CollectionSchema) -> None:
        """See `Database.create`; returns when the index is ready."""
        check_schema(schema, self.probe())
        settings = creation(schema, cloud=self.options.cloud, region=self.options.region)
        with self._client("create") as session:
            session.control.indexes.create(name=self._name, timeout=-1, **settings)
        deadline = time.monotonic() + self.options.ready_s
        while not (model := self._model()).status.ready:
            if model.status.state == "InitializationFailed":
                raise DatabaseError(f"{self.endpoint} could not be made; Pinecone does not say why")
            self._pause(deadline, f"is not ready (it is {model.status.state})", _POLL_SECONDS)
        self._forget()

    def drop(self) -> None:
        """See `Database.drop`; returns when the index is gone."""
        deadline = time.monotonic() + self.options.ready_s
        try:
            with self._client("write") as session:
                session.control.indexes.delete(self._name, timeout=-1)
            while self._model():
                self._pause(deadline, "is not gone", _POLL_SECONDS)
        except NotFound:
            self._writes = Writes()
            self._forget()

    def count(self, scope: str | None = None) -> int:
        """See `Database.count`; lists all ids, a hundred a request. A pod index lists none and says how many it has."""
        self.wait_visible()
        names = [scope] if scope is not None else self.scopes() or [DEFAULT_NAMESPACE]
        return sum(self._count(self._api(), name) for name in names)

    def about(self, scope: str | None = None) -> int:
        """See `Database.about`: from a hundred thousand on what the index says of itself, which lags behind."""
        self.wait_visible()
        api = self._api()
        if self.options.id_list is None:
            counts = self._asked(api.counts)
            believed = sum(counts.values()) if scope is None else counts.get(scope, 0)
            if believed >= _COUNTED:
                return believed
        return self.count(scope)

    def scopes(self) -> list[str]:
        """See `Database.scopes`: the namespaces, unless there is only the default one."""
        self.wait_visible()
        names = self._namespaces(self._api())
        return [] if set(names) <= {DEFAULT_NAMESPACE} else names

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        """See `Database.plan_splits`; cuts along prefixes of ids, see `plan`."""
        self.wait_visible()
        divided: Sequence[str | None] = self.scopes() if scopes is None else scopes
        api = self._api()
        return [split for scope in divided or [None] for split in self._plan(api, scope, target_records).splits]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        """See `Database.scan`; lists ids and fetches them, several requests at a time.

        An id that is listed and cannot be fetched is asked for again for a while, and then reported as vanished.
        """
        self.wait_visible()
        api, namespace = self._api(), namespace_of(split.scope)
        begin = beginning(split, after)
        ids = self._ids(api, namespace, None if begin is None else str(begin), split.last)
        fetch = partial(self._fetch_piece, api, namespace)
        asked: list[str] = []
        rows: dict[str, Row] = {}
        for piece, ends, answer in ahead(fetch, pieces(api, ids, batch_records)):
            asked += piece
            rows |= answer
            if ends:
                yield self._batch(api, split.scope, asked, rows)
                asked, rows = [], {}

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        """See `Database.fetch`; does not wait for own writes, because a load fetches before it writes each batch."""
        api = self._api()
        possible = self._possible(ids)
        answers = ahead(partial(self._fetch, api, namespace_of(scope)), api.requests(possible))
        rows = [row for answer in answers for row in answer.values()]
        return found(batch_of(rows, scope, api.vectors), ids)

    def upsert(self, batch: Batch) -> list[Refusal]:
        """See `Database.upsert`; the server refuses a request as a whole and does not say which record is at fault.

        https://docs.pinecone.io/guides/index-data/upsert-data
        """
        if len(batch) == 0:
            return []
        require_elements(batch, self.capabilities.elements)
        api = self._api()
        require_writable(batch, api.vectors, str(self.endpoint))
        records, refusals = outgoing(batch, api)
        for _ in ahead(partial(self._send, api, namespace_of(batch.scope)), requests(records)):
            pass
        return refusals

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        """See `Database.delete`."""
        api, namespace = self._api(), namespace_of(scope)
        possible = self._possible(ids)
        for start in range(0, len(possible), FETCH_LIMIT):
            piece = possible[start : start + FETCH_LIMIT]
            about_to_write()
            try:
                with self._client("read"):  # no record is to blame for what goes wrong
                    position = api.delete(namespace, piece)
            except NotFound as error:
                if not is_missing_namespace(error):
                    raise
                return
            self._writes.note(namespace, position, written=[], deleted=piece)

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
        """See `Database.search`; always approximate, whatever `exact` says (`Capabilities.exact_search`)."""
        del exact
        self.wait_visible()
        api = self._api()
        field = self._searched(api, vector)
        ask = partial(api.search, namespace_of(scope), field, k=k, where=filter_of(where))
        answers = list(ahead(partial(self._search, ask), query_rows(vectors)))
        return Hits(
            ids=[IdColumn.of(IdKind.TEXT, [value for value, _ in answer]) for answer in answers],
            scores=[np.asarray([score for _, score in answer], dtype=np.float32) for answer in answers],
        )

    def prepare_bulk_load(self) -> None:
        """Do nothing: Pinecone indexes when it pleases."""

    def finish_bulk_load(self) -> None:
        """Wait until everything written can be read."""
        self.wait_visible()

    def wait_indexed(self) -> None:
        """Wait until everything written can be read: what can be read is indexed."""
        self.wait_visible()

    def wait_visible(self) -> None:
        """Wait until everything that this object has written can be read, for `visible_s` at most; see `writes`.

        Raises:
            Unavailable: it takes longer.
        """
        deadline = time.monotonic() + self.options.visible_s
        for namespace in self._writes.namespaces:
            # It is forgotten when it was seen, not before: several threads may wait for the same writes.
            unseen, pause = self._writes.unseen(namespace), FIRST_WAIT
            while not self._sees(namespace, unseen):
                self._pause(deadline, "does not show what was written", pause)
                pause = min(LONGEST_WAIT, 2 * pause)
            self._writes.seen(namespace, unseen)

    def ping(self) -> None:
        """See `Database.ping`."""
        with self._client("read") as session:
            if self.options.host is None:
                session.control.indexes.list().to_list()
            else:
                session.index(self.options.host).describe_index_stats()

    # What is particular to Pinecone from here on.

    def _pause(self, deadline: float, what: str, seconds: float) -> None:
        """Wait a moment.

        Raises:
            Unavailable: it is too late for that.
        """
        if time.monotonic() >= deadline:
            raise Unavailable(f"{self.endpoint} {what}, and we have waited for as long as the options say")
        self.sleep(seconds)

    def _send(self, api: IndexApi, namespace: str, records: Sequence[Outgoing]) -> None:
        with self._client("write"):
            position = api.upsert(namespace, [one.record for one in records])
        self._writes.note(namespace, position, written=[one.id for one in records], deleted=[])

    def _search(self, ask: Callable[..., Answer], query: npt.NDArray[np.float32]) -> list[tuple[str, float]]:
        try:
            with self._client("read"):
                return ask(query=query)[0]
        except NotFound as error:
            if is_missing_namespace(error):
                return []
            raise

    def _searched(self, api: IndexApi, name: str) -> VectorSchema:
        dense = [vector for vector in api.vectors if vector.kind is VectorKind.DENSE]
        for vector in dense:
            if name in ("", vector.name):
                return vector
        raise NotFound(f"{self.endpoint} has no dense vector '{name}'")

    def _sees(self, namespace: str, unseen: Unseen) -> bool:
        """Whether writes can be read."""
        api = self._api()
        if unseen.position is not None:
            position = self._position(api, namespace)
            if position is not None and position < unseen.position:
                return False
        asked = [*unseen.written, *unseen.deleted]
        there = {value for piece in api.requests(asked) for value in self._fetch(api, namespace, piece)}
        return there.issuperset(unseen.written) and there.isdisjoint(unseen.deleted)

    def _position(self, api: IndexApi, namespace: str) -> int | None:
        """The log position up to which searches see writes; None if nobody tells, or there is nothing to search."""
        try:
            with self._client("read"):
                return api.position(namespace)
        except NotFound as error:
            if is_missing_namespace(error):
                return None
            raise

    def _possible(self, ids: IdColumn) -> list[str]:
        """The ids that Pinecone can have; no record has another."""
        texts = [str(value) for value in ids.to_pylist()]
        return [text for text in texts if re.fullmatch(self.capabilities.id_pattern or "", text)]

"""How the ids of an index are found, by lists or by a file, and how records are fetched by them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.databases.patience import repeated
from vectormigrate_dagster.databases.pinecone.api import IdPage, IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE
from vectormigrate_dagster.databases.pinecone.connection import PineconeConnection
from vectormigrate_dagster.databases.pinecone.errors import is_missing_namespace
from vectormigrate_dagster.databases.pinecone.id_list import IdList
from vectormigrate_dagster.databases.pinecone.listing import Listing
from vectormigrate_dagster.databases.pinecone.plan import Plan, plan_namespace
from vectormigrate_dagster.databases.pinecone.records import Row, batch_of
from vectormigrate_dagster.databases.splits import cut_at
from vectormigrate_dagster.errors import DatabaseError, NotFound
from vectormigrate_dagster.model import Batch, IdKind, Split

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
"""Seconds between questions whether something has become visible; doubled from one to the next."""

_COUNTED_AT_ONCE = 20_000


class PineconeReader(PineconeConnection):
    """An index whose ids can be counted, planned and read."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._id_list: IdList | None = None

    def _asked(self, question: Callable[[], T]) -> T:
        """The answer to one of the many requests of a call, which is repeated alone if need be."""

        def ask() -> T:
            with self._client("read"):
                return question()

        return repeated(ask)

    def _listed(self) -> IdList | None:
        """The file of ids, if there is one."""
        if self._id_list is None and self.options.id_list is not None:
            self._id_list = IdList(self.options.id_list)
        return self._id_list

    def _namespaces(self, api: IndexApi) -> list[str]:
        if (listed := self._listed()) is not None:
            return listed.namespaces
        names: set[str] = set()
        token: str | None = None
        while True:
            page = self._asked(partial(api.list_namespaces, token))
            names.update(page.ids)
            token = page.token
            if token is None:
                return sorted(names)

    def _count(self, api: IndexApi, namespace: str) -> int:
        if (listed := self._listed()) is not None:
            return listed.count(namespace)
        if not api.lists:
            return self._believed(api, namespace)
        plan = self._plan(api, namespace, _COUNTED_AT_ONCE)
        if plan.exact:
            return sum(split.records for split in plan.splits)
        return sum(ahead(partial(self._count_split, api, namespace), plan.splits))

    def _count_split(self, api: IndexApi, namespace: str, split: Split) -> int:
        return sum(len(ids) for ids in self._ids(api, namespace, split.after, split.last))

    def _plan(self, api: IndexApi, scope: str | None, target_records: int) -> Plan:
        namespace = namespace_of(scope)
        if (listed := self._listed()) is not None:
            total = listed.count(namespace)
            bounds = listed.quantiles(namespace, max(1, math.ceil(total / target_records)))
            return Plan(cut_at(bounds, total, IdKind.TEXT, scope), exact=True)
        total = self._believed(api, namespace)
        listing = self._listing(api, namespace)
        return plan_namespace(listing, total=total, target_records=target_records, scope=scope)

    def _believed(self, api: IndexApi, namespace: str) -> int:
        """How many records the server says there are; the number lags behind."""
        return self._asked(api.counts).get(namespace, 0)

    def _ids(self, api: IndexApi, namespace: str, after: str | None, last: str | None) -> Iterator[list[str]]:
        """The ids of a range, in pages."""
        if (listed := self._listed()) is not None:
            return listed.between(namespace, after, last)
        return self._listing(api, namespace).between(after, last)

    def _listing(self, api: IndexApi, namespace: str) -> Listing:
        if not api.lists:
            raise DatabaseError(
                f"{self.endpoint} is a pod index, which cannot list its ids; name a file that holds them under "
                "options.id_list"
            )
        return Listing(partial(self._page, api, namespace), str(self.endpoint))

    def _page(self, api: IndexApi, namespace: str, prefix: str, token: str | None) -> IdPage:
        try:
            return self._asked(partial(api.list_ids, namespace, prefix, token))
        except NotFound as error:
            if is_missing_namespace(error):
                return IdPage([], None)
            raise

    def _fetch(self, api: IndexApi, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        try:
            return self._asked(partial(api.fetch, namespace, ids))
        except NotFound as error:
            if is_missing_namespace(error):
                return {}
            raise

    def _fetch_piece(
        self, api: IndexApi, namespace: str, piece: tuple[Sequence[str], bool]
    ) -> tuple[Sequence[str], bool, dict[str, Row]]:
        return *piece, self._fetch(api, namespace, piece[0])

    def _batch(self, api: IndexApi, scope: str | None, asked: Sequence[str], rows: dict[str, Row]) -> Batch:
        """The records of a page of ids, after those that are missing were asked for again."""
        deadline, pause = time.monotonic() + self.options.missing_s, FIRST_WAIT
        while (missing := [value for value in asked if value not in rows]) and time.monotonic() < deadline:
            self.sleep(pause)
            pause = min(LONGEST_WAIT, 2 * pause)
            for piece in api.requests(missing):
                rows |= self._fetch(api, namespace_of(scope), piece)
        batch = batch_of([rows[value] for value in asked if value in rows], scope, api.vectors)
        return replace(batch, vanished=tuple(missing))


def namespace_of(scope: str | None) -> str:
    """The namespace that a scope stands for."""
    return DEFAULT_NAMESPACE if scope is None else scope


def pieces(api: IndexApi, pages: Iterator[list[str]], size: int) -> Iterator[tuple[Sequence[str], bool]]:
    """Ids in pieces to fetch at once, each with whether a batch of `size` ids ends with it."""
    group: list[str] = []
    for page in pages:
        group += page
        while len(group) >= size:
            yield from _marked(api, group[:size])
            del group[:size]
    yield from _marked(api, group)


def _marked(api: IndexApi, group: list[str]) -> Iterator[tuple[Sequence[str], bool]]:
    left = len(group)
    for piece in api.requests(group):
        left -= len(piece)
        yield piece, left == 0

"""A target whose answers are spoiled on their way: for what a database does not let one write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from vectormigrate_dagster.databases import Database, Fetched, Hits, Refusal
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema, IdColumn, Split, id_text
from vectormigrate_dagster_tests.batches import concat

_MORE = 40
"""Answers beyond those asked for, so that some can be left out."""

Place = tuple[str | None, str]
"""Scope and id of a record, as text."""


class Spoiled(Database):
    """Another database, with answers that differ in what the attributes say.

    Attributes:
        instead: records that are given in the place of others.
        twice: a record that a scan gives twice, and that counts twice.
        schema: what is described; None is the truth.
        searched: what answers searches; None is the database.
        answers: what is made of an answer's ids and scores, of which a few more than asked for are looked up.
    """

    def __init__(self, inner: Database) -> None:
        self.capabilities = self.embedded_capabilities = inner.capabilities
        super().__init__(inner.endpoint)
        self.inner = inner
        self.instead: dict[Place, Batch] = {}
        self.twice: Place | None = None
        self.schema: CollectionSchema | None = None
        self.searched: Database | None = None
        self.answers: Callable[[Hits], Hits] = lambda hits: hits

    def probe(self) -> Capabilities:
        return self.inner.probe()

    def describe(self) -> CollectionSchema:
        return self.schema or self.inner.describe()

    def create(self, schema: CollectionSchema) -> None:
        raise AssertionError("a validation creates nothing")

    def drop(self) -> None:
        raise AssertionError("a validation drops nothing")

    def count(self, scope: str | None = None) -> int:
        more = self.twice is not None and scope in {None, self.twice[0]}
        return self.inner.count(scope) + more

    def repeated(self, scope: str | None = None) -> int:
        return self.inner.repeated(scope)

    def scopes(self) -> list[str]:
        return self.inner.scopes()

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        return self.inner.plan_splits(target_records, scopes)

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        for batch in self.inner.scan(split, after, batch_records):
            yield self._repeat(self._swap(batch))

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        found = self.inner.fetch(ids, scope)
        return replace(found, batch=self._swap(found.batch))

    def upsert(self, batch: Batch) -> list[Refusal]:
        raise AssertionError("a validation writes nothing")

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        raise AssertionError("a validation deletes nothing")

    def search(self, vectors: Any, k: int, **arguments: Any) -> Hits:
        if self.searched is not None:
            return self.searched.search(vectors, k, **arguments)
        hits = self.answers(self.inner.search(vectors, k + _MORE, **arguments))
        return Hits([ids.slice(0, min(k, len(ids))) for ids in hits.ids], [scores[:k] for scores in hits.scores])

    def prepare_bulk_load(self) -> None:
        raise AssertionError("a validation loads nothing")

    def finish_bulk_load(self) -> None:
        raise AssertionError("a validation loads nothing")

    def wait_indexed(self) -> None:
        self.inner.wait_indexed()

    def wait_visible(self) -> None:
        self.inner.wait_visible()

    def ping(self) -> None:
        self.inner.ping()

    def close(self) -> None:
        """Nothing: who opened the database closes it."""

    def _swap(self, batch: Batch) -> Batch:
        places = [(batch.scope, id_text(value)) for value in batch.ids.to_pylist()]
        if not any(place in self.instead for place in places):
            return batch
        rows = [self.instead.get(place, batch.take([row])) for row, place in enumerate(places)]
        return concat(rows, batch.ids, batch.scope)

    def _repeat(self, batch: Batch) -> Batch:
        places = [(batch.scope, id_text(value)) for value in batch.ids.to_pylist()]
        if self.twice not in places:
            return batch
        row = places.index(self.twice)
        return batch.take([*range(row + 1), *range(row, len(batch))])

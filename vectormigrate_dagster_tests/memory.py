"""A database in memory that behaves like the contract, and misbehaves on request. For tests only.

Faults are scripted: `database.faults.append(Fault("upsert", Throttled("slow down"), at=2))` makes the third
call of `upsert` fail. Attributes of `MemoryDatabase` bend what calls return (short pages, refusals, disorder).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Database, Endpoint, Fetched, Hits, Queries, Refusal, Where
from vectormigrate_dagster.databases.columns import array_rows, sparse_rows
from vectormigrate_dagster.errors import InvalidRecord, NotFound
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    Element,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Multi,
    ScopeKind,
    Sparse,
    Split,
    VectorColumn,
    VectorKind,
    id_text,
    is_valid,
    tile,
)
from vectormigrate_dagster_tests.batches import concat

CAPABILITIES = Capabilities(
    type="memory",
    title="Memory",
    id_kinds=tuple(IdKind),
    mixed_id_kinds=True,
    ids_are_unique_per_scope=True,
    metrics={VectorKind.DENSE: tuple(Metric)},
    searches=tuple(VectorKind),
    elements=tuple(Element),
    vector_kinds=tuple(VectorKind),
    default_vector_name="",
    missing_vectors=True,
    max_dim=65536,
    accepts_nan=True,
    scope_kinds=(ScopeKind.NAMESPACE,),
)


@dataclass
class Fault:
    """Make calls of one method fail.

    Args:
        method: name of the method; for `scan`, a call is the reading of one page.
        error: what is raised, or a function that makes it.
        at: the first call that fails, counted from 0.
        times: how many calls fail; None is all from `at` on.
        after_commit: fail after the work was done, as when an answer is lost on the way.
    """

    method: str
    error: Exception | Callable[[], Exception]
    at: int = 0
    times: int | None = 1
    after_commit: bool = False

    def hits(self, call: int) -> bool:
        return call >= self.at and (self.times is None or call < self.at + self.times)

    def raise_(self) -> None:
        raise self.error if isinstance(self.error, Exception) else self.error()


@dataclass
class _Store:
    """Records by scope and id; shared between handles on one collection."""

    records: dict[str | None, dict[Id, Batch]] = field(default_factory=dict)


class MemoryDatabase(Database):
    """A collection in memory.

    Attributes:
        faults: scripted failures.
        page_records: no page is longer than this.
        refuse: reason why a record is refused, returned by `upsert` one by one; None accepts it.
        invalid: whether a record makes `upsert` refuse the whole batch.
        names_invalid: whether that refusal names the records at fault.
        disorder: the page (counted from 0) of a scan whose rows come in the wrong order.
        repeat: the page of a scan that begins with the last record of the page before it.
        vanish: ids that a scan lists and cannot give.
        normalise: names of vectors that are stored with unit norm.
        metric: what `search` compares with, whatever the schema says.
        calls: how often each method was called.
        written: ids of all records that were written, in order, repetitions included.
    """

    capabilities = CAPABILITIES
    embedded_capabilities = CAPABILITIES

    def __init__(self, name: str = "memory", *, schema: CollectionSchema | None = None) -> None:
        super().__init__(Endpoint(type="memory", collection=name, url="memory://test"))
        self.schema = schema or CollectionSchema(name=name, ids=IdSchema(kinds=(IdKind.U64,)))
        self.store = _Store()
        self.faults: list[Fault] = []
        self.page_records: int | None = None
        self.refuse: Callable[[Id], str | None] = lambda key: None
        self.invalid: Callable[[Id], bool] = lambda key: False
        self.names_invalid = False
        self.disorder: int | None = None
        self.repeat: int | None = None
        self.vanish: set[Id] = set()
        self.normalise: set[str] = set()
        self.metric: Metric | None = None
        self.calls: Counter[str] = Counter()
        self.written: list[Id] = []
        self.on_call: Callable[[str], None] = lambda method: None
        self.closed = False
        self._lock = threading.RLock()

    def probe(self) -> Capabilities:
        self._call("probe")
        return self.capabilities

    def describe(self) -> CollectionSchema:
        self._call("describe")
        return self.schema

    def create(self, schema: CollectionSchema) -> None:
        self._call("create")
        self.schema = schema

    def drop(self) -> None:
        self._call("drop")
        self.store.records.clear()

    def count(self, scope: str | None = None) -> int:
        self._call("count")
        with self._lock:
            scopes = self.store.records if scope is None else {scope: self.store.records.get(scope, {})}
            return sum(len(records) for records in scopes.values())

    def about(self, scope: str | None = None) -> int:
        self._call("about")
        return super().about(scope)

    def repeated(self, scope: str | None = None) -> int:
        self._call("repeated")
        return super().repeated(scope)

    def scopes(self) -> list[str]:
        self._call("scopes")
        return sorted(scope for scope in self.store.records if scope is not None)

    def plan_splits(self, target_records: int, scopes: Sequence[str] | None = None) -> list[Split]:
        self._call("plan_splits")
        splits = []
        for scope in sorted(self.store.records, key=str) if scopes is None else scopes:
            for kind in self._kinds(scope):
                ids = self._sorted(scope, kind)
                bounds = ids[target_records - 1 :: target_records]
                sizes = [target_records] * len(bounds) + [len(ids) - target_records * len(bounds)]
                splits += tile(kind, bounds, scope=scope, records=sizes)
        return splits or [Split(kind=kind) for kind in self.schema.ids.kinds]

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return self._pages("scan", split, after, batch_records)

    def _pages(self, method: str, split: Split, after: str | None, batch_records: int) -> Iterator[Batch]:
        low = split.kind.decode(after) if after is not None else split.lower
        size = min(batch_records, self.page_records or batch_records)
        page = 0
        while True:
            failing = self._call(method)
            with self._lock:
                ids = [key for key in self._sorted(split.scope, split.kind) if split.contains(key)]
                ids = [key for key in ids if low is None or key > low][:size]  # type: ignore[operator]
                gone = tuple(id_text(key) for key in ids if key in self.vanish)
                kept = [key for key in ids if key not in self.vanish]
                batch = self._batch(split.kind, kept, split.scope, vanished=gone)
            if failing:
                failing.raise_()
            if not ids:
                return
            if page == self.disorder:
                batch = batch.take(np.arange(len(batch))[::-1])
            if page == self.repeat and low is not None:
                batch = self._batch(split.kind, [low, *kept], split.scope)
            yield batch
            low = ids[-1]
            page += 1

    def scan_field(
        self,
        split: Split,
        after: str | None = None,
        batch_records: int = 1000,
        *,
        field: str,
        at_least: float | None = None,
    ) -> Iterator[Batch]:
        for batch in self._pages("scan_field", split, after, batch_records):
            values = [payload.get(field) for payload in batch.payloads]
            rows = [row for row, value in enumerate(values) if _passes(value, at_least)]
            if rows:
                payloads = [{field: values[row]} if field in batch.payloads[row] else {} for row in rows]
                yield Batch(batch.ids.take(np.array(rows)), batch.scope, {}, payloads)

    def filters_by(self, field: str) -> bool:
        self._call("filters_by")
        return True

    def fetch(self, ids: IdColumn, scope: str | None = None) -> Fetched:
        failing = self._call("fetch")
        with self._lock:
            records = self.store.records.get(scope, {})
            wanted = ids.to_pylist()
            found = sorted({key for key in wanted if key in records and self._kind(records[key]) is ids.kind})  # type: ignore[type-var]
            missing = [key for key in wanted if key not in set(found)]
            batch = self._batch(ids.kind, found, scope)
        if failing:
            failing.raise_()
        return Fetched(batch, IdColumn.of(ids.kind, missing))

    def upsert(self, batch: Batch) -> list[Refusal]:
        failing = self._call("upsert")
        ids = batch.ids.to_pylist()
        at_fault = [id_text(key) for key in ids if self.invalid(key)]
        if at_fault:
            raise InvalidRecord("the record is not valid", ids=at_fault if self.names_invalid else ())
        refusals = []
        with self._lock:
            records = self.store.records.setdefault(batch.scope, {})
            for row, key in enumerate(ids):
                reason = self.refuse(key)
                if reason is not None:
                    refusals.append(Refusal(id_text(key), reason, batch.scope))
                    continue
                records[key] = self._normalised(batch.take([row]))
                self.written.append(key)
        if failing:
            failing.raise_()
        return refusals

    def delete(self, ids: IdColumn, scope: str | None = None) -> None:
        self._call("delete")
        with self._lock:
            for key in ids.to_pylist():
                self.store.records.get(scope, {}).pop(key, None)

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
        self._call("search")
        metric = self.metric or self.schema.vector(vector).metric or Metric.COSINE
        with self._lock:
            kinds = self._kinds(scope)
            if not kinds:
                return Hits([IdColumn.of(IdKind.U64, [])] * len(vectors), [np.zeros(0, np.float32)] * len(vectors))
            batch = self._batch(kinds[0], self._sorted(scope, kinds[0]), scope)
        column = batch.vectors[vector]
        wanted = (where or {}).items()
        found = [wanted <= payload.items() for payload in batch.payloads]
        rows = np.flatnonzero(is_valid(column) & np.array(found, np.bool_))
        scores = _scores(metric, vectors, column.take(rows))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Hits(
            [batch.ids.take(rows[best]) for best in order],
            [_claimed(metric, scores[i, best]) for i, best in enumerate(order)],
        )

    def prepare_bulk_load(self) -> None:
        self._call("prepare_bulk_load")

    def finish_bulk_load(self) -> None:
        self._call("finish_bulk_load")

    def wait_indexed(self) -> None:
        self._call("wait_indexed")

    def wait_visible(self) -> None:
        self._call("wait_visible")

    def ping(self) -> None:
        self._call("ping")

    def as_of_now(self) -> AbstractContextManager[None]:
        self._call("as_of_now")
        return nullcontext()

    def close(self) -> None:
        self.closed = True

    def put(self, batch: Batch) -> None:
        """Write records without faults, normalising or counting."""
        for row, key in enumerate(batch.ids.to_pylist()):
            self.store.records.setdefault(batch.scope, {})[key] = batch.take([row])

    def get(self, key: Id, scope: str | None = None) -> Batch:
        """One record."""
        return self.store.records[scope][key]

    def ids(self, scope: str | None = None) -> set[Id]:
        """All ids of a scope."""
        return set(self.store.records.get(scope, {}))

    def _call(self, method: str) -> Fault | None:
        """Count a call; raise its fault, or return it if it comes after the work."""
        if self.closed:
            raise NotFound(f"collection '{self.endpoint.collection}' is closed")
        with self._lock:
            call = self.calls[method]
            self.calls[method] += 1
        self.on_call(method)
        for fault in self.faults:
            if fault.method == method and fault.hits(call):
                if fault.after_commit:
                    return fault
                fault.raise_()
        return None

    def _normalised(self, record: Batch) -> Batch:
        vectors: dict[str, VectorColumn] = dict(record.vectors)
        for name in self.normalise & vectors.keys():
            column = vectors[name]
            assert isinstance(column, Dense)
            norms = np.linalg.norm(column.values, axis=1, keepdims=True)
            values = np.where(norms > 0, column.values / np.where(norms > 0, norms, 1), 0).astype(np.float32)
            vectors[name] = Dense(values, column.valid)
        return Batch(record.ids, record.scope, vectors, record.payloads)

    def _kinds(self, scope: str | None) -> list[IdKind]:
        found = {self._kind(record) for record in self.store.records.get(scope, {}).values()}
        return [kind for kind in IdKind if kind in found]

    @staticmethod
    def _kind(record: Batch) -> IdKind:
        return record.ids.kind

    def _sorted(self, scope: str | None, kind: IdKind) -> list[Id]:
        records = self.store.records.get(scope, {})
        return sorted(key for key, record in records.items() if record.ids.kind is kind)  # type: ignore[type-var]

    def _batch(self, kind: IdKind, ids: list[Id], scope: str | None, vanished: tuple[str, ...] = ()) -> Batch:
        records = self.store.records.get(scope, {})
        batch = concat([records[key] for key in ids], IdColumn.of(kind, ids), scope)
        return Batch(batch.ids, scope, batch.vectors, batch.payloads, vanished)


def _passes(value: Any, at_least: float | None) -> bool:
    """Whether a filter by a number lets a field's value through."""
    return at_least is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= at_least)


def _claimed(metric: Metric, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Scores as this database gives them: distances are not negative."""
    return (scores if metric in (Metric.COSINE, Metric.DOT) else -scores).astype(np.float32)


def _scores(metric: Metric, queries: Queries, column: VectorColumn) -> npt.NDArray[np.float64]:
    """Higher is better, float64 (q, n)."""
    if isinstance(queries, Sparse) and isinstance(column, Sparse):
        asked, held = list(map(_weights, sparse_rows(queries))), list(map(_weights, sparse_rows(column)))
        return np.array([[sum(w * b.get(i, 0.0) for i, w in a.items()) for b in held] for a in asked]).reshape(
            len(asked), len(held)
        )
    if isinstance(queries, Multi) and isinstance(column, Multi):
        rows = [row.astype(np.float64) for row in array_rows(column)]
        return np.array([[(q @ row.T).max(axis=1).sum() for row in rows] for q in array_rows(queries)])
    assert isinstance(queries, np.ndarray)
    assert isinstance(column, Dense)
    return _dense_scores(metric, queries.astype(np.float64), column.values.astype(np.float64))


def _weights(row: Any) -> dict[int, float]:
    return dict(zip(*row, strict=True))


def _dense_scores(
    metric: Metric, queries: npt.NDArray[np.float64], vectors: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if metric is Metric.EUCLIDEAN:
        return -np.linalg.norm(queries[:, None, :] - vectors[None, :, :], axis=2)
    if metric is Metric.MANHATTAN:
        return -np.abs(queries[:, None, :] - vectors[None, :, :]).sum(axis=2)
    products = queries @ vectors.T
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)[None, :]
        return products / np.where(lengths == 0, 1, lengths)
    return products

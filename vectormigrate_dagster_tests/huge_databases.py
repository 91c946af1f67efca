"""Databases that answer planning like servers with any number of records, and count what they are asked.

Each is the real class of its database with the lowest level replaced: everything above it, filters included, is what
plans a real collection. A new database is one more entry of `DATABASES`.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from vectormigrate_dagster.databases import Database, Endpoint
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.databases.pinecone.api import LIST_LIMIT, Answer, IdPage, IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import DEFAULT_NAMESPACE
from vectormigrate_dagster.databases.pinecone.database import Pinecone
from vectormigrate_dagster.databases.pinecone.listing import BEHIND
from vectormigrate_dagster.databases.pinecone.records import Row
from vectormigrate_dagster.databases.qdrant.database import Qdrant
from vectormigrate_dagster.databases.qdrant.records import point_id
from vectormigrate_dagster.databases.weaviate.database import Weaviate
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Split,
    VectorSchema,
)
from vectormigrate_dagster_tests.huge import KINDS, Huge, Kind, spread

_DIM = 8
_FIRST_MS = 1_700_000_000_000
"""Milliseconds of the first id that begins with a time (UUID version 7); a hundred are made in each."""

_COMPARED = re.compile(r'id (>=|<=|>|<) ("(?:[^"\\]|\\.)*"|-?\d+)', re.DOTALL)


class Counted(Database):
    """What the stand-ins of all databases have in common: ids, and the number of calls by their kind."""

    def __init__(self, huge: Huge, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.huge, self.calls, self._lock = huge, Counter[str](), threading.Lock()

    def called(self, kind: str) -> None:
        with self._lock:
            self.calls[kind] += 1

    def schema(self, *kinds: IdKind, field: str | None = None) -> CollectionSchema:
        vector = VectorSchema(name="vector", dim=_DIM, metric=Metric.COSINE)
        return CollectionSchema(name="huge", ids=IdSchema(kinds=kinds, field=field), vectors=(vector,))

    def pages(self, split: Split, after: str | None, size: int) -> Iterator[Batch]:
        """The split's records behind `after`, a call for each page."""
        last = split.lower if after is None else split.kind.decode(after)
        place, end = self.huge.upto(last), self.huge.total if split.last is None else self.huge.upto(split.upper)
        while place < end and split.kind is self.huge.kind.kind:
            self.called("read records")
            places = range(place, min(end, place + size))
            ids = IdColumn.of(split.kind, [self.huge.id_at(each) for each in places])
            yield Batch(ids, split.scope, {"vector": Dense(np.ones((len(ids), _DIM), np.float32))}, [{}] * len(ids))
            place = places.stop


class HugeMilvus(Counted, Milvus):
    """Answers `_column`, which is how a server's ids and counts are read."""

    def __init__(self, huge: Huge) -> None:
        super().__init__(huge, Endpoint(type="milvus", url="http://huge:19530", collection="huge"))

    def probe(self) -> Capabilities:
        return self.capabilities

    def describe(self) -> CollectionSchema:
        return self.schema(self.huge.kind.kind, field="id")

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return self.pages(split, after, batch_records)

    def ping(self) -> None:
        """Be there."""

    def _column(
        self, name: str, filter: str, scope: str | None, guarantee: int | None = None, **params: Any
    ) -> list[Any]:
        del scope, guarantee
        self.called("count" if name == "count(*)" else "read an id")
        if " in " in filter:
            return [0]
        low, high = 0, self.huge.total
        for sign, text in _COMPARED.findall(filter):
            value = json.loads(text)
            value = value - 1 if sign in {">=", "<"} else value
            low, high = (self.huge.upto(value), high) if sign in {">", ">="} else (low, self.huge.upto(value))
        if name == "count(*)":
            return [max(0, high - low)]
        places = range(low + params.get("offset", 0), min(high, low + params.get("offset", 0) + params["limit"]))
        return [self.huge.id_at(place) for place in places]

    def _server_time(self) -> int | None:
        return None


class HugeQdrant(Counted, Qdrant):
    """Answers the calls of the client that planning makes; a server that knows slices."""

    def __init__(self, huge: Huge) -> None:
        super().__init__(huge, Endpoint(type="qdrant", url="http://huge:6333", collection="huge"))
        self._version = (1, 19)

    def probe(self) -> Capabilities:
        return self.capabilities

    def describe(self) -> CollectionSchema:
        return self.schema(IdKind.U64, IdKind.UUID)

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return self.pages(split, after, batch_records)

    def ping(self) -> None:
        """Be there."""

    @contextmanager
    def _client(self, doing: str) -> Iterator[Any]:
        yield SimpleNamespace(count=self._counted, scroll=self._scrolled)

    def _counted(self, *_: Any, **__: Any) -> Any:
        self.called("count")
        return SimpleNamespace(count=self.huge.total)

    def _scrolled(self, *_: Any, scroll_filter: Any, limit: int, offset: Any, **__: Any) -> Any:
        """A page of a slice: every n-th id, which is as even as a hash."""
        self.called("read ids of the sample")
        step = 1 if scroll_filter is None else scroll_filter.must[0].slice.total
        # The first id of a page is `offset` itself.
        first = 0 if offset is None else self.huge.upto(_id(offset)) - 1
        places = range(first, min(self.huge.total, first + limit * step), step)
        points = [SimpleNamespace(id=point_id(self.huge.id_at(place))) for place in places]
        following = places.start + len(places) * step
        return points, point_id(self.huge.id_at(following)) if following < self.huge.total else None


class HugeWeaviate(Counted, Weaviate):
    """Answers the two questions of planning: how many records there are, and which id is the first behind one."""

    def __init__(self, huge: Huge) -> None:
        super().__init__(huge, Endpoint(type="weaviate", url="http://huge:8080", collection="huge"))

    def probe(self) -> Capabilities:
        return self.capabilities

    def describe(self) -> CollectionSchema:
        self._schema_read = self.schema(IdKind.UUID)
        return self._schema_read

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return self.pages(split, after, batch_records)

    def ping(self) -> None:
        """Be there."""

    def _count(self, scope: str | None) -> int:
        del scope
        self.called("count")
        return self.huge.total

    def _named(self, after: uuid.UUID | None, scope: str | None, limit: int, **_: Any) -> list[Any]:
        del scope
        self.called("read an id")
        place = self.huge.upto(after)
        places = range(place, min(self.huge.total, place + limit))
        return [SimpleNamespace(id=str(self.huge.id_at(each))) for each in places]


class HugePinecone(Counted, Pinecone):
    """Answers with pages of a hundred ids by prefix, as its server does, and with what it believes to hold."""

    def __init__(self, huge: Huge) -> None:
        super().__init__(huge, Endpoint(type="pinecone", url="http://huge:80", collection="huge"))
        self._found = HugeIndex(self)

    def probe(self) -> Capabilities:
        return self.capabilities

    def describe(self) -> CollectionSchema:
        return self.schema(IdKind.TEXT)

    def scan(self, split: Split, after: str | None = None, batch_records: int = 1000) -> Iterator[Batch]:
        return self.pages(split, after, batch_records)

    def ping(self) -> None:
        """Be there."""

    @contextmanager
    def _client(self, doing: str) -> Iterator[Any]:
        del doing
        yield None


class HugeIndex(IndexApi):
    """The index of a `HugePinecone`: nothing but planning is asked of it."""

    def __init__(self, asked: HugePinecone) -> None:
        super().__init__(None, asked.schema(IdKind.TEXT).vectors)
        self._asked = asked

    def counts(self) -> dict[str, int]:
        self._asked.called("count")
        return {DEFAULT_NAMESPACE: self._asked.huge.total}

    def list_namespaces(self, token: str | None) -> IdPage:
        del token
        self._asked.called("list namespaces")
        return IdPage([DEFAULT_NAMESPACE], None)

    def list_ids(self, namespace: str, prefix: str, token: str | None) -> IdPage:
        del namespace
        self._asked.called("list ids")
        huge = self._asked.huge
        numbers = range(huge.total)
        start = bisect_left(numbers, prefix, key=huge.id_at) if token is None else int(token)
        end = bisect_left(numbers, prefix + BEHIND, key=huge.id_at) if prefix else huge.total
        places = range(start, min(end, start + LIST_LIMIT))
        ids = [huge.id_at(place) for place in places]
        return IdPage(ids, str(places.stop) if places.stop < end else None)

    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Row]:
        raise NotImplementedError

    def upsert(self, namespace: str, records: Sequence[Any]) -> int | None:
        raise NotImplementedError

    def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        raise NotImplementedError

    def search(self, *_: Any, **__: Any) -> Answer:
        raise NotImplementedError


def _id(point: int | str) -> Id:
    return point if isinstance(point, int) else uuid.UUID(point)


@dataclass(frozen=True)
class Simulated:
    """A database that planning can be tried on.

    Args:
        opened: makes it from ids.
        kinds: ids that it can hold, by name.
        calls_per_split: most calls that a split may cost, beside those that every plan costs.
        total: records that tests plan.
        splits: least and most splits of so many.
        even: least and most records of a split, as a share of the mean.
        once: calls that every plan costs: counts, a profile, and what the database needs beside.
    """

    opened: Callable[[Huge], Counted]
    kinds: Mapping[str, Kind]
    calls_per_split: int
    total: int = 10**9
    splits: tuple[int, int] = (300, 500)
    once: int = 80
    even: tuple[float, float] = (0.9, 1.1)


DATABASES = {
    "milvus": Simulated(HugeMilvus, KINDS, 45),
    "qdrant": Simulated(
        HugeQdrant,
        {
            "counted": Kind(IdKind.U64, lambda place, _: place + 1),
            "uuids": Kind(IdKind.UUID, lambda place, total: uuid.UUID(int=spread(place, total, 128))),
        },
        1,
    ),
    "weaviate": Simulated(
        HugeWeaviate,
        {
            "uuids": Kind(IdKind.UUID, lambda place, total: uuid.UUID(int=spread(place, total, 128))),
            "uuids by time": Kind(
                IdKind.UUID, lambda place, _: uuid.UUID(int=(_FIRST_MS + place // 100) << 80 | 7 << 76 | place << 8)
            ),
        },
        1,
    ),
    # A billion are 5,000 splits, because none holds more than 200,000, and would take a minute of computing ids.
    "pinecone": Simulated(
        HugePinecone,
        {name: KINDS[name] for name in ("counted texts", "uuid texts")},
        60,
        total=10**7,
        splits=(50, 200),
        once=900,
        even=(0.1, 1.1),
    ),
}


def opened(name: str, kind: str, records: int) -> Counted:
    """A collection of so many records, with ids of that kind."""
    simulated = DATABASES[name]
    return simulated.opened(Huge(simulated.kinds[kind], records))

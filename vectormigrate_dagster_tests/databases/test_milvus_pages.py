"""A scan of Milvus holds no more than it was asked for, however many segments give up to a limit each."""

from __future__ import annotations

from typing import Any

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.databases.pages import PageSize
from vectormigrate_dagster.model import Batch
from vectormigrate_dagster_tests.databases.milvus_support import PLAIN, WHOLE, batch

RECORDS = 10_000
PAGE = 100


class ManySegments(Milvus):
    """A server whose replies are as many times the limit as it has segments."""

    def __init__(self, segments: int) -> None:
        super().__init__(Endpoint(type="milvus", url="http://127.0.0.1:1", collection="things"))
        self._schema_read = PLAIN
        self.segments = segments
        self.pages: list[int] = []
        self._given = 0

    def _server_time(self) -> int | None:
        return None

    def _page(
        self, filter: str, scope: str | None, size: PageSize, guarantee: int | None = None, **params: Any
    ) -> Batch | None:
        del filter, scope, guarantee
        rows = range(self._given, min(RECORDS, self._given + self.segments * params["limit"]))
        self._given += len(rows)
        self.pages.append(len(rows))
        size.learn(len(rows), 100 * len(rows))
        return batch(list(rows))


@pytest.mark.parametrize("segments", [1, 2, 7, 40])
def test_h29_pages_are_as_large_as_wanted_whatever_the_segments(segments: int) -> None:
    server = ManySegments(segments)
    batches = list(server.scan(WHOLE, batch_records=PAGE))
    assert [value for part in batches for value in part.ids.to_pylist()] == list(range(RECORDS))
    assert max(map(len, batches)) <= PAGE
    first, *others = server.pages[:-2]
    assert first == segments * PAGE
    assert all(PAGE / 2 < rows <= PAGE for rows in others)


def test_a_second_scan_knows_from_the_first() -> None:
    server = ManySegments(7)
    next(iter(server.scan(WHOLE, batch_records=PAGE)))
    server.pages.clear()
    next(iter(server.scan(WHOLE, batch_records=PAGE)))
    assert server.pages == [98]

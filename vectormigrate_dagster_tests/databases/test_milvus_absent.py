"""What a Milvus server does not find once may be there all the same: it is believed when it says so several times."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.databases.pages import PageSize
from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.model import Batch, IdColumn, IdKind
from vectormigrate_dagster_tests.databases.milvus_support import PLAIN, batch

THERE = range(100)


class Forgetful(Milvus):
    """A server that does not find some records the first times that it is asked for them."""

    def __init__(self, forgets: dict[int, int]) -> None:
        super().__init__(Endpoint(type="milvus", url="http://127.0.0.1:1", collection="things"))
        self._schema_read = PLAIN
        self.forgets = forgets
        self.asked: list[list[int]] = []
        self.loaded: list[bool] = []

    def _server_time(self) -> int | None:
        return None

    def _still_loaded(self, scope: str | None) -> bool:
        return self.loaded.pop(0) if self.loaded else True

    def _page(
        self, filter: str, scope: str | None, size: PageSize, guarantee: int | None = None, **params: object
    ) -> Batch | None:
        wanted = [int(text) for text in filter.partition("[")[2].rstrip("]").split(",")]
        self.asked.append(wanted)
        found = [number for number in wanted if number in THERE and self.forgets.get(number, 0) < 1]
        self.forgets = {number: times - (number in wanted) for number, times in self.forgets.items()}
        return batch(found)


@pytest.mark.parametrize("forgets", [{1: 1}, {1: 2, 2: 2}, {1: 1, 2: 3}], ids=str)
def test_what_is_not_found_is_asked_for_until_that_was_so_three_times_in_a_row(forgets: dict[int, int]) -> None:
    server = Forgetful(forgets)
    fetched = server.fetch(IdColumn.of(IdKind.I64, [0, 1, 2, 500]))
    assert fetched.batch.ids.to_pylist() == [0, 1, 2]
    assert fetched.missing.to_pylist() == [500]
    assert all(500 in asked and 0 not in asked for asked in server.asked[1:])
    assert server.asked[-1] == server.asked[-2] == [500]


def test_three_times_in_a_row_are_believed() -> None:
    server = Forgetful({1: 3})
    assert server.fetch(IdColumn.of(IdKind.I64, [0, 1])).missing.to_pylist() == [1]
    assert server.asked == [[0, 1], [1], [1]]


def test_what_is_all_there_is_asked_for_once() -> None:
    server = Forgetful({})
    assert len(server.fetch(IdColumn.of(IdKind.I64, [5, 6])).missing) == 0
    assert server.asked == [[5, 6]]


@pytest.mark.parametrize("loaded", [[False], [True, False], [False, True, True, False]], ids=str)
def test_h26_what_is_absent_from_a_collection_that_is_not_all_in_memory_is_asked_for_again(loaded: list[bool]) -> None:
    server = Forgetful({1: 3})
    server.loaded = loaded
    assert server.fetch(IdColumn.of(IdKind.I64, [0, 1])).missing.to_pylist() == []


def test_h26_a_collection_that_is_released_again_and_again_is_unavailable() -> None:
    server = Forgetful({1: 100})
    server.loaded = [True, False] * 100
    with pytest.raises(Unavailable, match="again and again"):
        server.fetch(IdColumn.of(IdKind.I64, [0, 1]))

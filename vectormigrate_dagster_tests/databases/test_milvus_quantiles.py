"""How a large Milvus collection is cut into splits, and how large its pages are, without a server."""

from __future__ import annotations

import numpy as np
import pytest

from vectormigrate_dagster.databases.milvus.quantiles import quantiles
from vectormigrate_dagster.databases.pages import TARGET_BYTES, PageSize
from vectormigrate_dagster.model import Id


class Numbers:
    """Sorted integers that are asked as `quantiles` asks, with the number of questions."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self.asked = ids, 0

    def _start(self, after: Id | None) -> int:
        return 0 if after is None else int(np.searchsorted(self.ids, after, side="right"))  # type: ignore[arg-type]

    def at(self, after: Id | None, place: int) -> Id | None:
        self.asked += 1
        i = self._start(after) + place - 1
        return int(self.ids[i]) if i < len(self.ids) else None

    def count(self, after: Id | None, last: Id) -> int:
        self.asked += 1
        return self._start(last) - self._start(after)


@pytest.mark.parametrize("spread", ["dense", "random", "clustered"])
def test_splits_of_a_large_collection_are_exact_and_cost_few_questions(spread: str) -> None:
    n = 200_000
    random = np.random.default_rng(0)
    ids = {
        "dense": lambda: np.arange(n) - n // 2,
        "random": lambda: np.unique(random.integers(-(2**63), 2**63 - 1, n)),
        "clustered": lambda: np.unique(
            np.concatenate([random.integers(0, n, n), random.integers(2**61, 2**61 + n, n)])
        ),
    }[spread]()
    asked = Numbers(ids)
    bounds = quantiles(asked, len(ids), 10, page=100, numbers=True)
    assert bounds == [int(ids[len(ids) * i // 10 - 1]) for i in range(1, 10)]
    assert asked.asked < 9 * 100  # walking takes 9 * 200, and more where there are more


def test_splits_begin_at_the_smallest_number_that_a_server_knows() -> None:
    """A filter that names the number before it is refused by the server."""

    class Strict(Numbers):
        def at(self, after: Id | None, place: int) -> Id | None:
            assert after is None or int(after) >= -(2**63)  # type: ignore[arg-type]
            return super().at(after, place)

        def count(self, after: Id | None, last: Id) -> int:
            assert after is None or int(after) >= -(2**63)  # type: ignore[arg-type]
            return super().count(after, last)

    ids = np.concatenate([[-(2**63)], np.arange(99_999)])
    bounds = quantiles(Strict(ids), len(ids), 3, page=100, numbers=True)
    assert bounds == [int(ids[len(ids) * i // 3 - 1]) for i in (1, 2)]


def test_pages_follow_the_weight_of_records() -> None:
    size = PageSize(10_000, record_bytes=2000)
    assert size.records == TARGET_BYTES // 2000
    size.learn(100, 100 * 100_000)
    assert size.records == TARGET_BYTES // 100_000
    size.learn(100, 100 * 10)
    assert size.records == 2 * (TARGET_BYTES // 100_000)
    while size.shrink():
        pass
    assert size.records == 1

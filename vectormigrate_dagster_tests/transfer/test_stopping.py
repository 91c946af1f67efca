"""Contract of `transfer_split` when it is stopped or closed: it ends soon, can be resumed, and leaves no thread."""

from __future__ import annotations

import threading

import pytest

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.errors import (
    Stopped,
    Throttled,
)
from vectormigrate_dagster.model import Batch
from vectormigrate_dagster.transfer import Checkpoint, Settings, Throttle
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.transfer.conftest import Pair, assert_moved, watch


def test_a_stop_finishes_what_is_in_flight_and_is_resumable(pair: Pair) -> None:
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(
            pair.move(stop=lambda: len(yielded) >= 2, settings=Settings(batch_records=5, page_records=5, max_pages=3)),
            yielded,
        )
    assert 2 <= len(yielded) <= 2 + 3
    assert pair.target.ids() == set(range(int(yielded[-1].after) + 1))
    list(pair.move(after=yielded[-1].after))
    assert_moved(pair)
    assert len(pair.target.written) == 100


def test_a_stop_before_the_start_moves_nothing(pair: Pair) -> None:
    with pytest.raises(Stopped):
        list(pair.move(stop=lambda: True))
    assert pair.target.ids() == set()


def test_a_stop_ends_a_wait_for_the_rate(pair: Pair) -> None:
    throttle = Throttle.of(rate=0.001, batch_records=10)
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(pair.move(throttle=throttle, stop=lambda: len(yielded) > 0), yielded)
    assert [checkpoint.after for checkpoint in yielded] == ["9"]


@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize(("side", "method"), [("source", "scan"), ("target", "upsert")])
def test_a_stop_ends_a_retry_that_would_wait_an_hour(pair: Pair, side: str, method: str, writers: int) -> None:
    database = pair.source if side == "source" else pair.target
    database.faults.append(Fault(method, Throttled("slow", retry_after=3600), at=1, times=None))
    yielded: list[Checkpoint] = []
    moving = pair.move(
        throttle=Throttle.of(batch_records=10),
        settings=Settings(batch_records=10, page_records=30, writers=writers),
        stop=lambda: database.calls[method] > 1,
    )
    with pytest.raises(Stopped):
        watch(moving, yielded, pair.target)
    database.faults.clear()
    list(pair.move(after=yielded[-1].after if yielded else None))
    assert_moved(pair)


def test_after_a_stop_no_call_is_begun(pair: Pair) -> None:
    """A slow target would otherwise get all that was read ahead."""
    writing, stopped = threading.Event(), threading.Event()
    asked = 0
    upsert = pair.target.upsert

    def slow(batch: Batch) -> list[Refusal]:
        writing.set()
        assert stopped.wait(60)
        return upsert(batch)

    def stop() -> bool:
        nonlocal asked
        asked += writing.is_set()
        if asked > 1:
            stopped.set()  # what was said the time before is known to all
        return asked > 0

    pair.target.upsert = slow  # type: ignore[method-assign]
    yielded: list[Checkpoint] = []
    with pytest.raises(Stopped):
        watch(pair.move(stop=stop), yielded, pair.target)
    assert pair.target.calls["upsert"] == len(yielded) == 1


def test_closing_ends_all_threads(pair: Pair) -> None:
    moving = pair.move()
    next(moving)
    moving.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vectormigrate-")]


def test_closing_ends_a_retry_that_would_wait_an_hour(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Throttled("slow", retry_after=3600), at=1, times=None))
    waiting = threading.Event()
    pair.target.on_call = lambda method: waiting.set() if pair.target.calls["upsert"] > 1 else None
    moving = pair.move(throttle=Throttle.of(batch_records=10))
    next(moving)
    assert waiting.wait(60)
    moving.close()  # type: ignore[attr-defined]


def test_a_transfer_that_never_starts_has_no_threads(pair: Pair) -> None:
    pair.move()
    assert pair.source.calls["scan"] == 0

"""Contract of the guards of a transfer: asked right before each write, told what is not known, never in the way."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.errors import LeaseHeld, Throttled, Unavailable, ValidationFailed
from vectormigrate_dagster.model import IdColumn
from vectormigrate_dagster.transfer import Settings, WriteGuard
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.transfer.conftest import Pair


class Watching:
    """A guard that notes what it is asked and told, and what was read and written by then."""

    def __init__(self, pair: Pair) -> None:
        self.events: list[str] = []
        self.pair = pair
        self.writes = WriteGuard(lambda: self.events.append("check"), lambda: self.events.append("unsure"))
        for database, method in ((pair.source, "scan"), (pair.target, "upsert")):
            database.on_call = lambda called, wanted=method: self.events.append(called) if called == wanted else None

    def begin(self) -> None:
        self.events.append("begin")

    def moving(self, ids: IdColumn, scope: str | None) -> set[str]:
        self.events.append("moving")
        return set(ids.texts())

    def finish(self) -> None:
        self.events.append("finish")
        assert self.pair.target.ids() == self.pair.source.ids()


def test_the_guard_begins_before_the_first_read_and_ends_after_the_last_acknowledgement(pair: Pair) -> None:
    guard = Watching(pair)
    checkpoints = pair.move(guard=guard)
    last = [checkpoint for checkpoint in checkpoints if "finish" not in guard.events][-1]
    assert guard.events[0] == "begin"
    assert guard.events[-1] == "finish"
    assert last.acknowledged == 100


def test_the_guard_is_asked_right_before_each_write(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Throttled("slow down"), at=1, times=2))
    guard = Watching(pair)
    list(pair.move(guard=guard, settings=Settings(batch_records=10, page_records=100, writers=1)))
    written = [event for event in guard.events if event in {"check", "upsert"}]
    sent = [index for index, event in enumerate(written) if event == "upsert"]
    assert len(sent) > 3
    assert all(written[index - 1] == "check" for index in sent)
    assert "unsure" not in guard.events


def test_the_guard_is_told_of_an_outcome_that_is_not_known(pair: Pair) -> None:
    pair.target.faults.append(Fault("upsert", Unavailable("timeout"), after_commit=True))
    guard = Watching(pair)
    list(pair.move(guard=guard))
    assert guard.events.count("unsure") >= 1


def test_what_the_guard_raises_ends_the_transfer_and_is_resumed(pair: Pair) -> None:
    guard = Watching(pair)
    asked = iter(range(1000))

    def check() -> None:
        if next(asked) >= 5:
            raise LeaseHeld("another worker has taken over")

    guard.writes = WriteGuard(check)
    checkpoints = []
    with pytest.raises(LeaseHeld):
        checkpoints += pair.move(guard=guard, settings=Settings(batch_records=10, page_records=10, writers=1))
    assert "finish" not in guard.events
    assert len(pair.target.ids()) < 100
    list(pair.move())
    assert pair.target.ids() == pair.source.ids()


@pytest.mark.parametrize("moving", [True, False])
def test_a_sample_that_the_application_writes_meanwhile_may_differ(pair: Pair, moving: bool) -> None:
    def spoil(method: str) -> None:
        if method == "wait_visible":
            for key in pair.target.ids():
                pair.target.put(make_batch([key], seed=9))

    guard = Watching(pair)
    pair.target.on_call = spoil
    if not moving:
        guard.moving = lambda ids, scope: set()  # type: ignore[method-assign]
        with pytest.raises(ValidationFailed):
            list(pair.move(guard=guard, verify_every=1))
        return
    list(pair.move(guard=guard, verify_every=1))
    assert "moving" in guard.events

"""Checks the contract of `SplitGuard`: what an application writes during a load is looked at again, once it is safe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import LeaseHeld, Throttled, Unavailable
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.model import IdColumn, IdKind, Split
from vectormigrate_dagster_tests.live.support import BOUNDS, Live, record
from vectormigrate_dagster_tests.memory import Fault


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def once(live: Live, event: str, act: Callable[[], None]) -> None:
    """Do something right before the first call of a method of the target."""

    def on_call(method: str) -> None:
        if method == event:
            live.target.on_call = lambda method: None
            act()

    live.target.on_call = on_call


def test_a_load_that_nobody_disturbs_touches_nothing(live: Live) -> None:
    live.write(record(1, 1))
    live.catch_up().step()
    guard = live.guard()
    live.load(guard=guard)
    assert guard.touched == 0
    live.assert_equal()
    assert live.journal.lag().records == 0


def test_ce1_a_page_that_lands_over_a_newer_value_is_put_right(live: Live) -> None:
    live.source.put(record(1, 1))
    admission = live.admit(1)

    def write_and_catch_up() -> None:
        live.source.put(record(1, 2))
        live.journal.applied(admission)
        assert live.catch_up().step().consumed == 1
        assert live.values(live.target) == {1: 2}

    once(live, "upsert", write_and_catch_up)
    guard = live.guard()
    live.load(guard=guard)
    assert live.values(live.target) == {1: 1}
    assert guard.touched == 1
    live.catch_up().step()
    live.assert_equal()


def test_ce4_a_deleted_record_that_a_page_resurrects_is_deleted_though_the_load_crashed(live: Live) -> None:
    live.source.put(record(1, 1))

    def delete_and_catch_up() -> None:
        live.remove(1)
        assert live.catch_up().step().consumed == 1
        live.target.faults.append(Fault("wait_visible", RuntimeError("the worker dies")))

    once(live, "upsert", delete_and_catch_up)
    with pytest.raises(RuntimeError, match="dies"):
        live.load()
    assert live.values(live.target) == {1: 1}
    assert live.journal.lag().records == 0

    again = live.guard()
    live.load(guard=again)
    assert again.touched is None  # a request of the first attempt may still be applied
    live.later()
    live.catch_up().step()
    live.assert_equal()
    assert live.values(live.target) == {}


def test_ce4b_a_page_of_an_attempt_that_was_given_up_lands_last_and_is_put_right(live: Live) -> None:
    live.source.put(record(1, 1))
    given_up = live.guard()
    given_up.begin()
    live.write(record(1, 2))
    live.load()
    live.catch_up().drain(float("inf"))
    assert live.values(live.target) == {1: 2}
    live.target.put(record(1, 1))  # what the first attempt had sent
    with pytest.raises(LeaseHeld, match="another worker"):
        given_up.finish()
    live.later()
    live.catch_up().step()
    live.assert_equal()


def test_ce11_a_write_whose_writer_died_before_the_load_began_is_looked_at_again(live: Live) -> None:
    live.source.put(record(1, 1))
    live.admit(1)  # and the writer dies, with its write on its way

    def land_and_catch_up() -> None:
        live.source.put(record(1, 2))
        live.later()
        assert live.catch_up().step().consumed == 1

    once(live, "upsert", land_and_catch_up)
    live.load()
    assert live.values(live.target) == {1: 1}
    live.later()
    live.catch_up().step()
    live.assert_equal()


def test_the_touches_wait_for_a_write_of_the_load_whose_outcome_is_not_known(live: Live) -> None:
    live.source.put(record(1, 1))
    live.target.faults.append(Fault("upsert", Unavailable("timeout"), after_commit=True))
    guard = live.guard()
    once(live, "upsert", lambda: live.write(record(1, 2)))
    live.load(guard=guard)
    assert guard.touched is None
    live.catch_up().step()
    live.target.put(record(1, 1))  # what had timed out lands after all
    assert live.journal.lag().records == 0
    live.later()
    live.catch_up().step()
    live.assert_equal()


def test_what_has_ended_a_load_is_told_though_its_plan_was_replaced_meanwhile(live: Live) -> None:
    journal = Journal(live.journal.database, live.journal.migration, "the plan")

    def load() -> None:
        with SplitGuard(journal, "g0001-00000", Split(kind=IdKind.U64)) as guard:
            guard.begin()
            live.journal.replan(id_kinds=[IdKind.U64], bounds=BOUNDS, plan="the next", by="test", reason="anew")
            raise Unavailable("timeout")

    with pytest.raises(Unavailable, match="timeout"):
        load()


def test_only_keys_of_the_split_are_touched(live: Live) -> None:
    first = SplitGuard(live.journal, "g0001-00000", Split(kind=IdKind.U64, last="10"))
    second = SplitGuard(live.journal, "g0001-00001", Split(kind=IdKind.U64, after="10"))
    first.begin()
    second.begin()
    for key in (1, 10, 11, 12, 13):
        live.write(record(key, 1))
    first.finish()
    second.finish()
    assert (first.touched, second.touched) == (2, 3)


def test_another_attempt_ends_the_first_one_at_its_next_renewal(live: Live) -> None:
    first = live.guard(seconds=0.0)
    first.begin()
    live.guard().begin()
    with pytest.raises(LeaseHeld, match="taken over"):
        first.writes.check()
    with pytest.raises(LeaseHeld, match="taken over"):
        first.finish()


def test_a_guard_renews_itself(live: Live) -> None:
    guard = live.guard(seconds=1e6)
    guard.begin()
    before = guard.attempt
    guard.writes.check()
    assert guard.attempt is before
    guard._seconds = 1e8
    guard.writes.check()
    assert guard.attempt.ends > before.ends
    assert guard.attempt.low == before.low


def test_nothing_is_loaded_after_the_switch(live: Live) -> None:
    live.source.put(record(1, 1))
    guard = live.guard(seconds=0.0)
    live.load()
    live.switch()
    with pytest.raises(LeaseHeld, match="switched"):
        guard.begin()
    with pytest.raises(LeaseHeld, match="switched"):
        live.load()
    assert live.target.calls["upsert"] == 1


def test_ids_in_motion_are_those_that_were_named_since_the_load_began(live: Live) -> None:
    live.write(record(1, 1))
    live.catch_up().step()
    guard = live.guard()
    guard.begin()
    live.write(record(2, 1))
    live.admit(3)
    assert guard.moving(IdColumn.of(IdKind.U64, [1, 2, 3, 4]), None) == {"2", "3"}


def test_what_an_unfinished_load_will_touch_may_rightly_differ(live: Live) -> None:
    live.source.put(record(1, 1))
    live.target.faults.append(Fault("upsert", Unavailable("timeout"), after_commit=True))
    once(live, "upsert", lambda: live.write(record(1, 2)))
    live.load()
    live.catch_up().step()
    since = live.journal.position()
    assert live.journal.moving([live.key(1), live.key(2)], since=since) == {live.key(1)}
    live.later()
    live.catch_up().step()
    assert live.journal.moving([live.key(1), live.key(2)], since=since) == {live.key(1)}  # touched since
    assert live.journal.moving([live.key(1), live.key(2)], since=live.journal.position()) == set()


def test_a_sample_that_catching_up_has_changed_meanwhile_is_no_failure(live: Live) -> None:
    for key in range(5):
        live.source.put(record(key, 1))

    def write_and_catch_up() -> None:
        live.write(record(2, 2))
        live.catch_up().step()

    once(live, "wait_visible", write_and_catch_up)
    live.load(verify_every=1)
    live.catch_up().step()
    live.assert_equal()


@pytest.mark.parametrize("ends", ["killed", "interrupted", "failed", "failed in doubt"])
def test_who_takes_a_load_back_waits_for_what_it_may_have_sent_and_no_longer(live: Live, ends: str) -> None:
    live.source.put(record(1, 1))
    if ends == "killed":
        live.guard(seconds=60.0).begin()
        expected = 60.0 + BOUNDS.request
    elif ends == "interrupted":  # a second time, so that it did not wait for its threads
        guard = live.guard(seconds=60.0)
        guard.begin()
        guard.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        expected = 60.0 + BOUNDS.request
    else:
        error = Unavailable("timeout") if ends == "failed in doubt" else Throttled("slow down")
        live.target.faults.append(Fault("upsert", error, times=None))
        with pytest.raises(type(error)), live.guard() as guard:
            live.load(guard=guard)
        expected = BOUNDS.request if ends == "failed in doubt" else 0.0
    journal = live.journal
    assert journal.loading_seconds() == pytest.approx(expected, abs=30)
    live.later(20)
    journal.leave_splits(over=False)
    assert journal.loading_seconds() == pytest.approx(max(0.0, expected - 20), abs=15)
    journal.leave_splits(over=True)  # nobody loads any more, so nothing is sent after now
    assert journal.loading_seconds() == pytest.approx(min(max(0.0, expected - 20), BOUNDS.request), abs=15)
    live.later()
    assert journal.loading_seconds() == 0


def test_a_load_that_is_taken_back_cannot_renew_its_attempt(live: Live) -> None:
    guard = live.guard(seconds=0.0)
    guard.begin()
    live.journal.leave_splits(over=False)
    with pytest.raises(LeaseHeld, match="taken over"):
        guard.writes.check()


def test_an_attempt_that_ended_says_nothing_of_the_one_after_it(live: Live) -> None:
    first = live.guard(seconds=60.0)
    first.begin()
    live.guard(seconds=60.0).begin()
    live.journal.rest_split(first.attempt)
    assert live.journal.loading_seconds() > BOUNDS.request

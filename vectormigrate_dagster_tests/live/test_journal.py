"""Checks the journal's promises on SQLite and Postgres: each rule of the live protocol that it keeps by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vectormigrate_dagster.errors import LeaseHeld, NotSo, Unavailable
from vectormigrate_dagster.live.journal import State
from vectormigrate_dagster.live.journal.tables import APPLIED
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import (
    BOUNDS,
    OPEN,
    Clocked,
    carried_over,
    entered,
    frozen,
    key,
    keys,
    opened,
    rows,
    switched,
    written,
)

########
# Writers: rules 1 to 3
########


def test_an_intent_is_open_until_its_write_is_acknowledged(clocked: Clocked) -> None:
    _, journal = clocked
    admission = journal.admit(keys(1, 2))

    assert journal.lag().open == 2
    assert carried_over(journal) == []

    journal.applied(admission)
    journal.applied(admission)  # once more does no harm

    assert journal.lag().open == 0
    assert carried_over(journal) == keys(1, 2)
    assert journal.lag().records == 0


def test_an_intent_without_an_answer_is_closed_when_its_write_can_no_longer_happen(clocked: Clocked) -> None:
    database, journal = clocked
    journal.admit(keys(1))

    database.tick(OPEN - 0.01)
    assert carried_over(journal) == []
    database.tick(0.01)
    assert carried_over(journal) == keys(1)


def test_an_admission_is_too_old_to_be_used_after_its_limit(clocked: Clocked) -> None:
    _, journal = clocked
    admission = journal.admit(keys(1))
    admission.check()

    with pytest.raises(Unavailable, match="too long ago"):
        replace(admission, began=admission.began - BOUNDS.start - 1).check()


def test_nobody_is_admitted_while_writes_are_frozen(clocked: Clocked) -> None:
    _, journal = clocked
    control = frozen(journal)

    with pytest.raises(Unavailable, match="frozen for its cutover"):
        journal.admit(keys(1), patience=0.0)
    assert journal.lag().records == 0

    journal.enter(State.CATCHING_UP, since=control, by="test", reason="given up")
    assert journal.admit(keys(1)).control.state is State.CATCHING_UP


def test_a_freeze_that_takes_too_long_ends_by_itself_and_its_epoch_is_gone(clocked: Clocked) -> None:
    database, journal = clocked
    control = frozen(journal, seconds=10)
    journal.verified(control)
    database.tick(10)

    assert journal.admit(keys(1), patience=0.0).control.epoch == control.epoch + 1
    assert journal.control().state is State.CATCHING_UP
    with pytest.raises(NotSo, match="took too long"):
        journal.switch(since=control, by="test", reason="late")


def test_a_freeze_of_the_way_back_ends_as_it_began(clocked: Clocked) -> None:
    database, journal = clocked
    switched(journal)
    frozen(journal, seconds=10)
    database.tick(10)
    journal.admit(keys(1))

    assert (journal.control().state, journal.control().primary) == (State.SWITCHED, "target")


def test_a_completed_migration_notes_nothing_and_admits_everybody(clocked: Clocked) -> None:
    database, journal = clocked
    switched(journal)
    written(journal, 1)
    journal.complete(since=journal.control(), by="test", reason="done")

    admission = journal.admit(keys(1))
    journal.applied(admission)

    assert admission.control.primary == "target"
    assert (rows(database), rows(database, APPLIED)) == ([], [])


def test_a_write_about_no_record_leaves_nothing_in_the_journal(clocked: Clocked) -> None:
    database, journal = clocked
    journal.applied(journal.admit([]))

    assert (rows(database), rows(database, APPLIED)) == ([], [])


def test_what_may_be_planned_again_goes_on_noting_intents_after_its_end(clocked: Clocked) -> None:
    """A write that began before a new plan would be unknown to its backfill otherwise."""
    _, journal = clocked
    journal.complete(since=journal.control(), by="test", reason="given up")
    journal.admit(keys(1))

    assert journal.lag().open == 1


########
# Re-sync: rules 5 to 9
########


def test_entries_that_came_after_the_list_stay(clocked: Clocked) -> None:
    _, journal = clocked
    written(journal, 1)
    lease = journal.lease(seconds=60)
    assert lease is not None
    found = journal.due(lease)
    written(journal, 1)
    journal.consume(lease, found)

    assert [entry.key for entry in journal.due(lease)] == keys(1)


def test_entries_are_due_when_every_read_sees_them(journal_url: str) -> None:
    with opened(journal_url, replace(BOUNDS, stale={"source": 7.0, "target": 0.0})) as (database, journal):
        written(journal, 1)
        database.tick(6.9)
        assert carried_over(journal) == []
        database.tick(0.1)
        assert carried_over(journal) == keys(1)


def test_a_lease_that_is_older_than_a_plan_goes_by_the_bounds_of_the_plan(clocked: Clocked) -> None:
    """Rule 3: the write of an intent may happen for as long as the plan says that admitted it."""
    database, journal = clocked
    lease = journal.lease(seconds=1000)
    assert lease is not None
    later = replace(BOUNDS, request=BOUNDS.request + 100)
    journal.replan(id_kinds=[IdKind.U64], bounds=later, by="test", reason="planned")
    journal.admit(keys(1))

    database.tick(OPEN)
    assert journal.due(lease) == []
    database.tick(100)
    assert [entry.key for entry in journal.due(lease)] == keys(1)


def test_open_entries_do_not_keep_others_from_being_listed(clocked: Clocked) -> None:
    _, journal = clocked
    journal.admit(keys(*range(10)))
    written(journal, 10)
    lease = journal.lease(seconds=60)

    assert lease is not None
    assert [entry.key for entry in journal.due(lease, limit=1)] == keys(10)


def test_a_lane_is_free_again_when_the_last_request_under_its_lease_cannot_be_applied(clocked: Clocked) -> None:
    database, journal = clocked
    lease = journal.lease([3, 4], seconds=30)
    assert lease is not None
    assert lease.lanes == (3, 4)

    assert journal.lease([3], seconds=30) is None
    database.tick(30 + BOUNDS.request + BOUNDS.margin - 0.01)
    assert journal.lease([3], seconds=30) is None
    database.tick(0.01)
    again = journal.lease([3, 4, 5], seconds=30)
    assert again is not None
    assert again.lanes == (3, 4, 5)

    with pytest.raises(LeaseHeld, match="nothing is marked"):
        journal.consume(lease, [])
    journal.release(lease)  # is not his to give back any more
    assert journal.lease([3], seconds=30) is None


def test_a_lease_says_when_too_little_of_it_is_left(clocked: Clocked) -> None:
    _, journal = clocked
    lease = journal.lease([1], seconds=BOUNDS.margin - 0.1)
    assert lease is not None

    with pytest.raises(LeaseHeld, match="about to end"):
        lease.check()


def test_a_lease_whose_epoch_has_changed_sides_marks_nothing(clocked: Clocked) -> None:
    _, journal = clocked
    lease = journal.lease([1], seconds=60)
    assert lease is not None
    journal.release(lease)
    switched(journal)

    with pytest.raises(LeaseHeld, match="was switched"):
        journal.consume(lease, [])


########
# Backfill: rules 10 to 13
########


def test_a_split_distrusts_itself_from_the_oldest_open_intent_on(clocked: Clocked) -> None:
    _, journal = clocked
    written(journal, 1)
    carried_over(journal)
    journal.admit(keys(2))
    written(journal, 3)

    attempt = journal.begin_split("all", seconds=60)
    written(journal, 4)
    journal.note(keys(5), kind="touch")

    assert journal.finish_split(attempt) == 3
    assert set(carried_over(journal)) == set(keys(2, 3, 4, 5))  # the write of 2 is open, its touch is not


def test_a_restart_keeps_the_oldest_low_of_all_attempts(clocked: Clocked) -> None:
    database, journal = clocked
    first = journal.begin_split("all", seconds=60)
    written(journal, 1)
    carried_over(journal)
    database.tick(1000)
    second = journal.begin_split("all", seconds=60)

    assert second.low == first.low
    assert journal.finish_split(second) == 1
    with pytest.raises(LeaseHeld, match="another worker"):
        journal.finish_split(first)


def test_the_touches_of_a_split_wait_for_the_requests_of_earlier_attempts(clocked: Clocked) -> None:
    database, journal = clocked
    journal.begin_split("all", seconds=60)
    database.tick(1)
    second = journal.begin_split("all", seconds=60)
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        database.tick(seconds)

    journal.finish_split(second, sleep=sleep)

    assert slept == [60 + BOUNDS.request + BOUNDS.margin - 1]


def test_no_split_is_begun_after_the_switch(clocked: Clocked) -> None:
    """CE-9: the re-run of an old partition would write over what the application has written since."""
    _, journal = clocked
    switched(journal)

    with pytest.raises(LeaseHeld, match="was switched"):
        journal.begin_split("all", seconds=60)


########
# Cutover: rules 14 to 16
########


def test_nothing_is_switched_while_anything_is_under_way(clocked: Clocked) -> None:
    _, journal = clocked
    open_one = journal.admit(keys(1))
    attempt = journal.begin_split("all", seconds=60)
    lease = journal.lease([key(0).lane], seconds=60)
    control = frozen(journal)
    assert lease is not None
    assert key(1).lane not in lease.lanes

    assert len(journal.blockers(control)) == 4  # an open intent, an unfinished split, a lease, no verification
    journal.applied(open_one)
    journal.finish_split(attempt)
    carried_over(journal)
    journal.verified(control)
    with pytest.raises(NotSo, match=r"switched: 1 lane is held, or what was sent under a lease may still be applied$"):
        journal.switch(since=control, by="test", reason="early")

    journal.release(lease)
    after = journal.switch(since=control, by="test", reason="now")
    assert (after.primary, after.state, after.epoch) == ("target", State.SWITCHED, control.epoch + 1)


def test_writes_that_are_frozen_grant_leases_only_for_what_is_to_be_carried_over(clocked: Clocked) -> None:
    """Rule 20: otherwise a catch-up run that finds nothing to do would keep the journal from ever being quiet."""
    _, journal = clocked
    written(journal, 1)
    frozen(journal)

    assert carried_over(journal) == keys(1)
    assert journal.lease(seconds=60) is None


def test_a_verification_of_another_epoch_does_not_count(clocked: Clocked) -> None:
    _, journal = clocked
    first = frozen(journal)
    journal.verified(first)
    second = frozen(journal)

    with pytest.raises(NotSo, match="verification has not passed"):
        journal.switch(since=second, by="test", reason="no")
    with pytest.raises(NotSo, match="look at it again"):
        journal.enter(State.READY, since=first, by="test", reason="no")


def test_ids_that_are_named_after_the_verification_prevent_the_switch(clocked: Clocked) -> None:
    _, journal = clocked
    control = frozen(journal)
    journal.verified(control)
    journal.note(keys(1), kind="touch")
    carried_over(journal)

    with pytest.raises(NotSo, match="named since"):
        journal.switch(since=control, by="test", reason="no")


def test_every_change_raises_the_epoch_and_says_who_and_why(clocked: Clocked) -> None:
    _, journal = clocked
    epochs = [journal.control().epoch]
    for state in (State.BACKFILLING, State.CATCHING_UP, State.VERIFYING, State.READY):
        epochs.append(entered(journal, state).epoch)
    epochs.append(switched(journal).epoch)

    assert epochs == sorted(set(epochs))
    assert (journal.control().changed_by, journal.control().reason) == ("test", "wanted")

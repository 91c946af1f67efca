"""Checks the cutover: what it waits for, that it loses no write, and that writes go on whatever happens."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.live.differences import Looked
from vectormigrate_dagster.live.journal import Admission, Bounds, Control, State
from vectormigrate_dagster.live.journal.generations import Doubtful
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.live.switching import (
    BOUNDS,
    WHO,
    Killed,
    Process,
    Switching,
    frozen,
    key_of,
    standing_clock,
)
from vectormigrate_dagster_tests.memory import Fault

########################################################################
# There and back
########################################################################


def test_a_cutover_makes_the_target_the_primary_and_loses_nothing(switching: Switching) -> None:
    switching.write(1, 5)
    switching.write(2, None)
    switching.write(20, 6)

    ended = switching.cutover().run(**WHO)

    assert (ended.done, ended.blocked_by) == (True, ())
    assert (ended.control.primary, ended.control.state) == ("target", State.SWITCHED)
    switching.assert_moved()
    states = [control.state.value for control in switching.changes]
    assert states[:5] == ["catching_up", "verifying", "ready", "frozen", "switched"]
    assert {(control.changed_by, control.reason) for control in switching.changes} == {("tester", "tested")}


def test_going_back_keeps_what_was_written_after_the_cutover(switching: Switching) -> None:
    assert switching.cutover().run(**WHO).done
    switching.write(1, 5)
    switching.write(2, None)
    switching.write(21, 7)
    assert 21 not in switching.stores["source"].ids()

    ended = switching.cutover().reverse(**WHO)

    assert (ended.done, ended.blocked_by) == (True, ())
    assert (ended.control.primary, ended.control.state) == ("source", State.REVERSED)
    switching.assert_moved()
    switching.write(22, 8)
    assert switching.cutover().run(**WHO).control.state is State.SWITCHED
    switching.assert_moved()


def test_a_verb_that_is_run_again_says_that_it_is_done(switching: Switching) -> None:
    first = switching.cutover().run(**WHO)
    again = switching.cutover().run(by="somebody else", reason="again")

    assert again.done
    assert again.control == first.control


def test_completing_forgets_the_journal_and_the_application_writes_on(switching: Switching) -> None:
    switching.write(1, 5)
    assert switching.cutover().run(**WHO).done
    switching.write(2, 6)

    ended = switching.cutover().complete(**WHO)

    assert (ended.done, ended.control.state, ended.control.primary) == (True, State.COMPLETED, "target")
    switching.write(3, 7)
    assert switching.journal.lag().records == 0
    assert switching.cutover().complete(**WHO).done
    assert not switching.cutover().reverse(**WHO).done
    assert switching.control == ended.control


def test_nothing_is_completed_or_reversed_that_was_not_cut_over(switching: Switching) -> None:
    before = switching.control

    for ended in (switching.cutover().complete(**WHO), switching.cutover().reverse(**WHO)):
        assert not ended.done
        assert "cut" in ended.blocked_by[0]
    assert switching.control == before


def test_a_dry_run_tells_the_steps_and_changes_nothing(switching: Switching) -> None:
    switching.write(1, 5)
    before, lag = switching.control, switching.journal.lag()

    steps = switching.cutover(gates=(lambda: ["2 of 3 partitions are not moved"],)).steps()

    assert [step.done for step in steps] == [False, True, False, True, False, False, False]
    assert steps[0].blocked_by == ("2 of 3 partitions are not moved",)
    assert "what waits, 1 change," in steps[1].does
    assert "3 of 3 parts" in steps[2].does
    assert (switching.control, switching.journal.lag().records) == (before, lag.records)
    assert all(store.calls["upsert"] == 0 for store in switching.stores.values())


########################################################################
# What is in the way
########################################################################


def test_a_gate_that_is_closed_keeps_writes_from_being_frozen(switching: Switching) -> None:
    ended = switching.cutover(gates=(lambda: (), lambda: ["it was not validated"])).run(**WHO)

    assert (ended.done, ended.blocked_by) == (False, ("it was not validated",))
    assert switching.changes == []


def test_a_split_that_is_being_loaded_is_in_the_way(switching: Switching) -> None:
    switching.journal.begin_split("g0001-0", seconds=60.0)

    ended = switching.cutover(patience_seconds=1.0).run(**WHO)

    assert not ended.done
    assert "1 split is being loaded" in str(ended.blocked_by)
    assert not any(control.state is State.FROZEN for control in switching.changes)


def test_a_page_of_unknown_outcome_in_a_loaded_split_is_waited_for(switching: Switching) -> None:
    switching.write(5, 1)
    attempt = switching.journal.begin_split("g0001-1", seconds=60.0)
    switching.write(5, 2)
    assert switching.journal.leave_split(attempt, unsure=200.0) is None
    late = switching.clock.now + 200.0

    def land(seconds: float) -> None:
        before, after = switching.clock.now, switching.clock.now + seconds
        switching.clock.sleep(seconds)
        if before < late - 5.0 <= after:
            switching.stores["target"].put(make_batch([5], seed=1))

    coordinator = switching.cutover()
    coordinator.sleep = land
    ended = coordinator.run(**WHO)

    assert ended.done
    froze = next(control for control in switching.changes if control.state is State.FROZEN)
    assert froze.changed_at >= late
    switching.assert_moved()


def test_pages_written_after_a_comparison_take_back_what_it_said(switching: Switching) -> None:
    coordinator = switching.cutover()
    coordinator.verification.generation()
    assert "compare both sides exactly: 0 of 3 parts" in [step.does for step in coordinator.steps()]

    attempt = switching.journal.begin_split("g0001-0", seconds=60.0)
    switching.journal.finish_split(attempt)

    assert "compare both sides exactly: 3 of 3 parts" in [step.does for step in coordinator.steps()]


def test_a_write_of_unknown_outcome_is_waited_for_before_writes_are_frozen(switching: Switching) -> None:
    switching.write(1, 5, acknowledged=False)
    began = switching.clock.now

    ended = switching.cutover().run(**WHO)

    assert ended.done
    froze = next(control for control in switching.changes if control.state is State.FROZEN)
    assert froze.changed_at >= began + BOUNDS.open_seconds
    assert ended.control.changed_at - froze.changed_at < 1.0
    switching.assert_moved()


########################################################################
# The freeze
########################################################################


def test_the_freeze_ends_by_itself_and_a_waiting_writer_goes_on(switching: Switching) -> None:
    coordinator = switching.cutover(freeze_seconds=2.0)
    admitted: list[Admission] = []  # a write whose answer does not come
    coordinator.changed = lambda control: admitted.append(switching.admit(1)) if control.state is State.READY else None
    ended = coordinator.run(**WHO)

    assert not ended.done
    assert "journal ended the freeze: the freeze took too long" in ended.blocked_by[0]
    assert "1 change is not carried over" in ended.blocked_by[1]
    assert (switching.control.state, switching.control.primary) == (State.CATCHING_UP, "source")
    switching.send(admitted[0], 1, 7)
    switching.journal.applied(admitted[0])
    switching.model[1] = 7
    switching.assert_writable()
    assert switching.cutover().run(**WHO).done
    switching.assert_moved()


def test_a_writer_that_waits_during_the_freeze_writes_the_new_primary(switching: Switching) -> None:
    coordinator = switching.cutover()
    seen: list[str] = []

    def write_while_frozen() -> None:
        with pytest.raises(Unavailable):
            switching.write(1, 5)
        seen.append(switching.control.state.value)

    coordinator.changed = lambda control: write_while_frozen() if control.state is State.FROZEN else None
    assert coordinator.run(**WHO).done

    assert seen == ["frozen"]
    assert switching.admit(1).control.primary == "target"


def test_a_freeze_that_nobody_ends_is_ended_by_the_next_writer(switching: Switching) -> None:
    switching.journal.freeze(since=switching.control, seconds=10.0, **WHO)
    assert frozen(switching)

    switching.write(1, 5, patience=30.0)

    assert switching.control.state is State.CATCHING_UP
    switching.assert_writable()


def test_a_database_that_fails_during_the_freeze_lets_writes_go_on_at_once(switching: Switching) -> None:
    coordinator = switching.cutover()
    target = switching.handles["target"]

    def fail(control: object) -> None:
        del control
        if frozen(switching):
            switching.journal.note([key_of(1)], kind="touch")
            target.faults.append(Fault("fetch", Unavailable("gone"), times=None))

    coordinator.changed = fail
    with pytest.raises(Unavailable):
        coordinator.run(**WHO)

    assert switching.control.state is State.CATCHING_UP
    switching.write(1, 5)


########################################################################
# What a verification finds
########################################################################


def test_a_record_that_somebody_spoiled_is_carried_over_before_the_switch(switching: Switching) -> None:
    switching.stores["target"].put(make_batch([5], seed=77))
    switching.stores["target"].put(make_batch([30], seed=1))
    del switching.stores["target"].store.records[None][6]

    assert switching.cutover().run(**WHO).done

    switching.assert_moved()


def test_a_mismatch_while_frozen_is_touched_and_never_switched(switching: Switching) -> None:
    coordinator = switching.cutover()
    quiet = coordinator.verification.quiet

    def spoil(since: Control) -> Doubtful | None:
        listed = quiet(since)
        if listed is not None:
            switching.stores["target"].put(make_batch([5], seed=78))
        return listed

    coordinator.changed = lambda control: switching.write(5, 1) if control.state is State.READY else None
    coordinator.verification.quiet = spoil  # type: ignore[method-assign]
    ended = coordinator.run(**WHO)

    assert not ended.done
    assert "'5'" in ended.blocked_by[0]
    assert (switching.control.state, switching.control.primary) == (State.CATCHING_UP, "source")
    assert switching.cutover().run(**WHO).done
    switching.assert_moved()


def test_a_record_that_cannot_be_carried_over_is_named_and_writes_are_not_frozen(switching: Switching) -> None:
    coordinator = switching.cutover()
    switching.handles["target"].refuse = lambda key: "too large" if key == 5 else None
    switching.write(5, 1)

    ended = coordinator.run(**WHO)

    assert not ended.done
    assert "1 id differs" in ended.blocked_by[0]
    assert "'5'" in ended.blocked_by[0]
    assert State.FROZEN not in {control.state for control in switching.changes}


def test_the_generation_after_the_switch_raises_the_alarm(switching: Switching) -> None:
    assert switching.cutover().run(**WHO).done
    switching.stores["source"].put(make_batch([4], seed=78))

    ended = switching.cutover().complete(**WHO)

    assert not ended.done
    assert "'4'" in ended.blocked_by[0]
    assert switching.control.state is State.SWITCHED
    assert switching.cutover().complete(**WHO).done
    switching.assert_moved()


########################################################################
# Counterexamples
########################################################################


def test_ce6_a_write_that_was_admitted_before_the_freeze_is_waited_for(switching: Switching) -> None:
    coordinator = switching.cutover(freeze_seconds=60.0)
    admitted: list[Admission] = []

    def land(seconds: float) -> None:
        switching.clock.sleep(seconds)
        if frozen(switching) and admitted:
            switching.send(admitted[0], 1, 9)
            switching.journal.applied(admitted.pop())
            switching.model[1] = 9

    coordinator.changed = lambda control: admitted.append(switching.admit(1)) if control.state is State.READY else None
    coordinator.sleep = land
    assert coordinator.run(**WHO).done

    assert switching.model[1] == 9
    switching.assert_moved()


def test_ce9_a_late_write_of_a_resync_that_is_gone_cannot_come_after_the_switch(switching: Switching) -> None:
    switching.write(1, 5)
    process = Process()
    gone = switching.catch_up(process)
    switching.write(1, 6)

    def die(method: str) -> None:
        if method == "upsert":
            process.at = process.calls + 1
        process.point()

    switching.handles["target"].on_call = die
    with pytest.raises(Killed):
        gone.step()
    late = switching.clock.now + 10.0 + BOUNDS.request

    ended = switching.cutover().run(**WHO)

    assert ended.done
    assert ended.control.changed_at >= late
    switching.assert_moved()


def test_ce12_a_coordinator_that_wakes_up_after_an_abort_cannot_switch(switching: Switching) -> None:
    coordinator = switching.cutover(freeze_seconds=5.0)
    verified = coordinator.verification.recheck

    def pause(since: Control, doubtful: Doubtful) -> Looked:
        looked = verified(since, doubtful)
        switching.clock.sleep(6.0)
        switching.write(1, 9, patience=1.0)  # ends the freeze, whose time is over
        return looked

    coordinator.verification.recheck = pause  # type: ignore[method-assign]
    ended = coordinator.run(**WHO)

    assert not ended.done
    assert switching.control.primary == "source"
    assert switching.cutover().run(**WHO).done
    switching.assert_moved()


def test_ce13_the_direction_turns_with_the_primary_in_one_step(switching: Switching) -> None:
    catch_up = switching.catch_up()  # made while the source was the primary
    assert switching.cutover().run(**WHO).done
    switching.write(1, 9)

    step = catch_up.step()

    assert step.control.primary == "target"
    switching.assert_moved()


def test_what_a_cutover_waits_for_by_itself_is_shown_and_blocks_only_beyond_its_patience(
    switching: Switching,
) -> None:
    switching.write(1, 5, acknowledged=False)
    switching.clock.sleep(2.0)

    patient, hurried = (switching.cutover(patience_seconds=seconds).steps() for seconds in (300.0, 60.0))

    assert "1 change is not carried over, or of unknown outcome, 12" in patient[3].does
    assert [step.blocked_by for step in patient] == [()] * 7
    assert "try again then" in hurried[3].blocked_by[0]


########################################################################
# A freeze that nobody has ended
########################################################################


@pytest.mark.parametrize("verb", ["run", "reverse", "complete"])
def test_a_verb_goes_on_after_a_coordinator_that_died_while_writes_were_frozen(verb: str, switching: Switching) -> None:
    if verb != "run":
        assert switching.cutover().run(**WHO).done
    switching.journal.freeze(since=switching.control, seconds=10.0, **WHO)
    switching.clock.sleep(11.0)  # and nobody has written or carried anything over since

    ended = getattr(switching.cutover(), verb)(**WHO)

    assert (ended.done, ended.blocked_by) == (True, ())
    switching.assert_moved()


def test_writes_are_not_frozen_for_less_than_reads_may_be_old(journal_url: str) -> None:
    with standing_clock() as clock:
        case = Switching(journal_url, clock, bounds=Bounds(stale={"source": 0.0, "target": 60.0}))

        ended = case.cutover().run(**WHO)

        assert "'cutover.freeze_seconds' is 20" in ended.blocked_by[0]
        assert case.cutover().steps()[4].blocked_by == ended.blocked_by
        assert case.changes == []
        assert case.cutover(freeze_seconds=90.0).run(**WHO).done
        assert "more than 120 s" in case.cutover(freeze_seconds=90.0).reverse(**WHO).blocked_by[0]
        case.close()

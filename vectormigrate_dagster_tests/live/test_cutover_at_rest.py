"""Checks that the row tells the truth after a cutover or a way back that has ended without its effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vectormigrate_dagster.errors import AuthenticationFailed, NotSo, Stopped
from vectormigrate_dagster.live.cutover import Cutover, Ended
from vectormigrate_dagster.live.journal import Control, State
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster_tests.live.switching import WHO, Switching

Verb = Callable[[Cutover], Ended]


def cut_over(coordinator: Cutover) -> Ended:
    return coordinator.run(**WHO)


def go_back(coordinator: Cutover) -> Ended:
    return coordinator.reverse(**WHO)


def nowhere(switching: Switching) -> None:
    """Before anything was switched."""


def there(switching: Switching) -> None:
    """After the cutover."""
    assert cut_over(switching.cutover()).done


def back(switching: Switching) -> None:
    """After the way back."""
    there(switching)
    assert go_back(switching.cutover()).done


rests = pytest.mark.parametrize(
    ("where", "verb", "rest"),
    [
        (nowhere, cut_over, State.CATCHING_UP),
        (there, go_back, State.SWITCHED),
        (back, cut_over, State.REVERSED),
    ],
    ids=["cutover", "reverse", "cutover again"],
)


@rests
@pytest.mark.parametrize("ends", [AuthenticationFailed("denied"), Stopped("stopped"), KeyboardInterrupt()], ids=repr)
def test_a_coordinator_that_fails_before_the_freeze(
    where: Callable[[Switching], None],
    verb: Verb,
    rest: State,
    ends: BaseException,
    switching: Switching,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where(switching)

    def fail(self: Verification) -> None:
        assert switching.control.state is State.VERIFYING
        raise ends

    monkeypatch.setattr(Verification, "generation", fail)
    with pytest.raises(type(ends)):
        verb(switching.cutover())

    assert (switching.control.state, switching.control.changed_by) == (rest, "tester")
    assert type(ends).__name__ in switching.control.reason
    assert switching.changes[-1] == switching.control
    monkeypatch.undo()
    assert verb(switching.cutover()).done


@rests
def test_a_coordinator_that_is_blocked_before_the_freeze(
    where: Callable[[Switching], None], verb: Verb, rest: State, switching: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    where(switching)
    monkeypatch.setattr(Verification, "generation", refuse)
    ended = verb(switching.cutover())
    assert (ended.done, ended.blocked_by, ended.control) == (False, ("pages are written",), switching.control)
    assert (ended.control.state, ended.control.reason) == (rest, "pages are written")
    monkeypatch.undo()
    assert verb(switching.cutover()).done


def refuse(self: Verification) -> None:
    raise NotSo("pages are written")


@rests
def test_a_coordinator_whose_patience_ends(
    where: Callable[[Switching], None], verb: Verb, rest: State, switching: Switching
) -> None:
    where(switching)
    switching.write(1, 1, acknowledged=False)
    ended = verb(switching.cutover(patience_seconds=1.0))
    assert "of unknown outcome" in ended.blocked_by[0]
    assert switching.control.state is rest


@rests
def test_a_freeze_that_ends_without_a_switch(
    where: Callable[[Switching], None], verb: Verb, rest: State, switching: Switching
) -> None:
    """Both by the coordinator, which cannot go on, and by itself."""
    where(switching)
    coordinator, seen = switching.cutover(), list[State]()

    def pause(control: Control) -> None:
        seen.append(control.state)
        switching.clock.sleep(100.0)

    coordinator.changed = pause
    assert not verb(coordinator).done
    assert State.FROZEN in seen
    assert switching.control.state is rest


def test_after_a_cutover_that_failed_one_may_still_complete_on_the_way_back(
    switching: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    back(switching)
    monkeypatch.setattr(Verification, "generation", refuse)
    assert not cut_over(switching.cutover()).done
    monkeypatch.undo()
    assert switching.cutover().complete(**WHO).done
    assert (switching.control.state, switching.control.primary) == (State.COMPLETED, "source")


def test_a_row_that_somebody_else_has_changed_is_left_as_it_is(
    switching: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interfere(self: Verification) -> None:
        switching.journal.enter(State.BACKFILLING, since=switching.control, by="planner", reason="anew")
        raise KeyboardInterrupt

    monkeypatch.setattr(Verification, "generation", interfere)
    with pytest.raises(KeyboardInterrupt):
        cut_over(switching.cutover())
    assert (switching.control.state, switching.control.changed_by) == (State.BACKFILLING, "planner")


def test_a_gate_that_is_closed_changes_no_state_of_a_load(switching: Switching) -> None:
    switching.journal.enter(State.BACKFILLING, since=switching.control, by="planner", reason="loading")
    before = switching.control
    assert not cut_over(switching.cutover(gates=(lambda: ["not yet"],))).done
    assert switching.control == before


def test_a_coordinator_ends_as_soon_as_a_rollback_has_begun(switching: Switching) -> None:
    waits: list[float] = []

    def withdraw(seconds: float) -> None:
        switching.clock.sleep(seconds)
        waits.append(seconds)
        if len(waits) == 1:
            rollback = {"by": "somebody", "reason": "a rollback has begun"}
            switching.journal.enter(State.PLANNED, since=switching.control, **rollback)

    def gate() -> list[str]:
        return ["it is being taken back"] if waits else []

    switching.journal.begin_split("g0001-0", seconds=60.0)  # is waited for
    coordinator = switching.cutover(gates=(gate,))
    coordinator.sleep = withdraw
    ended = coordinator.run(**WHO)

    assert (ended.done, ended.blocked_by, len(waits)) == (False, ("it is being taken back",), 1)
    assert switching.control.reason == "a rollback has begun"

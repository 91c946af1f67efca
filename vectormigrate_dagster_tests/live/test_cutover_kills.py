"""Checks that a coordinator can be killed, joined or interrupted by writes at any call, and that another goes on.

Deterministic: calls are those of the journal (before and after each transaction) and of both databases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.live.cutover import Cutover, Ended
from vectormigrate_dagster.live.journal import State
from vectormigrate_dagster_tests.live.switching import WHO, Killed, Process, Switching, standing_clock

STRIDE = int(os.environ.get("VECTORMIGRATE_CUTOVER_STRIDE", "16"))
"""Every how many calls something happens; 1 is all of them."""

pytestmark = pytest.mark.timeout(300 if STRIDE >= 16 else 0)

Verb = Callable[[Cutover], Ended]


def cut_over(coordinator: Cutover) -> Ended:
    return coordinator.run(**WHO)


def go_back(coordinator: Cutover) -> Ended:
    return coordinator.reverse(**WHO)


def complete(coordinator: Cutover) -> Ended:
    return coordinator.complete(**WHO)


VERBS = {"cutover": cut_over, "reverse": go_back, "complete": complete}
ENDS = {
    "cutover": ("target", State.SWITCHED),
    "reverse": ("source", State.REVERSED),
    "complete": ("target", State.COMPLETED),
}
every_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str], Switching]]:
    """Makes a migration on which a verb can be run, with writes that wait to be carried over."""
    with standing_clock() as clock:
        cases: list[Switching] = []

        def make(verb: str) -> Switching:
            folder = tmp_path / str(len(cases))
            folder.mkdir()
            case = Switching(f"sqlite:///{folder / 'journal.db'}", clock)
            cases.append(case)
            if verb != "cutover":
                assert cut_over(case.cutover()).done
            case.write(1, 5)
            case.write(2, None)
            case.write(20, 6)
            return case

        yield make
        for case in cases:
            case.close()


def calls_of(verb: str, case: Switching) -> int:
    """How many calls a verb makes when nothing is in its way."""
    process = Process()
    assert VERBS[verb](case.cutover(process)).done
    return process.calls


def assert_ended(verb: str, case: Switching) -> None:
    """Fail unless the verb has had its effect and no write is lost."""
    assert (case.control.primary, case.control.state) == ENDS[verb]
    case.assert_moved()


@every_verb
def test_a_coordinator_that_is_killed_anywhere_is_followed_by_another(
    verb: str, made: Callable[[str], Switching]
) -> None:
    calls = calls_of(verb, made(verb))
    assert calls > 40
    for at in range(1 + calls % STRIDE, calls + 1, STRIDE):
        case = made(verb)
        with pytest.raises(Killed):
            VERBS[verb](case.cutover(Process(at)))
        if case.control.state is not State.COMPLETED:
            case.write(3, at, patience=60.0)  # the application is not held up for longer than the freeze may last

        switched = case.control.state is ENDS[verb][1]

        ended = VERBS[verb](case.cutover())

        assert (at, ended.done, ended.blocked_by) == (at, True, ())
        if switched and verb != "complete":  # it was killed after its last step, and the write came after that
            case.catch_up().drain(case.clock.now + 60.0, sleep=case.clock.sleep)
        assert_ended(verb, case)


@every_verb
def test_two_coordinators_do_not_disturb_each_other(verb: str, made: Callable[[str], Switching]) -> None:
    calls = calls_of(verb, made(verb))
    for at in range(1 + calls % STRIDE, calls + 1, STRIDE):
        case = made(verb)
        other: list[Ended] = []
        process = Process(at, lambda case=case, other=other: other.append(VERBS[verb](case.cutover())))  # type: ignore[misc]

        ended = VERBS[verb](case.cutover(process))

        assert (at, other[0].done, ended.done or ended.blocked_by) == (at, True, True)
        assert_ended(verb, case)


@every_verb
def test_writes_at_any_moment_are_not_lost(verb: str, made: Callable[[str], Switching]) -> None:
    calls = calls_of(verb, made(verb))
    for at in range(1 + calls % STRIDE, calls + 1, STRIDE):
        case = made(verb)
        refused: list[bool] = []

        def write(case: Switching = case, refused: list[bool] = refused) -> None:
            try:
                case.write(3, 7)
                case.write(4, None)
                case.write(20, 8)
                case.write(30, 9)
            except Unavailable:
                refused.append(True)

        ended = VERBS[verb](case.cutover(Process(at, write)))

        assert (at, ended.done, ended.blocked_by) == (at, True, ())
        if verb == "complete":  # nobody follows any more, and what was written at the very end is on one side
            assert case.control.state is State.COMPLETED
            continue
        case.catch_up().drain(case.clock.now + 60.0, sleep=case.clock.sleep)
        assert_ended(verb, case)

"""Checks what the journal knows of rollbacks: until when a request may arrive, and that only a new plan asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import DatabaseError, LeaseHeld, NotSo, Throttled, Unavailable
from vectormigrate_dagster.live.guard import UndoGuard
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.live.journal.tables import UNDOING
from vectormigrate_dagster.live.journal.undoing import Undoing
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer import OwnershipLog
from vectormigrate_dagster.transfer.rollback import Rollback
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.live.journals import BOUNDS, Clocked, frozen, rows, written
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.transfer.conftest import Pair, impatient

KEY = "g0001-00000"
UNSURE = BOUNDS.request + BOUNDS.margin
"""For how long a request whose outcome is not known may still be applied."""


def replanned(journal: Journal) -> None:
    journal.replan(id_kinds=[IdKind.U64], bounds=BOUNDS, by="test", reason="anew")


def loaded(pair: Pair, folder: Path) -> OwnershipLog:
    """A load of ten records, one of them in place of somebody else's."""
    log = OwnershipLog(folder / "log")
    pair.source.put(make_batch(range(10)))
    pair.target.put(make_batch([5], seed=77))
    list(pair.move(ownership=log, on_conflict="overwrite"))
    return log


def take_back(pair: Pair, log: OwnershipLog, journal: Journal) -> None:
    with UndoGuard(journal, KEY, seconds=60.0) as guard:
        throttle = impatient(max_retries=1)
        source = Source(pair.source)
        rollback = Rollback(pair.target, pair.mapper, lambda: source, throttle=throttle, guard=guard.writes)
        list(rollback.logs([log], [log]))


@pytest.mark.parametrize("method", ["delete", "upsert"])
@pytest.mark.parametrize(
    ("error", "times", "expected"),
    [(Throttled("slow down"), 1, 0.0), (Unavailable("timeout"), 1, UNSURE), (Unavailable("timeout"), None, UNSURE)],
    ids=["refused", "in doubt, then done", "in doubt"],
)
def test_an_attempt_leaves_something_only_if_an_outcome_is_not_known(  # two axes
    clocked: Clocked, tmp_path: Path, method: str, error: DatabaseError, times: int | None, expected: float
) -> None:
    _, journal = clocked
    pair = Pair()
    log = loaded(pair, tmp_path)
    sent: list[float] = []

    def note(called: str) -> None:
        if called in ("delete", "upsert"):
            sent.append(Undoing(journal).seconds())

    pair.target.on_call = note
    pair.target.faults.append(Fault(method, error, at=pair.target.calls[method], times=times))
    if times is None:
        with pytest.raises(Unavailable):
            take_back(pair, log, journal)
    else:
        take_back(pair, log, journal)
        assert compare(make_batch([5], seed=77), pair.target.get(5)).equal
        assert pair.target.ids() == {5}
    assert sent
    assert min(sent) == 60.0 + UNSURE, "it was noted before the first request"
    assert Undoing(journal).seconds() == pytest.approx(expected, abs=30)
    assert len(rows(journal.database, UNDOING)) == (expected > 0)


def test_who_was_killed_or_interrupted_may_have_sent_until_somebody_else_has_taken_over(clocked: Clocked) -> None:
    database, journal = clocked
    undoing = Undoing(journal)
    undoing.begin(KEY, seconds=60.0)  # and killed
    assert undoing.seconds() == 60.0 + UNSURE
    database.tick(20)
    with pytest.raises(KeyboardInterrupt), UndoGuard(journal, KEY, seconds=60.0):
        raise KeyboardInterrupt  # a second one, perhaps: a thread may still be sending
    assert undoing.seconds() == 60.0 + UNSURE
    undoing.end(undoing.begin(KEY, seconds=60.0))  # whoever holds the lease knows that they are gone
    assert undoing.seconds() == BOUNDS.request
    database.tick(BOUNDS.request)
    assert undoing.seconds() == 0.0


def test_two_partitions_that_are_taken_back_at_once_do_not_know_of_each_other(clocked: Clocked) -> None:
    database, journal = clocked
    undoing = Undoing(journal)
    one, other = (undoing.begin(key, seconds=60.0) for key in (KEY, "g0001-00001"))
    journal.leave_splits(over=True)  # as whoever begins with a third one does
    database.tick(50)
    one = undoing.renew(one, seconds=60.0)
    undoing.end(other)
    assert undoing.seconds() == 60.0 + UNSURE
    undoing.end(one, unsure=7.0)
    assert undoing.seconds() == 7.0


def test_an_attempt_that_goes_on_asks_for_more_time(clocked: Clocked) -> None:
    database, journal = clocked
    undoing = Undoing(journal)
    with UndoGuard(journal, KEY, seconds=2 * BOUNDS.margin) as guard:
        began = guard.attempt
        guard.writes.check()
        assert guard.attempt is began
        database.tick(1000)
        guard._attempt = undoing.renew(began, seconds=BOUNDS.margin)  # as if half of its time were over
        guard.writes.check()
        assert undoing.seconds() == 2 * BOUNDS.margin + UNSURE
    assert undoing.seconds() == 0.0


def test_no_plan_begins_while_a_request_may_arrive_and_none_is_taken_back_by_the_plan_before(clocked: Clocked) -> None:
    """Also where the plan that was being taken back is gone, or is another home's."""
    database, journal = clocked
    undoing = Undoing(journal)
    attempt = undoing.begin(KEY, seconds=60.0)
    with pytest.raises(NotSo, match=r"may still arrive at the target for 165 s; plan it anew after that"):
        replanned(journal)
    assert journal.control().epoch == 1
    database.tick(60.0 + UNSURE)
    replanned(journal)
    assert rows(database, UNDOING) == []
    with pytest.raises(LeaseHeld, match="was planned anew; 'g0001-00000' is not taken back"):
        undoing.renew(attempt, seconds=60.0)


def test_nothing_else_asks_what_is_taken_back(clocked: Clocked) -> None:
    """It is no split: it keeps no sides from being compared or switched, and nothing is looked at again for it."""
    database, journal = clocked
    written(journal, 1)
    Undoing(journal).begin(KEY, seconds=60.0)
    database.tick(1000)
    assert (journal.loading_seconds(), journal.busy_seconds(), journal.retire_splits()) == (0.0, 0.0, 0)
    assert journal.lag().records == 1
    generations = Generations(journal)
    assert generations.finish(generations.begin("all"), []) == []
    control = frozen(journal)
    assert not [found for found in journal.blockers(control) if "split" in found or "lane" in found]

"""Checks how the journal's state follows what is moved and taken back, whoever looks at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from vectormigrate_dagster.cli.render import _live
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.catching_up import catch_up_migration
from vectormigrate_dagster.defs.coordinating import coordinating
from vectormigrate_dagster.defs.cutting_over import _coordinator
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.live import JournalMotion, note_live, settle_state
from vectormigrate_dagster.defs.rolling_back import begin_rollback
from vectormigrate_dagster.defs.state import PartitionState, now
from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.live.journal import Journal, Key, State
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import live_status
from vectormigrate_dagster.validation.listing import Original
from vectormigrate_dagster_tests.harness import ID, Workplace


@pytest.fixture
def plan(planned: MigrationLog) -> Plan:
    return planned.require_plan()


@pytest.fixture
def journal(instance: dg.DagsterInstance, migration: Migration, plan: Plan) -> Iterator[Journal]:
    with open_journal(instance, migration, plan) as opened:
        yield opened


def moved(log: MigrationLog, plan: Plan) -> None:
    """As if every partition had been moved."""
    for key in plan.keys:
        log.record(key, PartitionState(plan=plan.digest, state="done", run_id="run"))


def test_a_state_is_entered_once_and_never_back(planned: MigrationLog, plan: Plan, journal: Journal) -> None:
    assert settle_state(planned, plan, journal).state is State.PLANNED
    planned.record(plan.keys[0], PartitionState(plan=plan.digest, state="loading", run_id="run"))
    first = settle_state(planned, plan, journal)
    assert (first.state, first.reason) == (State.BACKFILLING, "generation 1 is being moved")
    assert settle_state(planned, plan, journal) == first
    moved(planned, plan)
    later = settle_state(planned, plan, journal)
    assert (later.state, later.epoch) == (State.CATCHING_UP, first.epoch + 1)
    assert settle_state(planned, plan, journal) == later


def test_a_state_that_somebody_changes_meanwhile_is_looked_at_again(
    planned: MigrationLog, plan: Plan, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved(planned, plan)
    enter, tries = Journal.enter, []

    def too_late(self: Journal, state: State, **settings: Any) -> object:
        if not tries:
            tries.append(enter(self, State.CATCHING_UP, since=self.control(), by="other", reason="first"))
        return enter(self, state, **settings)

    monkeypatch.setattr(Journal, "enter", too_late)
    found = settle_state(planned, plan, journal)
    assert (found.state, found.changed_by) == (State.CATCHING_UP, "other")


@pytest.mark.parametrize("looks", ["before it is noted", "before the epoch ends"])
def test_catching_up_does_not_begin_again_while_a_rollback_begins(
    instance: dg.DagsterInstance,
    migration: Migration,
    planned: MigrationLog,
    plan: Plan,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    looks: str,
) -> None:
    """What is carried over after that would stay in the target when the rollback is over."""
    moved(planned, plan)
    settle_state(planned, plan, journal)
    record = MigrationLog.record

    def somebody_looks(log: MigrationLog, key: str, document: Any) -> None:
        if looks == "before it is noted":
            settle_state(MigrationLog(instance, ID), plan, journal)
            record(log, key, document)
        else:
            seen = journal.control()
            record(log, key, document)
            journal.enter(State.CATCHING_UP, since=seen, by="somebody", reason="who has not read the log again")

    monkeypatch.setattr(MigrationLog, "record", somebody_looks)
    begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)
    monkeypatch.undo()
    assert journal.control().state is State.PLANNED
    assert settle_state(planned, plan, journal).state is State.PLANNED
    with pytest.raises(PlanOutdated, match="is being rolled back"):
        catch_up_migration(instance, migration, None, None, until="due")  # type: ignore[arg-type]  # nothing is opened


def test_a_cutover_carries_nothing_over_once_a_rollback_has_begun(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, plan: Plan, place: Workplace
) -> None:
    """It goes on until it wants to change the row; what it writes until then would stay in the target."""
    run_job(load_job(migration), instance, ID, partition=plan.keys[0])
    planned.refresh()
    with (
        open_journal(instance, migration, plan) as journal,
        _coordinator(planned, plan, migration, journal, place.source, place.target, lambda *_: None) as cutover,
    ):
        journal.note([Key(None, IdKind.U64, "3")], kind="change")
        begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)
        assert cutover.catch_up.step().consumed == 0
        assert journal.lag().records == 1


def test_a_rollback_that_was_killed_after_it_was_noted_ends_catching_up_when_it_goes_on(
    instance: dg.DagsterInstance, migration: Migration, plan: Plan, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = MigrationLog.record

    def killed(log: MigrationLog, key: str, document: Any) -> None:
        journal.enter(State.CATCHING_UP, since=journal.control(), by="somebody", reason="just before")
        record(log, key, document)
        raise KeyboardInterrupt

    monkeypatch.setattr(MigrationLog, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)
    monkeypatch.undo()
    assert journal.control().state is State.CATCHING_UP
    begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)
    assert journal.control().state is State.PLANNED


def test_as_many_may_differ_as_are_changed_from_then_on_or_not_carried_over(journal: Journal) -> None:
    motion = JournalMotion(journal)
    began, keys = motion.position(), [Key(None, IdKind.U64, str(number)) for number in (1, 2, 2)]
    assert motion.changed(began) == 0
    journal.note(keys, kind="change")
    assert (motion.changed(began), motion.changed(motion.position())) == (2, 2)
    lease = journal.lease(seconds=60)
    assert lease is not None
    journal.consume(lease, journal.due(lease))
    assert (motion.changed(began), motion.changed(motion.position())) == (2, 0)


def test_what_is_carried_over_between_the_reads_of_both_sides_is_in_motion(journal: Journal) -> None:
    """A change that was over, and waited, when a comparison began: the target may have been read without it."""
    motion, record = JournalMotion(journal), Original(None, IdKind.U64, 1)
    journal.note([Key(None, IdKind.U64, "1")], kind="change")
    began = motion.position()
    lease = journal.lease(seconds=60)
    assert lease is not None
    journal.consume(lease, journal.due(lease))
    assert (motion.moving([record], began), motion.changed(began)) == ({record}, 1)
    assert (motion.moving([record], motion.position()), motion.changed(motion.position())) == (set(), 0)


def test_what_the_journal_may_have_forgotten_is_no_reason_to_miss_records(journal: Journal) -> None:
    """After days of a live migration, more records were changed since it began than the journal still knows."""
    motion = JournalMotion(journal)
    for _ in range(3):
        journal.note([Key(None, IdKind.U64, "1")], kind="change")
    assert motion.changed_after(now() - timedelta(hours=1)) == 1
    assert motion.changed_after(now() - timedelta(days=2)) == 3


def test_records_of_several_scopes_are_in_motion_if_the_application_names_none(journal: Journal) -> None:
    journal.note([Key(None, IdKind.U64, "1"), Key("b", IdKind.U64, "2")], kind="change")
    records = [Original(scope, IdKind.U64, number) for scope in ("a", "b") for number in (1, 2)]
    moving = JournalMotion(journal).moving(records, journal.position())
    assert moving == {records[0], records[2], records[3]}


def settle(log: MigrationLog, plan: Plan, journal: Journal) -> None:
    settle_state(log, plan, journal)


def note(log: MigrationLog, plan: Plan, journal: Journal) -> None:
    told = note_live(log, plan, journal, seldom=True)
    assert told.state == journal.control().state.value


looks = pytest.mark.parametrize("look", [settle, note])


@looks
@pytest.mark.parametrize("left", [State.VERIFYING, State.READY])
def test_what_a_coordinator_that_was_killed_has_left_is_put_right_by_whoever_looks(
    planned: MigrationLog, plan: Plan, journal: Journal, left: State, look: Callable[..., None]
) -> None:
    moved(planned, plan)
    control = settle_state(planned, plan, journal)
    with coordinating(planned):
        journal.enter(left, since=control, by="a coordinator", reason="it is time")
    look(planned, plan, journal)
    found = journal.control()
    assert (found.state, found.reason) == (
        State.CATCHING_UP,
        "nobody goes on with what a coordinator has begun",
    )
    look(planned, plan, journal)
    assert journal.control() == found


@looks
def test_one_in_another_home_is_left_alone(
    planned: MigrationLog, plan: Plan, journal: Journal, look: Callable[..., None]
) -> None:
    """On another host, perhaps, with a journal that several share: its leases cannot be seen from here."""
    moved(planned, plan)
    control = settle_state(planned, plan, journal)
    found = journal.enter(State.VERIFYING, since=control, by="a coordinator", reason="it is time")
    look(planned, plan, journal)
    assert journal.control() == found


@looks
def test_one_that_is_alive_is_left_alone_though_another_has_ended(
    instance: dg.DagsterInstance, planned: MigrationLog, plan: Plan, journal: Journal, look: Callable[..., None]
) -> None:
    moved(planned, plan)
    with ExitStack() as first, coordinating(MigrationLog(instance, ID)):
        first.enter_context(coordinating(MigrationLog(instance, ID)))
        found = journal.enter(
            State.VERIFYING, since=settle_state(planned, plan, journal), by="a coordinator", reason="it is time"
        )
        look(planned, plan, journal)
        first.close()
        look(planned, plan, journal)
        assert journal.control() == found
    look(planned, plan, journal)
    assert journal.control().state is State.CATCHING_UP


@looks
def test_a_freeze_that_a_killed_coordinator_has_left_ends_by_itself_and_not_before(
    planned: MigrationLog, plan: Plan, journal: Journal, look: Callable[..., None]
) -> None:
    moved(planned, plan)
    control = settle_state(planned, plan, journal)
    frozen = journal.freeze(since=control, seconds=60, by="a coordinator", reason="it is time")
    look(planned, plan, journal)
    assert journal.control() == frozen


def test_while_somebody_compares_whoever_looks_sees_how_far_that_is(
    instance: dg.DagsterInstance, planned: MigrationLog, plan: Plan, journal: Journal
) -> None:
    generations, parts = Generations(journal), len(plan.keys) + 1
    generations.finish(generations.begin(plan.keys[0]), [])
    with coordinating(MigrationLog(instance, ID)):
        live = note_live(planned, plan, journal)
        assert (live.compared, live.parts) == (1, parts)
        assert f"; 1 of {parts} parts is compared" in _live(live_status(live))
    live = note_live(planned, plan, journal)
    assert (live.compared, live.parts) == (0, 0)
    assert "compared" not in _live(live_status(live))


def test_right_after_the_switch_nobody_compares_though_its_coordinator_is_still_there(
    instance: dg.DagsterInstance, planned: MigrationLog, plan: Plan, journal: Journal
) -> None:
    generations = Generations(journal)
    for name in (*plan.keys, "beyond"):
        generations.finish(generations.begin(name), [])
    with coordinating(MigrationLog(instance, ID)):
        frozen = journal.freeze(since=journal.control(), seconds=60, by="test", reason="test")
        journal.verified(frozen)
        journal.switch(since=frozen, by="test", reason="test")
        live = note_live(planned, plan, journal)
        assert (live.state, live.compared, live.parts) == ("switched", 0, 0)
        generations.begin(plan.keys[0])
        assert note_live(planned, plan, journal).parts == len(plan.keys) + 1  # the comparison before the end

"""Contract of `rollback` as a service: what it answers, what `status` shows, how it is stopped and goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Database, Endpoint
from vectormigrate_dagster.databases.qdrant.database import Qdrant
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import MIGRATE, ROLLBACK, Lease, held
from vectormigrate_dagster.defs.signals import request_stop
from vectormigrate_dagster.errors import LeaseHeld, NotFound, PlanOutdated, Stopped, Unavailable
from vectormigrate_dagster.live.journal import JournalDatabase
from vectormigrate_dagster.live.journal.tables import UNDOING
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import Status, ValidationSummary
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.rollback import rollback
from vectormigrate_dagster.services.status import list_migrations, status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.transfer.rollback import Rollback
from vectormigrate_dagster_tests.collections_of_everything import read_everything
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.defs.test_target import foreign_records
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, ID, NOTHING, Workplace, differences
from vectormigrate_dagster_tests.live.journals import rows
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.fixture
def place(place: Workplace) -> Workplace:
    """As few partitions as there can be: each costs a run to load and one to take back."""
    place.write(transfer={"partition_records": 1000, "batch_size": 40})
    return place


def test_taken_back_and_moved_again(context: Context, place: Workplace) -> None:
    with pytest.raises(PlanOutdated, match="no plan"):
        rollback(context, ID)
    migrate(context, ID)
    assert validate(context, ID).passed
    assert status(context, ID).validation.passed
    seen: list[Status] = []
    done = rollback(context, ID, progress=seen.append)
    assert (done.already, done.undone, done.left, done.dropped, done.remaining) == (False, 300, 0, True, 0)
    assert all(one.phase in ("rollback", "validated") for one in seen)
    after = status(context, ID)
    assert (after.status, after.phase, after.progress.migrated_records) == ("rolled_back", "rollback", 0)
    assert (after.validation, after.indexing) == (ValidationSummary(), None), "of what is not there any more"
    assert [one.migration_id for one in list_migrations(context, status="rolled_back").migrations] == [ID]
    again = rollback(context, ID)
    assert (again.already, again.undone, again.dropped) == (True, 300, True)
    assert migrate(context, ID).status == "completed"
    assert place.plan().generation == 2
    assert differences(place.target, SMALL) == NOTHING


def test_a_rollback_and_a_migrate_exclude_each_other(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(context, ID)
    with context.instance() as instance:
        with held(Lease(instance, ID, MIGRATE)), pytest.raises(LeaseHeld, match="vectormigrate stop"):
            rollback(context, ID)
        with held(Lease(instance, ID, ROLLBACK)), pytest.raises(LeaseHeld, match="'rollback' of migration"):
            rollback(context, ID)
    assert status(context, ID).status == "completed"
    split = Rollback.split

    def and_a_migrate(self: Rollback, *arguments: object, **settings: object) -> object:
        with pytest.raises(PlanOutdated, match="is being rolled back"):
            migrate(context, ID)
        return split(self, *arguments, **settings)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Rollback, "split", lambda *_, **__: (_ for _ in ()).throw(Unavailable("it is down")))
    with pytest.raises(Unavailable, match="it is down"):
        rollback(context, ID)
    failed = status(context, ID)
    assert (failed.status, failed.phase) == ("failed", "rollback")
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        log.refresh()
        summary = log.require_summary()
        # As if it had been killed before it had come to the partition: loaded, but not to be taken for completed.
        log.record(summary.keys[0], log.partitions(summary)[summary.keys[0]].model_copy(update={"state": "done"}))
    assert status(context, ID).status == "stopped"
    monkeypatch.setattr(Rollback, "split", and_a_migrate)
    assert rollback(context, ID).dropped


def test_stopped_it_goes_on_and_says_how_far_it_is(
    context: Context, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_records(place.target)
    before = read_everything(place.target)
    place.write(transfer={"partition_records": 100, "batch_size": 10, "on_conflict": "overwrite"})
    planned = plan(context, ID)
    assert planned.conflicts is not None
    assert planned.conflicts.startswith("The target holds 2 records. Those under ids that are moved are overwritten;")
    assert migrate(context, ID).progress.migrated_records == 300
    stop_in_the_second_partition(monkeypatch)
    with pytest.raises(Stopped):
        rollback(context, ID)
    monkeypatch.undo()
    between = status(context, ID)
    assert (between.status, between.phase, between.rate_per_second) == ("stopped", "rollback", None)
    assert 100 < between.progress.migrated_records <= 200
    with pytest.raises(PlanOutdated, match="finish that first with 'vectormigrate rollback moving'"):
        migrate(context, ID)
    done = rollback(context, ID)
    assert (done.undone, done.left, done.dropped, done.remaining) == (300, 0, False, 0)
    assert read_everything(place.target) == before


def stop_in_the_second_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the process to end, as Ctrl-C does, when the second partition is begun to be taken back."""
    logs, begun = Rollback.logs, list[Callable[..., object]]()

    def counted(self: Rollback, *arguments: object, **settings: object) -> object:
        begun.append(logs)
        if len(begun) == 2:
            request_stop()
        return logs(self, *arguments, **settings)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Rollback, "logs", counted)


class Killed(BaseException):
    """A process that dies: nothing of it can note anything any more."""


@dataclass
class Late:
    """A server that takes requests of processes that are killed then, and applies them later."""

    place: Workplace
    waiting: list[Callable[[Database], None]] = field(default_factory=list)
    noted: list[list[str]] = field(default_factory=list)
    """What the journal said was being taken back when each was sent."""

    @contextmanager
    def killing(self, method: str) -> Iterator[None]:
        """Have the first call of a method be the last thing that a process does."""

        def sent(database: Database, *arguments: Any) -> None:
            del database
            self.waiting.append(lambda target: getattr(target, method)(*arguments))
            journal = JournalDatabase(f"sqlite:///{self.place.home}/journal.db")
            self.noted.append(sorted(row.what for row in rows(journal, UNDOING)))
            journal.close()
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Qdrant, method, sent)
            yield

    def applies(self) -> None:
        """Apply what has not been, at the latest now."""
        with databases.open_target(self.place.target) as target:
            for request in self.waiting:
                with contextlib.suppress(NotFound):  # the collection is gone
                    request(target)
        self.waiting.clear()


def test_no_new_plan_begins_before_the_last_request_of_a_killed_rollback_is_applied(
    place: Workplace, qdrant_stand_in: QdrantStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take away what the new plan has loaded, and nobody would look again."""
    place = replace(place, target=Endpoint(type="qdrant", url=qdrant_stand_in.url, collection=COLLECTION))
    place.write(transfer={"partition_records": 1000})
    context, late, said = context_of(place), Late(place), list[str]()
    migrate(context, ID)
    for method in ("delete", "drop"):
        with late.killing(method), pytest.raises(Killed):
            rollback(context, ID)
    assert late.noted == [["g0001-00000"], ["g0001-00000", "target-g0001"]]

    def applied_meanwhile(line: str) -> None:
        said.append(line)
        late.applies()
        clock = JournalDatabase.now
        monkeypatch.setattr(JournalDatabase, "now", lambda *arguments: clock(*arguments) + 1000)

    assert rollback(context, ID, tell=applied_meanwhile).dropped
    assert migrate(context, ID).status == "completed"
    late.applies()
    assert differences(place.target, SMALL) == NOTHING
    (line,) = said
    assert line.endswith(
        "what was sent before may arrive at the target until then (journal.request_seconds of the migration file)"
    )

"""Contract of a rollback in Dagster: it excludes loads, ends a generation, and drops only what is ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import dagster as dg
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration, ScheduleConfig
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.definitions import definitions_of
from vectormigrate_dagster.defs import names, planning, rolling_back
from vectormigrate_dagster.defs.automation import open_partitions, schedule_of
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.jobs import load_job, plan_job, validate_job
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.lease import MIGRATE, Lease, held
from vectormigrate_dagster.defs.rolling_back import begin_rollback, rollback_job
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.defs.target import logs_to_take_back
from vectormigrate_dagster.defs.waiting import telling
from vectormigrate_dagster.errors import LeaseHeld, NotFound, PlanOutdated, Unavailable
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.rollback import entries_after
from vectormigrate_dagster_tests.collections_of_everything import read_everything
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.defs.test_target import FOREIGN, foreign_records
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import COLLECTION, ID, NOTHING, Workplace, differences, schema


@pytest.fixture
def place(place: Workplace) -> Workplace:
    """As few partitions as show what there is to show: each costs a run to load and one to take back."""
    place.write(transfer={"partition_records": 150, "batch_size": 40, "checkpoint_seconds": 0})
    return place


def load(instance: dg.DagsterInstance, migration: Migration, key: str) -> None:
    run_job(load_job(migration), instance, ID, partition=key)


def undo(instance: dg.DagsterInstance, migration: Migration, key: str, **settings: Any) -> str:
    return run_job(rollback_job(migration), instance, ID, partition=key, ops={"roll_back_partition": settings})


def is_there(place: Workplace) -> bool:
    with databases.open_source(place.target) as target:
        try:
            target.describe()
        except NotFound:
            return False
        return True


def listed(log: MigrationLog, name: str) -> list[str]:
    path = migration_folder(log.instance, ID) / "left" / f"{name}.jsonl"
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_partition_by_partition_and_the_last_one_drops_what_is_ours(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    plan = planned.require_plan()
    for key in plan.keys[:2]:
        load(instance, migration, key)
    loaded = [planned_split.split.records for planned_split in plan.splits[:2]]
    for number, key in enumerate(plan.keys):
        assert instance.get_dynamic_partitions(names.partitions_name(ID))
        undo(instance, migration, key)
        planned.refresh()
        state = planned.partitions(plan)[key]
        assert state.state == "rolled_back"
        assert state.undone == (loaded[number] if number < 2 else 0)
    end = planned.rollback(plan)
    assert end is not None
    assert (end.state, end.dropped, end.remaining) == ("finished", True, 0)
    assert not is_there(place)
    assert instance.get_dynamic_partitions(names.partitions_name(ID)) == []
    folder = migration_folder(instance, ID)
    assert not (folder / "sent").exists()
    with pytest.raises(PlanOutdated, match=r"generation 1 .* was rolled back; begin anew"):
        load_after(instance, migration, plan.keys[0])
    run_job(plan_job(migration), instance, ID)
    anew = planned.require_plan()
    assert (anew.generation, planned.rollback(anew), len(open_partitions(planned, anew))) == (2, None, len(plan.keys))


def load_after(instance: dg.DagsterInstance, migration: Migration, key: str) -> None:
    """Launch a load on a key that was deleted, as an old page of the UI would."""
    instance.add_dynamic_partitions(names.partitions_name(ID), [key])
    load(instance, migration, key)


def test_a_rollback_while_a_load_runs_is_refused(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    for what in (plan.keys[1], MIGRATE):
        with held(Lease(instance, ID, what)), pytest.raises(LeaseHeld, match=r"is at work.*nothing was taken back"):
            undo(instance, migration, plan.keys[0])
    planned.refresh()
    assert planned.rollback(plan) is None
    load(instance, migration, plan.keys[0])  # as if nobody had asked


def test_a_load_while_a_rollback_runs_is_refused(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    load(instance, migration, plan.keys[0])
    undo(instance, migration, plan.keys[0])
    planned.refresh()
    assert open_partitions(planned, plan) == {}
    with pytest.raises(PlanOutdated, match="is being rolled back; finish that first"):
        load(instance, migration, plan.keys[1])
    for settings in ({"replan": True}, {"replan": True, "adopt": True}, {}):
        with pytest.raises(PlanOutdated, match="is being rolled back"):
            run_job(plan_job(migration), instance, ID, ops={"make_plan": settings})


def test_a_load_that_begins_just_then_ends_the_rollback(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load has taken its lease before it could see that a rollback has begun."""
    plan = planned.require_plan()
    lease = Lease(instance, ID, plan.keys[-1])
    look = rolling_back.require_nobody_loads

    def then_somebody_begins(*arguments: Any, **settings: Any) -> None:
        look(*arguments, **{**settings, "seconds": 0})
        lease.acquire()

    monkeypatch.setattr(rolling_back, "require_nobody_loads", then_somebody_begins)
    with pytest.raises(LeaseHeld, match=plan.keys[-1]):
        begin_rollback(planned, migration, tell=[].append)
    assert planned.rollback(plan) is None
    lease.release()


def test_a_rollback_that_begins_just_then_ends_a_new_plan(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun after the planner looked, and before the planner held every partition."""
    plan = planned.require_plan()
    hold = planning._hold_all

    def after_a_rollback_has_begun(*arguments: Any) -> None:
        begin_rollback(MigrationLog(instance, ID), migration, tell=[].append)
        hold(*arguments)

    monkeypatch.setattr(planning, "_hold_all", after_a_rollback_has_begun)
    with pytest.raises(PlanOutdated, match="is being rolled back; finish that first"):
        run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    assert planned.require_plan().digest == plan.digest


def test_h25_a_collection_of_ours_with_somebody_elses_records_stays(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    plan = planned.require_plan()
    for key in plan.keys:
        load(instance, migration, key)
    foreign_records(place.target)  # 5 is one of ours that somebody has changed, 9999 is theirs alone
    before = read_everything(place.target)
    with databases.open_target(place.target) as target:
        theirs = {key: before[key] for key in before if key[2] in ("5", "9999")}
        assert target.count() == len(SMALL) + 1
    for key in plan.keys:
        undo(instance, migration, key)
    assert read_everything(place.target) == theirs
    planned.refresh()
    end = planned.rollback(plan)
    assert end is not None
    assert (end.dropped, end.remaining) == (False, 2)
    assert sorted(listed(planned, "g0001-remaining")) == ["5", "9999"]
    states = planned.partitions(plan)
    (key,) = [key for key in plan.keys if states[key].left]
    assert listed(planned, key) == ["5"]


def test_the_oldest_before_image_wins_over_generations(
    instance: dg.DagsterInstance, migration: Migration, place: Workplace
) -> None:
    """Loaded half by one plan and all by the next one, cut otherwise: what stood there before both comes back."""
    foreign_records(place.target)
    before = read_everything(place.target)
    for generation, records in ((1, 130), (2, 150)):
        transfer = {"partition_records": records, "batch_size": 40, "checkpoint_seconds": 0, "on_conflict": "overwrite"}
        place.write(transfer=transfer)
        migration = load_migration(place.migrations / f"{ID}.yaml")
        run_job(
            plan_job(migration), instance, ID, ops={"make_plan": {"replan": generation > 1, "adopt": generation > 1}}
        )
        keys = MigrationLog(instance, ID).require_plan().keys
        for key in keys[: 1 if generation == 1 else None]:
            load(instance, migration, key)
    assert len(read_everything(place.target)) == len(SMALL) + 1
    for key in keys:
        undo(instance, migration, key)
    assert read_everything(place.target) == before
    log = MigrationLog(instance, ID)
    log.refresh()
    assert sum(state.undone for state in log.partitions(log.require_plan()).values()) == len(SMALL)
    assert not (migration_folder(instance, ID) / "ownership").exists()


def test_a_file_that_was_changed_since_can_be_rolled_back(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    plan = planned.require_plan()
    load(instance, migration, plan.keys[0])
    place.write(mapping={"drop": ["name"]}, transfer={"partition_records": 100})
    changed = load_migration(place.migrations / f"{ID}.yaml")
    for key in plan.keys:
        undo(instance, changed, key)
    assert not is_there(place)


def test_killed_before_its_very_end_it_is_finished_by_the_next(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    """Whatever is left to do must be done before the end is recorded: nobody comes back for it after that."""
    plan = planned.require_plan()
    load(instance, migration, plan.keys[0])
    for key in plan.keys[:-1]:
        undo(instance, migration, key)
    for step, dropped in (("leave", False), ("retire", True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rolling_back, step, lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
            with pytest.raises(OSError, match="killed"):
                undo(instance, migration, plan.keys[-1])
        planned.refresh()
        assert (planned.rollback(plan).state, is_there(place)) == ("begun", not dropped)  # type: ignore[union-attr]
    undo(instance, migration, plan.keys[-1])
    planned.refresh()
    assert planned.rollback(plan).state == "finished"  # type: ignore[union-attr]


def test_a_schedule_takes_back_the_generation_that_it_names_only(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    def tick(generation: int) -> dg.ScheduleExecutionData:
        chosen = ScheduleConfig(cron="0 3 * * *", action="rollback", generation=generation)
        scheduled = migration.model_copy(update={"schedule": chosen})
        jobs = load_job(migration), validate_job(migration), rollback_job(migration)
        schedule = schedule_of(scheduled, *jobs)
        assert schedule is not None
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
        repository = definitions_of(scheduled).get_repository_def()
        context = dg.build_schedule_context(instance, scheduled_execution_time=now(), repository_def=repository)
        return schedule.evaluate_tick(context)

    plan = planned.require_plan()
    assert [request.partition_key for request in tick(1).run_requests or ()] == list(plan.keys)
    other = tick(2)
    assert not other.run_requests
    assert "schedule.generation is 2, the plan is generation 1" in str(other.skip_message)
    for key in plan.keys[:-1]:
        undo(instance, migration, key)
    assert [request.partition_key for request in tick(1).run_requests or ()] == [plan.keys[-1]]
    with held(Lease(instance, ID, plan.keys[-1])):
        assert "is being worked on" in str(tick(1).skip_message)
    undo(instance, migration, plan.keys[-1])
    assert "generation 1 was rolled back" in str(tick(1).skip_message)


def test_a_collection_that_is_gone_takes_no_images_with_it(instance: dg.DagsterInstance, place: Workplace) -> None:
    """Somebody dropped the collection: what stood in it is named, and its before-images are kept."""
    foreign_records(place.target)
    others = FOREIGN.take([0, 0, 0])
    with databases.open_target(place.target) as target:
        target.upsert(replace(others, ids=IdColumn.of(IdKind.I64, [60, 61, 62])))
    transfer = {"partition_records": 150, "batch_size": 40, "checkpoint_seconds": 0, "on_conflict": "overwrite"}
    place.write(transfer=transfer)
    migration = load_migration(place.migrations / f"{ID}.yaml")
    run_job(plan_job(migration), instance, ID)
    log = MigrationLog(instance, ID)
    keys = log.require_plan().keys
    for key in keys:
        load(instance, migration, key)
    assert differences(place.target, SMALL) == {**NOTHING, "extra": [9999]}
    with databases.open_target(place.target) as target:
        assert target.fetch(IdColumn.of(IdKind.I64, [9999])).batch.payloads == FOREIGN.take([1]).payloads
        target.drop()
    with pytest.MonkeyPatch.context() as patch:  # killed after the first checkpoint, it goes on there
        patch.setattr(rolling_back, "entries_after", dying_after(1))
        with pytest.raises(OSError, match="killed"):
            undo(instance, migration, keys[0])
    for key in keys:
        undo(instance, migration, key)
    log.refresh()
    states = log.partitions(log.require_plan())
    assert sum(state.left for state in states.values()) == 4
    assert sorted(listed(log, keys[0])) == ["5", "60", "61", "62"]
    kept = list((migration_folder(instance, ID) / "undone" / "g0001").rglob("*.before.parquet"))
    assert len(kept) == 2


def dying_after(entries: int) -> Callable[..., Iterator[Any]]:
    def some(*arguments: Any) -> Iterator[Any]:
        yield from islice(entries_after(*arguments), entries)
        raise OSError("killed")

    return some


def test_no_more_logs_are_read_than_may_tell_something(planned: MigrationLog) -> None:
    """All logs of a large migration would not fit into memory; what a partition wrote first only it writes again."""
    plan = planned.require_plan()
    folder = migration_folder(planned.instance, ID) / "ownership"
    for key in plan.keys:
        OwnershipLog(folder / key).record_absent(FOREIGN.ids, None)
    for logs in logs_to_take_back(planned, plan, plan.keys[-1]):
        assert [log.folder.name for log in logs] == [plan.keys[-1]]
    OwnershipLog(folder / "g0000-00000").record_absent(FOREIGN.ids, None)
    mine, known = logs_to_take_back(planned, plan, plan.keys[0])
    assert [log.folder.name for log in mine] == ["g0000-00000", plan.keys[0]]
    assert [log.folder.name for log in known] == ["g0000-00000", *plan.keys]


def test_what_a_killed_load_had_sent_lands_before_anything_is_taken_back(
    instance: dg.DagsterInstance, place: Workplace, qdrant_stand_in: QdrantStandIn
) -> None:
    """Afterwards nobody would come back for it: it stands in somebody else's collection, in place of his record."""
    place = replace(place, target=Endpoint(type="qdrant", url=qdrant_stand_in.url, collection=COLLECTION))
    place.write(transfer={"partition_records": 150, "on_conflict": "overwrite"}, journal={"request_seconds": 0.7})
    migration = load_migration(place.migrations / f"{ID}.yaml")
    with databases.open_target(place.target) as target:
        target.create(schema("qdrant"))
        target.upsert(replace(FOREIGN, ids=IdColumn.of(IdKind.U64, [5, 9999])))
        before = read_everything(place.target)
        run_job(plan_job(migration), instance, ID)
        keys = MigrationLog(instance, ID).require_plan().keys
        load(instance, migration, keys[0])
        written = target.fetch(IdColumn.of(IdKind.U64, [7])).batch
        target.delete(written.ids)  # the load has sent it, it has not arrived, and the load is killed
        with open_journal(instance, migration) as journal:
            journal.begin_split(keys[0], seconds=60)
        said: list[str] = []

        def arrives(line: str) -> None:
            said.append(line)
            target.upsert(written)

        begin_rollback(MigrationLog(instance, ID), migration, tell=arrives)
    assert said == [
        "waiting for about 1 s: what was sent before may arrive at the target until then "
        "(journal.request_seconds of the migration file)"
    ]
    with telling(said.append):
        for key in keys:
            undo(instance, migration, key)
    assert read_everything(place.target) == before
    assert len(said) == 1, "of a rollback that had all answers nothing can arrive later"


def test_nobody_waits_for_a_load_that_has_ended_by_itself_or_wrote_to_an_embedded_database(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, *_ = planned.require_plan().keys
    with open_journal(instance, migration) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(RecordMapper, "map", lambda *_: (_ for _ in ()).throw(Unavailable("it is down")))
            with pytest.raises(Unavailable):
                load(instance, migration, key)
        assert journal.loading_seconds() == 0
        journal.begin_split(key, seconds=60)
        said: list[str] = []
        begin_rollback(planned, migration, tell=said.append)
        assert not said
        assert journal.loading_seconds() > 100

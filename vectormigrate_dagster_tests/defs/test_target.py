"""Whose the target collection is: over crashes, over generations, and beside records of somebody else."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.coordinating import coordinating
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job, plan_job
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.state import PartitionState, TargetState, target_key
from vectormigrate_dagster.defs.target import prepare_target
from vectormigrate_dagster.errors import NotFound, PlanOutdated, TargetNotEmpty
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import ID, NOTHING, Records, Workplace, differences, schema

FOREIGN = Batch(
    ids=IdColumn.of(IdKind.I64, [5, 9999]),
    vectors={"embedding": Dense(np.full((2, 16), 7, dtype=np.float32))},
    payloads=[{"number": 0, "whose": "somebody else's"}] * 2,
)


def foreign_records(target: Endpoint) -> None:
    with databases.open_target(target) as database:
        try:
            database.describe()
        except NotFound:
            database.create(schema("milvus"))
        database.upsert(FOREIGN)


def still_there(target: Endpoint) -> bool:
    with databases.open_target(target) as database:
        found = database.fetch(FOREIGN.ids).batch
    return [payload.get("whose") for payload in found.payloads] == ["somebody else's"] * 2


def creating(log: MigrationLog, plan: Plan) -> None:
    log.record(target_key(plan.generation), TargetState(plan=plan.digest, state="creating"))


def test_killed_before_creating_somebody_elses_collection_stays_theirs(
    planned: MigrationLog, migration: Migration, place: Workplace
) -> None:
    plan = planned.require_plan()
    creating(planned, plan)
    foreign_records(place.target)
    with databases.open_target(place.target) as target, pytest.raises(TargetNotEmpty, match="holds 2 records"):
        prepare_target(planned, plan, migration, target)
    assert still_there(place.target)


def test_killed_while_creating_a_collection_without_its_index_is_made_again(
    planned: MigrationLog, migration: Migration, place: Workplace
) -> None:
    plan = planned.require_plan()
    creating(planned, plan)
    wanted = plan.mapping.target_schema
    bare = tuple(vector.model_copy(update={"index": None}) for vector in wanted.vectors)
    with databases.open_target(place.target) as target:
        target.create(wanted.model_copy(update={"vectors": bare}))
        assert prepare_target(planned, plan, migration, target).state == "created"
        assert [v.index and v.index.type for v in target.describe().vectors] == [
            v.index and v.index.type for v in wanted.vectors
        ]


def test_skip_leaves_what_is_there_and_adoption_remembers_it(instance: dg.DagsterInstance, place: Workplace) -> None:
    foreign_records(place.target)
    transfer = {"partition_records": 100, "batch_size": 40, "checkpoint_seconds": 0, "on_conflict": "skip"}
    place.write(transfer=transfer)
    migration = load_migration(place.migrations / f"{ID}.yaml")
    everything(instance, migration)
    assert still_there(place.target)
    place.write(transfer=transfer, mapping={"drop": ["note"]})
    again = load_migration(place.migrations / f"{ID}.yaml")
    run_job(plan_job(again), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    everything(instance, again)
    assert still_there(place.target)
    with databases.open_target(place.target) as database:
        found = database.fetch(IdColumn.of(IdKind.I64, [1, 2, 3, 300])).batch
    assert all("note" not in payload for payload in found.payloads)
    log = MigrationLog(instance, ID)
    log.refresh()
    states = log.partitions(log.require_plan()).values()
    assert (sum(s.skipped for s in states), sum(s.acknowledged for s in states)) == (1, len(SMALL) - 1)


def everything(instance: dg.DagsterInstance, migration: Migration) -> None:
    log = MigrationLog(instance, ID)
    if log.plan() is None:
        run_job(plan_job(migration), instance, ID)
    for split in log.require_plan().splits:
        run_job(load_job(migration), instance, ID, partition=split.key)


def test_a_new_plan_waits_for_nobody_and_replaces_nothing_that_is_loaded(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    with held(Lease(instance, ID, plan.splits[1].key)), pytest.raises(PlanOutdated, match="is being loaded"):
        run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True}})
    assert planned.require_plan() == plan


def test_a_plan_is_not_replaced_while_somebody_cuts_over_by_it(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    again = {"make_plan": {"replan": True}}
    with coordinating(MigrationLog(instance, ID)), pytest.raises(PlanOutdated, match="is being cut over"):
        run_job(plan_job(migration), instance, ID, ops=again)
    assert planned.require_plan() == plan

    run_job(plan_job(migration), instance, ID, ops=again)  # now that nobody does
    assert planned.require_plan() != plan


def test_a_generation_that_died_before_its_first_checkpoint_still_needs_adoption(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, place: Workplace
) -> None:
    plan = planned.require_plan()
    with databases.open_target(place.target) as target:
        prepare_target(planned, plan, migration, target)
        target.upsert(
            Batch(
                ids=IdColumn.of(IdKind.I64, [1]),
                vectors={"embedding": Dense(SMALL.vectors[:1])},
                payloads=[Records.payload(1)],
            )
        )
    planned.record(plan.splits[0].key, PartitionState(plan=plan.digest, state="loading", run_id="dead"))
    with pytest.raises(PlanOutdated, match="add --adopt"):
        run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True}})
    run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    everything(instance, migration)
    assert differences(place.target, SMALL) == NOTHING


def test_killed_between_the_targets_state_and_the_plan(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(instance, migration)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MigrationLog, "record_plan", die)
        with pytest.raises(KeyboardInterrupt):
            run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True, "adopt": True}})
    log = MigrationLog(instance, ID)
    log.refresh()
    target = log.target(log.require_plan())
    assert target is not None
    assert target.state == "created"

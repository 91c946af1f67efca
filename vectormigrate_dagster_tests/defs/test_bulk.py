"""Indexing of a target that we made is put off while it is loaded; whoever ends last puts it back as it was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint, Refusal
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant.database import Qdrant
from vectormigrate_dagster.defs import bulk
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.defs.lease import MIGRATE, Lease, held
from vectormigrate_dagster.defs.state import PartitionState, TargetState, target_key
from vectormigrate_dagster.defs.target import prepare_target
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.errors import Stopped, Unavailable, VectorMigrateError
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import Batch
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import ID, Workplace, schema

THRESHOLD = 20_000
"""Of the source, which the plan copies."""


@pytest.fixture
def place(tmp_path: Path, small_source: Endpoint, qdrant_stand_in: QdrantStandIn) -> Workplace:
    """300 records of a folder, to be moved to a Qdrant server in 3 partitions."""
    options = QdrantOptions(grpc_url=qdrant_stand_in.grpc_url)
    target = Endpoint(type="qdrant", url=qdrant_stand_in.url, collection="copies", options=options)
    return Workplace.make(tmp_path, small_source, target, transfer={"partition_records": 100, "max_retries": 0})


def threshold(place: Workplace) -> int:
    with databases.open_source(place.target) as target:
        found: int = target.describe().settings["optimizer_config"]["indexing_threshold"]
    return found


def state_of(log: MigrationLog) -> TargetState:
    log.refresh()
    state = log.target(log.require_plan())
    assert state is not None
    return state


def keys_of(log: MigrationLog) -> tuple[str, ...]:
    keys = log.require_plan().keys
    assert len(keys) >= 3
    return keys


def load(log: MigrationLog, migration: Migration, key: str) -> None:
    run_job(load_job(migration), log.instance, ID, partition=key)


def load_and_be_killed(log: MigrationLog, migration: Migration, key: str) -> None:
    """Load a partition as a command does that is killed afterwards."""
    with held(Lease(log.instance, ID, MIGRATE)):
        load(log, migration, key)


@pytest.fixture
def thresholds(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Which thresholds records were written with."""
    seen: set[int] = set()
    upsert = Qdrant.upsert
    monkeypatch.setattr(Qdrant, "upsert", lambda self, batch: seen.add(threshold(place)) or upsert(self, batch))
    return seen


def test_the_run_of_the_last_partition_puts_it_back_and_waits(
    planned: MigrationLog, migration: Migration, place: Workplace, thresholds: set[int]
) -> None:
    *first, last = keys_of(planned)
    for key in first:
        load_and_be_killed(planned, migration, key)
        assert threshold(place) == 0
        assert (state_of(planned).indexing, state_of(planned).restore) == (
            "deferred",
            {"indexing_threshold": THRESHOLD},
        )
    load(planned, migration, last)
    assert thresholds == {0}
    assert threshold(place) == THRESHOLD
    assert (state_of(planned).indexing, state_of(planned).restore) == ("built", None)


def test_a_run_after_which_none_may_follow_puts_it_back(
    planned: MigrationLog, migration: Migration, place: Workplace, thresholds: set[int]
) -> None:
    for key in keys_of(planned)[:2]:
        load(planned, migration, key)
        assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")
    assert thresholds == {0}


def test_a_run_that_fails_beside_others_leaves_it_to_the_last_of_them(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails, ends, *_ = keys_of(planned)
    upsert = Qdrant.upsert

    def beside(self: Qdrant, batch: Batch) -> list[Refusal]:
        monkeypatch.setattr(Qdrant, "upsert", lambda *_: (_ for _ in ()).throw(Unavailable("no route")))
        with pytest.raises(VectorMigrateError, match="no route"):
            load(planned, migration, fails)
        assert (threshold(place), state_of(planned).indexing) == (0, "deferred")
        monkeypatch.setattr(Qdrant, "upsert", upsert)
        return upsert(self, batch)

    monkeypatch.setattr(Qdrant, "upsert", beside)
    load(planned, migration, ends)
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")


def test_a_run_that_is_stopped_at_its_very_end_puts_it_back(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise Stopped("the work was asked to end")

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "finish_load", stopped)
        with pytest.raises(Stopped):
            load(planned, migration, keys_of(planned)[0])
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")


def test_a_partition_that_is_loaded_again_puts_it_off_again(
    planned: MigrationLog, migration: Migration, place: Workplace, thresholds: set[int]
) -> None:
    for key in keys_of(planned):
        load(planned, migration, key)
    thresholds.clear()
    again = {"extract_id_range": {"mode": "restart"}}
    run_job(load_job(migration), planned.instance, ID, partition=keys_of(planned)[1], ops=again)
    assert thresholds == {0}
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "built")


def test_a_run_that_fails_puts_it_back(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert threshold(place) == 0
        raise Unavailable("no route")

    with monkeypatch.context() as patch:
        patch.setattr(Qdrant, "upsert", fail)
        with pytest.raises(VectorMigrateError, match="no route"):
            load(planned, migration, keys_of(planned)[0])
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")
    load_and_be_killed(planned, migration, keys_of(planned)[0])
    assert (threshold(place), state_of(planned).indexing) == (0, "deferred")


def test_what_cannot_be_put_back_is_told_and_stays_owed(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("no route")

    load_and_be_killed(planned, migration, keys_of(planned)[0])
    error = Unavailable("the first error")
    with monkeypatch.context() as patch:
        patch.setattr(Qdrant, "resume_indexing", fail)
        with bulk.noted(error):
            bulk.leave(planned, planned.require_plan(), lambda: databases.open_target(place.target))
    assert error.__notes__ == ["indexing of the target is still put off: no route"]
    assert (threshold(place), state_of(planned).indexing) == (0, "deferred")


@pytest.mark.parametrize("by", ["partition", "command"])
def test_nobody_puts_it_back_while_others_load(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    first, second, *_ = keys_of(planned)
    load_and_be_killed(planned, migration, first)
    loading = PartitionState(plan=planned.require_plan().digest, state="loading", run_id="of somebody else")
    planned.record(second, loading)
    monkeypatch.setattr(Qdrant, "upsert", lambda *_: (_ for _ in ()).throw(Unavailable("no route")))
    with (
        held(Lease(planned.instance, ID, second if by == "partition" else MIGRATE)),
        pytest.raises(VectorMigrateError, match="no route"),
    ):
        load(planned, migration, keys_of(planned)[2])
    assert (threshold(place), state_of(planned).indexing) == (0, "deferred")
    # Whoever held it is dead now: the next to end puts it back.
    with pytest.raises(VectorMigrateError, match="no route"):
        load(planned, migration, keys_of(planned)[2])
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")


def test_a_validation_puts_it_back_and_waits_if_nobody_loads(
    planned: MigrationLog, migration: Migration, place: Workplace
) -> None:
    first, *rest = keys_of(planned)
    load_and_be_killed(planned, migration, first)
    plan, throttle = planned.require_plan(), throttle_of(planned, migration.transfer)
    with databases.open_target(place.target) as target:
        with held(Lease(planned.instance, ID, MIGRATE)):
            bulk.before_validation(planned, plan, target, throttle)
        assert (threshold(place), state_of(planned).indexing) == (0, "deferred")
        bulk.before_validation(planned, plan, target, throttle)
        assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")
        for key in rest:
            load_and_be_killed(planned, migration, key)
        assert (threshold(place), state_of(planned).indexing) == (0, "deferred")
        bulk.before_validation(planned, plan, target, throttle)
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "built")


Moment = Callable[[pytest.MonkeyPatch], None]


def before_the_change(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Qdrant, "prepare_bulk_load", killed)


def after_the_change(patch: pytest.MonkeyPatch) -> None:
    prepare = Qdrant.prepare_bulk_load
    patch.setattr(Qdrant, "prepare_bulk_load", lambda self: (prepare(self), killed()))


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", [before_the_change, after_the_change])
def test_killed_while_it_is_put_off_the_state_knows_it(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    plan = planned.require_plan()
    with monkeypatch.context() as patch, databases.open_target(place.target) as target:
        moment(patch)
        with pytest.raises(KeyboardInterrupt):
            prepare_target(planned, plan, migration, target)
    assert (state_of(planned).indexing, state_of(planned).restore) == ("deferred", {"indexing_threshold": THRESHOLD})
    bulk.leave(planned, plan, lambda: databases.open_target(place.target))
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")


def test_killed_between_putting_it_back_and_the_state_it_is_put_back_again(
    planned: MigrationLog, migration: Migration, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_and_be_killed(planned, migration, keys_of(planned)[0])
    plan, resume = planned.require_plan(), Qdrant.resume_indexing

    def resume_and_die(self: Qdrant, settings: dict[str, object]) -> None:
        resume(self, settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Qdrant, "resume_indexing", resume_and_die)
        with pytest.raises(KeyboardInterrupt):
            bulk.leave(planned, plan, lambda: databases.open_target(place.target))
    assert state_of(planned).indexing == "deferred"
    bulk.leave(planned, plan, lambda: databases.open_target(place.target))
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, "building")


def test_a_collection_that_is_gone_owes_nothing(planned: MigrationLog, migration: Migration, place: Workplace) -> None:
    load_and_be_killed(planned, migration, keys_of(planned)[0])
    with databases.open_target(place.target) as target:
        target.drop()
    bulk.leave(planned, planned.require_plan(), lambda: databases.open_target(place.target))
    assert (state_of(planned).indexing, state_of(planned).restore) == (None, None)


def test_somebody_elses_collection_is_left_alone(planned: MigrationLog, migration: Migration, place: Workplace) -> None:
    made = schema("qdrant").model_copy(update={"settings": {"optimizer_config": {"indexing_threshold": 777}}})
    with databases.open_target(place.target) as target:
        target.create(made.model_copy(update={"name": place.target.collection}))
    for key in keys_of(planned):
        load(planned, migration, key)
        assert (threshold(place), state_of(planned).restore) == (777, None)
    assert state_of(planned).indexing == "built"


def test_never_is_never(planned: MigrationLog, place: Workplace) -> None:
    place.write(transfer={"partition_records": 100, "max_retries": 0, "defer_indexing": "never"})
    load(planned, load_migration(place.migrations / f"{ID}.yaml"), keys_of(planned)[0])
    assert (threshold(place), state_of(planned).indexing) == (THRESHOLD, None)


def test_states_of_before_still_parse(planned: MigrationLog) -> None:
    plan = planned.require_plan()
    old = {"at": "2026-11-22T00:00:00Z", "plan": plan.digest, "state": "created", "records_before": 0}
    planned.record(target_key(plan.generation), TargetState.model_validate(old))
    assert (state_of(planned).indexing, state_of(planned).restore) == (None, None)

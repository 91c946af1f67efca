"""Lists of refused records survive kills; runs whose process is gone are found; counts are compared at the end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.databases.source import Source
from vectormigrate_dagster.defs import dead_runs
from vectormigrate_dagster.defs import recorder as recorder_module
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import load_job, plan_job
from vectormigrate_dagster.defs.lease import Lease, held, run_lease
from vectormigrate_dagster.defs.names import MIGRATION_TAG, plan_asset
from vectormigrate_dagster.defs.recorder import Recorder
from vectormigrate_dagster.defs.refusals import RefusalList, read_refusals, refusals_path, vanished_path
from vectormigrate_dagster.defs.state import CONTINUE, CONTROL, Continue, Control, PartitionState, now
from vectormigrate_dagster.errors import PlanOutdated, ValidationFailed
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.transfer import Throttle
from vectormigrate_dagster.transfer.pipeline import Checkpoint
from vectormigrate_dagster_tests.harness import ID, Workplace

ONE, TWO, THREE = (Refusal(id=str(n), reason="it is 'odd'\n", scope=None) for n in range(3))


def test_a_list_keeps_what_its_state_counts(tmp_path: Path) -> None:
    path = tmp_path / "refused" / "k.jsonl"
    RefusalList(path, keep=0).append([ONE, TWO])
    again = RefusalList(path, keep=1)
    again.append([THREE])
    again.append([TWO])
    assert list(read_refusals(path)) == [ONE, THREE, TWO]
    RefusalList(path, keep=0).trim()
    assert list(read_refusals(path)) == []


def test_a_line_that_a_kill_cut_poisons_nothing(tmp_path: Path) -> None:
    path = tmp_path / "k.jsonl"
    RefusalList(path, keep=0).append([ONE, TWO])
    path.write_bytes(path.read_bytes()[:-7])
    assert list(read_refusals(path)) == [ONE]
    RefusalList(path, keep=1).append([THREE])
    assert list(read_refusals(path)) == [ONE, THREE]


def test_h27_vanished_records_are_listed_by_their_ids_and_once(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    key = planned.require_plan().splits[0].key
    run = instance.create_run_for_job(load_job(migration))
    state = PartitionState(plan=planned.require_plan().digest, state="loading", run_id=run.run_id)
    first = Recorder(planned, key, state, every=3600)
    first.take(Checkpoint(after="1", vanished=1, gone=(ONE,)))  # writes the state
    first.take(Checkpoint(after="3", vanished=2, gone=(TWO,)))  # does not, and the process dies here
    assert list(read_refusals(vanished_path(planned, key))) == [ONE, TWO]
    again = Recorder(planned, key, state.model_copy(update={"after": "1", "vanished": 1}))
    again.take(Checkpoint(after="3", vanished=1, gone=(TWO,)))
    assert list(read_refusals(vanished_path(planned, key))) == [ONE, TWO]
    assert again.state.vanished == 2
    assert list(read_refusals(refusals_path(planned, key))) == []


def test_a_started_run_without_its_lease_is_dead(
    instance: dg.DagsterInstance, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started() -> str:
        run = instance.create_run_for_job(load_job(migration), tags={MIGRATION_TAG: ID})
        instance.handle_run_event(
            run.run_id,
            dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name),
        )
        return run.run_id

    alive, dead = started(), started()
    assert report_dead_runs(instance, ID) == []
    monkeypatch.setattr(dead_runs, "_STARTING", timedelta(0))
    with held(Lease(instance, ID, run_lease(alive))):
        assert report_dead_runs(instance, ID) == [dead]
    statuses = {run_id: instance.get_run_by_id(run_id).status for run_id in (alive, dead)}  # type: ignore[union-attr]
    assert statuses == {alive: dg.DagsterRunStatus.STARTED, dead: dg.DagsterRunStatus.FAILURE}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_time_in_the_queue_is_no_sign_of_death_and_a_launch_without_end_is(
    instance: dg.DagsterInstance, migration: Migration, status: dg.DagsterRunStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was launched by a daemon that died would keep the sensor from launching another, for ever."""
    run = instance.create_run_for_job(load_job(migration), tags={MIGRATION_TAG: ID})
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    launched = record.create_timestamp + timedelta(hours=1)
    kind = {"STARTING": "PIPELINE_STARTING", "STARTED": "PIPELINE_START"}[status.value]
    event = dg.DagsterEvent(event_type_value=kind, job_name=run.job_name)
    instance.run_storage.handle_run_event(run.run_id, event, update_timestamp=launched)
    assert instance.get_run_by_id(run.run_id).status is status  # type: ignore[union-attr]
    passed = {"seconds": 100}
    monkeypatch.setattr(dead_runs, "now", lambda: launched + timedelta(**passed))

    assert report_dead_runs(instance, ID) == []
    passed["seconds"] = 400
    assert report_dead_runs(instance, ID) == [run.run_id]


def test_h18_a_target_that_lost_records_after_done_is_not_complete(place: Workplace) -> None:
    context = Context(place.migrations, place.home)
    assert migrate(context, ID).status == "completed"
    with databases.open_target(place.target) as target:
        target.delete(IdColumn.of(IdKind.I64, [1, 2]))
    with pytest.raises(ValidationFailed, match="every partition is done, but the target holds 298 records"):
        migrate(context, ID)


def test_h18_a_scan_that_misses_records_is_not_complete(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Source.scan

    def missing_a_few(self: Source, *arguments: object, **named: object):  # type: ignore[no-untyped-def]
        for batch in scan(self, *arguments, **named):  # type: ignore[arg-type]
            if kept := [row for row, number in enumerate(batch.ids.to_pylist()) if int(str(number)) % 40]:
                yield batch.take(kept)

    monkeypatch.setattr(Source, "scan", missing_a_few)
    with pytest.raises(ValidationFailed, match="the source holds 300 records, 293 were accounted for"):
        migrate(Context(place.migrations, place.home), ID)


def test_a_run_that_began_by_another_plan_stops(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned.require_plan()
    newer = plan.model_copy(update={"generation": 2})
    real = MigrationLog.require_plan
    answers = iter([plan, newer])
    monkeypatch.setattr(MigrationLog, "require_plan", lambda self: next(answers, None) or real(self))
    with pytest.raises(PlanOutdated, match="the plan was replaced by generation 2"):
        run_job(load_job(migration), instance, ID, partition=plan.splits[0].key)


def test_a_stop_between_two_ops_of_a_run_is_not_lost(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    plan = planned.require_plan()
    run = instance.create_run_for_job(load_job(migration))
    planned.record(CONTROL, Control(stop_requested_at=now()))
    later = instance.create_run_for_job(load_job(migration))
    key = plan.splits[0].key
    stops = {
        made.run_id: Recorder(
            planned, key, PartitionState(plan=plan.digest, state="loading", run_id=made.run_id)
        ).should_stop()
        for made in (run, later)
    }
    assert stops == {run.run_id: True, later.run_id: False}


def test_stop_and_throttle_are_noticed_without_a_checkpoint(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, throttle = planned.require_plan(), Throttle()
    run = instance.create_run_for_job(load_job(migration))
    state = PartitionState(plan=plan.digest, state="loading", run_id=run.run_id)
    recorder = Recorder(planned, plan.splits[0].key, state, throttle=throttle)
    assert not recorder.should_stop()
    asked = Control(stop_requested_at=now(), rate_limit=5.0, rate_limit_set=True)
    MigrationLog(instance, ID).record(CONTROL, asked)  # as another process does
    monkeypatch.setattr(recorder_module, "_LOOK_SECONDS", 0.0)
    assert recorder.should_stop()
    assert throttle.rate.rate == 5.0


def test_stop_ends_what_continues_by_itself(planned: MigrationLog) -> None:
    plan = planned.require_plan()
    planned.record(CONTINUE, Continue(plan=plan.digest))
    assert planned.continues(plan)
    planned.record(CONTROL, Control(stop_requested_at=now()))
    assert not planned.continues(plan)
    planned.record(CONTINUE, Continue(plan=plan.digest))
    assert planned.continues(plan)


def test_keys_whose_plan_was_wiped_are_an_error(
    instance: dg.DagsterInstance, migration: Migration, planned: MigrationLog
) -> None:
    instance.wipe_assets([plan_asset(ID)])
    with pytest.raises(PlanOutdated, match="but no plan"):
        run_job(plan_job(migration), instance, ID)
    run_job(plan_job(migration), instance, ID, ops={"make_plan": {"replan": True}})
    assert planned.require_plan().generation == 2

"""Contract of a full validation in Dagster: a run for each partition, the last one concludes, nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.definitions import definitions_of
from vectormigrate_dagster.defs import names, whole_validation
from vectormigrate_dagster.defs.automation import schedule_of
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.jobs import load_job, plan_job, validate_job
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.rolling_back import rollback_job
from vectormigrate_dagster.defs.state import (
    VALIDATION_ROUND,
    PartitionValidation,
    ValidationState,
    now,
    partition_validation_key,
)
from vectormigrate_dagster.defs.whole_validation import current_round
from vectormigrate_dagster.errors import LeaseHeld, ValidationFailed
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.validation.mismatches import MismatchKind, read_mismatches
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import ID, Workplace


@dataclass(frozen=True)
class Loaded:
    """A migration of which everything is moved; all tests share it, and each begins a round of its own."""

    instance: dg.DagsterInstance
    migration: Migration
    log: MigrationLog
    plan: Plan

    @property
    def state(self) -> ValidationState | None:
        """The newest validation of the whole."""
        self.log.refresh()
        return self.log.validation(self.plan)

    def validate(self, key: str) -> str:
        return run_job(validate_job(self.migration), self.instance, ID, partition=key)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Iterator[Loaded]:
    transfer = {"partition_records": 100, "batch_size": 100}
    place = Workplace.make(tmp_path_factory.mktemp("loaded"), small_source, "milvus", transfer=transfer)
    migration = load_migration(place.migrations / f"{ID}.yaml")
    with open_home(place.home) as instance:
        run_job(plan_job(migration), instance, ID)
        log = MigrationLog(instance, ID)
        plan = log.require_plan()
        for key in plan.keys:
            run_job(load_job(migration), instance, ID, partition=key)
        yield Loaded(instance, migration, log, plan)


@pytest.fixture
def loaded(moved: Loaded) -> Loaded:
    current_round(moved.log, moved.plan, again=True)
    return moved


def checks_of(instance: dg.DagsterInstance, name: str) -> dict[str | None, bool]:
    """The newest outcome of a check for each partition, and (None) for the whole."""
    key = dg.AssetCheckKey(names.migration_asset(ID), name)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    found: dict[str | None, bool] = {}
    for record in reversed(history):
        assert record.event is not None
        evaluation = record.event.dagster_event.event_specific_data  # type: ignore[union-attr]
        found[evaluation.partition] = evaluation.passed  # type: ignore[union-attr]
    return found


def test_a_run_for_each_partition_of_which_the_last_concludes(loaded: Loaded) -> None:
    plan, before = loaded.plan, loaded.state
    assert len(plan.keys) >= 3
    for number, key in enumerate(plan.keys):
        assert loaded.state == before
        loaded.validate(key)
        loaded.log.refresh()
        known = loaded.log.validation_round(plan)
        assert known is not None
        assert len(loaded.log.validated(plan, known.name)) == number + 1
        assert (known.concluded_at is not None) == (number + 1 == len(plan.keys))
    state = loaded.state
    assert state is not None
    assert (state.passed, state.tier, state.checked, state.mismatches) == (True, "full", len(SMALL), None)
    assert state.digest is not None
    assert checks_of(loaded.instance, "records") == {**dict.fromkeys(plan.keys, True), None: True}
    for tier in ("count", "ids", "search"):
        assert checks_of(loaded.instance, tier) == {None: True}


def test_a_run_leaves_the_conclusion_to_whoever_is_about_it(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_validation, "_LEASE_SECONDS", 0.1)
    before = loaded.state
    known = loaded.log.validation_round(loaded.plan)
    assert known is not None
    for key in loaded.plan.keys[:-1]:
        nothing = PartitionValidation(plan=loaded.plan.digest, round=known.name, passed=True, outcome={})
        loaded.log.record(partition_validation_key(key), nothing)
    with held(Lease(loaded.instance, ID, f"validation-{known.name}")):
        loaded.validate(loaded.plan.keys[-1])
    assert loaded.state == before
    assert len(loaded.log.validated(loaded.plan, known.name)) == len(loaded.plan.keys)


@pytest.fixture
def without_7(loaded: Loaded) -> Iterator[None]:
    """A record is missing in the target."""
    ids = IdColumn.of(IdKind.I64, [7])
    with databases.open_target(loaded.migration.target.endpoint({})) as target:
        record = target.fetch(ids, None).batch
        target.delete(ids)
    yield
    with databases.open_target(loaded.migration.target.endpoint({})) as target:
        target.upsert(record)


@pytest.mark.usefixtures("without_7")
def test_what_is_wrong_is_named_by_its_partition_and_listed(loaded: Loaded) -> None:
    first, *others = loaded.plan.keys
    with pytest.raises(ValidationFailed, match=f"partition '{first}' differs from the source"):
        loaded.validate(first)
    for key in others[:-1]:
        loaded.validate(key)
    with pytest.raises(ValidationFailed, match="the target holds 299 records"):
        loaded.validate(others[-1])
    found = checks_of(loaded.instance, "records")
    assert found == {first: False, **dict.fromkeys(others, True), None: False}
    state = loaded.state
    assert state is not None
    assert not state.passed
    assert state.mismatches is not None
    folder = Path(state.mismatches)
    assert [path.name for path in folder.iterdir()] == [f"{first}.parquet"]
    (mismatch,) = read_mismatches(folder)
    assert (mismatch.kind, mismatch.id) == (MismatchKind.MISSING, "7")
    assert (mismatch.source_id, mismatch.source_id_kind) == ("7", "u64")


def executed(loaded: Loaded, *checks: str) -> list[dg.AssetCheckEvaluation]:
    """Execute checks as the UI does."""
    repository = definitions_of(loaded.migration).get_repository_def()
    keys = {dg.AssetCheckKey(names.migration_asset(ID), name) for name in checks}
    job = repository.get_job("__ASSET_JOB").get_subset(asset_selection=set(), asset_check_selection=keys)
    return job.execute_in_process(instance=loaded.instance).get_asset_check_evaluations()


@pytest.mark.parametrize("checks", [("count", "ids", "records", "search"), ("ids", "records")])
def test_a_check_executed_in_the_ui_compares_everything(loaded: Loaded, checks: tuple[str, ...]) -> None:
    before = loaded.state
    done = executed(loaded, *checks)
    assert {(check.check_name, check.passed) for check in done} == {(name, True) for name in checks}
    assert all(check.metadata["checked"].value == len(SMALL) for check in done if check.check_name != "search")
    state = loaded.state
    assert state is not None
    assert state != before
    assert (state.passed, state.tier, state.checked) == (True, "full", len(SMALL))


def test_a_sample_executed_in_the_ui_is_one_of_all_partitions(loaded: Loaded) -> None:
    (check,) = executed(loaded, "sample")
    assert (check.check_name, check.passed, check.metadata["checked"].value) == ("sample", True, len(SMALL))
    state = loaded.state
    assert state is not None
    assert state.tier == "sample"


@pytest.mark.usefixtures("without_7")
def test_a_run_without_a_partition_validates_all_of_them(loaded: Loaded) -> None:
    with pytest.raises(ValidationFailed, match="the target holds 299 records"):
        run_job(validate_job(loaded.migration), loaded.instance, ID)
    state = loaded.state
    assert state is not None
    assert (state.passed, state.tier, state.checked) == (False, "full", len(SMALL))


def test_a_count_executed_in_the_ui_looks_at_no_record(loaded: Loaded) -> None:
    before = loaded.state
    known = loaded.log.validation_round(loaded.plan)
    assert known is not None
    (check,) = executed(loaded, "count")
    assert (check.check_name, check.passed, check.metadata["checked"].value) == ("count", True, len(SMALL))
    assert loaded.state == before
    assert loaded.log.validated(loaded.plan, known.name) == {}


def test_a_round_is_gone_on_with_until_it_is_concluded_or_old(loaded: Loaded) -> None:
    log, plan = loaded.log, loaded.plan
    first = current_round(log, plan)
    assert current_round(log, plan) == first
    assert current_round(log, plan, seed=0) == first
    assert current_round(log, plan, seed=1).seed == 1
    again = current_round(log, plan, again=True)
    assert again.name != first.name
    assert current_round(log, plan) == again
    log.record(VALIDATION_ROUND, again.model_copy(update={"concluded_at": now()}))
    following = current_round(log, plan)
    assert following.name != again.name
    log.record(VALIDATION_ROUND, following.model_copy(update={"at": now() - timedelta(hours=25)}))
    assert current_round(log, plan).name != following.name


def test_a_round_over_more_than_a_day_is_gone_on_with(loaded: Loaded) -> None:
    log, plan, key = loaded.log, loaded.plan, loaded.plan.keys[0]
    loaded.validate(key)
    log.refresh()
    known = log.validation_round(plan)
    assert known is not None
    long = known.model_copy(update={"at": now() - timedelta(hours=49)})
    log.record(VALIDATION_ROUND, long)
    assert log.validated(plan, long.name).keys() == {key}
    assert current_round(log, plan) == long


def test_a_partition_that_was_worked_on_since_counts_as_not_validated(loaded: Loaded) -> None:
    plan, log = loaded.plan, loaded.log
    key = plan.keys[0]
    loaded.validate(key)
    log.refresh()
    known = log.validation_round(plan)
    assert known is not None
    assert log.validated(plan, known.name).keys() == {key}
    assert log.validated(plan, "another") == {}
    run_job(
        load_job(loaded.migration), loaded.instance, ID, partition=key, ops={"extract_id_range": {"mode": "restart"}}
    )
    log.refresh()
    assert log.validated(plan, known.name) == {}


def test_a_partition_that_is_being_loaded_is_left_alone(loaded: Loaded) -> None:
    key = loaded.plan.keys[0]
    with held(Lease(loaded.instance, ID, key)), pytest.raises(LeaseHeld, match=f"'{key}'"):
        loaded.validate(key)


def test_the_schedule_validates_every_partition_in_a_new_round(place: Workplace, loaded: Loaded) -> None:
    place.write(schedule={"cron": "0 3 * * *", "action": "verify"})
    migration = load_migration(place.migrations / f"{ID}.yaml")
    schedule = schedule_of(migration, load_job(migration), validate_job(migration), rollback_job(migration))
    assert schedule is not None
    before = current_round(loaded.log, loaded.plan)
    repository = definitions_of(migration).get_repository_def()
    tick = schedule.evaluate_tick(
        dg.build_schedule_context(loaded.instance, scheduled_execution_time=now(), repository_def=repository)
    )
    assert [request.partition_key for request in tick.run_requests or []] == list(loaded.plan.keys)
    assert current_round(loaded.log, loaded.plan).name != before.name

"""Dagster's event log is the state: the newest document of a key wins, runs may be deleted, plans may be large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster.defs import event_log, names
from vectormigrate_dagster.defs.event_log import MigrationLog, log_of
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.state import CONTROL, Control, PartitionState, now
from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster_tests.harness import ID, Workplace


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with open_home(tmp_path_factory.mktemp("home")) as opened:
        yield opened


def state(plan: Plan, run: str = "run", **values: object) -> PartitionState:
    return PartitionState.model_validate({"plan": plan.digest, "state": "loading", "run_id": run, **values})


@pytest.fixture
def plan(place: Workplace) -> Plan:
    assert place.call("plan", ID).returncode == 0
    return place.plan()


def test_the_newest_document_of_a_key_wins(instance: dg.DagsterInstance, plan: Plan) -> None:
    writer, reader = MigrationLog(instance, "newest"), MigrationLog(instance, "newest")
    key = plan.splits[0].key
    reader.refresh()
    assert reader.partitions(plan) == {}
    for number in range(3):
        writer.record(key, state(plan, acknowledged=number))
        reader.refresh()
        assert reader.partitions(plan)[key].acknowledged == number
    fresh = MigrationLog(instance, "newest")
    fresh.refresh()
    assert fresh.partitions(plan) == reader.partitions(plan) == writer.partitions(plan)


def test_states_of_another_plan_or_key_do_not_count(instance: dg.DagsterInstance, plan: Plan) -> None:
    log = MigrationLog(instance, "other")
    log.record(plan.splits[0].key, state(plan).model_copy(update={"plan": "another"}))
    log.record("g9999-00000", state(plan))
    assert log.partitions(plan) == {}


def test_h20_migrations_do_not_see_each_other(instance: dg.DagsterInstance, plan: Plan) -> None:
    one, two = MigrationLog(instance, "one"), MigrationLog(instance, "two")
    one.record(CONTROL, Control(stop_requested_at=now()))
    two.refresh()
    assert two.control().stop_requested_at is None
    one.refresh()
    assert one.control().stop_requested_at is not None


def test_more_events_than_a_page(instance: dg.DagsterInstance, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "_PAGE", 3)
    writer, reader = MigrationLog(instance, "pages"), MigrationLog(instance, "pages")
    writer.record("k", Control(rate_limit=1.0))
    reader.refresh()
    for number in range(10):
        writer.record(plan.splits[number % len(plan.splits)].key, state(plan, acknowledged=number))
    reader.refresh()
    cold = MigrationLog(instance, "pages")
    cold.refresh()
    assert reader.partitions(plan) == cold.partitions(plan) == writer.partitions(plan)


def test_a_log_that_is_used_again_knows_what_others_wrote_since(instance: dg.DagsterInstance, plan: Plan) -> None:
    key = plan.splits[0].key
    log = log_of(instance, "again")
    for number in range(3):
        MigrationLog(instance, "again").record(key, state(plan, acknowledged=number))
        assert log_of(instance, "again") is log
        log.refresh()
        known = log.partition(plan, key)
        assert known is not None
        assert known.acknowledged == number
    assert log_of(instance, "other again") is not log


def test_a_log_that_is_used_again_notices_that_its_asset_was_wiped(instance: dg.DagsterInstance, plan: Plan) -> None:
    log, writer = MigrationLog(instance, "wiped"), MigrationLog(instance, "wiped")
    writer.record(plan.splits[0].key, state(plan))
    writer.record_plan(plan, "d", {})
    log.refresh()
    assert log.partition(plan, plan.splits[0].key) is not None
    assert log.plan() == plan
    instance.wipe_assets([names.state_asset("wiped"), names.plan_asset("wiped")])
    log.refresh()
    assert log.partition(plan, plan.splits[0].key) is None
    assert log.plan() is None


def test_a_plan_that_replaces_another_is_read_again(instance: dg.DagsterInstance, plan: Plan) -> None:
    log = MigrationLog(instance, "replaced")
    log.record_plan(plan, "d", {})
    assert log.plan() == plan
    newer = plan.model_copy(update={"generation": plan.generation + 1})
    MigrationLog(instance, "replaced").record_plan(newer, "d", {})
    assert log.plan() == newer


def test_a_plan_comes_back_as_it_was(instance: dg.DagsterInstance, plan: Plan) -> None:
    log = MigrationLog(instance, "small")
    log.record_plan(plan, "d", {})
    assert MigrationLog(instance, "small").plan() == plan


def test_a_large_plan_is_a_file_that_may_not_change(
    instance: dg.DagsterInstance, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "_INLINE_PLAN_BYTES", 100)
    log = MigrationLog(instance, "large")
    log.record_plan(plan, "d", {})
    assert log.plan() == plan
    (path,) = Path(instance.root_directory).glob("vectormigrate/large/plan-*.json")
    path.write_text(path.read_text() + " ")
    with pytest.raises(PlanOutdated, match="was changed since it was written"):
        log.plan()
    path.unlink()
    with pytest.raises(PlanOutdated, match="cannot be read"):
        log.plan()


def test_no_plan_is_said_with_the_way_out(instance: dg.DagsterInstance) -> None:
    with pytest.raises(PlanOutdated, match="migration 'none' has no plan; make one with 'vectormigrate plan none'"):
        MigrationLog(instance, "none").require_plan()

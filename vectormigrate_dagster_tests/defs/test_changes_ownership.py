"""Checks that catching up and loads beside it know what the other wrote into a target that held records before."""

from __future__ import annotations

import os
import time

import pytest

from vectormigrate_dagster.defs import target
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import TargetState
from vectormigrate_dagster.defs.target import (
    changes_key,
    ownership_folders,
    ownership_of,
    ownership_of_changes,
    written_by,
)
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.transfer.ownership import OwnershipLog


@pytest.fixture
def plan(planned: MigrationLog) -> Plan:
    return planned.require_plan()


def ids(*numbers: int) -> IdColumn:
    return IdColumn.of(IdKind.I64, numbers)


def test_logs_of_loads_and_of_catching_up_see_each_other_while_they_grow(planned: MigrationLog, plan: Plan) -> None:
    existing = TargetState(plan=plan.digest, state="existing", records_before=9)
    load = ownership_of(planned, plan, plan.keys[0], existing)
    other = ownership_of(planned, plan, plan.keys[1], existing)
    changes = [ownership_of_changes(planned, plan, slot, existing) for slot in (0, 1)]
    assert isinstance(load, OwnershipLog)
    assert isinstance(other, OwnershipLog)
    first, second = changes
    assert isinstance(first, OwnershipLog)
    assert isinstance(second, OwnershipLog)
    for number, (log, seen_by) in enumerate(
        [(load, [first, second]), (first, [load, other, second]), (load, [first, second]), (second, [first, load])]
    ):
        log.record_absent(ids(number), None)
        assert all(one.wrote(ids(number), None).all() for one in seen_by), number
    # A partition's own ids are no other partition's business.
    assert other.wrote(ids(0, 1, 2, 3), None).tolist() == [False, True, False, True]
    # A rollback takes back what catching up wrote as well.
    assert changes_key(plan, 0) in {folder.name for folder in ownership_folders(planned)}


def test_an_entry_that_changes_no_time_is_seen(
    planned: MigrationLog, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a log has the same time still, as another entry appeared in the same tick of the disk's clock."""
    existing = TargetState(plan=plan.digest, state="existing", records_before=9)
    load = ownership_of(planned, plan, plan.keys[0], existing)
    changes = ownership_of_changes(planned, plan, 0, existing)
    assert load is not None
    assert changes is not None
    load.record_absent(ids(1), None)
    tick = load.folder.stat().st_mtime_ns
    assert changes.wrote(ids(1), None).all()
    load.record_absent(ids(2), None)
    os.utime(load.folder, ns=(tick, tick))
    later = time.time_ns() + 10 * 10**9
    monkeypatch.setattr(target.time, "time_ns", lambda: later)
    assert changes.wrote(ids(2), None).all()


def test_a_validation_asks_one_log_of_all(planned: MigrationLog, plan: Plan) -> None:
    existing = TargetState(plan=plan.digest, state="existing", records_before=9)
    first, second = (ownership_of(planned, plan, key, existing) for key in plan.keys[:2])
    changes = ownership_of_changes(planned, plan, 0, existing)
    for number, log in enumerate((first, second, changes)):
        assert log is not None
        log.record_absent(ids(number), None)
    for keys, written in ((plan.keys, [True, True, True]), (plan.keys[:1], [True, False, True])):
        asked = written_by(planned, plan, keys, existing)
        assert asked is not None
        assert asked.wrote(ids(0, 1, 2), None).tolist() == written
        assert not asked.folder.exists()


def test_in_a_target_that_is_ours_nobody_asks_whose_a_record_is(planned: MigrationLog, plan: Plan) -> None:
    created = TargetState(plan=plan.digest, state="created")
    assert ownership_of_changes(planned, plan, 0, created) is None

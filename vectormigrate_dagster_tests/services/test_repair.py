"""Checks `repair`: what a full validation listed becomes right, and nothing claims more than was looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.repairing import repair_job
from vectormigrate_dagster.errors import LeaseHeld, NotSo, PlanOutdated, ValidationFailed
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.lookup import lookup
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.repair import repair
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import ID, NOTHING, Records, Workplace, differences, fill
from vectormigrate_dagster_tests.services.conftest import context_of

ONE_PARTITION = {"partition_records": 1000}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Workplace:
    """A finished migration of one partition."""
    place = Workplace.make(tmp_path_factory.mktemp("done"), small_source, "milvus", transfer=ONE_PARTITION)
    assert migrate(context_of(place), ID).status == "completed"
    return place


@pytest.fixture
def mine(done: Workplace, tmp_path: Path) -> Iterator[Workplace]:
    """The same, whose target and home a test may spoil."""
    kept = tmp_path / "kept"
    assert done.target.path is not None
    shutil.copytree(done.target.path, kept / "target")
    shutil.copytree(done.home, kept / "home")
    yield done
    for name, path in (("target", done.target.path), ("home", done.home)):
        shutil.rmtree(path)
        shutil.move(kept / name, path)


def write(target: Endpoint, number: int, vector: np.ndarray, payload: dict[str, object]) -> None:
    with databases.open_target(target) as database:
        column = Dense(vector.reshape(1, -1).astype(np.float32))
        assert database.upsert(Batch(IdColumn.of(IdKind.I64, [number]), None, {"embedding": column}, [payload])) == []


def delete(target: Endpoint, *numbers: int) -> None:
    with databases.open_target(target) as database:
        database.delete(IdColumn.of(IdKind.I64, numbers))


def spoil(target: Endpoint) -> None:
    """One missing, two different."""
    delete(target, 7)
    write(target, 20, -SMALL.vectors[19], Records.payload(20))
    write(target, 250, SMALL.vectors[249], {**Records.payload(250), "even": 1})


def test_what_was_listed_is_right_afterwards_and_a_new_validation_proves_it(mine: Workplace) -> None:
    context = context_of(mine)
    spoil(mine.target)
    assert not validate(context, ID, full=True).passed
    done = repair(context, ID)
    assert (done.passed, done.listed, done.repaired, done.generations) == (True, 3, 3, 1)
    assert (done.left, done.mismatches) == ((), None)
    assert differences(mine.target, SMALL) == NOTHING
    found = lookup(context, ID, "7")
    assert found.source.payload == found.target.payload == Records.payload(7)
    told = status(context, ID)
    assert (told.phase, told.validation.passed, told.validation.tier) == ("repaired", False, "repair")
    assert (told.validation.checked, told.validation.mismatched) == (3, 0)
    assert validate(context, ID, full=True).passed
    assert status(context, ID).phase == "validated"
    again = repair(context, ID)
    assert (again.passed, again.listed) == (True, 0)
    assert status(context, ID).phase == "validated"


def test_a_sample_in_between_does_not_hide_what_is_listed(mine: Workplace) -> None:
    context = context_of(mine)
    delete(mine.target, 7)
    assert not validate(context, ID, full=True).passed
    validate(context, ID, sample_size=1)
    done = repair(context, ID)
    assert (done.passed, done.repaired) == (True, 1)
    assert validate(context, ID, full=True).passed


def test_h25_an_extra_record_that_nobody_can_say_we_wrote_is_left_alone(mine: Workplace) -> None:
    context = context_of(mine)
    write(mine.target, 1000, SMALL.vectors[0], Records.payload(1000))
    assert not validate(context, ID, full=True).passed
    for _ in range(2):  # the second one goes on with what the first one left
        done = repair(context, ID)
        assert (done.passed, done.listed, done.left_alone) == (False, 1, 1)
        assert (done.left[0].id, done.left[0].outcome) == ("1000", "left_alone")
        assert done.mismatches is not None
        assert Path(done.mismatches).exists()
    assert differences(mine.target, SMALL)["extra"] == [1000]
    assert status(context, ID).validation.mismatched == 1


def test_repair_needs_a_list(mine: Workplace, context: Context) -> None:
    with pytest.raises(PlanOutdated, match=f"'{ID}' has no plan"):
        repair(context, ID)
    plan(context, ID)
    with pytest.raises(NotSo, match=f"'{ID}' was not validated, so nothing is listed; 'vectormigrate validate"):
        repair(context, ID)
    spoil(mine.target)
    assert not validate(context_of(mine), ID, sample_size=300).passed
    with pytest.raises(NotSo, match="failed and listed no records"):
        repair(context_of(mine), ID)


def test_repair_waits_for_nobody_who_writes_the_same_partition(mine: Workplace) -> None:
    context = context_of(mine)
    spoil(mine.target)
    validate(context, ID, full=True)
    with open_home(mine.home) as instance:
        key = MigrationLog(instance, ID).require_plan().splits[-1].key
        with held(Lease(instance, ID, key)), pytest.raises(LeaseHeld, match=f"'{key}'"):
            repair(context, ID)
    assert differences(mine.target, SMALL)["missing"] == [7]


def test_the_job_repairs_too_and_fails_if_something_is_left(mine: Workplace) -> None:
    context = context_of(mine)
    spoil(mine.target)
    write(mine.target, 1000, SMALL.vectors[0], Records.payload(1000))
    validate(context, ID, full=True)
    job = repair_job(load_migration(mine.migrations / f"{ID}.yaml"))
    with open_home(mine.home) as instance:
        with pytest.raises(ValidationFailed, match="1 of 4 listed records are not right"):
            run_job(job, instance, ID)
        (run,) = [run for run in MigrationLog(instance, ID).runs() if run.job_name == f"{ID}_repair"]
        assert run.tags["vectormigrate/phase"] == "repair"
    assert differences(mine.target, SMALL) == {**NOTHING, "extra": [1000]}


@pytest.mark.parametrize("on_conflict", ["skip", "overwrite"])
def test_h25_repair_never_touches_what_stood_in_the_target_before(
    on_conflict: str, tmp_path: Path, small_source: Endpoint
) -> None:
    transfer = {**ONE_PARTITION, "on_conflict": on_conflict}
    place = Workplace.make(tmp_path, small_source, "milvus", transfer=transfer)
    context = context_of(place)
    theirs = Records.of(310)
    fill(place.target, Records(theirs.vectors[:5]))
    with databases.open_target(place.target) as database:
        database.delete(IdColumn.of(IdKind.I64, [1]))
    write(place.target, 5000, SMALL.vectors[0], Records.payload(5000))
    assert migrate(context, ID).status == "completed"
    before = differences(place.target, SMALL)
    assert before["extra"] == [5000]
    assert before["different"] == ([2, 3, 4, 5] if on_conflict == "skip" else [])
    spoil(place.target)
    assert not validate(context, ID, full=True).passed
    done = repair(context, ID)
    assert (done.passed, done.repaired) == (True, 3)
    assert differences(place.target, SMALL) == before

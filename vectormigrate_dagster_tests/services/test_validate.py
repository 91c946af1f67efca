"""Checks `validate`: samples and everything, and that a target that was tampered with fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import validate_job
from vectormigrate_dagster.defs.whole_validation import current_round
from vectormigrate_dagster.errors import ConfigurationError, PlanOutdated
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import Progress, Status, ValidationDocument
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import _reporting, validate
from vectormigrate_dagster.validation.mismatches import read_mismatches
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Records, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


def failed(document: ValidationDocument) -> list[str]:
    return [tier.name for tier in document.tiers if not tier.passed]


@pytest.fixture
def mine(finished: Workplace, tmp_path: Path) -> tuple[Context, Endpoint]:
    """A copy of a finished migration's target, in its place; a test may spoil it."""
    kept = tmp_path / "kept"
    assert finished.target.path is not None
    shutil.copytree(finished.target.path, kept)
    yield context_of(finished), finished.target
    shutil.rmtree(finished.target.path)
    shutil.move(kept, finished.target.path)


def test_everything_or_a_sample(finished: Workplace) -> None:
    whole = validate(context_of(finished), ID, full=True)
    assert (whole.passed, whole.full) == (True, True)
    assert {tier.name: tier.checked for tier in whole.tiers} == {
        "count": 300,
        "ids": 300,
        "records": 300,
        "search": 100,
    }
    told = status(context_of(finished), ID)
    assert (told.phase, told.validation.passed, told.validation.tier) == ("validated", True, "full")
    sample = validate(context_of(finished), ID, sample_size=25)
    records = next(tier for tier in sample.tiers if tier.name == "records")
    assert (sample.passed, sample.full, records.checked) == (True, False, 25)
    assert "95 %" in records.summary
    with pytest.raises(ConfigurationError, match="not both"):
        validate(context_of(finished), ID, sample_size=25, full=True)


def test_h22_one_bit_of_one_float_fails(mine: tuple[Context, Endpoint]) -> None:
    context, target = mine
    spoiled = SMALL.vectors[6:7].copy()
    spoiled.view(np.uint32)[0, 3] ^= 1
    rewrite(target, spoiled, Records.payload(7))
    document = validate(context, ID, full=True)
    assert (document.passed, failed(document)) == (False, ["records"])
    told = status(context, ID).validation
    assert (told.passed, told.mismatched) == (False, 1)


def test_h13_one_type_of_one_value_fails(mine: tuple[Context, Endpoint]) -> None:
    context, target = mine
    rewrite(target, SMALL.vectors[6:7], {**Records.payload(7), "a.b c": [1.0, 2.0]})
    assert failed(validate(context, ID, full=True)) == ["records"]


def test_h18_a_record_for_a_record_fails_by_its_id(mine: tuple[Context, Endpoint]) -> None:
    context, target = mine
    rewrite(target, SMALL.vectors[6:7], Records.payload(7), number=1000)
    with databases.open_target(target) as database:
        database.delete(IdColumn.of(IdKind.I64, [7]))
    wrong = failed(validate(context, ID, full=True))
    assert "ids" in wrong
    assert "count" not in wrong


def test_h22_a_sample_sees_a_target_that_is_wrong_everywhere(mine: tuple[Context, Endpoint]) -> None:
    context, target = mine
    with databases.open_target(target) as database:
        numbers = range(1, len(SMALL) + 1)
        payloads = [Records.payload(number) for number in numbers]
        swapped = {"embedding": Dense(SMALL.vectors[::-1].copy())}
        database.upsert(Batch(IdColumn.of(IdKind.I64, numbers), None, swapped, payloads))
    assert set(failed(validate(context, ID, sample_size=20))) == {"records", "search"}


def test_what_was_never_planned_cannot_be_validated(context: Context) -> None:
    with pytest.raises(PlanOutdated, match=f"'{ID}' has no plan"):
        validate(context, ID)


def rewrite(target: Endpoint, vector: np.ndarray, payload: dict[str, object], number: int = 7) -> None:
    assert target.collection == COLLECTION
    with databases.open_target(target) as database:
        database.upsert(Batch(IdColumn.of(IdKind.I64, [number]), None, {"embedding": Dense(vector)}, [payload]))


def test_a_full_validation_goes_on_where_it_was_interrupted(finished: Workplace) -> None:
    context = context_of(finished)
    migration = context.migration(ID)
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        plan = log.require_plan()
        known = current_round(log, plan, again=True)
        first, *others = plan.keys
        run_job(validate_job(migration), instance, ID, partition=first)
        told: list[Status] = []
        _reporting(log, migration, told.append)()
        assert told[0].progress == Progress.of(plan.splits[0].split.records, 300)
        before = {run.run_id for run in log.runs(100)}
        document = validate(context, ID, full=True)
        runs = [run for run in log.runs(100) if run.run_id not in before]
        assert sorted(run.tags["dagster/partition"] for run in runs) == others
        assert (document.passed, document.began_at, document.seed) == (True, known.at, 0)
        assert document.plan == plan.digest
        log.refresh()
        state = log.validation(plan)
        assert state is not None
        assert state.digest == document.digest


def test_a_seed_repeats_a_sample_and_another_draws_another(finished: Workplace) -> None:
    context = context_of(finished)
    first, again, other = (validate(context, ID, sample_size=20, seed=seed) for seed in (5, 5, 6))
    assert [document.seed for document in (first, again, other)] == [5, 5, 6]
    assert first.passed
    assert other.passed


def test_h22_everything_that_is_wrong_is_in_the_file(mine: tuple[Context, Endpoint]) -> None:
    context, target = mine
    with databases.open_target(target) as database:
        database.delete(IdColumn.of(IdKind.I64, range(1, 51)))
    document = validate(context, ID, full=True)
    assert not document.passed
    assert document.mismatches is not None
    listed = list(read_mismatches(Path(document.mismatches)))
    assert sorted(int(found.id) for found in listed) == list(range(1, 51))


def test_options_of_a_full_validation_go_with_it_alone(finished: Workplace) -> None:
    with pytest.raises(ConfigurationError, match="for a full validation"):
        validate(context_of(finished), ID, again=True)
    with pytest.raises(ConfigurationError, match="embedded"):
        validate(context_of(finished), ID, full=True, workers=2)

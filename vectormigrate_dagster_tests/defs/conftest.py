"""A planned migration of 300 records, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.jobs import plan_job
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.harness import ID, Workplace


@pytest.fixture
def migration(place: Workplace) -> Migration:
    return load_migration(place.migrations / f"{ID}.yaml")


@pytest.fixture
def instance(place: Workplace) -> Iterator[dg.DagsterInstance]:
    with open_home(place.home) as opened:
        yield opened


@pytest.fixture
def planned(instance: dg.DagsterInstance, migration: Migration) -> MigrationLog:
    run_job(plan_job(migration), instance, ID)
    return MigrationLog(instance, ID)

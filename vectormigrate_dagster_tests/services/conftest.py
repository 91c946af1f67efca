"""A finished migration that tests of services read, and a place to make their own."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster_tests.harness import ID, Workplace


def context_of(place: Workplace) -> Context:
    return Context(place.migrations, place.home)


@pytest.fixture
def context(place: Workplace) -> Context:
    """Where a migration of 300 records can be made."""
    return context_of(place)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Workplace:
    """A migration of 300 records that is done; nobody changes its databases."""
    place = Workplace.make(
        tmp_path_factory.mktemp("finished"), small_source, "milvus", transfer={"partition_records": 100}
    )
    assert migrate(context_of(place), ID).status == "completed"
    return place

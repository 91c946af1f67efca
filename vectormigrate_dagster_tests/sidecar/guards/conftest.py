"""The product's application on a home without runs, which several tests ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.sidecar import operations
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.settings import Limits
from vectormigrate_dagster_tests.harness import Workplace
from vectormigrate_dagster_tests.sidecar.guards.asking import Asker, running
from vectormigrate_dagster_tests.sidecar.guards.guarded import with_key

UNLIMITED = Limits(requests_per_minute=10**9, failures_per_minute=10**9)


@pytest.fixture(autouse=True, scope="package")
def _patient() -> Iterator[None]:
    """Storage has all the time that a busy machine needs; a test of what hangs sets its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "STORAGE_SECONDS", 240.0)
        patch.setattr(operations, "SCRAPE_SECONDS", 240.0)
        yield


@pytest.fixture(scope="session")
def unmoved(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Workplace:
    """A migration that was never planned."""
    return Workplace.make(tmp_path_factory.mktemp("unmoved"), small_source, "milvus")


@pytest.fixture(scope="module")
def product(unmoved: Workplace) -> Iterator[Asker]:
    """The product behind a reader's and a writer's key, without limits of rate."""
    context = Context(unmoved.migrations, unmoved.home)
    with running(create_app(context, with_key(limits=UNLIMITED))) as ask:
        yield ask

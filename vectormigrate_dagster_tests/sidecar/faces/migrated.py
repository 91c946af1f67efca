"""Real migrations and a sidecar that answers about them; `conftest.py` makes fixtures of these."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.keys import Key, KeyRing
from vectormigrate_dagster.sidecar.settings import Limits, Settings
from vectormigrate_dagster_tests.harness import ID, Workplace, side_of
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, Served, serving

PLANNED = "planned-only"
UNTOUCHED = "never_planned"
READER = "only-reads"
_MANY = Limits(requests_per_minute=10**9, failures_per_minute=10**9)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Workplace:
    """A folder of four files: a finished migration, a planned one, one that nobody has touched, and a broken one."""
    place = Workplace.make(
        tmp_path_factory.mktemp("migrated"), small_source, "milvus", transfer={"partition_records": 100}
    )
    for name in (PLANNED, UNTOUCHED):
        other = Endpoint(type="milvus", path=place.folder / f"{name}.db", collection="things")
        file = {"source": side_of(small_source), "target": side_of(other)}
        (place.migrations / f"{name}.yaml").write_text(yaml.safe_dump(file))
    (place.migrations / "broken.yaml").write_text('source: {type: qdrant, "\\e[31m": 1}\n')
    assert migrate(context_of(place), ID).status == "completed"
    plan(context_of(place), PLANNED)
    return place


@pytest.fixture(scope="session")
def served(migrated: Workplace) -> Iterator[Served]:
    """A sidecar that only reads."""
    with serving(create_app(context_of(migrated), settings())) as server:
        yield server


def context_of(place: Workplace) -> Context:
    return Context(place.migrations, place.home)


def settings(**more: object) -> Settings:
    """Settings with the key of the original's examples, which may write, and one that may read."""
    ring = KeyRing([Key.of(KEY, name="tests", scope="write"), Key.of(READER, name="reader", scope="read")])
    return Settings(keys=ring, limits=_MANY, **more)  # type: ignore[arg-type]

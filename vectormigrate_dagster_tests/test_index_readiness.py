"""Checks that no search is asked of an index that is not built (H-32): a server that builds one is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant import database as qdrant
from vectormigrate_dagster.errors import DatabaseError
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.emulators.qdrant.engine import Engine
from vectormigrate_dagster_tests.emulators.qdrant.optimizer import Optimizer
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of

LOOKS = 4
"""Looks at the status until the index is built."""


@pytest.fixture
def moved(qdrant_stand_in: QdrantStandIn, small_source: Endpoint, tmp_path: Path) -> Workplace:
    """A finished migration to a server of the test's own."""
    options = QdrantOptions(grpc_url=qdrant_stand_in.grpc_url)
    target = Endpoint(type="qdrant", url=qdrant_stand_in.url, collection="Built", options=options)
    place = Workplace.make(tmp_path, small_source, target, transfer={"partition_records": 1000, "workers": 1})
    assert migrate(context_of(place), ID).status == "completed"
    return place


def test_h32_a_server_is_searched_only_once_its_index_is_built(
    moved: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    query = Engine.query

    def look(self: Optimizer, config: Any, size: int, points: int) -> tuple[models.CollectionStatus, int]:
        built = events.count("building") >= LOOKS
        events.append("built" if built else "building")
        return (models.CollectionStatus.GREEN, points) if built else (models.CollectionStatus.YELLOW, 0)

    def noted(self: Engine, *arguments: Any) -> Any:
        events.append("search")
        return query(self, *arguments)

    monkeypatch.setattr(Optimizer, "look", look)
    monkeypatch.setattr(Engine, "query", noted)
    monkeypatch.setattr(qdrant, "_POLL_SECONDS", 0.0)
    assert validate(context_of(moved), ID).passed
    assert events.count("building") == LOOKS
    assert "built" in events[: events.index("search")]


def test_h32_a_server_that_cannot_build_its_index_is_not_validated(
    moved: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Optimizer, "look", lambda *arguments: (models.CollectionStatus.RED, 0))
    with pytest.raises(DatabaseError, match="cannot build its indexes"):
        validate(context_of(moved), ID)
    assert status(context_of(moved), ID).validation.passed is None

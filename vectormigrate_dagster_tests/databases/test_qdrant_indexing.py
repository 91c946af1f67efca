"""When a Qdrant server indexes what is loaded: after the load if it may, and the load's end waits for it.

What needs no fault runs on the server at QDRANT_URL where that is set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qdrant_client.models import CollectionStatus, OptimizersConfigDiff

from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.databases.qdrant import database as qdrant_database
from vectormigrate_dagster.errors import DatabaseError, Stopped
from vectormigrate_dagster.model import FieldSchema, FieldType, IndexSpec
from vectormigrate_dagster_tests.databases.qdrant_support import Opener, plain, schema
from vectormigrate_dagster_tests.databases.waits import Waits


def test_the_end_of_a_load_waits_for_the_index(on_server: Opener) -> None:
    database = on_server()
    database.create(schema())
    database.prepare_bulk_load()
    database.upsert(plain(range(100)))
    database.finish_bulk_load()
    with database._client("read") as client:
        assert client.get_collection("server_things").status.value == "green"


INDEXED = 4_000
"""Records whose vectors are far above a threshold of 4 KB, in each of a few segments."""


def test_a_load_without_index_is_indexed_afterwards(on_server: Opener) -> None:
    database = on_server()
    settings = {"optimizer_config": {"indexing_threshold": 4}}
    field = FieldSchema(name="n", type=FieldType.INT64, index=IndexSpec(type="integer"))
    database.create(schema().model_copy(update={"settings": settings, "fields": (field,)}))
    # A graph that is to be filtered is built with what it is filtered by: payload indexes come first.
    assert [(f.name, f.index is not None) for f in database.describe().fields] == [("n", True)]

    found = database.index_settings()
    assert found == {"indexing_threshold": 4}
    database.prepare_bulk_load()
    assert database.index_settings() is None
    database.upsert(plain(range(INDEXED)))
    database.wait_indexed()
    assert indexed(database) == 0
    assert len(database.search(np.ones((1, 2), np.float32), 5).ids[0]) == 5

    database.resume_indexing(found)
    database.resume_indexing(found)
    database.finish_bulk_load()
    assert (indexed(database), database.index_settings()) == (INDEXED, found)


def indexed(database: Database) -> int:
    with database._client("read") as client:
        return int(client.get_collection("server_things").indexed_vectors_count)


@pytest.mark.parametrize("optimizer", [{"indexing_threshold": 0}, {"prevent_unoptimized": True}])
def test_indexing_that_is_off_or_awaited_by_each_write_is_left_alone(
    on_server: Opener, optimizer: dict[str, Any]
) -> None:
    database = on_server()
    database.create(schema().model_copy(update={"settings": {"optimizer_config": optimizer}}))
    before = database.describe().settings["optimizer_config"]
    assert database.index_settings() is None
    database.prepare_bulk_load()
    assert database.describe().settings["optimizer_config"] == before


def test_the_end_of_a_load_goes_on_while_the_index_is_built(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yellow is at work; grey waits for a change, which is made."""
    with faulty._client("read") as client:
        info = client.get_collection("things")
    answers = [info.model_copy(update={"status": CollectionStatus(word)}) for word in ("yellow", "grey", "green")]
    told = iter(answers)
    done: list[Any] = []

    def get(_: str) -> Any:
        done.append(answer := next(told))
        return answer

    monkeypatch.setattr(qdrant_database, "_POLL_SECONDS", 0)
    monkeypatch.setattr(client, "get_collection", get)
    monkeypatch.setattr(client, "update_collection", lambda name, **settings: done.append((name, settings)))
    faulty.finish_bulk_load()
    changed = ("things", {"optimizers_config": OptimizersConfigDiff()})
    assert done == [answers[0], answers[1], changed, answers[2]]


def test_an_index_is_not_waited_for_once_the_work_is_to_end(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty._client("read") as client:
        info = client.get_collection("things")
    monkeypatch.setattr(client, "get_collection", lambda _: info.model_copy(update={"status": CollectionStatus.YELLOW}))
    faulty.sleep = waits = Waits(3)
    with pytest.raises(Stopped):
        faulty.finish_bulk_load()
    assert waits.seconds == [1.0] * 4


def test_a_broken_index_is_told(faulty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty._client("read") as client:
        info = client.get_collection("things")
    broken = info.model_copy(update={"status": type(info.status).RED})
    monkeypatch.setattr(client, "get_collection", lambda _: broken)
    with pytest.raises(DatabaseError, match="cannot build"):
        faulty.finish_bulk_load()

"""Checks `lookup`: a record is found by the id that either side gave it, and what is nowhere is said to be so."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.mapping.ids import DEFAULT_NAMESPACE
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.lookup import lookup
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster_tests.collections_of_everything import TEXT_IDS, milvus_lattice
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Records, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Text ids in two partitions of Milvus, moved to Qdrant, where they are UUIDs."""
    folder = tmp_path_factory.mktemp("mapped")
    source = Endpoint(type="milvus", path=folder / "source.db", collection=COLLECTION)
    milvus_lattice(source, IdKind.TEXT)
    place = Workplace.make(folder, source, "qdrant")
    migrate(context_of(place), ID)
    return place


@pytest.mark.parametrize("text", [TEXT_IDS[0], TEXT_IDS[1], TEXT_IDS[2], "日本🎉", "42", "' or 1=1"])
def test_h16_a_record_is_found_by_its_own_id_and_by_the_id_it_was_given(mapped: Workplace, text: str) -> None:
    given = str(uuid.uuid5(DEFAULT_NAMESPACE, text))
    for asked in (text, given):
        found = lookup(context_of(mapped), ID, asked)
        assert (found.record_id, found.partition) == (asked, "g0001-00000")
        assert (found.source.found, found.source.id) == (True, text)
        assert (found.target.found, found.target.id) == (True, given)
        assert found.source.payload is not None
        assert found.target.payload == {**found.source.payload, "_source_id": f"text:{text}"}


def test_an_id_that_is_nowhere(mapped: Workplace) -> None:
    found = lookup(context_of(mapped), ID, "no such id")
    assert (found.source.found, found.target.found, found.partition) == (False, False, None)
    assert (found.source.id, found.target.id) == (None, None)


def test_ids_that_stay_as_they_are(finished: Workplace) -> None:
    found = lookup(context_of(finished), ID, "7")
    assert (found.source.found, found.target.found) == (True, True)
    assert found.source.payload == found.target.payload == Records.payload(7)


def test_before_the_load_it_tells_the_id_to_come(context: Context, place: Workplace) -> None:
    place.write(mapping={"ids": {"policy": "uuid5"}})
    plan(context, ID)
    found = lookup(context, ID, "7")
    assert (found.source.found, found.target.found) == (True, False)
    assert found.target.id == str(uuid.uuid5(DEFAULT_NAMESPACE, "7"))
    assert not Path(str(place.target.path)).exists()

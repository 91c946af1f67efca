"""Checks whole migrations of namespaces and tenants, of records that a source cannot give, and of other tools' ids.

All of it by the project's own verbs, with servers that are stand-ins; both sides are read here as they are.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import PineconeOptions
from vectormigrate_dagster.mapping.ids import QDRANT_MIGRATION
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Payload,
    ScopeKind,
    VectorSchema,
)
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn
from vectormigrate_dagster_tests.harness import ID, KEY_VARIABLES, Workplace
from vectormigrate_dagster_tests.matrix_runs import Origin, move, planned
from vectormigrate_dagster_tests.observations import observe, read

DIVIDED = ("pinecone", "weaviate")
SCOPES = ("north", "South_2", "west-3")
DIM = 4


def schema(can: Capabilities, name: str, scope: ScopeKind = ScopeKind.NONE) -> CollectionSchema:
    """A collection of records with a text `where` and a text `n`."""
    fields = tuple(FieldSchema(name=key, type=FieldType.TEXT, declared=True) for key in ("where", "n"))
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=can.id_kinds),
        vectors=(VectorSchema(name=can.default_vector_name, dim=DIM, metric=Metric.DOT),),
        fields=() if can.dynamic_fields else fields,
        dynamic=can.dynamic_fields,
        scope=scope,
    )


def vector(scope: str | None, number: int) -> np.ndarray:
    """The vector of a record, which says where it is."""
    place = SCOPES.index(scope) + 1 if scope in SCOPES else 0
    return np.array([number + 1, place, 0.1, -1], dtype=np.float32)


def payload(scope: str | None, number: int) -> Payload:
    return {"where": str(scope), "n": str(number)}


def ids(can: Capabilities, count: int) -> list[Id]:
    """The same ids in each scope."""
    if IdKind.TEXT in can.id_kinds:
        return [f"doc {number}" for number in range(count)]
    return [uuid.uuid5(uuid.NAMESPACE_DNS, str(number)) for number in range(count)]


def fill(endpoint: Endpoint, count: int, scopes: tuple[str | None, ...] = (None,)) -> None:
    """Write the same ids into each scope."""
    with databases.open_target(endpoint) as database:
        can = database.probe()
        kind = can.scope_kinds[0] if scopes != (None,) else ScopeKind.NONE
        database.create(schema(can, endpoint.collection, kind))
        (id_kind,) = can.id_kinds
        for scope in scopes:
            values = np.stack([vector(scope, number) for number in range(count)])
            rows = [payload(scope, number) for number in range(count)]
            column = {can.default_vector_name: Dense(values)}
            assert database.upsert(Batch(IdColumn.of(id_kind, ids(can, count)), scope, column, rows)) == []
        database.wait_visible()


Place = Callable[..., Workplace]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Makes the migration of a source to a target."""

    def make(source: Endpoint, target: Endpoint, **sections: Mapping[str, Any]) -> Workplace:
        for side in (source, target):
            if side.api_key is not None:
                monkeypatch.setenv(KEY_VARIABLES[side.type], side.api_key.get_secret_value())
        place = Workplace.make(tmp_path / "place", source, target)
        place.write(**sections)
        return place

    return make


@pytest.fixture
def collections(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Endpoint]:
    """Makes collections of each database; Milvus in a folder."""

    def new(type: str) -> Endpoint:
        if type == "milvus":
            return Endpoint(type=type, path=tmp_path / "milvus.db", collection="things")
        server: Collections = request.getfixturevalue(f"{type}_collections")
        return server("Things")

    return new


########
# Scopes
########


def arrived(endpoint: Endpoint) -> dict[tuple[str, str], tuple[str | None, str]]:
    """What each record says of itself -> its scope in the target, and its vector."""
    found = {}
    with databases.open_source(endpoint) as database:
        database.probe()
        for record in read(database):
            says = (record.payload["where"], record.payload["n"])
            assert says not in found
            ((_, (values,)),) = record.vectors.values()
            found[says] = (record.payload.get("_source_scope", record.scope), values.tobytes().hex())
    return found


EXPECTED = {
    (scope, str(number)): (scope, vector(scope, number).tobytes().hex()) for scope in SCOPES for number in range(30)
}


@pytest.mark.parametrize(("source", "target"), list(product(DIVIDED, ("milvus", "pinecone", "qdrant", "weaviate"))))
def test_h10_h17_the_same_ids_in_several_scopes_in_many_partitions(
    source: str, target: str, collections: Callable[[str], Endpoint]
) -> None:
    """Three scopes of 30 records with the same 30 ids, in partitions of seven."""
    endpoint, there = collections(source), collections(target)
    fill(endpoint, 30, SCOPES)
    with databases.open_target(endpoint) as database:
        database.probe()
        origin = Origin(lambda: databases.open_target(endpoint), database.describe(), read(database))
    plan = planned(origin, lambda: databases.open_target(there), partition_records=7)
    splits = [one.split for one in plan.splits]
    assert {split.scope for split in splits} == set(SCOPES)
    assert min(sum(split.scope == scope for split in splits) for scope in SCOPES) >= 2
    moved = move(origin, lambda: databases.open_target(there), plan)
    assert (len(moved.after), list(moved.refused)) == (90, [])
    assert observe(moved).silent == []
    assert arrived(there) == EXPECTED


def test_h10_two_workers_share_the_partitions_of_three_scopes(
    collections: Callable[[str], Endpoint], workplace: Place
) -> None:
    origin, there = collections("pinecone"), collections("weaviate")
    fill(origin, 30, SCOPES)
    place = workplace(origin, there, transfer={"partition_records": 15, "batch_size": 5, "workers": 2})
    done = place.run("migrate", ID, "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["status"], status["progress"]["migrated_records"]) == ("completed", 90)
    assert len(place.plan().splits) >= 6
    assert arrived(there) == EXPECTED


########
# Listed, not given
########


def test_h27_records_that_are_listed_and_never_fetched_end_as_vanished(
    pinecone_stand_in: PineconeStandIn,
    weaviate_collections: Collections,
    workplace: Place,
) -> None:
    key = SecretStr(pinecone_stand_in.api_key)
    source = Endpoint(
        type="pinecone",
        url=pinecone_stand_in.url,
        api_key=key,
        collection="things",
        options=PineconeOptions(missing_s=0.1),
    )
    fill(source, 40, SCOPES[:2])
    gone = ("doc 3", "doc 17")
    place = workplace(source, target := weaviate_collections("Things"), transfer={"workers": 1, "batch_size": 8})
    context = Context(place.migrations, place.home)

    pinecone_stand_in.fault("omit", "Fetch", ids=gone, times=None)
    status = migrate(context, ID)
    assert (status.status, status.progress.migrated_records, status.refused) == ("completed", 76, 0)
    assert status.vanished == 4
    lists = sorted(context.refusals(ID).glob("*-vanished.jsonl"))
    listed = [json.loads(line) for path in lists for line in path.read_text(encoding="utf-8").splitlines()]
    assert {(one["scope"], one["id"]) for one in listed} == set(product(SCOPES[:2], gone))
    assert all("listed" in one["reason"] for one in listed)

    assert set(arrived(target)) == {
        (scope, str(number)) for scope in SCOPES[:2] for number in range(40) if f"doc {number}" not in gone
    }
    assert validate(context, ID, full=True).passed
    # Once the source gives them again, they are missing in the target, and no validation passes over that.
    pinecone_stand_in.clear_faults()
    assert not validate(context, ID, full=True).passed


########
# Ids of other tools
########

OTHER_TOOL = uuid.UUID("0b0c0d0e-1111-4222-8333-444455556666")
TEXTS = [*(f"doc {number}" for number in range(12)), str(uuid.UUID(int=77)), str(uuid.UUID(int=78))]


def by_another_tool(text: str) -> uuid.UUID:
    return uuid.uuid5(OTHER_TOOL, text)


def by_qdrant_migration(text: str) -> uuid.UUID:
    """What `arbitraryIDToUUID` of https://github.com/qdrant/migration does: a UUID stays, others are hashed."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, text)


@pytest.mark.parametrize(
    ("target", "namespace", "made"),
    [("weaviate", str(OTHER_TOOL), by_another_tool), ("qdrant", QDRANT_MIGRATION, by_qdrant_migration)],
)
def test_h31_a_load_that_another_tool_began_is_continued_without_duplicates(
    target: str,
    namespace: str,
    made: Callable[[str], uuid.UUID],
    collections: Callable[[str], Endpoint],
    workplace: Place,
) -> None:
    """Half of the records are there, under ids that the other tool made; they stay as they are."""
    source, there = collections("pinecone"), collections(target)
    values = np.stack([vector(None, number) for number in range(len(TEXTS))])
    rows = [payload(None, number) for number in range(len(TEXTS))]
    with databases.open_target(source) as database:
        can = database.probe()
        database.create(schema(can, source.collection))
        batch = Batch(IdColumn.of(IdKind.TEXT, TEXTS), None, {can.default_vector_name: Dense(values)}, rows)
        assert database.upsert(batch) == []
        database.wait_visible()
    half = [number for number in range(len(TEXTS)) if number % 2 == 0]
    with databases.open_target(there) as database:
        can = database.probe()
        kept = FieldSchema(name="_source_id", type=FieldType.TEXT, declared=True)
        json_field = FieldSchema(name="_source_json", type=FieldType.TEXT, declared=True)
        whole = schema(can, there.collection)
        fields = (*whole.fields, kept, json_field) if whole.fields else ()
        database.create(whole.model_copy(update={"fields": fields}))
        ids = IdColumn.of(IdKind.UUID, [made(TEXTS[number]) for number in half])
        column = {can.default_vector_name: Dense(values[half])}
        theirs = [{"where": "another tool", "n": str(number)} for number in half]
        assert database.upsert(Batch(ids, None, column, theirs)) == []

    place = workplace(
        source,
        there,
        mapping={"ids": {"namespace": namespace, "policy": "uuid5"}},
        transfer={"on_conflict": "skip", "workers": 1},
    )
    status = migrate(Context(place.migrations, place.home), ID)
    assert (status.status, status.skipped, status.refused) == ("completed", len(half), 0)
    with databases.open_source(there) as database:
        found = {record.id: record.payload for record in read(database)}
    assert found.keys() == {made(text) for text in TEXTS}
    assert {found[made(text)]["n"]: found[made(text)]["where"] for text in TEXTS} == {
        str(number): "another tool" if number in half else "None" for number in range(len(TEXTS))
    }

"""Checks the real data in all sixteen directions: packages moved by the command, between servers, all validated.

Beside the command's own full validation both sides are read here, with no help of mapping or validation. CI moves every
third of the 2,992 packages; `VECTORMIGRATE_PACKAGES=all` moves all of them.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Payload,
    VectorSchema,
)
from vectormigrate_dagster.services.demo import _batches, _packages
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.harness import KEY_VARIABLES, Workplace

EVERY = 1 if os.environ.get("VECTORMIGRATE_PACKAGES") == "all" else 3
RECORDS = -(-2992 // EVERY)
TYPES = ("milvus", "pinecone", "qdrant", "weaviate")
ADDED = {"_source_id", "_source_json"}
"""Payload fields that a migration adds."""
PROPERTIES = {
    "installed_kib": FieldType.INT64,
    "download_bytes": FieldType.INT64,
    "essential": FieldType.BOOL,
    "depends": FieldType.ARRAY,
    "tags": FieldType.ARRAY,
}
"""What is not text among the packages' fields."""

Packages = dict[str, tuple[Payload, np.ndarray]]
"""Name of a package -> its payload and its embedding, float32 (384,)."""


@pytest.fixture(scope="module")
def collections(request: pytest.FixtureRequest) -> Mapping[str, Collections]:
    """Makes collections on the server of each database."""
    return {name: request.getfixturevalue(f"{name}_collections") for name in TYPES}


@pytest.fixture(scope="module")
def source_of(collections: Mapping[str, Collections]) -> Iterator[Callable[[str], Endpoint]]:
    """Gives a database's collection of packages, in its own habits; it is filled once and nobody writes to it."""
    made: dict[str, Endpoint] = {}

    def source(type: str) -> Endpoint:
        if type not in made:
            made[type] = collections[type]("Packages")
            fill(made[type])
        return made[type]

    yield source
    for endpoint in made.values():
        drop(endpoint)


@pytest.fixture
def target_of(collections: Mapping[str, Collections]) -> Iterator[Callable[[str], Endpoint]]:
    """Gives a collection of a database that is not there yet; dropped at the end: loaded, it costs a server CPU."""
    given: list[Endpoint] = []

    def target(type: str) -> Endpoint:
        given.append(collections[type]("Moved"))
        return given[-1]

    yield target
    for endpoint in given:
        drop(endpoint)


def drop(endpoint: Endpoint) -> None:
    with databases.open_target(endpoint) as database:
        database.drop()


def fill(endpoint: Endpoint) -> None:
    with databases.open_target(endpoint) as database:
        can = database.probe()
        kind = natural_kind(can)
        database.create(schema(can, kind, endpoint.collection))
        for batch in _batches(_packages().take(np.arange(0, 2992, EVERY))):
            assert database.upsert(natural(batch, can, kind)) == []
        database.wait_visible()


def natural_kind(can: Capabilities) -> IdKind:
    """Names as ids where ids may be text; else numbers, else UUIDs."""
    return next(kind for kind in (IdKind.TEXT, IdKind.U64, IdKind.UUID) if kind in can.id_kinds)


def schema(can: Capabilities, kind: IdKind, name: str) -> CollectionSchema:
    column = can.declared_fields and can.dynamic_fields
    kinds = can.id_kinds if can.mixed_id_kinds else (kind,)
    ids = IdSchema(kinds=kinds, field="pk" if column else None, max_length=100 if column else None)
    vector_name = "embedding" if can.type != "pinecone" else can.default_vector_name
    vector = VectorSchema(
        name=vector_name, dim=384, metric=Metric.COSINE, index=IndexSpec(type="FLAT") if column else None
    )
    fields: tuple[FieldSchema, ...] = ()
    if not can.dynamic_fields:
        keys = [key for key in _packages().column_names if key != "embedding" and key not in can.reserved_keys]
        fields = tuple(property_of(key) for key in keys)
    return CollectionSchema(name=name, ids=ids, vectors=(vector,), fields=fields, dynamic=can.dynamic_fields)


def property_of(key: str) -> FieldSchema:
    found = PROPERTIES.get(key, FieldType.TEXT)
    element = FieldType.TEXT if found is FieldType.ARRAY else None
    return FieldSchema(name=key, type=found, declared=True, element=element)


def natural(batch: Batch, can: Capabilities, kind: IdKind) -> Batch:
    """The packages as a user of this database would have them."""
    names = [payload["name"] for payload in batch.payloads]
    ids = batch.ids
    if kind is not IdKind.U64:
        ids = IdColumn.of(kind, names if kind is IdKind.TEXT else [uuid.uuid5(uuid.NAMESPACE_DNS, n) for n in names])
    payloads = batch.payloads
    if "null" not in can.payload_types:
        payloads = [{key: value for key, value in payload.items() if value is not None} for payload in payloads]
    if "id" in can.reserved_keys:
        payloads = [{key: value for key, value in payload.items() if key != "id"} for payload in payloads]
    (vector,) = schema(can, kind, "any").vectors
    return Batch(ids, None, {vector.name: batch.vectors["embedding"]}, payloads)


def read(endpoint: Endpoint) -> Packages:
    """Every package of a collection; a name that comes twice is a fault."""
    found: Packages = {}
    with databases.open_source(endpoint) as database:
        marker = (database.describe().marker or {}).get("mapping", {})
    renamed = marker.get("keys", {})
    for batch in _scan(endpoint):
        (column,) = batch.vectors.values()
        assert isinstance(column, Dense)
        for payload, vector in zip(batch.payloads, column.values, strict=True):
            whole = {**payload, **json.loads(payload.get("_source_json", "{}"))}
            assert whole["name"] not in found
            original = {renamed.get(key, key): value for key, value in whole.items() if key not in ADDED}
            found[whole["name"]] = (original, vector)
    return found


def _scan(endpoint: Endpoint) -> Iterator[Batch]:
    with databases.open_source(endpoint) as database:
        database.probe()
        for split in database.plan_splits(10_000):
            yield from database.scan(split, batch_records=1000)


def as_numbers(value: Any) -> Any:
    """A value with every int as the float that a database without ints holds."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def same_payload(source: Payload, target: Payload, *, floats: bool) -> bool:
    if floats:
        source, target = ({key: as_numbers(value) for key, value in side.items()} for side in (source, target))
    return json.dumps(source, sort_keys=True) == json.dumps(target, sort_keys=True)


@pytest.mark.parametrize(("source_type", "target_type"), list(product(TYPES, TYPES)))
def test_all_packages_from_the_command_line(
    source_type: str,
    target_type: str,
    source_of: Callable[[str], Endpoint],
    target_of: Callable[[str], Endpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = source_of(source_type), target_of(target_type)
    for side in (source, target):
        if side.api_key is not None:
            monkeypatch.setenv(KEY_VARIABLES[side.type], side.api_key.get_secret_value())
    before = read(source)
    assert len(before) == RECORDS
    place = Workplace.make(tmp_path, source, target, transfer={"partition_records": RECORDS // 2 + 4, "workers": 1})

    done = place.run("migrate", "moving", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    status = json.loads(done.stdout)
    assert (status["progress"]["migrated_records"], status["refused"], status["vanished"]) == (RECORDS, 0, 0)
    proof = place.call("validate", "moving", "--full", "--json")
    assert proof.returncode == 0, proof.stdout + proof.stderr
    checked = {tier["name"]: tier for tier in json.loads(proof.stdout)["tiers"]}
    assert checked["records"]["checked"] == RECORDS

    after = read(target)
    assert after.keys() == before.keys()
    floats = databases.capabilities_of(target_type).numbers_are_floats
    exact = not databases.capabilities_of(target_type).normalises_cosine
    for name, (payload, vector) in before.items():
        arrived, moved = after[name]
        assert same_payload(payload, arrived, floats=floats), (name, payload, arrived)
        assert vector.tobytes() == moved.tobytes() if exact else np.allclose(vector, moved, atol=1e-6), name
    assert {name: (payload, vector.tobytes()) for name, (payload, vector) in read(source).items()} == {
        name: (payload, vector.tobytes()) for name, (payload, vector) in before.items()
    }

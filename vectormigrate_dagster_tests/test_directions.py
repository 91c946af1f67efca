"""Checks every direction between the embedded databases, and each to itself: what the plan calls exact comes back so.

Both sides are read here with no help of mapping or validation; the project's own full validation has to agree.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import PlanRefused
from vectormigrate_dagster.mapping.ids import DEFAULT_NAMESPACE
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Multi,
    VectorSchema,
)
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.demo import _batches, _packages
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster_tests.collections_of_everything import (
    COLUMNS,
    PAYLOADS,
    TEXT_IDS,
    UNSIGNED_IDS,
    Everything,
    as_json,
    columns_of,
    milvus_lattice,
    qdrant_lattice,
    read_everything,
    vectors,
)
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Workplace

TRANSFER = {"partition_records": 20, "batch_size": 7}


def context(place: Workplace) -> Context:
    return Context(place.migrations, place.home)


def make(folder: Path, source: Endpoint, target: str, **sections: Any) -> Workplace:
    place = Workplace.make(folder, source, target)
    place.write(**{"transfer": TRANSFER, **sections})
    return place


def moved(place: Workplace) -> Status:
    """Migrate, and demand that the full validation agrees and that the source is as it was."""
    before = read_everything(place.source)
    files = contents(place.source)
    status = migrate(context(place), ID)
    assert (status.status, status.refused, status.skipped, status.vanished) == ("completed", 0, 0, 0)
    assert status.progress.migrated_records == len(before)
    proof = validate(context(place), ID, full=True)
    assert proof.passed, proof.tiers
    assert {tier.name for tier in proof.tiers} >= {"count", "ids", "records"}
    assert read_everything(place.source) == before
    if not databases.capabilities_of(place.source.type, embedded=True).declared_fields:
        assert contents(place.source) == files
    return status


def contents(endpoint: Endpoint) -> dict[str, bytes]:
    """What the files of a folder hold; locks hold nothing."""
    assert endpoint.path is not None
    files = sorted(path for path in endpoint.path.rglob("*") if path.is_file() and "lock" not in path.name)
    return {str(path.relative_to(endpoint.path)): path.read_bytes() for path in files}


def there_and_back(folder: Path, source: Endpoint, through: str, **back: Any) -> tuple[Workplace, Workplace]:
    """A -> B -> A."""
    there = make(folder / "there", source, through)
    moved(there)
    again = make(folder / "back", there.target, source.type, **back)
    moved(again)
    return there, again


def cosine(one: bytes | None, two: bytes | None) -> float:
    a, b = (np.frombuffer(side or b"", dtype=np.float32).astype(np.float64) for side in (one, two))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_payload(found: Everything) -> list[str]:
    return sorted(payload for payload, _ in found.values())


########
# Every type, there and back
########


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """A Qdrant with ids of both kinds and every payload; nobody writes to it."""
    endpoint = Endpoint(type="qdrant", path=tmp_path_factory.mktemp("mixed") / "source", collection=COLLECTION)
    qdrant_lattice(endpoint)
    return endpoint


@pytest.mark.parametrize("through", ["milvus", "qdrant"])
def test_h13_qdrant_there_and_back_is_the_identity(tmp_path: Path, mixed: Endpoint, through: str) -> None:
    """Ids of both kinds, up to 2^64 - 1; three vectors, one of them sparse; every payload."""
    original = read_everything(mixed)
    assert len(original) == len(PAYLOADS)
    there, back = there_and_back(tmp_path, mixed, through)
    assert by_payload(read_everything(there.target)) == by_payload(original)
    assert read_everything(back.target) == original


@pytest.mark.parametrize("kind", [IdKind.TEXT, IdKind.I64])
@pytest.mark.parametrize("through", ["qdrant", "milvus"])
def test_h14_milvus_there_and_back_is_the_identity(tmp_path: Path, kind: IdKind, through: str) -> None:
    """Columns of every type, null and not, beside keys that no column declares; text ids with quotes, ints below 0."""
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    milvus_lattice(source, kind)
    original = read_everything(source)
    assert len(original) == len(PAYLOADS)
    there, back = there_and_back(tmp_path, source, through)
    assert len(read_everything(there.target)) == len(original)
    assert read_everything(back.target) == original
    with databases.open_source(source) as first, databases.open_source(back.target) as last:
        assert last.describe().ids.kinds == first.describe().ids.kinds


@pytest.mark.parametrize("through", ["qdrant", "milvus"])
def test_h17_partitions_come_back_as_partitions(tmp_path: Path, through: str) -> None:
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    milvus_lattice(source, IdKind.TEXT, partitions=True)
    original = read_everything(source)
    assert {scope for scope, _, _ in original} == {"_default", "north", "south_2"}
    _, back = there_and_back(tmp_path, source, through)
    assert read_everything(back.target) == original


def test_a_partition_key_stays_one(tmp_path: Path) -> None:
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    milvus_lattice(source, IdKind.I64, tenant=True)
    original = read_everything(source)
    place = make(tmp_path / "to-milvus", source, "milvus")
    moved(place)
    assert read_everything(place.target) == original
    with databases.open_source(place.target) as target:
        assert [field.name for field in target.describe().fields if field.tenant] == ["needed"]


def test_h15_columns_become_keys_of_qdrant_with_their_values(tmp_path: Path) -> None:
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    milvus_lattice(source, IdKind.TEXT)
    place = make(tmp_path / "to-qdrant", source, "qdrant")
    moved(place)
    expected = [{**extra, **COLUMNS[row % len(COLUMNS)]} for row, extra in enumerate(PAYLOADS)]
    with_ids = [
        as_json({**payload, "_source_id": f"text:{text}"}) for payload, text in zip(expected, TEXT_IDS, strict=True)
    ]
    found = read_everything(place.target)
    assert by_payload(found) == sorted(with_ids)
    assert {kind for _, kind, _ in found} == {"uuid"}


@pytest.mark.parametrize("type", ["qdrant", "milvus"])
def test_both_collections_in_one_folder(tmp_path: Path, type: str, mixed: Endpoint) -> None:
    source = Endpoint(type=type, path=tmp_path / "both.db", collection="first")
    if type == mixed.type:
        qdrant_lattice(source)
    else:
        milvus_lattice(source, IdKind.TEXT)
    target = Endpoint(type=type, path=source.path, collection="second")
    place = Workplace(tmp_path, source, target)
    place.write(transfer=TRANSFER)
    original = read_everything(source)
    assert migrate(context(place), ID).status == "completed"
    assert validate(context(place), ID, full=True).passed
    assert read_everything(target) == original == read_everything(source)


########
# What cannot be held
########


def test_h14_a_vector_that_is_missing_stays_missing_or_is_refused(tmp_path: Path) -> None:
    source = Endpoint(type="qdrant", path=tmp_path / "source", collection=COLLECTION)
    qdrant_lattice(source, count=4)
    with databases.open_target(source) as database:
        only = Dense(np.ones((1, 4), dtype=np.float32))
        database.upsert(Batch(IdColumn.of(IdKind.U64, [7]), None, {"dotted": only}, [{"a": "lonely"}]))
    place = make(tmp_path / "same", source, "qdrant")
    moved(place)
    assert read_everything(place.target) == read_everything(source)
    assert read_everything(source)[None, "u64", "7"][1]["far"] is None

    refused = make(tmp_path / "refused", source, "milvus")
    with pytest.raises(PlanRefused) as told:
        migrate(context(refused), ID)
    assert "'vector.far.missing' to mapping.allow" in str(told.value)
    assert "'vector.sparse.missing' to mapping.allow" in str(told.value)
    assert not (refused.folder / "target.db").exists()

    allow = {"allow": ["vector.far.missing", "vector.sparse.missing"]}
    allowed = make(tmp_path / "allowed", source, "milvus", mapping=allow)
    status = migrate(context(allowed), ID)
    assert (status.status, status.refused, status.progress.migrated_records) == ("completed", 1, 8)
    assert validate(context(allowed), ID, full=True).passed
    assert not any("lonely" in payload for payload, _ in read_everything(allowed.target).values())


def test_h14_several_vectors_a_record_are_refused_where_there_is_no_such_thing(tmp_path: Path) -> None:
    source = Endpoint(type="qdrant", path=tmp_path / "source", collection=COLLECTION)
    ids = IdSchema(kinds=(IdKind.U64, IdKind.UUID))
    count = 5
    multi = Multi(np.array([0, 1, 3, 4, 7, 9]), np.arange(18, dtype=np.float32).reshape(9, 2) / 3)
    with databases.open_target(source) as database:
        database.create(CollectionSchema(name=COLLECTION, ids=ids, vectors=vectors(optional=True, multi=True)))
        rows = {**columns_of(count), "multi": multi}
        database.upsert(Batch(IdColumn.of(IdKind.U64, UNSIGNED_IDS[:count]), None, rows, PAYLOADS[:count]))
    kept = make(tmp_path / "kept", source, "qdrant")
    moved(kept)
    assert read_everything(kept.target) == read_everything(source)
    place = make(tmp_path / "refused", source, "milvus")
    with pytest.raises(PlanRefused, match=r"vector 'multi'.*'vector\.multi' under mapping\.drop"):
        plan(context(place), ID)
    place.write(transfer=TRANSFER, mapping={"drop": ["vector.multi"]})
    moved(place)
    with databases.open_source(place.target) as target:
        assert [vector.name for vector in target.describe().vectors] == ["dotted", "far", "sparse"]


########
# Every metric
########


def plain(folder: Path, type: str, metric: Metric, values: np.ndarray) -> Endpoint:
    endpoint = Endpoint(type=type, path=folder / "source.db", collection=COLLECTION)
    with databases.open_target(endpoint) as database:
        kind = database.capabilities.id_kinds[0]
        kinds = (kind, IdKind.UUID) if database.capabilities.mixed_id_kinds else (kind,)
        field = "id" if database.capabilities.declared_fields else None
        vector = VectorSchema(
            name="v", dim=values.shape[1], metric=metric, optional=database.capabilities.missing_vectors
        )
        ids = IdSchema(kinds=kinds, field=field)
        database.create(CollectionSchema(name=COLLECTION, ids=ids, vectors=(vector,)))
        payloads = [{"n": n} for n in range(len(values))]
        database.upsert(Batch(IdColumn.of(kind, range(len(values))), None, {"v": Dense(values)}, payloads))
    return endpoint


VALUES = (np.random.default_rng(5).standard_normal((40, 8)) * 30).astype(np.float32)


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN])
@pytest.mark.parametrize(("source", "target"), [("qdrant", "milvus"), ("milvus", "qdrant")])
def test_h12_h24_unnormalised_vectors_keep_metric_and_bits(
    tmp_path: Path, source: str, target: str, metric: Metric
) -> None:
    place = make(tmp_path, plain(tmp_path, source, metric, VALUES), target)
    moved(place)
    found = dict(read_everything(place.target).values())
    assert found == {as_json({"n": n}): {"v": row.tobytes()} for n, row in enumerate(VALUES)}
    with databases.open_source(place.target) as opened:
        assert opened.describe().vector("v").metric is metric


def test_h24_cosine_into_qdrant_loses_the_norm_only_if_that_is_allowed(tmp_path: Path) -> None:
    source = plain(tmp_path, "milvus", Metric.COSINE, VALUES)
    place = make(tmp_path, source, "qdrant")
    with pytest.raises(PlanRefused, match=r"add 'vector\.v\.norm' to mapping\.allow"):
        migrate(context(place), ID)
    place.write(transfer=TRANSFER, mapping={"allow": ["vector.v.norm"]})
    moved(place)
    for payload, stored in read_everything(place.target).values():
        # The embedded Qdrant normalises what it serves, and keeps the norm on disk until it opens the folder again.
        assert cosine(VALUES[json.loads(payload)["n"]].tobytes(), stored["v"]) > 1 - 1e-9


def test_h24_cosine_out_of_qdrant_keeps_the_bits_that_qdrant_has(tmp_path: Path) -> None:
    source = plain(tmp_path, "qdrant", Metric.COSINE, VALUES)
    stored = sorted(str(vectors) for _, vectors in read_everything(source).values())
    for target in ("milvus", "qdrant"):
        place = make(tmp_path / target, source, target)
        moved(place)
        assert sorted(str(vectors) for _, vectors in read_everything(place.target).values()) == stored


def test_manhattan_has_no_place_in_milvus(tmp_path: Path) -> None:
    place = make(tmp_path, plain(tmp_path, "qdrant", Metric.MANHATTAN, VALUES), "milvus")
    with pytest.raises(PlanRefused, match=r"write one of cosine, dot, euclidean under mapping\.types as 'vector\.v'"):
        migrate(context(place), ID)
    assert not (place.folder / "target.db").exists()


########
# Real packages. All 2,992 go from Qdrant to Milvus in the demo's tests.
########


def packages(endpoint: Endpoint, count: int | None = None) -> None:
    """Make a collection of real packages; Qdrant's is slow to fill."""
    milvus = databases.capabilities_of(endpoint.type, embedded=True).declared_fields
    ids = (
        IdSchema(kinds=(IdKind.TEXT,), field="name", max_length=100)
        if milvus
        else IdSchema(kinds=(IdKind.U64, IdKind.UUID))
    )
    vector = VectorSchema(name="embedding", dim=384, metric=Metric.COSINE, optional=not milvus)
    table = _packages()
    with databases.open_target(endpoint) as database:
        database.create(CollectionSchema(name=COLLECTION, ids=ids, vectors=(vector,)))
        for batch in _batches(table if count is None else table.slice(0, count)):
            database.upsert(_by_name(batch) if milvus else batch)


def _by_name(batch: Batch) -> Batch:
    """The packages with their names as ids."""
    names = IdColumn.of(IdKind.TEXT, [payload["name"] for payload in batch.payloads])
    payloads = [{key: value for key, value in payload.items() if key != "name"} for payload in batch.payloads]
    return Batch(names, None, batch.vectors, payloads)


def test_all_packages_from_milvus_to_milvus(tmp_path: Path) -> None:
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    packages(source)
    place = make(tmp_path, source, "milvus", transfer={"partition_records": 1500})
    assert moved(place).progress.migrated_records == 2992
    assert read_everything(place.target) == read_everything(source)


@pytest.mark.parametrize("type", ["milvus", "qdrant"])
def test_packages_into_qdrant(tmp_path: Path, type: str) -> None:
    source = Endpoint(type=type, path=tmp_path / "source.db", collection=COLLECTION)
    packages(source, 300)
    place = make(tmp_path, source, "qdrant", transfer={"partition_records": 200})
    moved(place)
    original, found = read_everything(source), read_everything(place.target)
    if type == "qdrant":
        assert found == original
        return
    for (_, _, name), (payload, stored) in original.items():
        key = (None, "uuid", str(uuid.uuid5(DEFAULT_NAMESPACE, name)))
        assert found[key][0] == as_json({**json.loads(payload), "_source_id": f"text:{name}"})
        assert cosine(found[key][1]["embedding"], stored["embedding"]) > 1 - 1e-9

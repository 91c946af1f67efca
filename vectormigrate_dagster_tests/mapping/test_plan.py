"""A plan looks at both sides, writes to neither, and says before anything moves what stands in the way."""

from __future__ import annotations

import math
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import NotFound, PlanRefused, SchemaMismatch, TargetNotEmpty
from vectormigrate_dagster.mapping.plan import Plan, config_digest, make_plan, partition_records
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, IdColumn, IdKind, IdSchema, Metric, VectorSchema
from vectormigrate_dagster_tests.mapping.support import DIM, vectors


def migration(source: Endpoint, target: Endpoint, **changes: Any) -> Migration:
    ends = {
        name: {"type": end.type, "path": end.path, "collection": end.collection}
        for name, end in (("source", source), ("target", target))
    }
    return Migration.model_validate({"id": "films", **ends, **changes})


def fill(endpoint: Endpoint, ids: list[int], metric: Metric = Metric.DOT) -> Endpoint:
    schema = CollectionSchema(
        name=endpoint.collection,
        ids=IdSchema(kinds=databases.capabilities_of(endpoint.type).id_kinds),
        vectors=(VectorSchema(name="vector", dim=DIM, metric=metric),),
    )
    if endpoint.type == "milvus":
        schema = schema.model_copy(update={"ids": IdSchema(kinds=(IdKind.I64,), field="id")})
    kind = schema.ids.kinds[0]
    with databases.open_target(endpoint) as database:
        database.create(schema)
        if ids:
            payloads = [{"n": value, "id": f"film-{value}"} for value in ids]
            if endpoint.type == "milvus":
                payloads = [{"n": value} for value in ids]
            database.upsert(Batch(IdColumn.of(kind, ids), None, {"vector": Dense(vectors(len(ids)))}, payloads))
    return endpoint


@pytest.fixture
def source(tmp_path: Path) -> Endpoint:
    return Endpoint(type="qdrant", path=tmp_path / "source", collection="films")


@pytest.fixture
def target(tmp_path: Path) -> Endpoint:
    return Endpoint(type="milvus", path=tmp_path / "target.db", collection="films")


def planned(source: Endpoint, target: Endpoint, *, generation: int = 1, adopt: bool = False, **changes: Any) -> Plan:
    with databases.open_source(source) as src, databases.open_target(target) as dst:
        return make_plan(src, dst, migration(source, target, **changes), generation=generation, adopt=adopt)


def test_a_plan_is_complete_and_writes_nothing(source: Endpoint, target: Endpoint) -> None:
    fill(source, list(range(1, 101)))
    plan = planned(source, target, generation=3)
    plan.loss.check()
    assert (plan.source_records, plan.target_existed, plan.target_records) == (100, False, 0)
    assert [p.key for p in plan.splits] == [f"g0003-{i:05}" for i in range(len(plan.splits))]
    assert sum(p.split.records for p in plan.splits) == 100
    assert plan.created_at.tzinfo is UTC
    assert plan.mapping.target_schema.ids == IdSchema(kinds=(IdKind.I64,), field="pk")
    assert plan.estimate.seconds is not None
    assert plan.estimate.requests > 0
    with databases.open_target(target) as database, pytest.raises(NotFound):
        database.describe()
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest == plan.digest


def test_a_plan_can_be_carried_out(source: Endpoint, target: Endpoint) -> None:
    fill(source, list(range(1, 51)))
    plan = planned(source, target)
    mapper = RecordMapper(plan.mapping)
    with databases.open_source(source) as src, databases.open_target(target) as dst:
        dst.create(plan.mapping.target_schema)
        moved: dict[int, Batch] = {}
        for part in plan.splits:
            for batch in src.scan(part.split):
                done = mapper.map(batch)
                assert not done.refused
                for out in done.batches:
                    assert dst.upsert(out) == []
                    moved |= {int(value): out.take([i]) for i, value in enumerate(out.ids.to_pylist())}
        found = dst.fetch(IdColumn.of(IdKind.I64, sorted(moved))).batch
        assert len(found) == 50
        for row, value in enumerate(found.ids.to_pylist()):
            assert found.payloads[row] == {"n": value, "id": f"film-{value}"}
            sent = moved[int(value)].vectors["vector"]
            assert np.array_equal(found.vectors["vector"].values[row], sent.values[0])
        assert dst.describe().marker == plan.mapping.target_schema.marker


@pytest.mark.parametrize("records", [0, 1])
def test_h02_empty_and_tiny_sources_can_be_planned(source: Endpoint, target: Endpoint, records: int) -> None:
    fill(source, list(range(1, records + 1)))
    plan = planned(source, target)
    plan.loss.check()
    assert plan.source_records == records
    assert plan.splits


def test_a_missing_source_is_not_found(source: Endpoint, target: Endpoint) -> None:
    with pytest.raises(NotFound, match="source"):
        planned(source, target)


def test_a_target_with_records_needs_a_decision(source: Endpoint, target: Endpoint) -> None:
    fill(source, [1])
    fill(target, [7, 8])
    with pytest.raises(TargetNotEmpty, match="'films' in the target holds 2 records"):
        planned(source, target)
    for plan in (
        planned(source, target, transfer={"on_conflict": "skip"}),
        planned(source, target, transfer={"on_conflict": "overwrite"}),
        planned(source, target, adopt=True),
    ):
        assert (plan.target_existed, plan.target_records) == (True, 2)


def test_h24_an_existing_target_with_another_metric_is_refused(source: Endpoint, target: Endpoint) -> None:
    fill(source, [1])
    fill(target, [], metric=Metric.COSINE)
    with pytest.raises(SchemaMismatch, match="has metric cosine, the source needs dot"):
        planned(source, target)


def test_losses_are_left_to_the_caller(source: Endpoint, target: Endpoint) -> None:
    fill(source, [1], metric=Metric.MANHATTAN)
    plan = planned(source, target)
    with pytest.raises(PlanRefused, match=r"metric of 'vector'.*\n?.*euclidean"):
        plan.loss.check()


@pytest.mark.parametrize(
    ("total", "wanted", "expected"),
    [
        (0, "auto", 100_000),
        (300_000, "auto", 100_000),
        (10**8, "auto", 250_000),
        (10**11, "auto", 5_000_000),
        (10, 7, 7),
    ],
)
def test_partition_sizes(source: Endpoint, target: Endpoint, total: int, wanted: Any, expected: int) -> None:
    assert partition_records(total, migration(source, target, transfer={"partition_records": wanted})) == expected


@pytest.mark.parametrize(("total", "workers", "partitions"), [(300_000, 2, 4), (300_000, 3, 3), (90_000, 4, 1)])
def test_every_worker_gets_as_many_partitions(tmp_path: Path, total: int, workers: int, partitions: int) -> None:
    sides = {name: {"type": "milvus", "url": "http://localhost", "collection": name} for name in ("source", "target")}
    servers = Migration.model_validate({"id": "m", **sides, "transfer": {"workers": workers}})
    assert math.ceil(total / partition_records(total, servers)) == partitions


def test_only_what_changes_records_changes_the_config_digest(source: Endpoint, target: Endpoint) -> None:
    base = migration(source, target)
    for same in ({"transfer": {"workers": 1, "batch_size": 5}}, {"validation": {"sample_size": 5}}):
        assert config_digest(migration(source, target, **same)) == config_digest(base)
    patient = {"type": "qdrant", "path": source.path, "collection": "films"}
    patient["options"] = {"timeout_s": 600.0, "folder_wait_s": 600.0}
    assert config_digest(Migration.model_validate({**base.model_dump(), "source": patient})) == config_digest(base)
    different = [
        {"mapping": {"drop": ("x",)}},
        {"transfer": {"on_conflict": "skip"}},
        {"mapping": {"ids": {"policy": "uuid5"}}},
    ]
    digests = {config_digest(migration(source, target, **change)) for change in different}
    assert len(digests | {config_digest(base)}) == 4


def test_a_new_generation_is_another_plan(source: Endpoint, target: Endpoint) -> None:
    fill(source, [1])
    assert planned(source, target).digest == planned(source, target).digest
    assert planned(source, target).digest != planned(source, target, generation=2).digest


def test_a_digest_is_computed_once_and_not_copied_along(
    source: Endpoint, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, [1])
    plan = planned(source, target)
    before = plan.digest
    changed = plan.model_copy(update={"generation": 2})
    assert changed.digest != before
    renamed = plan.mapping.model_copy(update={"drop": ("x",)})
    assert renamed.digest != plan.mapping.digest
    monkeypatch.setattr(Plan, "decides", lambda self: pytest.fail("computed again"))
    assert plan.digest == before
    assert plan == Plan.model_validate_json(plan.model_dump_json())

"""What a Milvus server of each version can hold: the rest is refused before a call is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Endpoint, Source, open_target
from vectormigrate_dagster.databases.milvus.capabilities import of_version, require_version, version_of
from vectormigrate_dagster.errors import NotFound, SchemaMismatch
from vectormigrate_dagster.mapping.profile import profile_source
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    FieldType,
    IdColumn,
    IdKind,
    Metric,
    VectorKind,
)
from vectormigrate_dagster_tests.databases.milvus_support import PLAIN, VECTOR, WHOLE, declared, with_field, with_vector
from vectormigrate_dagster_tests.servers.milvus import Address

VERSIONS = ["2.3.5", "2.4.0", "2.5.0", "2.6.0", "2.6.4", "2.6.6", "3.0.0"]
FIRST = [
    ("plain", PLAIN, "2.3.5"),
    ("binary", with_vector(element=Element.BINARY, dim=8, metric=Metric.HAMMING), "2.3.5"),
    ("json", with_field(FieldType.JSON), "2.3.5"),
    ("array", with_field(FieldType.ARRAY, element=FieldType.INT64), "2.3.5"),
    ("float16", with_vector(element=Element.FLOAT16), "2.4.0"),
    ("bfloat16", with_vector(element=Element.BFLOAT16), "2.4.0"),
    ("sparse", with_vector(kind=VectorKind.SPARSE, dim=None, metric=Metric.DOT), "2.4.0"),
    ("two vectors", PLAIN.model_copy(update={"vectors": (VECTOR, VECTOR.model_copy(update={"name": "w"}))}), "2.4.0"),
    ("null", with_field(FieldType.INT64, nullable=True), "2.5.0"),
    ("default", with_field(FieldType.INT64, default=7), "2.5.0"),
    ("int8", with_vector(element=Element.INT8), "2.6.0"),
    ("geo", with_field(FieldType.GEO), "2.6.4"),
    ("datetime", with_field(FieldType.DATETIME), "2.6.6"),
    ("missing vector", with_vector(optional=True), "3.0.0"),
]


@pytest.mark.parametrize(("schema", "first"), [pytest.param(s, f, id=name) for name, s, f in FIRST])
def test_each_type_is_refused_before_the_version_that_knows_it(schema: CollectionSchema, first: str) -> None:
    for version in VERSIONS:
        if version_of(version) >= version_of(first):
            require_version(schema, version_of(version))
        else:
            expected = first.removesuffix(".0")
            with pytest.raises(SchemaMismatch, match=rf"is {version} .* needs? {expected}; use a newer server"):
                require_version(schema, version_of(version))


def test_capabilities_follow_the_version() -> None:
    old, new = of_version((2, 3, 5)), of_version((3, 0, 0))
    assert (old.max_vectors, old.vector_kinds, old.null_fields) == (1, (VectorKind.DENSE,), False)
    assert old.elements == (Element.FLOAT32, Element.BINARY)
    assert FieldType.GEO not in old.field_types
    assert (new.missing_vectors, new.null_fields) == (True, True)
    assert {FieldType.GEO, FieldType.DATETIME} < set(new.field_types)


@pytest.mark.parametrize(
    ("text", "numbers"), [("v2.3.5-lite", (2, 3, 5)), ("2.6", (2, 6, 0)), ("master-20260901-1a2b3c", (2, 3, 0))]
)
def test_versions_are_read_as_servers_write_them(text: str, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


def test_a_field_that_would_abort_the_server_is_never_sent(milvus_server: Address) -> None:
    """2.3.5 aborts on GEOMETRY, and again on every start on that data."""
    with open_target(milvus_server.endpoint("places")) as database:
        if FieldType.GEO in database.probe().field_types:
            pytest.skip("this server knows it")
        with pytest.raises(SchemaMismatch, match=r"field 'f' is geo, which needs 2\.6\.4"):
            database.create(with_field(FieldType.GEO))
        database.ping()
        with pytest.raises(NotFound):
            database.describe()


def test_columns_that_may_be_null_are_planned_so_that_this_server_makes_the_collection(
    milvus_server: Address, tmp_path: Path
) -> None:
    fields = (
        declared("n", FieldType.INT64, nullable=True),
        declared("seven", FieldType.INT64, default=7),
        declared("text", FieldType.TEXT, nullable=True, max_length=9),
    )
    payloads = [{"n": 1, "seven": 1, "text": "é"}, {"n": None, "seven": 7, "text": "x"}]
    with (
        open_target(Endpoint(type="milvus", path=tmp_path / "newer", collection="any")) as source,
        open_target(milvus_server.endpoint("older")) as target,
    ):
        source.create(PLAIN.model_copy(update={"fields": fields, "dynamic": False}))
        source.upsert(
            Batch(IdColumn.of(IdKind.I64, [1, 2]), None, {"v": Dense(np.eye(2, 4, dtype=np.float32))}, payloads)
        )
        can = of_version((2, 3, 5))
        profile = profile_source(Source(source), [WHOLE], full=True)
        plan, report = map_schema(source.describe(), source.probe(), can, MappingConfig(), profile, collection="older")
        report.check()
        target.create(plan.target_schema)
        for part in source.scan(WHOLE):
            mapped = RecordMapper(plan).map(part)
            assert not mapped.refused
            assert [target.upsert(batch) for batch in mapped.batches] == [[]]
        assert [field.name for field in target.describe().fields] == ["seven", "text"]
        (read,) = target.scan(WHOLE)
        assert read.payloads == payloads
        target.drop()


def test_a_text_column_gets_no_index_that_the_version_does_not_know() -> None:
    """2.3.5 answers `index type not match: invalid parameter[expected=Trie][actual=INVERTED]`."""
    general = {"AUTOINDEX", "INVERTED"}
    assert not general & set(of_version((2, 3, 5)).payload_indexes)
    assert general <= set(of_version((2, 4)).payload_indexes)
    assert "BITMAP" not in of_version((2, 4)).payload_indexes
    assert "BITMAP" in of_version((2, 5)).payload_indexes

"""A profile says what records really hold, and a sample comes from the whole id space."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.mapping.profile import Profiler, profile_source
from vectormigrate_dagster.model import Batch, Dense, Element, IdColumn, IdKind, IdSchema, Packed, Sparse, Split, tile
from vectormigrate_dagster_tests.mapping.support import batch, profile_of, qdrant_schema
from vectormigrate_dagster_tests.memory import MemoryDatabase

NAN = float("nan")


def test_fields_are_counted_by_json_type_and_absence() -> None:
    payloads = [{"a": None, "b": True}, {"a": 1, "b": 1.0}, {"a": "é", "b": [1, "x"]}, {"b": {"c": {"d": 2**60}}}]
    found = profile_of(batch(IdKind.U64, [1, 2, 3, 4], payloads)).fields
    assert found["a"].types == {"null": 1, "int": 1, "text": 1}
    assert found["a"].absent == 1
    assert found["a"].max_text_bytes == 2
    assert found["b"].types == {"bool": 1, "float": 1, "list": 1, "object": 1}
    assert found["b"].elements == {"int": 1, "text": 1}
    assert found["b"].mixed_lists == 1
    assert found["b"].depth == 2
    assert found["b"].max_int == 2**60
    assert found["b"].beyond_double == 1


def test_numbers_that_other_databases_cannot_hold_are_counted() -> None:
    values = [2**53, 2**53 + 1, -(2**53) - 1, 2**63, 1.5, 0.1, NAN, float("inf")]
    found = profile_of(batch(IdKind.U64, list(range(8)), [{"n": value} for value in values])).fields["n"]
    assert (found.beyond_double, found.beyond_int64, found.inexact_float32, found.non_finite) == (3, 1, 1, 2)
    assert (found.min_int, found.max_int) == (-(2**53) - 1, 2**63)


def test_a_value_that_is_not_json_is_named() -> None:
    with pytest.raises(TypeError, match="tuple"):
        profile_of(batch(IdKind.U64, [1], [{"a": (1, 2)}]))


def test_vectors_are_measured() -> None:
    dense = Dense(
        np.array([[1, 0], [3, 4], [0, 0], [np.nan, 0], [0, 0]], dtype=np.float32),
        np.array([True, True, True, True, False]),
    )
    sparse = Sparse(
        np.array([0, 2, 2, 3, 3, 4]),
        np.array([1, 5, 2, 3], dtype=np.uint32),
        np.array([1, -1, 2, np.inf], dtype=np.float32),
        np.array([True, True, True, False, True]),
    )
    half = Packed(Element.FLOAT16, 2, np.array([[3, 4], [1, 0], [0, 0], [0, 0], [0, 0]], dtype=np.float16))
    records = Batch(IdColumn.of(IdKind.U64, range(5)), None, {"d": dense, "s": sparse, "h": half}, [{}] * 5)
    found = profile_of(records).vectors
    assert found["d"].model_dump() == {
        "present": 4, "missing": 1, "non_unit": 1, "zero": 1, "non_finite": 1, "negative": 0, "max_nnz": 0,
        "min_dim": 2, "max_dim": 2,
    }  # fmt: skip
    assert (found["s"].missing, found["s"].negative, found["s"].non_finite, found["s"].max_nnz) == (1, 1, 1, 2)
    assert found["h"].non_unit == 1


def test_a_vector_that_a_later_batch_lacks_is_missing() -> None:
    first = batch(IdKind.U64, [1, 2])
    second = Batch(IdColumn.of(IdKind.U64, [3]), None, {}, [{}])
    assert profile_of(first, second).vectors[""].missing == 1


def test_h16_spellings_of_ids_are_told_apart() -> None:
    one = uuid.UUID(int=0xABC)
    texts = ["42", "042", "-7", str(2**64), str(one), str(one).upper(), one.hex, one.urn, "abc", "42\n"]
    found = profile_of(batch(IdKind.TEXT, texts)).ids
    assert (found.unsigned, found.signed, found.uuids, found.other_uuids) == (1, 2, 1, 3)
    assert found.collisions == 4  # "042", upper case, no dashes, urn


def test_h16_a_number_and_its_text_collide() -> None:
    assert profile_of(batch(IdKind.U64, [1, 42]), batch(IdKind.TEXT, ["42", "x"])).ids.collisions == 1
    assert profile_of(batch(IdKind.U64, [1, 42]), batch(IdKind.UUID, [uuid.UUID(int=42)])).ids.collisions == 0


def filled(kind: IdKind, ids: list, splits: int) -> tuple[MemoryDatabase, list[Split]]:
    database = MemoryDatabase(schema=qdrant_schema(ids=IdSchema(kinds=(kind,))))
    payloads = [{"decile": 10 * i // len(ids)} for i in range(len(ids))]
    database.upsert(Batch(IdColumn.of(kind, ids), None, {}, payloads))
    step = len(ids) // splits
    tiles = tile(kind, [ids[i * step - 1] for i in range(1, splits)], records=[step] * splits)
    return database, tiles


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("kind", list(IdKind))
def test_a_sample_comes_from_the_whole_id_space(kind: IdKind, splits: int) -> None:
    make = {IdKind.UUID: lambda i: uuid.UUID(int=i << 100), IdKind.TEXT: lambda i: f"doc-{i:05}"}.get(kind, int)
    database, tiles = filled(kind, [make(i) for i in range(5000)], splits)
    found = profile_source(Source(database), tiles, full=False, sample=500)
    assert not found.complete
    assert found.total == 5000
    assert 100 < found.records <= 700
    # The first 500 of 5,000 records are all in decile 0.
    assert found.fields["decile"].max_int >= 7
    assert found.fields["decile"].present == found.records


def test_records_of_overlapping_samples_count_once() -> None:
    database, tiles = filled(IdKind.TEXT, [f"{i:03}" for i in range(100)], 1)
    found = profile_source(Source(database), tiles, full=False, sample=40)
    assert found.records == sum(found.fields["decile"].types.values()) <= 100
    assert found.ids.collisions == 0


def test_full_and_small_sources_are_read_completely() -> None:
    database, tiles = filled(IdKind.U64, list(range(1000)), 3)
    for full, sample in ((True, 10), (False, 500)):
        found = profile_source(Source(database), tiles, full=full, sample=sample)
        assert found.complete
        assert (found.records, found.total) == (1000, 1000)


def test_an_empty_source_has_an_empty_profile() -> None:
    database = MemoryDatabase(schema=qdrant_schema())
    found = profile_source(Source(database), tile(IdKind.U64, []), full=False)
    assert (found.records, found.complete, found.fields) == (0, True, {})


def test_a_profile_survives_json() -> None:
    found = profile_of(batch(IdKind.U64, [1, 2], [{"a": [1, None]}, {"": 0.5}]))
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_profiles_do_not_share_state() -> None:
    profiler = Profiler()
    profiler.add(batch(IdKind.U64, [1], [{"a": 1}]))
    before = profiler.profile()
    profiler.add(batch(IdKind.U64, [2], [{"a": "x"}]))
    assert before.fields["a"].types == {"int": 1}
    assert before.records == 1

"""Contract of record digests: equal for the same record however it is laid out, different for any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.model import Batch, Dense, Element, IdColumn, IdKind, Multi, Packed, Sparse, VectorColumn
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster_tests.model.strategies import batches


def _batch(payload: dict[str, Any] | None = None, **vectors: VectorColumn) -> Batch:
    return Batch(IdColumn.of(IdKind.U64, [7]), "s", vectors, [payload or {}])


def _digest(batch: Batch) -> bytes:
    digest: bytes = record_digests(batch).tobytes()
    assert len(digest) == 16
    return digest


def _dense(*values: float) -> Dense:
    return Dense(np.array([values], np.float32))


PAYLOADS: list[dict[str, Any]] = [
    {},
    {"a": None},
    {"a": 1},
    {"a": 1.0},
    {"a": True},
    {"a": "1"},
    {"a": [1]},
    {"a": {"b": 1}},
    {"b": 1},
    {"a": 1, "b": 1},
    {"a": [1, 2]},
    {"a": [2, 1]},
]


def test_values_of_every_type_and_an_absent_key_are_different_records() -> None:
    assert len({_digest(_batch(payload)) for payload in PAYLOADS}) == len(PAYLOADS)


def test_the_order_of_keys_means_nothing() -> None:
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert _digest(_batch(one)) == _digest(_batch(two))


def test_vectors_of_every_kind_name_and_value_are_different_records() -> None:
    multi = np.array([[1, 2], [3, 4]], np.float32)
    indices = np.array([1, 2], np.uint32)
    ends = np.array([0, 2])
    records = [
        _batch(),
        _batch(v=_dense(0.0)),
        _batch(w=_dense(0.0)),
        _batch(v=_dense(-0.0)),
        _batch(v=_dense(0.0, 0.0)),
        _batch(v=_dense(0.0), w=_dense(0.0)),
        _batch(v=Packed(Element.UINT8, 4, np.zeros((1, 4), np.uint8))),
        _batch(v=Packed(Element.INT8, 4, np.zeros((1, 4), np.int8))),
        _batch(v=Multi(ends, multi)),
        _batch(v=Multi(np.array([0, 0]), multi[:0])),
        _batch(v=Sparse(ends, indices, np.array([1, 2], np.float32))),
        _batch(v=Sparse(ends, indices, np.array([2, 1], np.float32))),
        _batch(v=Sparse(np.array([0, 0]), indices[:0], multi[0, :0])),
    ]
    assert len({_digest(batch) for batch in records}) == len(records)


def test_one_unit_in_the_last_place_is_another_record() -> None:
    value = np.float32(0.1)
    assert _digest(_batch(v=_dense(value))) != _digest(_batch(v=_dense(np.nextafter(value, np.float32(1)))))


def test_a_column_of_which_no_record_has_a_vector_is_no_column() -> None:
    absent = Dense(np.zeros((1, 3), np.float32), np.zeros(1, np.bool_))
    assert _digest(_batch(v=absent)) == _digest(_batch())


@pytest.mark.parametrize(
    "other",
    [
        Batch(IdColumn.of(IdKind.U64, [8]), "s", payloads=[{}]),
        Batch(IdColumn.of(IdKind.TEXT, ["7"]), "s", payloads=[{}]),
        Batch(IdColumn.of(IdKind.U64, [7]), "t", payloads=[{}]),
        Batch(IdColumn.of(IdKind.U64, [7]), None, payloads=[{}]),
    ],
)
def test_id_kind_of_id_and_scope_are_part_of_it(other: Batch) -> None:
    assert _digest(_batch()) != _digest(other)


@given(batches(), st.randoms(use_true_random=False))
def test_it_does_not_depend_on_rows_around_a_record(batch: Batch, chance: Any) -> None:
    rows = list(range(len(batch)))
    chance.shuffle(rows)
    assert record_digests(batch.take(rows)).tolist() == record_digests(batch)[rows].tolist()


@given(batches(max_size=3), batches(max_size=3))
def test_equal_digests_mean_that_a_comparison_finds_nothing(one: Batch, two: Batch) -> None:
    if len(one) == len(two):
        two = replace(two, ids=one.ids, scope=one.scope)
        if record_digests(one).tolist() == record_digests(two).tolist():
            assert compare(one, two).equal

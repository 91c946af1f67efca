"""Contract of `compare`: every way in which a record can be wrong is found, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.model import Batch, Dense, Element, IdColumn, IdKind, Multi, Packed, Sparse, VectorColumn
from vectormigrate_dagster.model.compare import EXACT, Tolerance, compare, same_value
from vectormigrate_dagster.model.payloads import EncodedPayloads, PayloadForm
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.model.strategies import JSON_VALUES, batches


def one(column: VectorColumn | None = None, payload: dict[str, Any] | None = None) -> Batch:
    """A record with id 1."""
    vectors = {} if column is None else {"v": column}
    return Batch(IdColumn.of(IdKind.U64, [1]), vectors=vectors, payloads=[payload or {}])


def floats(*values: float) -> Dense:
    """One dense vector."""
    return Dense(np.array([values], dtype=np.float32))


@given(st.data())
def test_a_batch_equals_itself_in_any_order(data: st.DataObject) -> None:
    batch = data.draw(batches())
    order = data.draw(st.permutations(range(len(batch))))
    comparison = compare(batch, batch.take(order))
    assert comparison.equal
    assert comparison.checked == len(batch)


def test_missing_and_extra_records_are_named() -> None:
    comparison = compare(make_batch([1, 2, 3]), make_batch([2, 3, 4]))
    assert (comparison.missing, comparison.extra) == (("1",), ("4",))
    assert not comparison.equal


def test_a_record_that_came_twice_is_extra() -> None:
    assert compare(make_batch([1, 2]), make_batch([1, 2]).take([0, 1, 1])).extra == ("2",)


def test_h16_a_number_and_its_text_are_two_records() -> None:
    comparison = compare(make_batch([42]), make_batch(["42"], kind=IdKind.TEXT))
    assert (comparison.missing, comparison.extra) == (("42",), ("42",))


LATTICE: list[Any] = [
    *(None, "", "123", "true", "2020-01-01", True, False, 0, 1, 1.0, 0.0, 2**53, 2**53 + 1, float(2**53), -1, 10**20),
    *(
        math.nan,
        math.inf,
        "é",
        "e\u0301",
        [],
        [1],
        [1.0],
        ["1"],
        [1, "a"],
        {},
        {"a": None},
        {"a.b": 1},
        {"a": {"b": 1}},
    ),
]


@pytest.mark.parametrize("left", range(len(LATTICE)))
def test_h13_every_two_values_of_the_type_lattice_differ(left: int) -> None:
    for right, value in enumerate(LATTICE):
        equal = compare(one(payload={"a": LATTICE[left]}), one(payload={"a": value})).equal
        assert equal == (left == right), (LATTICE[left], value)


def test_h13_null_is_not_absent() -> None:
    (difference,) = compare(one(payload={"a": None}), one()).differences
    assert (difference.where, difference.expected, difference.actual) == ("field 'a'", "null", "absent")
    assert not compare(one(), one(payload={"a": None})).equal


def test_nan_equals_nan_and_keys_have_no_order() -> None:
    assert compare(one(payload={"a": math.nan, "b": [math.nan]}), one(payload={"b": [math.nan], "a": math.nan})).equal


@given(JSON_VALUES, JSON_VALUES)
def test_sameness_is_symmetric(left: Any, right: Any) -> None:
    assert same_value(left, left)
    assert same_value(left, right) == same_value(right, left)


def test_a_difference_says_what_and_where() -> None:
    (difference,) = compare(one(payload={"a": 1}), one(payload={"a": 1.0})).differences
    assert (difference.id, difference.expected, difference.actual) == ("1", "1", "1.0")
    assert difference.detail == "expected int, found float"


def test_differences_are_counted_per_field() -> None:
    expected, actual = make_batch(range(5)), make_batch(range(5))
    payloads = [{**payload, "n": "x"} for payload in actual.payloads]
    payloads[0] = {**payloads[0], "name": "y"}
    comparison = compare(expected, replace(actual, payloads=payloads))
    assert comparison.counts == {"field 'n'": 5, "field 'name'": 1}
    assert comparison.mismatched == 5


def test_h12_one_bit_of_one_float_is_found() -> None:
    expected = make_batch(range(50), dim=16)
    column = expected.vectors[""]
    assert isinstance(column, Dense)
    values = column.values.copy()
    values[7, 3] = np.nextafter(values[7, 3], np.float32(np.inf))
    (difference,) = compare(expected, replace(expected, vectors={"": Dense(values)})).differences
    assert (difference.id, difference.where) == ("7", "vector ''")
    assert difference.detail == "1 of 16 stored components differ, the first at 3"


def test_the_sign_of_zero_counts_and_nan_equals_itself() -> None:
    assert not compare(one(floats(0.0)), one(floats(-0.0))).equal
    assert compare(one(floats(math.nan)), one(floats(math.nan))).equal


def test_h12_an_angle_forgives_the_norm_and_nothing_else() -> None:
    tolerance = Tolerance(min_cosine={"v": 0.9999})
    assert compare(one(floats(3, 4)), one(floats(0.6, 0.8)), tolerance=tolerance).equal
    assert not compare(one(floats(3, 4)), one(floats(0.6, 0.8)), tolerance=EXACT).equal
    for wrong in (floats(0.8, 0.6), floats(-0.6, -0.8), floats(0, 0), floats(math.nan, 1), floats(3, 4, 0)):
        assert not compare(one(floats(3, 4)), one(wrong), tolerance=tolerance).equal
    assert compare(one(floats(0, 0)), one(floats(0, -0.0)), tolerance=tolerance).equal


def test_h12_an_angle_of_several_vectors_is_that_of_the_worst_row() -> None:
    def multi(*records: list[list[float]]) -> Batch:
        offsets = np.cumsum([0, *map(len, records)])
        rows = np.array([row for record in records for row in record], np.float32).reshape(-1, 2)
        ids = IdColumn.of(IdKind.U64, range(len(records)))
        return Batch(ids, vectors={"v": Multi(offsets, rows)}, payloads=[{}] * len(records))

    tolerance = Tolerance(min_cosine={"v": 0.9999})
    promised = multi([[3, 4], [0, 2]], [], [[5, 0]], [[1, 1], [1, 0]])
    normalised = multi([[0.6, 0.8], [0, 1]], [], [[1, 0]], [[0.70710677, 0.70710677], [1, 0]])
    assert compare(promised, normalised, tolerance=tolerance).equal
    assert compare(promised, normalised).mismatched == 3
    wrong = multi([[0.6, 0.8], [1, 0]], [], [[1, 0], [1, 0]], [[1, 0], [0.70710677, 0.70710677]])
    found = compare(promised, wrong, tolerance=tolerance).differences
    assert [(difference.id, difference.detail) for difference in found] == [
        ("0", "the cosine is 0.000000000"),
        ("2", "the numbers of rows differ"),
        ("3", "the cosine is 0.707106781"),
    ]
    looser = Tolerance(min_cosine={"v": -1.0})
    assert [d.id for d in compare(promised, wrong, tolerance=looser).differences] == ["2"]


@given(st.floats(1e-3, 1.0), st.integers(0, 10**6))
def test_the_angle_is_as_demanded(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (random.normal(size=8) for _ in range(2))
    b = a + share * b
    cosine = float(a.astype(np.float32) @ b.astype(np.float32) / np.linalg.norm(a) / np.linalg.norm(b))
    for least in (cosine - 1e-3, cosine + 1e-3):
        found = compare(one(floats(*a)), one(floats(*b)), tolerance=Tolerance(min_cosine={"v": least})).equal
        assert found == (least < cosine)


MISSING = np.array([False])
COLUMNS: dict[str, tuple[VectorColumn, VectorColumn]] = {
    "dense": (floats(1, 2), Dense(np.zeros((1, 2), np.float32), MISSING)),
    "packed": (
        Packed(Element.INT8, 2, np.array([[1, 2]], np.int8)),
        Packed(Element.INT8, 2, np.zeros((1, 2), np.int8), MISSING),
    ),
    "sparse": (
        Sparse(np.array([0, 1]), np.array([3], np.uint32), np.array([1.0], np.float32)),
        Sparse(np.array([0, 0]), np.zeros(0, np.uint32), np.zeros(0, np.float32), MISSING),
    ),
    "multi": (
        Multi(np.array([0, 2]), np.array([[1, 2], [3, 4]], np.float32)),
        Multi(np.array([0, 0]), np.zeros((0, 2), np.float32), MISSING),
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_h14_a_missing_vector_is_found_on_either_side(kind: str) -> None:
    there, gone = COLUMNS[kind]
    for lacking in (one(gone), one()):
        for pair in ((one(there), lacking), (lacking, one(there))):
            (difference,) = compare(*pair).differences
            assert {difference.expected, difference.actual} == {"present", "missing"}
    assert compare(one(gone), one()).equal


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_vector_of_another_kind_differs(kind: str) -> None:
    for other, (column, _) in COLUMNS.items():
        assert compare(one(COLUMNS[kind][0]), one(column)).equal == (other == kind)


def test_small_changes_of_ragged_and_packed_vectors_are_found() -> None:
    sparse, multi, packed = COLUMNS["sparse"][0], COLUMNS["multi"][0], COLUMNS["packed"][0]
    assert isinstance(sparse, Sparse)
    assert isinstance(multi, Multi)
    assert isinstance(packed, Packed)
    changed: list[tuple[VectorColumn, VectorColumn]] = [
        (sparse, replace(sparse, indices=np.array([4], np.uint32))),
        (sparse, replace(sparse, values=np.array([1.5], np.float32))),
        (sparse, Sparse(np.array([0, 0]), np.zeros(0, np.uint32), np.zeros(0, np.float32))),
        (multi, replace(multi, values=multi.values[::-1].copy())),
        (packed, replace(packed, values=np.array([[1, 3]], np.int8))),
        (packed, Packed(Element.UINT8, 2, np.array([[1, 2]], np.uint8))),
    ]
    for expected, actual in changed:
        (difference,) = compare(one(expected), one(actual)).differences
        assert difference.where == "vector 'v'"


def test_a_long_value_is_cut_for_people() -> None:
    (difference,) = compare(one(payload={"a": "x" * 1000}), one(payload={"a": "y"})).differences
    assert len(difference.expected) == 201


def test_payloads_in_the_same_octets_are_not_decoded() -> None:
    decoded: list[bytes] = []

    def decode(octets: bytes) -> dict[str, Any]:
        decoded.append(octets)
        payload: dict[str, Any] = json.loads(octets)
        return payload

    form = PayloadForm("JSON", decode)
    texts = [b'{"a": 1, "b": 2}', b'{"a": 2}', b'{"a": 3}']
    changed = [b'{"b": 2, "a": 1}', b'{"a": 2}', b'{"a": 3.0}']
    one, two = (
        Batch(IdColumn.of(IdKind.U64, range(3)), payloads=EncodedPayloads(form, octets)) for octets in (texts, changed)
    )
    assert compare(one, one).equal
    assert not decoded
    (difference,) = compare(one, two).differences
    assert (difference.id, difference.where, difference.actual) == ("2", "field 'a'", "3.0")
    assert texts[1] not in decoded
    plain = replace(two, payloads=[json.loads(octets) for octets in changed])
    assert [found.id for found in compare(one, plain).differences] == ["2"]

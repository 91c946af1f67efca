"""Contract of comparing normalised vectors: rounding passes, whoever did it, and every larger change is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind, Multi
from vectormigrate_dagster.model.compare import Comparison, Tolerance, compare
from vectormigrate_dagster.model.vector_compare import (
    COMPONENT_ROUNDING,
    array_rows_that_differ,
    length_rounding,
)
from vectormigrate_dagster.model.vectors import Floats

TOLERANCE = Tolerance(min_cosine={"v": 0.99}, normalised=frozenset({"v"}))


def _batch(values: Floats) -> Batch:
    return Batch(IdColumn.of(IdKind.U64, range(len(values))), vectors={"v": Dense(values)}, payloads=[{}] * len(values))


def _compared(promised: Floats, found: Floats) -> Comparison:
    return compare(_batch(promised), _batch(found), tolerance=TOLERANCE)


def _divided(values: Floats) -> Floats:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def _one_by_one(values: Floats) -> Floats:
    """As a plain loop over float32 does it, whose sum rounds at each step."""
    return values / np.sqrt(np.cumsum(values * values, axis=1, dtype=np.float32)[:, -1:])


def _by_reciprocal(values: Floats) -> Floats:
    return values * (np.float32(1) / np.linalg.norm(values, axis=1, keepdims=True).astype(np.float32))


def _vectors(rows: int, dim: int, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    values: Floats = random.standard_normal((rows, dim), dtype=np.float32)
    return values * random.uniform(0.01, 100, (rows, 1)).astype(np.float32)


BACK = Tolerance(min_cosine={"v": 0.99}, written_back=frozenset({"v"}))


@pytest.mark.parametrize("dim", [1, 2, 3, 17, 384, 1536])
@pytest.mark.parametrize("normalise", [_divided, _one_by_one, _by_reciprocal])
def test_whatever_normalises_passes(dim: int, normalise: object) -> None:
    promised = _vectors(300, dim)
    assert _compared(promised, normalise(promised)).equal  # type: ignore[operator]  # one of the functions above


@given(st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_one_component_beyond_what_rounding_explains_is_found(dim: int, seed: int, data: st.DataObject) -> None:
    promised = _vectors(3, dim, seed)
    found = _divided(promised)
    at = data.draw(st.integers(0, dim - 1))
    beyond = 2 * COMPONENT_ROUNDING + 2 * length_rounding(dim)
    found[1, at] *= np.float32(1 + data.draw(st.sampled_from([-beyond, beyond, 1e-4, -1.0, 10.0])))
    (difference,) = _compared(promised, found).differences
    assert (difference.id, difference.where) == ("1", "vector 'v'")


def test_a_small_component_is_held_to_its_own_size() -> None:
    promised = _vectors(1, 100)
    promised[0, 7] = 1e-6
    found = _divided(promised)
    found[0, 7] *= np.float32(1 + 3 * COMPONENT_ROUNDING)
    (difference,) = _compared(promised, found).differences
    assert difference.detail == "component 7 is off by more than scaling to length 1 explains"


def test_a_length_that_is_not_one_is_found() -> None:
    promised = _vectors(2, 64)
    found = _divided(promised)
    found[0] *= np.float32(1 + 3 * length_rounding(64))
    assert [difference.id for difference in _compared(promised, found).differences] == ["0"]


def test_one_unit_in_the_last_place_is_covered() -> None:
    promised = _vectors(5, 64)
    found = _divided(promised)
    found[:, 3] = np.nextafter(found[:, 3], np.float32(2))
    assert _compared(promised, found).equal


def test_zeros_stay_zeros() -> None:
    promised = np.zeros((2, 4), np.float32)
    found = np.array([[0, 0, -0.0, 0], [1, 0, 0, 0]], np.float32)
    assert [difference.id for difference in _compared(promised, found).differences] == ["1"]


def test_every_row_of_several_vectors_is_looked_at() -> None:
    values = _vectors(6, 8)
    ids = IdColumn.of(IdKind.U64, range(3))
    offsets = np.array([0, 2, 2, 6])
    found = _divided(values)
    found[4, 1] *= np.float32(1.001)
    promised, there = (Batch(ids, vectors={"v": Multi(offsets, rows)}, payloads=[{}] * 3) for rows in (values, found))
    assert [difference.id for difference in compare(promised, there, tolerance=TOLERANCE).differences] == ["2"]


@given(
    st.integers(1, 2000),
    st.sampled_from([np.float32, np.float16, np.int8]),
    st.integers(1, 700),
    st.sets(st.integers(0, 1999), max_size=5),
)
def test_blocks_find_the_rows_that_differ(rows: int, dtype: type, dim: int, wrong: set[int]) -> None:
    one = np.ones((rows, dim), dtype)
    two = one.copy()
    expected = sorted(row for row in wrong if row < rows)
    two[expected, -1] = 2
    assert np.flatnonzero(array_rows_that_differ(one, two)).tolist() == expected
    assert np.flatnonzero(array_rows_that_differ(one[::-1], two[::-1])).tolist() == sorted(
        rows - 1 - row for row in expected
    )


@pytest.mark.parametrize("normalise", [_divided, _one_by_one, _by_reciprocal])
def test_a_side_that_normalises_what_is_written_back_promises_it_so(normalise: object) -> None:
    found = _vectors(300, 17)
    promised: Floats = normalise(found)  # type: ignore[operator]  # one of the functions above
    assert compare(_batch(promised), _batch(found), tolerance=BACK).equal
    assert compare(_batch(promised), _batch(found)).mismatched == 300


def test_a_side_that_was_written_back_promises_nothing_else() -> None:
    found = _vectors(4, 17)
    promised = _divided(found)
    promised[0, 3] *= np.float32(1.00001)
    promised[1] *= np.float32(2)
    promised[2] = -promised[2]
    compared = compare(_batch(promised), _batch(found), tolerance=BACK)
    assert [one.id for one in compared.differences] == ["0", "1", "2"]


def test_the_opposite_vector_is_no_multiple_that_passes() -> None:
    promised = _vectors(300, 17)
    assert _compared(promised, -_divided(promised)).mismatched == 300

"""Contract of the Parquet form: what is written comes back bit for bit, types of payload values included."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from vectormigrate_dagster.model import Batch, Dense, Multi, Packed, Sparse, VectorColumn, is_valid
from vectormigrate_dagster.model.compare import same_value
from vectormigrate_dagster.model.parquet import from_table, read_batches, to_table, write_batches
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.model.strategies import batches


def arrays_of(column: VectorColumn) -> list[np.ndarray]:
    """Every array of a column."""
    if isinstance(column, Sparse):
        return [column.indptr, column.indices, column.values]
    return [column.offsets, column.values] if isinstance(column, Multi) else [column.values]


def assert_identical(one: Batch, two: Batch) -> None:
    """Fail unless both batches are equal in every bit, order included."""
    assert one.ids == two.ids
    assert one.scope == two.scope
    assert list(one.vectors) == list(two.vectors)
    for name, column in one.vectors.items():
        other = two.vectors[name]
        assert type(column) is type(other)
        assert is_valid(column).tolist() == is_valid(other).tolist()
        if isinstance(column, Packed) and isinstance(other, Packed):
            assert (column.element, column.dim) == (other.element, other.dim)
        for a, b in zip(arrays_of(column), arrays_of(other), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()
    assert same_value(list(one.payloads), list(two.payloads))


@given(batches())
def test_a_table_round_trips(batch: Batch) -> None:
    assert_identical(from_table(to_table(batch)), batch)


@settings(max_examples=40)
@given(batches())
def test_h12_h13_a_file_round_trips_bit_for_bit(batch: Batch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batches.parquet")
        rows = np.arange(len(batch))
        assert write_batches(path, [batch, batch.take(rows[::-1])]) == 2 * len(batch)
        read = list(read_batches(path))
    if len(batch):
        assert_identical(read[0], batch)
        assert_identical(read[1], batch.take(rows[::-1]))
    else:
        assert read == []


def test_a_file_holds_one_scope_and_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another scope"):
        write_batches(tmp_path / "f", [make_batch([1], scope="a"), make_batch([2], scope="b")])
    with pytest.raises(ValueError, match="no batch"):
        write_batches(tmp_path / "g", [])


def test_a_foreign_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no metadata of ours"):
        from_table(pa.table({"id": [1]}))


def test_a_sliced_table_keeps_its_rows_together() -> None:
    batch = make_batch(range(6))
    half = from_table(to_table(batch).slice(2, 3))
    column, other = half.vectors[""], batch.vectors[""]
    assert isinstance(column, Dense)
    assert isinstance(other, Dense)
    assert half.ids.to_pylist() == [2, 3, 4]
    assert column.values.tobytes() == other.values[2:5].tobytes()

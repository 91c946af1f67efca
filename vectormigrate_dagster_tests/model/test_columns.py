"""Contract of ids, batches and splits: taking rows, order, and splits that tile an id space."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, Sparse, Split, id_text, is_valid, tile
from vectormigrate_dagster.model import digests as digest_sets
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests
from vectormigrate_dagster_tests.model.strategies import IDS, batches, id_lists

KINDS = pytest.mark.parametrize("kind", list(IdKind))


@KINDS
@given(data=st.data())
def test_a_column_gives_back_its_ids(kind: IdKind, data: st.DataObject) -> None:
    ids = data.draw(id_lists(kind))
    column = IdColumn.of(kind, ids)
    assert column.to_pylist() == ids
    assert [column[i] for i in range(len(column))] == ids
    assert column.is_strictly_ascending()
    assert [kind.decode(id_text(value)) for value in ids] == ids
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=6)) if ids else []
    assert column.take(rows).to_pylist() == [ids[i] for i in rows]
    assert column.slice(1, 3).to_pylist() == ids[1:3]


@KINDS
@given(data=st.data())
def test_ascending_is_strict_and_in_the_kinds_order(kind: IdKind, data: st.DataObject) -> None:
    ids: list[Any] = data.draw(st.lists(IDS[kind], max_size=5))
    ascending = all(one < two for one, two in pairwise(ids))
    assert IdColumn.of(kind, ids).is_strictly_ascending() == ascending


@KINDS
@given(data=st.data())
def test_splits_tile_the_id_space(kind: IdKind, data: st.DataObject) -> None:
    bounds = data.draw(id_lists(kind))
    splits = [Split.model_validate_json(split.model_dump_json()) for split in tile(kind, bounds, scope="s")]
    value: Id = data.draw(IDS[kind])
    assert len(splits) == len(bounds) + 1
    assert [split.contains(value) for split in splits].count(True) == 1
    assert all(splits[i].contains(bound) for i, bound in enumerate(bounds))


@given(st.data())
def test_taking_rows_takes_them_from_every_column(data: st.DataObject) -> None:
    batch = data.draw(batches())
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=5, unique=True)) if len(batch) else []
    taken = batch.take(rows)
    assert len(taken) == len(rows)
    assert taken.ids.to_pylist() == [batch.ids[i] for i in rows]
    for name, column in batch.vectors.items():
        assert is_valid(taken.vectors[name]).tolist() == [bool(is_valid(column)[i]) for i in rows]
    for position, row in enumerate(rows):
        assert compare(batch.take([row]), taken.take([position])).equal


@given(st.data())
def test_a_slice_is_what_taking_its_rows_gives(data: st.DataObject) -> None:
    batch = data.draw(batches())
    start = data.draw(st.integers(0, len(batch)))
    stop = data.draw(st.integers(start, len(batch)))
    cut, taken = batch.slice(start, stop), batch.take(range(start, stop))
    assert cut.ids == taken.ids
    assert compare(taken, cut).equal
    assert {name: type(column) for name, column in cut.vectors.items()} == {
        name: type(column) for name, column in taken.vectors.items()
    }
    assert [is_valid(column).tolist() for column in cut.vectors.values()] == [
        is_valid(column).tolist() for column in taken.vectors.values()
    ]


def test_a_batch_with_vanished_ids_is_not_cut() -> None:
    with pytest.raises(ValueError, match="is not cut"):
        Batch(IdColumn.of(IdKind.U64, [1, 2]), payloads=[{}, {}], vanished=("3",)).slice(0, 1)


def test_taking_rows_of_ragged_vectors_keeps_their_entries() -> None:
    column = Sparse(
        np.array([0, 2, 2, 3]), np.array([1, 5, 7], dtype=np.uint32), np.array([0.5, 1.5, 2.5], dtype=np.float32)
    )
    taken = column.take([2, 0])
    assert taken.indptr.tolist() == [0, 1, 3]
    assert taken.indices.tolist() == [7, 1, 5]
    assert taken.values.tolist() == [2.5, 0.5, 1.5]


def test_a_batch_refuses_columns_of_another_length() -> None:
    with pytest.raises(ValueError, match="2 ids"):
        Batch(IdColumn.of(IdKind.U64, [1, 2]), payloads=[{}])


@given(st.data())
def test_a_digest_set_holds_what_was_added(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(IdKind)))
    ids, scope = (
        data.draw(id_lists(kind, max_size=20)),
        data.draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
    )
    inside = data.draw(st.sets(st.sampled_from(range(len(ids))))) if ids else set()
    found = DigestSet()
    column = IdColumn.of(kind, ids)
    for row in inside:
        found.add(digests(column.take([row]), scope))
    assert found.contains(digests(column, scope)).tolist() == [row in inside for row in range(len(ids))]
    assert len(found) == len(inside)


@pytest.mark.parametrize("sizes", [[1] * 4000, [25] * 160, [1, 100, 7] * 40, [2000, *[1] * 2000]])
def test_a_digest_set_moves_each_digest_a_few_times(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    moved = 0
    merged = digest_sets._merged

    def counted(one: Digests, two: Digests) -> Digests:
        nonlocal moved
        result = merged(one, two)
        moved += len(result)
        return result

    monkeypatch.setattr(digest_sets, "_merged", counted)
    everything = digests(IdColumn.of(IdKind.U64, range(sum(sizes))), None)
    found = DigestSet()
    for size, end in zip(sizes, accumulate(sizes), strict=True):
        found.add(everything[end - size : end])
    records = len(everything)
    assert 0 < moved <= 2 * records * math.log2(records)
    assert len(found._parts) <= math.log2(records) + 1
    assert found.contains(everything).all()
    assert found.sorted().tolist() == sorted(everything.tolist())


def test_a_digest_that_is_added_twice_counts_once() -> None:
    found = DigestSet()
    keys = digests(IdColumn.of(IdKind.U64, range(10)), None)
    for chosen in (keys[:6], keys[4:], keys[3:5], keys):
        found.add(chosen)
    assert len(found) == 10


def test_h16_h17_digests_keep_kinds_and_scopes_apart() -> None:
    number = digests(IdColumn.of(IdKind.U64, [42]), None)[0]
    assert number == digests(IdColumn.of(IdKind.I64, [42]), None)[0]
    others = [
        digests(IdColumn.of(IdKind.TEXT, ["42"]), None)[0],
        digests(IdColumn.of(IdKind.U64, [42]), "")[0],
        digests(IdColumn.of(IdKind.U64, [42]), "a")[0],
        digests(IdColumn.of(IdKind.TEXT, ["b\0tc"]), "a")[0],
        digests(IdColumn.of(IdKind.TEXT, ["c"]), "a\0tb")[0],
    ]
    assert len({number, *others}) == 6

"""One shard: Qdrant's in-memory engine, made to store as a server stores.

Filters, distances and every kind of query are those of `qdrant_client.local`. Writing and scrolling are our own:
the in-memory engine copies one array per point that it adds and sorts all ids for each page, which makes a
collection of n points cost n * n. And it rounds nothing, and normalises by other rules than the server.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from qdrant_client import models
from qdrant_client.local.local_collection import LocalCollection
from qdrant_client.local.payload_filters import check_filter
from qdrant_client.local.sparse import empty_sparse_vector, sort_sparse_vector

from vectormigrate_dagster_tests.emulators.qdrant.errors import bad_input
from vectormigrate_dagster_tests.emulators.qdrant.index_view import index_view
from vectormigrate_dagster_tests.emulators.qdrant.points import Point, PointId, Row, Vector, place


def unit_length(rows: Any) -> Any:
    """Vectors as a server stores them for Cosine, which leaves those alone that are of unit length already.

    lib/segment/src/spaces/simple.rs (cosine_preprocess), spaces/tools.rs (is_length_zero_or_normalized)
    """
    squares = np.einsum("...i,...i->...", rows, rows, dtype=np.float32)[..., np.newaxis]
    kept = (squares < np.finfo(np.float32).eps) | (np.abs(squares - 1) <= 1e-6)
    return np.where(kept, rows, rows / np.where(kept, np.float32(1), np.sqrt(squares))).astype(np.float32)


def rounded(rows: Any, datatype: models.Datatype | None) -> Any:
    """Vectors as an element type keeps them: uint8 cuts off fractions and ends at 0 and 255."""
    if datatype is models.Datatype.FLOAT16:
        return rows.astype(np.float16).astype(np.float32)
    if datatype is models.Datatype.UINT8:
        return np.trunc(np.clip(rows, 0, 255)).astype(np.float32)
    return rows


class Shard(LocalCollection):
    """The points of a collection, or those of one shard key."""

    def __init__(self, config: models.CreateCollection, indexes: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.indexes = indexes
        self._order: list[tuple[int, int]] = []
        self._unsorted: list[tuple[int, int]] = []
        self._id_at: dict[tuple[int, int], PointId] = {}

    # Writing

    def checked(self, points: Iterable[Point]) -> list[Point]:
        """The points as they will be stored; of several with one id the last.

        Raises:
            Refused: a vector that the collection cannot hold.
        """
        different = {point.id: point for point in points}.values()
        return [Point(p.id, {n: self._checked(n, v) for n, v in p.vectors.items()}, p.payload) for p in different]

    def store(
        self, points: Sequence[Point], update_filter: models.Filter | None, mode: models.UpdateMode | None
    ) -> None:
        """Write points that are `checked`."""
        self._write([point for point in points if self._accepts(point.id, update_filter, mode)])

    def _write(self, points: list[Point]) -> None:
        self._reserve([point.id for point in points])
        for point in points:
            slot = self.ids[point.id]
            self.payload[slot] = point.payload
            for name in self._all_vectors_keys:
                self._set(slot, name, point.vectors.get(name))
            self.deleted[slot] = False

    def set_vectors(self, points: Sequence[Point], update_filter: models.Filter | None) -> PointId | None:
        """Replace the named vectors of points that exist; the first id that does not is the result."""
        missing = None
        for point in points:
            slot = self.live(point.id)
            if slot is None:
                missing = point.id if missing is None else missing
            elif update_filter is None or self._matches(slot, update_filter):
                for name, vector in point.vectors.items():
                    self._set(slot, name, vector)
        return missing

    def _accepts(self, id: PointId, update_filter: models.Filter | None, mode: models.UpdateMode | None) -> bool:
        slot = self.live(id)
        if slot is None:
            return mode is not models.UpdateMode.UPDATE_ONLY
        if mode is models.UpdateMode.INSERT_ONLY:
            return False
        return update_filter is None or self._matches(slot, update_filter)

    def _checked(self, name: str, vector: Vector) -> Vector:
        if name not in self._all_vectors_keys:
            raise bad_input(f"Not existing vector name error: {name}")
        if isinstance(vector, models.SparseVector) != (name in self.sparse_vectors):
            raise bad_input("Conversion between sparse and regular vectors failed")
        if isinstance(vector, models.SparseVector):
            return sort_sparse_vector(vector)
        if vector.ndim == 1 and name in self.multivectors:
            vector = vector[np.newaxis]
        if vector.ndim == 2 and name in self.vectors:
            raise bad_input("Conversion between multi and regular vectors failed")
        params = self.get_vector_params(name)
        if vector.shape[-1] != params.size:
            raise bad_input(f"Vector dimension error: expected dim: {params.size}, got {vector.shape[-1]}")
        if params.distance is models.Distance.COSINE:
            vector = unit_length(vector)
        return rounded(vector, params.datatype)

    def _reserve(self, ids: Iterable[PointId]) -> None:
        fresh = [each for each in dict.fromkeys(ids) if each not in self.ids]
        start, count = len(self.ids_inv), len(fresh)
        self.ids.update((each, start + i) for i, each in enumerate(fresh))
        self.ids_inv += fresh
        self.payload += [{} for _ in fresh]
        self.deleted = np.append(self.deleted, np.ones(count, dtype=bool))
        for name in self._all_vectors_keys:
            self.deleted_per_vector[name] = np.append(self.deleted_per_vector[name], np.ones(count, dtype=bool))
        for name, rows in self.vectors.items():
            if len(rows) < start + count:
                grown = np.ones((2 * (start + count), rows.shape[1]), dtype=np.float32)
                grown[:start] = rows[:start]
                self.vectors[name] = grown
        for sparse in self.sparse_vectors.values():
            sparse += [empty_sparse_vector() for _ in fresh]
        for name, multi in self.multivectors.items():
            multi += [np.ones((1, self.get_vector_params(name).size), dtype=np.float32) for _ in fresh]
        for each in fresh:
            self._id_at[place(each)] = each
            self._unsorted.append(place(each))

    def _set(self, slot: int, name: str, vector: Vector | None) -> None:
        if name in self.sparse_vectors:
            self._drop_idf_contribution(slot, name)
            if vector is not None:
                self.sparse_vectors[name][slot] = vector
                self._update_idf_append(vector, name)
        elif vector is not None:
            (self.vectors if name in self.vectors else self.multivectors)[name][slot] = vector
        self.deleted_per_vector[name][slot] = vector is None

    # Reading

    def live(self, id: PointId) -> int | None:
        """The slot of a point that exists."""
        slot = self.ids.get(id)
        return None if slot is None or self.deleted[slot] else slot

    def __len__(self) -> int:
        return int(np.count_nonzero(~self.deleted))

    def ids_from(self, offset: PointId | None, condition: models.Filter | None) -> Iterator[PointId]:
        """Ids in the server's order, from `offset` on (which need not exist), that match a filter."""
        if self._unsorted:
            self._order = sorted(self._order + self._unsorted)
            self._unsorted = []
        start = 0 if offset is None else bisect.bisect_left(self._order, place(offset))
        seen = index_view(condition, self.indexes)
        for i in range(start, len(self._order)):
            each = self._id_at[self._order[i]]
            slot = self.ids[each]
            if not self.deleted[slot] and (condition is None or self._matches(slot, condition, seen)):
                yield each

    def row(self, id: PointId, with_payload: Any, with_vectors: Any) -> Row:
        """A point that exists, with what is asked for."""
        slot = self.ids[id]
        return Row(id, deepcopy(self._process_payload(self.payload[slot], with_payload)), self._row(slot, with_vectors))

    def _row(self, slot: int, names: bool | list[str] | None) -> dict[str, Vector] | None:
        if not names and not isinstance(names, list):
            return None
        wanted = self._all_vectors_keys if names is True else [n for n in names if n in self._all_vectors_keys]
        return {name: self._vector(slot, name) for name in wanted if not self.deleted_per_vector[name][slot]}

    def _vector(self, slot: int, name: str) -> Vector:
        if name in self.sparse_vectors:
            return self.sparse_vectors[name][slot]
        return (self.vectors if name in self.vectors else self.multivectors)[name][slot].copy()

    def _matches(self, slot: int, condition: models.Filter, seen: Callable[[Any], Any] = lambda whole: whole) -> bool:
        payload = seen(self.payload[slot])
        return check_filter(condition, payload, self.ids_inv[slot], self._calculate_has_vector(slot))

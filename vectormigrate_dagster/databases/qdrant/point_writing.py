"""Columns as the points of Qdrant's gRPC requests, written as octets.

The messages are `PointStruct` and what is in it, of points.proto of the client. Dense vectors of one column differ in
their numbers only, so what stands before these is made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vectormigrate_dagster.databases.columns import array_rows, rows_not_finite, sparse_rows
from vectormigrate_dagster.databases.entries import UnfitError
from vectormigrate_dagster.databases.protobuf import FLOATS, VARINTS, sized, tag
from vectormigrate_dagster.databases.qdrant.limits import REQUEST_BYTES, Limits, refuse
from vectormigrate_dagster.databases.qdrant.values import FORM, are_usual, payload_octets
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Id,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
    id_text,
    is_valid,
    octets_in,
)

Octets = bytes | memoryview
Points = list[Octets]
"""Points of one `UpsertPoints`, in pieces that follow each other."""

_POINTS = tag(3)
"""Of `UpsertPoints`."""

_ID, _VECTORS = tag(1), tag(4)
"""Of `PointStruct`; its `payload` comes with its tag."""

_UUID = tag(2)
"""Of `PointId`."""

_UNNAMED, _NAMED = tag(1), tag(2)
"""Of `Vectors`."""

_KEY, _VALUE = tag(1), tag(2)
"""Of an entry of `NamedVectors.vectors`, which is its field 1."""

_DENSE, _SPARSE, _MULTI = tag(101), tag(102), tag(103)
"""Of `Vector`."""


def requests(batch: Batch, limits: Limits, where: str) -> Iterator[Points]:
    """The points of a batch in pieces, each of which fits into one request.

    Raises:
        InvalidRecord: records would be stored as something else, or cannot be sent; it names them.
    """
    return _cut(_points(batch, _payloads(batch, where)), limits)


def _cut(sized_points: Iterator[tuple[int, Sequence[Octets]]], limits: Limits) -> Iterator[Points]:
    points: Points = []
    records = size = 0
    for weight, pieces in sized_points:
        if records and (records >= limits.batch or size + weight > REQUEST_BYTES):
            yield points
            points, records, size = [], 0, 0
        points += pieces
        records += 1
        size += weight
    yield points


def _payloads(batch: Batch, where: str) -> list[bytes]:
    """The payloads as octets, once all of the batch is known to be storable."""
    reasons = dict.fromkeys(rows_not_finite(batch), "it stores no NaN and no infinite components")
    carried = octets_in(FORM, batch.payloads)
    written: Iterator[bytes] = map(payload_octets, batch.payloads)
    if carried is not None and are_usual(carried):
        written = iter(carried)
    payloads: list[bytes] = []
    for row in range(len(batch)):
        try:
            payloads.append(next(written))
        except UnfitError as error:
            reasons.setdefault(row, str(error))
            payloads.append(b"")
    refuse(batch, reasons, where)
    return payloads


def _points(batch: Batch, payloads: Sequence[bytes]) -> Iterator[tuple[int, Sequence[Octets]]]:
    """Each point's size and pieces."""
    columns = [_column_rows(name, column) for name, column in batch.vectors.items()]
    heads: dict[int, bytes] = {}
    for value, payload, *vectors in zip(batch.ids.to_pylist(), payloads, *columns, strict=True):
        named: list[Octets] = [octets for vector in vectors if vector is not None for octets in vector]
        size = sum(map(len, named))
        head = heads.get(size)
        if head is None:
            named_vectors = sized(_NAMED, size)  # it is there even if the record lacks all of them
            head = heads[size] = sized(_VECTORS, len(named_vectors) + size) + named_vectors
        before = _id_octets(value) + payload + head
        whole = len(before) + size
        point = _POINTS + VARINTS[whole]
        yield len(point) + whole, (point, before, *named)


def _id_octets(value: Id) -> bytes:
    """The field `id` of a `PointStruct`."""
    if isinstance(value, int):
        number = VARINTS[value]
        return _ID + VARINTS[len(number) + 1] + b"\x08" + number
    text = id_text(value).encode()
    return sized(_ID, len(text) + 2) + sized(_UUID, len(text)) + text


def _column_rows(name: str, column: VectorColumn) -> Iterator[tuple[Octets, ...] | None]:
    """Each record's entry of `NamedVectors.vectors`; None if it has no such vector."""
    if isinstance(column, Sparse):
        for entries in sparse_rows(column):
            yield None if entries is None else _entry(name, _sparse(*entries))
    elif isinstance(column, Multi):
        for rows in array_rows(column):
            yield None if rows is None else _entry(name, _multi(rows))
    else:
        yield from _dense_rows(name, column)


def _dense_rows(name: str, column: Dense | Packed) -> Iterator[tuple[Octets, ...] | None]:
    values = np.ascontiguousarray(column.values, dtype=FLOATS)
    size = values.shape[1] * FLOATS.itemsize
    head = entry_head(name, dense_head(size), size)
    octets = values.reshape(-1).view(np.uint8).data
    if column.valid is None:
        for start in range(0, len(octets), size):
            yield head, octets[start : start + size]
        return
    for row, valid in enumerate(is_valid(column)):
        yield (head, octets[row * size : row * size + size]) if valid else None


def _entry(name: str, vector: bytes) -> tuple[bytes, bytes]:
    return entry_head(name, b"", len(vector)), vector


def _sparse(indices: Sequence[int], values: Sequence[float]) -> bytes:
    weights = np.asarray(values, dtype=FLOATS).tobytes()
    numbers = b"".join(VARINTS[index] for index in indices)
    inner = sized(tag(1), len(weights)) + weights + sized(tag(2), len(numbers)) + numbers
    return sized(_SPARSE, len(inner)) + inner


def _multi(rows: Any) -> bytes:
    vectors = [np.ascontiguousarray(row, dtype=FLOATS).tobytes() for row in rows]
    dense = [sized(tag(1), len(octets)) + octets for octets in vectors]
    inner = b"".join(sized(tag(1), len(octets)) + octets for octets in dense)
    return sized(_MULTI, len(inner)) + inner


def dense_head(size: int) -> bytes:
    """What stands in a `Vector` before `size` octets of a dense vector."""
    numbers = sized(tag(1), size)
    return sized(_DENSE, len(numbers) + size) + numbers


def entry_head(name: str, vector: bytes, size: int) -> bytes:
    """What stands in `NamedVectors` before `size` octets that follow `vector`, the beginning of a `Vector`."""
    key = name.encode()
    inner = sized(_KEY, len(key)) + key + sized(_VALUE, len(vector) + size) + vector
    return sized(tag(1), len(inner) + size) + inner


def named_head(name: str, vector: bytes, size: int) -> bytes:
    """The same in `Vectors` of one entry."""
    entry = entry_head(name, vector, size)
    return sized(_NAMED, len(entry) + size) + entry


def unnamed_head(vector: bytes, size: int) -> bytes:
    """What stands in `Vectors` before `size` octets that follow `vector`, the beginning of the unnamed one."""
    return sized(_UNNAMED, len(vector) + size) + vector

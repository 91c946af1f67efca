"""Records as the vectors of Pinecone's gRPC requests, written as octets.

The messages are `UpsertRequest` and `Vector` of db_data_2026-07.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from vectormigrate_dagster.databases.columns import sparse_rows
from vectormigrate_dagster.databases.pinecone.capabilities import DENSE_FIELD, SPARSE_FIELD
from vectormigrate_dagster.databases.protobuf import FLOATS, VARINTS, sized, tag
from vectormigrate_dagster.databases.structs import struct_octets
from vectormigrate_dagster.model import Dense, Payload, Sparse, VectorColumn, is_valid

Octets = bytes | memoryview

_VECTORS, _NAMESPACE = tag(1), tag(2)
"""Of `UpsertRequest`."""

_ID, _VALUES, _METADATA, _SPARSE = tag(1), tag(2), tag(3), tag(4)
"""Of `Vector`."""

_ENTRY = tag(1)
"""Of `Struct`."""


def vector_octets(id: str, vectors: Mapping[str, tuple[Octets, int]], payload: Payload) -> bytes:
    """A `Vector`.

    Args:
        vectors: by name, as `column_octets` gives them.

    Raises:
        UnfitError: the payload cannot be sent.
    """
    text = id.encode()
    pieces: list[Octets] = [_ID, VARINTS[len(text)], text]
    if (dense := vectors.get(DENSE_FIELD)) is not None:
        pieces += (_VALUES, VARINTS[dense[1]], dense[0])
    if payload:
        entries = struct_octets(payload, _ENTRY)
        pieces += (_METADATA, VARINTS[len(entries)], entries)
    if (sparse := vectors.get(SPARSE_FIELD)) is not None:
        pieces += (_SPARSE, VARINTS[sparse[1]], sparse[0])
    return b"".join(pieces)


def request_of(vectors: Iterable[bytes], namespace: str) -> bytes:
    """An `UpsertRequest`."""
    name = namespace.encode()
    pieces = [sized(_NAMESPACE, len(name)), name]
    for vector in vectors:
        pieces += (_VECTORS, VARINTS[len(vector)], vector)
    return b"".join(pieces)


def column_octets(column: VectorColumn) -> Iterator[tuple[Octets, int] | None]:
    """Each record's numbers, and how many octets: packed, of a sparse vector a `SparseValues`; None if it has none."""
    if isinstance(column, Sparse):
        for entries in sparse_rows(column):
            message = b"" if entries is None else _sparse(*entries)
            yield None if entries is None else (message, len(message))
        return
    if not isinstance(column, Dense):
        raise TypeError(f"Pinecone has no {type(column).__name__} vectors")
    values = np.ascontiguousarray(column.values, dtype=FLOATS)
    size = values.shape[1] * FLOATS.itemsize
    octets = values.reshape(-1).view(np.uint8).data
    for row, valid in enumerate(is_valid(column).tolist()):
        yield (octets[row * size : row * size + size], size) if valid else None


def _sparse(indices: Iterable[int], values: Iterable[float]) -> bytes:
    numbers = b"".join([VARINTS[index] for index in indices])
    weights = np.asarray(values, dtype=FLOATS).tobytes()
    return sized(tag(1), len(numbers)) + numbers + sized(tag(2), len(weights)) + weights

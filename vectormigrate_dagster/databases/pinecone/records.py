"""Pinecone's records as columns, and back.

The client takes lists and writes them with orjson. A float32 is given to it as the float64 with the same shortest text
(0.1, not 0.10000000149011612), which halves requests; read back, both are the same float32. Over gRPC components stay
octets: see `vector_reading` and `vector_writing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.columns import dense_column, packed_dense, rows_not_finite, sparse_column
from vectormigrate_dagster.databases.entries import UnfitError
from vectormigrate_dagster.errors import InvalidRecord, SchemaMismatch
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    IdColumn,
    IdKind,
    Payload,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
    is_valid,
)

_RECORD_BYTES = 64
"""Of the names around a record's parts."""


class Row(NamedTuple):
    """One record as an API gives it, or the client takes it.

    Args:
        vectors: name -> list of components or their float32 octets, or (indices, weights) of a sparse vector; what is
            missing is left out.
        payload: with numbers that are floats, if it was read.
    """

    id: str
    vectors: Mapping[str, Any]
    payload: Payload


def batch_of(rows: Sequence[Row], scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """A batch of records that were read, in their order.

    Raises:
        SchemaMismatch: a record holds a vector that the index's schema does not have, and which would be lost.
    """
    names = {vector.name for vector in vectors}
    for row in rows:
        if not row.vectors.keys() <= names:
            raise SchemaMismatch(
                f"record '{row.id}' holds '{min(row.vectors.keys() - names)}', which the schema of its index does not "
                "have; give the index's own address under options.host, and it is read by what it says of itself"
            )
    return Batch(
        ids=IdColumn.of(IdKind.TEXT, [row.id for row in rows]),
        scope=scope,
        vectors={v.name: _column(v, [row.vectors.get(v.name) for row in rows]) for v in vectors},
        payloads=[row.payload for row in rows],
    )


def require_writable(batch: Batch, vectors: Sequence[VectorSchema], where: str) -> None:
    """Refuse a batch whose vectors the index has no place for, or that hold what is no number.

    Raises:
        SchemaMismatch: there is no such vector.
        InvalidRecord: a vector has another dimension, or a component is NaN or infinite.
    """
    known = {vector.name: vector for vector in vectors}
    for name, column in batch.vectors.items():
        if name not in known:
            raise SchemaMismatch(
                f"{where} has no vector '{name}'; if the index was changed since the plan was made, restore it or plan "
                "anew"
            )
        if isinstance(column, Dense) and column.dim != known[name].dim:
            raise InvalidRecord(f"vector '{name}' has {column.dim} dimensions, {where} has {known[name].dim}")
    bad = rows_not_finite(batch)
    if bad:
        ids = [id_text(value) for value in batch.ids.take(bad).to_pylist()]
        raise InvalidRecord(f"{where} cannot keep id '{ids[0]}': it stores no NaN and no infinite components", ids=ids)


def payload_of(metadata: Mapping[str, Any]) -> Payload:
    """Metadata as the client gives it, with every number a float, as which the server keeps it."""
    return {key: float(value) if type(value) is int else value for key, value in metadata.items()}


def json_bytes(id: str, vectors: Mapping[str, tuple[Any, int]], payload: Payload) -> int:
    """Bytes that a record takes as JSON, of which those of its vectors are given.

    Raises:
        UnfitError: the payload has no such form.
    """
    import orjson

    try:
        size = len(orjson.dumps(payload)) + len(orjson.dumps(id)) + _RECORD_BYTES
    except TypeError as error:
        raise UnfitError(f"its metadata cannot be written as JSON: {error}") from error
    return size + sum(length + len(name) for name, (_, length) in vectors.items())


def _column(vector: VectorSchema, rows: list[Any]) -> VectorColumn:
    if vector.kind is VectorKind.SPARSE:
        return sparse_column(rows)
    return packed_dense(rows, vector.dim or 0) if _in_octets(rows) else dense_column(rows, vector.dim or 0)


def _in_octets(rows: Sequence[Any]) -> bool:
    return isinstance(next((row for row in rows if row is not None), None), bytes | memoryview)


def client_forms(column: VectorColumn) -> Iterator[tuple[Any, int] | None]:
    """Each record's vector in the client's form and the bytes of its JSON; None where it is missing."""
    valid = is_valid(column)
    if isinstance(column, Sparse):
        for row, here in enumerate(valid):
            part = slice(column.indptr[row], column.indptr[row + 1])
            weights, size = _shortest(column.values[part])
            indices = column.indices[part].tolist()
            yield ((indices, weights), size + 11 * len(indices)) if here else None
        return
    if not isinstance(column, Dense):
        raise TypeError(f"Pinecone has no {type(column).__name__} vectors")
    for row, here in enumerate(valid):
        yield _shortest(column.values[row]) if here else None


def _shortest(values: npt.NDArray[np.float32]) -> tuple[list[float], int]:
    """The float64 numbers with the shortest texts of float32 values (n,), and the length of these texts."""
    import orjson

    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    numbers: list[float] = orjson.loads(text)
    return numbers, len(text)

"""Pinecone's records as columns, and back; the only place where components are Python floats.

The client takes lists and writes them with orjson. A float32 is given to it as the float64 with the same shortest text
(0.1, not 0.10000000149011612), which halves requests; read back, both are the same float32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.columns import dense_column, rows_not_finite, sparse_column
from vectormigrate_dagster.databases.pinecone.capabilities import SERVER
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

REQUEST_BYTES = 1_900_000
"""A little under the 2 MB of one request: https://docs.pinecone.io/reference/api/database-limits#upsert-limits"""

REQUEST_RECORDS = 1000
_RECORD_BYTES = 64
"""Of the names around a record's parts."""


@dataclass(frozen=True)
class Row:
    """One record in the client's terms.

    Args:
        vectors: name -> list of components, or (indices, weights) of a sparse vector; what is missing is left out.
        size: bytes of its JSON, if it is to be written.
    """

    id: str
    vectors: dict[str, Any]
    payload: Payload
    size: int = 0


def batch_of(rows: Sequence[Row], scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """A batch of records that were read, in their order. Every number of a payload is a float.

    Raises:
        SchemaMismatch: a record holds a vector that the index's schema does not have, and which would be lost.
    """
    names = {vector.name for vector in vectors}
    for row in rows:
        if unknown := row.vectors.keys() - names:
            raise SchemaMismatch(
                f"record '{row.id}' holds '{min(unknown)}', which the schema of its index does not have; give the "
                "index's own address under options.host, and it is read by what it says of itself"
            )
    return Batch(
        ids=IdColumn.of(IdKind.TEXT, [row.id for row in rows]),
        scope=scope,
        vectors={v.name: _column(v, [row.vectors.get(v.name) for row in rows]) for v in vectors},
        payloads=[{key: _read(value) for key, value in row.payload.items()} for row in rows],
    )


def rows_of(batch: Batch, *, required: Collection[str], reserved: Collection[str]) -> tuple[list[Row], list[Refusal]]:
    """The records of a batch, each with its size, and the refusals of those that cannot be sent as they are.

    Args:
        required: vectors that no record may lack.
        reserved: keys that no payload may have.
    """
    import orjson

    columns = {name: _written(column) for name, column in batch.vectors.items()}
    rows: list[Row] = []
    refusals: list[Refusal] = []
    for value, payload in zip(batch.ids.to_pylist(), batch.payloads, strict=True):
        parts = {name: part for name, column in columns.items() if (part := next(column)) is not None}
        lacks = sorted(set(required) - set(parts))
        text = str(value)
        if re.fullmatch(SERVER.id_pattern or "", text) is None:
            refusals.append(Refusal(text, "it is no id of Pinecone's: 1 to 512 ASCII characters", batch.scope))
            continue
        if lacks:
            refusals.append(Refusal(text, f"it lacks vector '{lacks[0]}', which this index demands", batch.scope))
            continue
        try:
            size = _payload_bytes(payload, reserved) + _RECORD_BYTES + len(orjson.dumps(text))
        except InvalidRecord as error:
            refusals.append(Refusal(text, error.reason, batch.scope))
            continue
        size += sum(length + len(name) for name, (_, length) in parts.items())
        rows.append(Row(text, {name: vector for name, (vector, _) in parts.items()}, payload, size))
    return rows, refusals


def requests(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Records in pieces, each of which fits into one request."""
    start, size = 0, 0
    for stop, row in enumerate(rows):
        if stop > start and (size + row.size > REQUEST_BYTES or stop - start >= REQUEST_RECORDS):
            yield rows[start:stop]
            start, size = stop, 0
        size += row.size
    if start < len(rows):
        yield rows[start:]


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


def _payload_bytes(payload: Payload, reserved: Collection[str]) -> int:
    """Bytes of a payload as JSON.

    Raises:
        InvalidRecord: it would come back as something else, or cannot be sent.
    """
    import orjson

    for key, value in payload.items():
        if key in reserved:
            raise InvalidRecord(f"metadata '{key}' has the name of a vector, or one that Pinecone keeps for itself")
        if value is None:
            raise InvalidRecord(f"metadata '{key}' is null, which Pinecone drops")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRecord(f"metadata '{key}' is {value}, which JSON has no number for")
        if isinstance(value, int) and not isinstance(value, bool) and not _is_float64(value):
            raise InvalidRecord(f"metadata '{key}' is {value}, which is no float64, and Pinecone has no other numbers")
    try:
        return len(orjson.dumps(payload))
    except TypeError as error:
        raise InvalidRecord(f"its metadata cannot be written as JSON: {error}") from error


def _is_float64(value: int) -> bool:
    return abs(value) < 2**64 and int(float(value)) == value


def _column(vector: VectorSchema, rows: list[Any]) -> VectorColumn:
    if vector.kind is VectorKind.SPARSE:
        return sparse_column(rows)
    return dense_column(rows, vector.dim or 0)


def _read(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _written(column: VectorColumn) -> Iterator[tuple[Any, int] | None]:
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

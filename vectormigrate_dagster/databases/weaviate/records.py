"""Records between our columns and the messages of a Weaviate server; vectors stay the bytes that they travel in."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vectormigrate_dagster.databases.protobuf import FLOATS, readable
from vectormigrate_dagster.databases.weaviate.object_reading import Found
from vectormigrate_dagster.databases.weaviate.schema import vectorizers
from vectormigrate_dagster.errors import DatabaseError, InvalidRecord
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    Multi,
    VectorColumn,
    VectorKind,
    VectorSchema,
    id_text,
    is_valid,
)

_DIM = struct.Struct("<H")
"""A matrix is preceded by the length of its rows (usecases/byteops: `Fp32SliceOfSlicesToBytes`)."""


def properties_request(fields: Sequence[FieldSchema]) -> Any:
    """What to ask for so that every property comes, blobs included; references are asked for elsewhere.

    An object that is asked for by its name brings all that is within it but blobs.
    """
    from weaviate.proto.v1 import search_get_pb2

    plain = [field.name for field in fields if field.type is not FieldType.REFERENCE and not _holds_blob(field)]
    objects = [_object_request(field) for field in fields if _holds_blob(field)]
    return search_get_pb2.PropertiesRequest(non_ref_properties=plain, object_properties=objects)


def vectors_request(vectors: Sequence[VectorSchema]) -> Mapping[str, Any]:
    """What to ask for in a `MetadataRequest` so that every vector comes, and the id."""
    names = [vector.name for vector in vectors if vector.name]
    return {"uuid": True, "vector": len(names) < len(vectors), "vectors": names}


def batch_of(found: Sequence[Found], schema: CollectionSchema, scope: str | None) -> Batch:
    """The records of objects, in their order, without references.

    Raises:
        DatabaseError: their ids or vectors cannot be read.
    """
    metadata = [one.metadata for one in found]
    with readable("vectors of weaviate"):
        return Batch(
            ids=uuid_column(one.id for one in metadata),
            scope=scope,
            vectors={vector.name: _column(_raw_vectors(metadata, vector.name), vector) for vector in schema.vectors},
            payloads=[one.payload for one in found],
        )


def uuid_column(texts: Iterable[str]) -> IdColumn:
    """Ids out of their texts; older servers spoil the bytes of those that begin with zero (`idToByte`).

    Raises:
        DatabaseError: a text is no UUID.
    """
    with readable("ids of weaviate"):
        octets = [bytes.fromhex(text.replace("-", "")) for text in texts]
        return IdColumn(IdKind.UUID, pa.array(octets, type=IdKind.UUID.arrow_type))


def named_vector(name: str, octets: bytes, *, multi: bool) -> Any:
    """A `Vectors` message."""
    from weaviate.proto.v1 import base_pb2

    kinds = base_pb2.Vectors
    kind = kinds.VECTOR_TYPE_MULTI_FP32 if multi else kinds.VECTOR_TYPE_SINGLE_FP32
    return base_pb2.Vectors(name=name, vector_bytes=octets, type=kind)


def matrix_octets(matrix: npt.NDArray[np.float32]) -> bytes:
    """A vector of several, float32 (m, d), as it travels."""
    return _DIM.pack(matrix.shape[1]) + matrix.astype(FLOATS, copy=False).tobytes()


def require_fit(batch: Batch, schema: CollectionSchema) -> None:
    """Check that vectors have the shape of those of the collection, and components that are numbers.

    A server stores NaN and infinity, and finds out about a dimension only when it indexes, object by object.

    Raises:
        InvalidRecord: one does not, or there is no such vector.
    """
    known = {vector.name: vector for vector in schema.vectors}
    for name, column in batch.vectors.items():
        vector = known.get(name)
        if vector is None:
            names = ", ".join(f"'{one}'" for one in known) or "none"
            raise InvalidRecord(f"there is no vector '{name}'; the collection has {names}")
        kind = VectorKind.MULTI if isinstance(column, Multi) else VectorKind.DENSE
        if not isinstance(column, Dense | Multi) or kind is not vector.kind:
            raise InvalidRecord(f"vector '{name}' takes {vector.kind.value} vectors of float32")
        if vector.dim is not None and column.dim != vector.dim:
            raise InvalidRecord(f"vector '{name}' takes {vector.dim} dimensions, and these have {column.dim}")
        if bad := _rows_that_are_no_numbers(column):
            ids = [id_text(value) for value in batch.ids.take(np.asarray(bad, dtype=np.int64)).to_pylist()]
            raise InvalidRecord(f"vector '{name}' of id '{ids[0]}' has NaN or infinite components", ids=ids)


def empty_vectors(batch: Batch) -> dict[int, str]:
    """Rows with a vector of several that has none: a server takes it for a missing one."""
    rows: dict[int, str] = {}
    for name, column in batch.vectors.items():
        if isinstance(column, Multi):
            bare = is_valid(column) & (np.diff(column.offsets) == 0)
            reason = f"its vector '{name}' holds no vectors, which Weaviate takes for a missing one"
            rows |= dict.fromkeys(np.flatnonzero(bare).tolist(), reason)
    return rows


def made_up(batch: Batch, schema: CollectionSchema) -> dict[int, str]:
    """Rows that lack a vector which a vectorizer of the collection, which we have not made, would then make up."""
    rows: dict[int, str] = {}
    for vector in schema.vectors:
        modules = vectorizers(schema, vector.name)
        if not modules:
            continue
        column = batch.vectors.get(vector.name)
        lacking = range(len(batch)) if column is None else np.flatnonzero(~is_valid(column)).tolist()
        reason = f"it lacks vector '{vector.name}', which vectorizer '{modules[0]}' of the collection would make up"
        rows |= dict.fromkeys(lacking, reason)
    return rows


def _holds_blob(field: FieldSchema) -> bool:
    """Whether it is an object with a blob somewhere within."""
    return any(one.type is FieldType.BLOB or _holds_blob(one) for one in field.fields)


def _object_request(field: FieldSchema) -> Any:
    from weaviate.proto.v1 import search_get_pb2

    for one in field.fields:
        if one.name[0].isupper():  # the server lower-cases it in this kind of request and finds nothing
            raise DatabaseError(
                f"object '{field.name}' holds a blob and a property '{one.name}' whose name begins with a capital; "
                "no request to Weaviate brings both"
            )
    return search_get_pb2.ObjectPropertiesRequest(
        prop_name=field.name,
        primitive_properties=[one.name for one in field.fields if not one.fields],
        object_properties=[_object_request(one) for one in field.fields if one.fields],
    )


def _raw_vectors(metadata: Sequence[Any], name: str) -> list[bytes]:
    """The bytes of one vector of each record; none where the record lacks it."""
    if not name:
        return [one.vector_bytes for one in metadata]
    return [_named(one.vectors, name) for one in metadata]


def _named(vectors: Any, name: str) -> bytes:
    for vector in vectors:
        if vector.name == name:
            octets: bytes = vector.vector_bytes
            return octets
    return b""


def _column(rows: list[bytes], vector: VectorSchema) -> VectorColumn:
    there = np.fromiter((len(row) > 0 for row in rows), dtype=np.bool_, count=len(rows))
    valid = None if there.all() else there
    if vector.kind is VectorKind.MULTI:
        return _multi(rows, vector, valid)
    first = next((row for row in rows if row), None)
    dim = vector.dim or (0 if first is None else len(first) // FLOATS.itemsize)
    _require_width([len(row) for row in rows if row], dim * FLOATS.itemsize, vector)
    values = np.frombuffer(b"".join(rows), dtype=FLOATS).reshape(-1, dim) if dim else np.zeros((0, 0), FLOATS)
    if valid is not None:
        whole = np.zeros((len(rows), dim), dtype=FLOATS)
        whole[there] = values
        values = whole
    return Dense(values, valid)


def _multi(rows: list[bytes], vector: VectorSchema, valid: npt.NDArray[np.bool_] | None) -> Multi:
    dims = {_rows_dim(row) for row in rows if row}
    dim = vector.dim or next(iter(dims), 0)
    if dims - {dim}:
        raise DatabaseError(f"vector '{vector.name}' has rows of {_numbers(dims)} components, and {dim} is its own")
    width = dim * FLOATS.itemsize
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([(len(row) - _DIM.size) // width if row else 0 for row in rows], out=offsets[1:])
    octets = b"".join(row[_DIM.size :] for row in rows)
    return Multi(offsets, np.frombuffer(octets, dtype=FLOATS).reshape(-1, dim or 1), valid)


def _rows_dim(octets: bytes) -> int:
    """Components of each row of a matrix, as it says itself.

    Raises:
        ValueError: it has another number of octets than whole rows have.
    """
    (dim,) = _DIM.unpack_from(octets) if len(octets) >= _DIM.size else (0,)
    if not dim or (len(octets) - _DIM.size) % (dim * FLOATS.itemsize):
        raise ValueError(f"a vector of several has {len(octets)} octets, which are no whole rows")
    return int(dim)


def _require_width(sizes: list[int], width: int, vector: VectorSchema) -> None:
    if other := {size for size in sizes if size != width}:
        found = {size // FLOATS.itemsize for size in other}
        raise DatabaseError(
            f"vector '{vector.name}' has {_numbers(found)} components in some records, and "
            f"{width // FLOATS.itemsize} in others; a target holds one length only"
        )


def _rows_that_are_no_numbers(column: Dense | Multi) -> list[int]:
    bad = ~np.isfinite(column.values)
    if not bad.any():
        return []
    rows = np.flatnonzero(bad.any(axis=1))
    if isinstance(column, Multi):
        rows = np.unique(np.searchsorted(column.offsets, rows, side="right") - 1)
    return [int(row) for row in rows]


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))

"""Points as Qdrant's gRPC answers hold them, read into columns.

They are read by messages of our own, in which vectors and payloads are octets. Dense vectors of the usual form become
the rows of an array without a look at their numbers; others go through the official messages. Payloads go through
`values`. The messages are in points.proto and qdrant_common.proto of the client.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from vectormigrate_dagster.databases.columns import dense_column, multi_column, packed_column, sparse_column
from vectormigrate_dagster.databases.protobuf import (
    FLOATS,
    VARINTS,
    fields_of,
    floats_of,
    messages,
    number_at,
    readable,
    sized,
    tag,
)
from vectormigrate_dagster.databases.qdrant.point_writing import dense_head, named_head, unnamed_head
from vectormigrate_dagster.databases.qdrant.values import payload_of
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    Id,
    IdColumn,
    IdKind,
    Payload,
    VectorColumn,
    VectorKind,
    VectorSchema,
)

_VECTORS = tag(4)
"""Of `RetrievedPoint`."""


class Point(NamedTuple):
    """A record as it was read.

    Args:
        vectors: the octets of a `VectorsOutput`, part of the answer if they are of the usual form.
        rounded: whether a number of the payload may have been another one.
    """

    id: Id
    payload: Payload
    vectors: bytes | memoryview
    rounded: bool


@cache
def _messages() -> dict[str, Any]:
    """Every field that the official messages have, so that a damaged one is not taken for one that is unknown."""
    from qdrant_client import grpc

    return messages(
        "vectormigrate.qdrant",
        {
            "RetrievedPoint": {
                "id": "qdrant.PointId = 1",
                "payload": "repeated bytes = 2",
                "vectors": "repeated bytes = 4",
                "shard_key": "qdrant.ShardKey = 5",
                "order_value": "qdrant.OrderValue = 6",
            },
            "ScrollResponse": {
                "next_page_offset": "qdrant.PointId = 1",
                "result": "repeated RetrievedPoint = 2",
                "time": "double = 3",
                "usage": "qdrant.Usage = 4",
            },
            "GetResponse": {"result": "repeated RetrievedPoint = 1", "time": "double = 2", "usage": "qdrant.Usage = 3"},
        },
        grpc.ScrollResponse.DESCRIPTOR.file,
    )


def points_of(answer: bytes, message: str, vectors: tuple[VectorSchema, ...]) -> tuple[list[Point], bool]:
    """The points of a `ScrollResponse` or `GetResponse`, and whether a scroll goes on after them.

    Args:
        answer: its octets.
        message: which of the two it is.
        vectors: those of the collection.

    Raises:
        DatabaseError: the answer cannot be read.
    """
    made = _messages()[message]
    with readable("points of qdrant"):
        apart = _vectors_apart(answer, tag(made.DESCRIPTOR.fields_by_name["result"].number), vectors)
        read = made.FromString(answer if apart is None else apart[0])
        records = list(read.result)  # each access would make its objects anew
        ids = [_id(point.id) for point in records]
        payloads, rounded = _payloads([point.payload for point in records])
        left: list[bytes | memoryview] = [_only(point.vectors) for point in records]
        if apart is not None and any(left):
            raise ValueError(_TWICE)
        octets = left if apart is None else apart[1]
        points = list(map(Point._make, zip(ids, payloads, octets, rounded, strict=True)))
        return points, message == "ScrollResponse" and read.HasField("next_page_offset")


def _vectors_apart(
    answer: bytes, result: bytes, vectors: tuple[VectorSchema, ...]
) -> tuple[bytes, list[bytes | memoryview]] | None:
    """The answer without the vectors of its points, and these where they lie; None if one has another form.

    The usual form is that every point ends with the one dense vector of the collection. What stands before its numbers
    cannot be part of a payload: in no text does the octet 0xAA, of its tag, follow the end of a number.

    Args:
        result: the tag of a point.
    """
    form = _dense_form(vectors)
    if form is None:
        return None
    head, size = form
    head = sized(_VECTORS, len(head) + size) + head
    whole, skipped = len(head) + size, len(sized(_VECTORS, len(head) + size))
    found: list[bytes | memoryview] = []
    view = memoryview(answer)
    # Where the next page begins comes before the points.
    end = 0 if answer.startswith(result) else next(fields_of(answer, 0, len(answer)), (0,))[-1]
    rest = [answer[:end]]
    while answer.startswith(result, end):
        count, at = number_at(answer, end + 1, len(answer))
        end = at + count
        if count < whole or end > len(answer) or not answer.startswith(head, end - whole):
            return None
        rest += (result, VARINTS[count - whole], answer[at : end - whole])
        found.append(view[end - whole + skipped : end])
    return b"".join((*rest, answer[end:])), found


def batch_of(points: Sequence[Point], kind: IdKind, scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """Points, which are all of `kind`.

    Raises:
        DatabaseError: their vectors cannot be read, or are not those of the collection.
    """
    with readable("vectors of qdrant"):
        return Batch(
            ids=IdColumn.of(kind, [point.id for point in points]),
            scope=scope,
            vectors=_columns([point.vectors for point in points], vectors),
            payloads=[point.payload for point in points],
        )


def _payloads(points: Iterable[Iterable[bytes]]) -> tuple[list[Payload], list[bool]]:
    """Each point's payload, and whether a number in it may have been another one."""
    payloads: list[Payload] = []
    rounded: list[bool] = []
    large: list[float] = []
    for entries in points:
        payloads.append(payload_of(entries, large))
        rounded.append(bool(large))
        if large:
            large = []
    return payloads, rounded


def _id(message: Any) -> Id:
    if text := message.uuid:
        return uuid.UUID(text)
    number: int = message.num
    if not number and message.WhichOneof("point_id_options") != "num":
        raise ValueError("a point has no id")
    return number


_TWICE = "a point has its vectors twice"


def _only(vectors: Sequence[bytes]) -> bytes:
    if len(vectors) > 1:
        raise ValueError(_TWICE)
    return vectors[0] if vectors else b""


def _columns(points: list[bytes | memoryview], vectors: tuple[VectorSchema, ...]) -> dict[str, VectorColumn]:
    if points and (column := _dense_at_once(points, vectors)) is not None:
        return {vectors[0].name: column}
    from qdrant_client.grpc import VectorsOutput

    read = [_by_name(VectorsOutput.FromString(bytes(octets))) for octets in points]
    known = {vector.name for vector in vectors}
    if strange := {name for named in read for name in named} - known:
        raise ValueError(f"there is a vector '{min(strange)}', which the collection had not when it was looked at")
    return {vector.name: _column(vector, [named.get(vector.name) for named in read]) for vector in vectors}


def _dense_form(vectors: tuple[VectorSchema, ...]) -> tuple[bytes, int] | None:
    """What stands in a `VectorsOutput` before the numbers of the only vector, and their octets; None if not dense.

    It is what servers from 1.16 on send.
    """
    if len(vectors) != 1:
        return None
    (vector,) = vectors
    if (vector.kind, vector.element) != (VectorKind.DENSE, Element.FLOAT32) or not vector.dim:
        return None
    size = vector.dim * FLOATS.itemsize
    dense = dense_head(size)
    return named_head(vector.name, dense, size) if vector.name else unnamed_head(dense, size), size


def _dense_at_once(points: list[bytes | memoryview], vectors: tuple[VectorSchema, ...]) -> Dense | None:
    """The column of the only vector, if every point has it in the usual form; else None."""
    form = _dense_form(vectors)
    if form is None:
        return None
    head, size = form
    whole, start = len(head) + size, len(head)
    if not all(len(octets) == whole and octets[:start] == head for octets in points):
        return None
    rows = b"".join([memoryview(octets)[start:] for octets in points])
    return Dense(np.frombuffer(rows, dtype=FLOATS).reshape(len(points), -1), None)


def _by_name(message: Any) -> dict[str, Any]:
    which = message.WhichOneof("vectors_options")
    if which == "vector":
        return {"": message.vector}
    return dict(message.vectors.vectors) if which == "vectors" else {}


def _column(vector: VectorSchema, found: list[Any]) -> VectorColumn:
    dim = vector.dim or 0
    if vector.kind is VectorKind.SPARSE:
        return sparse_column([None if message is None else _sparse(message) for message in found])
    if vector.kind is VectorKind.MULTI:
        return multi_column([None if message is None else _multi(message, dim) for message in found], dim)
    rows = [None if message is None else _dense(message, dim) for message in found]
    if vector.element is Element.FLOAT32:
        return dense_column(rows, dim)
    return packed_column(rows, vector.element, dim)


# Servers before 1.16 fill the flat fields `data`, `indices` and `vectors_count`, later ones the typed vector.


def _dense(message: Any, dim: int) -> Any:
    row = floats_of(message.dense) if message.WhichOneof("vector") == "dense" else _flat(message)
    if len(row) != dim:
        raise ValueError(f"a vector has {len(row)} components, the collection's have {dim}")
    return row


def _sparse(message: Any) -> tuple[Sequence[int], Sequence[float]]:
    typed = message.WhichOneof("vector") == "sparse"
    indices, values = (message.sparse.indices, message.sparse.values) if typed else (message.indices.data, message.data)
    if len(indices) != len(values):
        raise ValueError(f"a sparse vector has {len(indices)} indices for {len(values)} values")
    return indices, values


def _multi(message: Any, dim: int) -> Any:
    if message.WhichOneof("vector") == "multi_dense":
        return np.array([floats_of(row) for row in message.multi_dense.vectors], dtype=np.float32).reshape(-1, dim)
    return _flat(message).reshape(-1, dim)


def _flat(message: Any) -> Any:
    return np.fromiter(message.data, dtype=np.float32, count=len(message.data))

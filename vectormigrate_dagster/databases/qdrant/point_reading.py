"""Points as Qdrant's gRPC answers hold them, read into columns.

They are read by messages of our own, in which vectors and payloads are octets. Dense vectors of the usual form become
the rows of an array without a look at their numbers; others go through the official messages. Payloads stay octets
until somebody looks at them (`values`). The messages are in points.proto and qdrant_common.proto of the client.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import cache
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
from vectormigrate_dagster.databases.qdrant.values import FORM, entries_octets, is_rounded, retagged
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    EncodedPayloads,
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
        payload: as it is sent (`values.FORM`); or decoded, where a message could not say what it holds.
        rounded: whether a number of the payload may have been another one.
        vectors: the octets of a `VectorsOutput`; nothing if it is of the usual form.
        answer, place: where its numbers begin, if it is of the usual form; `place` is -1 if it is not.
    """

    id: Id
    payload: bytes | Payload
    rounded: bool
    vectors: bytes
    answer: bytes
    place: int


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
        read = made.FromString(answer if apart is None else apart.rest)
        records = list(read.result)  # each access would make its objects anew
        ids = [_id(point.id) for point in records]
        payloads = None if apart is None else retagged(apart.rest, apart.begins, apart.ends)
        left = [b""] * len(ids)
        if payloads is None:  # else points are ids and entries, and nothing else
            payloads = [entries_octets(point.payload) for point in records]
            left = [_only(point.vectors) for point in records]
        if apart is not None and any(left):
            raise ValueError(_TWICE)
        places = [-1] * len(ids) if apart is None else apart.places
        fields = zip(ids, payloads, map(is_rounded, payloads), left, repeat(answer, len(ids)), places, strict=True)
        return list(map(Point._make, fields)), message == "ScrollResponse" and read.HasField("next_page_offset")


class _Apart(NamedTuple):
    """An answer without the vectors of its points.

    Args:
        places: where in the answer the numbers of each point's vector begin.
        begins, ends: where in `rest` the octets of each point begin and end.
    """

    rest: bytes
    places: list[int]
    begins: list[int]
    ends: list[int]


def _vectors_apart(answer: bytes, result: bytes, vectors: tuple[VectorSchema, ...]) -> _Apart | None:
    """The answer without the vectors of its points, and where these lie; None if one has another form.

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
    whole = len(head) + size
    # Where the next page begins comes before the points.
    end = 0 if answer.startswith(result) else next(fields_of(answer, 0, len(answer)), (0,))[-1]
    rest, length = [answer[:end]], end
    places: list[int] = []
    begins: list[int] = []
    ends: list[int] = []
    while answer.startswith(result, end):
        count, at = number_at(answer, end + 1, len(answer))
        end = at + count
        if count < whole or end > len(answer) or not answer.startswith(head, end - whole):
            return None
        counted = VARINTS[count - whole]
        rest += (result, counted, answer[at : end - whole])
        begins.append(length + 1 + len(counted))
        length = begins[-1] + count - whole
        ends.append(length)
        places.append(end - size)
    return _Apart(b"".join((*rest, answer[end:])), places, begins, ends)


def batch_of(points: Sequence[Point], kind: IdKind, scope: str | None, vectors: tuple[VectorSchema, ...]) -> Batch:
    """Points, which are all of `kind`.

    Raises:
        DatabaseError: their vectors cannot be read, or are not those of the collection.
    """
    with readable("vectors of qdrant"):
        return Batch(
            ids=IdColumn.of(kind, [point.id for point in points]),
            scope=scope,
            vectors=_columns(points, vectors),
            payloads=_payloads(points),
        )


def _payloads(points: Sequence[Point]) -> Sequence[Payload]:
    """Each point's payload: as it came, unless one of them came another way."""
    carried = [point.payload for point in points if isinstance(point.payload, bytes)]
    if len(carried) == len(points):
        return EncodedPayloads(FORM, carried)
    return [FORM.decode(point.payload) if isinstance(point.payload, bytes) else point.payload for point in points]


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


def _columns(points: Sequence[Point], vectors: tuple[VectorSchema, ...]) -> dict[str, VectorColumn]:
    form = _dense_form(vectors)
    if form is not None and points and all(point.place >= 0 for point in points):
        return {vectors[0].name: _dense_at_once(points, form[1])}
    from qdrant_client.grpc import VectorsOutput

    read = [_by_name(VectorsOutput.FromString(_octets(point, form))) for point in points]
    known = {vector.name for vector in vectors}
    if strange := {name for named in read for name in named} - known:
        raise ValueError(f"there is a vector '{min(strange)}', which the collection had not when it was looked at")
    return {vector.name: _column(vector, [named.get(vector.name) for named in read]) for vector in vectors}


def _octets(point: Point, form: tuple[bytes, int] | None) -> bytes:
    """Those of its `VectorsOutput`."""
    if form is None or point.place < 0:
        return point.vectors
    head, size = form
    return head + point.answer[point.place : point.place + size]


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


def _dense_at_once(points: Sequence[Point], size: int) -> Dense:
    """The column of the only vector, of which every point has `size` octets of numbers in the usual form."""
    parts = []
    for answer, group in groupby(points, key=attrgetter("answer")):
        octets = np.frombuffer(answer, dtype=np.uint8)
        parts.append(sliding_window_view(octets, size)[[point.place for point in group]])
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Dense(rows.view(FLOATS), None)


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

"""Hypothesis strategies for the nouns of `model`: ids of every kind, payloads, columns of every kind, batches."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Element,
    Id,
    IdColumn,
    IdKind,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
)

IDS: dict[IdKind, st.SearchStrategy[Id]] = {
    IdKind.U64: st.integers(0, 2**64 - 1),
    IdKind.I64: st.integers(-(2**63), 2**63 - 1),
    IdKind.UUID: st.builds(lambda data: uuid.UUID(bytes=data), st.binary(min_size=16, max_size=16)),
    IdKind.TEXT: st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
}

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(), max_size=8),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), values, max_size=3)
    ),
    max_leaves=6,
)

PAYLOADS = st.dictionaries(st.text(st.characters(), max_size=6), JSON_VALUES, max_size=4)


def id_lists(kind: IdKind, *, max_size: int = 8) -> st.SearchStrategy[list[Id]]:
    """Different ids of one kind, ascending."""
    return st.lists(IDS[kind], max_size=max_size, unique=True).map(sorted)  # type: ignore[arg-type]


def _masked(n: int) -> st.SearchStrategy[Any]:
    return st.none() | hnp.arrays(np.bool_, n)


@st.composite
def dense(draw: Callable[..., Any], n: int) -> Dense:
    """Dense vectors, any bits included."""
    dim = draw(st.integers(1, 5))
    valid = draw(_masked(n))
    bits = draw(hnp.arrays(np.uint32, (n, dim)))
    if valid is not None:
        bits[~valid] = 0
    return Dense(bits.view(np.float32), valid)


@st.composite
def packed(draw: Callable[..., Any], n: int) -> Packed:
    """Packed vectors of every element."""
    element = draw(st.sampled_from(list(Element)))
    dim = draw(st.integers(1, 17))
    valid = draw(_masked(n))
    dtype = element.dtype
    bits = draw(hnp.arrays(np.dtype(f"u{dtype.itemsize}"), (n, element.width(dim))))
    if valid is not None:
        bits[~valid] = 0
    return Packed(element, dim, bits.view(dtype), valid)


def _offsets(draw: Callable[..., Any], n: int, valid: Any) -> Any:
    lengths = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.int64)
    if valid is not None:
        lengths = np.where(valid, lengths, 0)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


@st.composite
def sparse(draw: Callable[..., Any], n: int) -> Sparse:
    """Sparse vectors, empty and missing ones included."""
    valid = draw(_masked(n))
    indptr = _offsets(draw, n, valid)
    values = draw(hnp.arrays(np.uint32, int(indptr[-1]))).view(np.float32)
    rows = [np.sort(draw(hnp.arrays(np.uint32, int(size), unique=True))) for size in np.diff(indptr)]
    indices = np.concatenate([*rows, np.zeros(0, np.uint32)]).astype(np.uint32)
    return Sparse(indptr, indices, values, valid)


@st.composite
def multi(draw: Callable[..., Any], n: int) -> Multi:
    """Several vectors per record, none and missing ones included."""
    valid = draw(_masked(n))
    offsets = _offsets(draw, n, valid)
    dim = draw(st.integers(1, 4))
    return Multi(offsets, draw(hnp.arrays(np.uint32, (int(offsets[-1]), dim))).view(np.float32), valid)


@st.composite
def columns(draw: Callable[..., Any], n: int) -> VectorColumn:
    """A column of any kind."""
    result: VectorColumn = draw(st.one_of(dense(n), packed(n), sparse(n), multi(n)))
    return result


@st.composite
def batches(draw: Callable[..., Any], *, max_size: int = 6) -> Batch:
    """A batch of any kind of id with up to three vectors."""
    kind = draw(st.sampled_from(list(IdKind)))
    ids = draw(id_lists(kind, max_size=max_size))
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3, unique=True))
    return Batch(
        IdColumn.of(kind, ids),
        draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        {name: draw(columns(len(ids))) for name in names},
        [draw(PAYLOADS) for _ in ids],
    )

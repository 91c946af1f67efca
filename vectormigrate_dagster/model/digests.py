"""Ids and whole records in 16 bytes each: enough to tell a hundred million records apart, small enough to keep."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model.batch import Batch
from vectormigrate_dagster.model.ids import IdColumn
from vectormigrate_dagster.model.vectors import Dense, Mask, Multi, Sparse, VectorColumn, is_valid

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode
"""JSON that is equal for equal values: keys in order, and 1, 1.0 and true stay three things."""

Digests = npt.NDArray[np.bytes_]
"""16-byte digests, dtype S16, shape (n,)."""


def digests(ids: IdColumn, scope: str | None) -> Digests:
    """One digest per id: the same for the same id in the same scope, whether it is a u64 or an i64."""
    prefix = hashlib.blake2b(digest_size=16)
    if scope is not None:
        prefix.update(_text(scope))
    result = bytearray()
    for value in ids.to_pylist():
        digest = prefix.copy()
        digest.update(_bytes(value))
        result += digest.digest()
    return np.frombuffer(bytes(result), dtype="S16")


def record_digests(batch: Batch) -> Digests:
    """One digest per record, over its id, its scope, every vector that it has, and its payload.

    Records are the same as `compare` sees it with its strictest demand: vectors bit for bit, values with their types
    (1, 1.0 and true differ), keys in any order. It does not matter whether a vector that no record has is a column.
    """
    vectors = [(_text(name), is_valid(column), _rows(column)) for name, column in sorted(batch.vectors.items())]
    result = bytearray()
    for row, (key, payload) in enumerate(zip(digests(batch.ids, batch.scope), batch.payloads, strict=True)):
        # numpy cuts zeros off the end of an S16 value, so the length comes first.
        digest = hashlib.blake2b(b"%d:" % len(key) + key, digest_size=16)
        for name, valid, rows in vectors:
            if valid[row]:
                digest.update(name)
                for part in rows(row):
                    digest.update(part)
        digest.update(b"p" + _canonical(payload).encode("ascii"))
        result += digest.digest()
    return np.frombuffer(bytes(result), dtype="S16")


def _rows(column: VectorColumn) -> Callable[[int], Iterable[bytes | memoryview]]:
    """A function that gives the bytes of a row: kind, size, components."""
    if isinstance(column, Sparse):
        return lambda row: _entries(b"s", column.indptr, row, column.indices, column.values)
    if isinstance(column, Multi):
        return lambda row: _entries(b"m%d," % column.dim, column.offsets, row, column.values)
    if isinstance(column, Dense):
        head = b"d%d:" % column.dim
    else:
        head = f"{column.element.value},{column.dim}:".encode("ascii")
    values = np.ascontiguousarray(column.values)
    return lambda row: (head, values[row].data.cast("B"))


def _entries(
    head: bytes, ends: npt.NDArray[np.int64], row: int, *arrays: npt.NDArray[Any]
) -> Iterable[bytes | memoryview]:
    low, high = int(ends[row]), int(ends[row + 1])
    return (head + b"%d:" % (high - low), *(array[low:high].tobytes() for array in arrays))


def _text(text: str) -> bytes:
    """A text with its length before it, so that what follows cannot be taken for a part of it."""
    encoded = text.encode("utf-8", "surrogatepass")
    return b"%d:" % len(encoded) + encoded


def _bytes(value: int | uuid.UUID | str) -> bytes:
    """The kind and the value. A kind is a letter, a scope begins with a digit: no two pairs give the same bytes."""
    if isinstance(value, uuid.UUID):
        return b"u" + value.bytes
    return b"i%d" % value if isinstance(value, int) else b"t" + value.encode("utf-8", "surrogatepass")


class DigestSet:
    """A growing set of digests in a few sorted arrays.

    Each array is at least twice as long as the next, so that n digests are moved about log n times each, and a look-up
    visits about log n arrays.
    """

    def __init__(self) -> None:
        self._parts: list[Digests] = []

    def add(self, new: Digests) -> None:
        """Add digests; those that are there already do not matter."""
        if len(new) == 0:
            return
        self._parts.append(np.unique(new))
        while len(self._parts) > 1 and len(self._parts[-2]) < 2 * len(self._parts[-1]):
            last = self._parts.pop()
            self._parts[-1] = _merged(self._parts[-1], last)

    def contains(self, wanted: Digests) -> Mask:
        """Which of `wanted` are in the set: bool (n,)."""
        found = np.zeros(len(wanted), dtype=np.bool_)
        for part in self._parts:
            at = np.minimum(np.searchsorted(part, wanted), len(part) - 1)
            found |= part[at] == wanted
        return found

    def sorted(self) -> Digests:
        """All digests, each once, ascending."""
        merged = np.unique(np.concatenate(self._parts)) if self._parts else np.zeros(0, dtype="S16")
        self._parts = [merged] if len(merged) else []
        return merged

    def __len__(self) -> int:
        return len(self.sorted())


def _merged(one: Digests, two: Digests) -> Digests:
    """Both sorted arrays as one, each digest once."""
    if len(one) < len(two):
        one, two = two, one
    at = np.searchsorted(one, two)
    new = one[np.minimum(at, len(one) - 1)] != two
    merged: Digests = np.insert(one, at[new], two[new])
    return merged

"""Sets of ids in 16 bytes each: enough to tell a hundred million records apart, small enough to keep."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model.ids import IdColumn
from vectormigrate_dagster.model.vectors import Mask

Digests = npt.NDArray[np.bytes_]
"""16-byte digests, dtype S16, shape (n,)."""


def digests(ids: IdColumn, scope: str | None) -> Digests:
    """One digest per id: the same for the same id in the same scope, whether it is a u64 or an i64."""
    prefix = hashlib.blake2b(digest_size=16)
    if scope is not None:
        name = scope.encode("utf-8", "surrogatepass")
        prefix.update(b"%d:" % len(name) + name)
    result = bytearray()
    for value in ids.to_pylist():
        digest = prefix.copy()
        digest.update(_bytes(value))
        result += digest.digest()
    return np.frombuffer(bytes(result), dtype="S16")


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

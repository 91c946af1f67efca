"""Objects of one shard, which is a tenant or a whole collection: in the order of their ids, with their vectors."""

from __future__ import annotations

import time
from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectormigrate_dagster_tests.emulators.weaviate.vectors import rows


@dataclass(slots=True)
class StoredObject:
    """An object: `vectors` holds the bytes of the wire by name; "" names the vector that has none.

    Args:
        id: canonical UUID, whose order as text is the order of its bytes.
    """

    id: str
    properties: dict[str, Any]
    vectors: dict[str, bytes]
    created: int = field(default_factory=lambda: int(time.time() * 1000))
    updated: int = field(default_factory=lambda: int(time.time() * 1000))
    indexed_at: float = 0.0


class Shard:
    """The objects of a tenant, or of a collection without tenants.

    Args:
        name: of the tenant, or of the shard.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.read_only_because: str | None = None
        self.dimensions: dict[str, int] = {}
        self._objects: dict[str, StoredObject] = {}
        self._order: list[str] = []
        self._matrices: dict[str, tuple[list[StoredObject], list[NDArray[np.float32]]]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, id: str) -> StoredObject | None:
        return self._objects.get(id)

    def put(self, stored: StoredObject) -> None:
        if stored.id not in self._objects:
            if not self._order or stored.id > self._order[-1]:
                self._order.append(stored.id)
            else:
                insort(self._order, stored.id)
        self._objects[stored.id] = stored
        self._matrices.clear()

    def delete(self, id: str) -> bool:
        """Delete an object; False if there is none."""
        if self._objects.pop(id, None) is None:
            return False
        self._order.pop(bisect_right(self._order, id) - 1)
        self._matrices.clear()
        return True

    def after(self, id: str | None, limit: int) -> list[StoredObject]:
        """The next objects in the order of ids; the one named is not among them, and need not exist."""
        start = 0 if id is None else bisect_right(self._order, id)
        return [self._objects[each] for each in self._order[start : start + limit]]

    def __iter__(self) -> Iterator[StoredObject]:
        """All objects, in the order of ids."""
        return (self._objects[key] for key in self._order)

    def waiting(self) -> int:
        """How many objects the vector index does not hold yet."""
        now = time.monotonic()
        return sum(stored.indexed_at > now for stored in self._objects.values())

    def indexed(self, name: str, *, multi: bool) -> tuple[list[StoredObject], list[NDArray[np.float32]]]:
        """The objects that an index holds, and the rows of each."""
        if name not in self._matrices:
            held = [stored for stored in self if name in stored.vectors]
            self._matrices[name] = (held, [rows(stored.vectors[name], multi=multi) for stored in held])
        held, matrices = self._matrices[name]
        now = time.monotonic()
        if all(stored.indexed_at <= now for stored in held):
            return held, matrices
        ready = [position for position, stored in enumerate(held) if stored.indexed_at <= now]
        return [held[position] for position in ready], [matrices[position] for position in ready]

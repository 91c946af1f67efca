"""Record ids as an Arrow column of one kind, with that kind's order.

| kind | Python value | Arrow type | order |
|---|---|---|---|
| u64 | int, 0 to 2^64-1 | uint64 | numeric |
| i64 | int, -2^63 to 2^63-1 | int64 | numeric |
| uuid | uuid.UUID | fixed_size_binary[16] | bytes, which is the order of the lower-case text |
| text | str | string | UTF-8 bytes, which is the order of Python's str |
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vectormigrate_dagster.model.id_kinds import Id, IdKind, id_text

ARROW_TYPES: dict[IdKind, pa.DataType] = {
    IdKind.U64: pa.uint64(),
    IdKind.I64: pa.int64(),
    IdKind.UUID: pa.binary(16),
    IdKind.TEXT: pa.string(),
}


@dataclass(frozen=True, eq=False)
class IdColumn:
    """n ids of one kind.

    Args:
        kind: the kind of every id.
        array: Arrow array of `kind.arrow_type`, no nulls, shape (n,).
    """

    kind: IdKind
    array: pa.Array[Any]

    @classmethod
    def of(cls, kind: IdKind, values: Iterable[Id]) -> IdColumn:
        """Build a column from Python values."""
        items: list[Any] = [v.bytes if isinstance(v, uuid.UUID) else v for v in values]
        return cls(kind, pa.array(items, type=kind.arrow_type))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Id:
        return self._python(self.array[index].as_py())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdColumn):
            return NotImplemented
        return self.kind is other.kind and bool(self.array.equals(other.array))

    __hash__ = None  # type: ignore[assignment]  # a column is data, never a key

    def to_pylist(self) -> list[Id]:
        """All ids as Python values (int, uuid.UUID or str)."""
        if self.kind is IdKind.UUID:
            return [uuid.UUID(bytes=b) for b in self.array.to_pylist()]
        ids: list[Id] = self.array.to_pylist()  # type: ignore[assignment]  # kind says there are only ids
        return ids

    def texts(self) -> list[str]:
        """All ids in their text form (see `id_text`)."""
        if self.kind is IdKind.UUID:
            octets: list[Any] = self.array.to_pylist()
            return [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in (one.hex() for one in octets)]
        return [id_text(value) for value in self.to_pylist()]

    def take(self, indices: Sequence[int] | np.ndarray) -> IdColumn:
        """The ids at `indices`, in that order."""
        return IdColumn(self.kind, self.array.take(pa.array(indices, type=pa.int64())))

    def slice(self, start: int, stop: int) -> IdColumn:
        """The ids from `start` up to, not including, `stop`, without a copy."""
        return IdColumn(self.kind, self.array.slice(start, max(0, stop - start)))

    def is_ascending(self) -> bool:
        """Whether no id is less than the one before it, in the kind's order."""
        if len(self.array) < 2:
            return True
        return bool(pc.all(pc.less_equal(self.array[:-1], self.array[1:])).as_py())

    def is_strictly_ascending(self) -> bool:
        """Whether each id is greater than the one before it, in the kind's order."""
        if len(self.array) < 2:
            return True
        return bool(pc.all(pc.less(self.array[:-1], self.array[1:])).as_py())

    def are_distinct(self) -> bool:
        """Whether no id is there twice."""
        return bool(pc.count_distinct(self.array).as_py() == len(self.array))

    def _python(self, value: Any) -> Id:
        result: Id = uuid.UUID(bytes=value) if self.kind is IdKind.UUID else value
        return result

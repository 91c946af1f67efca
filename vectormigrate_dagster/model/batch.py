"""A batch of records, column by column: what travels from a source to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vectormigrate_dagster.model.ids import IdColumn
from vectormigrate_dagster.model.payloads import Payload, taken
from vectormigrate_dagster.model.vectors import Dense, Indices, Packed, Sparse, VectorColumn, slice_rows


@dataclass(frozen=True, eq=False)
class Batch:
    """n records of one scope and one id kind.

    Args:
        ids: the ids, in the order of the rows.
        scope: namespace, tenant, partition or shard key; None where the collection is not divided.
        vectors: name -> column of n rows; "" names Qdrant's unnamed vector.
        payloads: n dictionaries, which may still be encoded (`EncodedPayloads`).
        vanished: ids, as text, that the source listed in this page and could no longer give when asked again.
            Only a scan that lists and then fetches can know of them.
    """

    ids: IdColumn
    scope: str | None = None
    vectors: Mapping[str, VectorColumn] = field(default_factory=dict)
    payloads: Sequence[Payload] = ()
    vanished: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name, column in self.vectors.items():
            if len(column) != n:
                raise ValueError(f"vector '{name}' has {len(column)} rows, the batch has {n} ids")
        if len(self.payloads) != n:
            raise ValueError(f"the batch has {len(self.payloads)} payloads for {n} ids")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors; payloads are not counted."""
        return sum(_nbytes(column) for column in self.vectors.values())

    def decoded(self) -> Batch:
        """The same records, with payloads that may be looked at often."""
        return replace(self, payloads=list(self.payloads))

    def slice(self, start: int, stop: int) -> Batch:
        """The records from `start` up to, not including, `stop`, without a copy of their vectors.

        Raises:
            ValueError: the batch has vanished ids, which belong to all of it.
        """
        if self.vanished:
            raise ValueError("a batch with vanished ids is not cut")
        return replace(
            self,
            ids=self.ids.slice(start, stop),
            vectors={name: slice_rows(column, start, stop) for name, column in self.vectors.items()},
            payloads=self.payloads[start:stop],
        )

    def take(self, indices: Indices) -> Batch:
        """The records at `indices`, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            ids=self.ids.take(rows),
            vectors={name: column.take(rows) for name, column in self.vectors.items()},
            payloads=taken(self.payloads, rows),
        )


def _nbytes(column: VectorColumn) -> int:
    if isinstance(column, Dense | Packed):
        return int(column.values.nbytes)
    if isinstance(column, Sparse):
        return int(column.indices.nbytes + column.values.nbytes + column.indptr.nbytes)
    return int(column.values.nbytes + column.offsets.nbytes)

"""Batches as Arrow tables and Parquet files, bit for bit: the form in which they rest on disk.

| column | type |
|---|---|
| `id` | the id kind's Arrow type |
| `payload` | JSON text in ASCII; NaN and infinities as Python's json writes them |
| `vector:<name>` | dense, packed: fixed-size list; sparse: struct of two lists; multi: list of all components |
| `present:<name>` | bool: the record has the vector; all null where every record has it |

What the types cannot say (id kind, scope, element, dimension) is JSON in the schema's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.model.batch import Batch
from vectormigrate_dagster.model.id_kinds import IdKind
from vectormigrate_dagster.model.ids import IdColumn
from vectormigrate_dagster.model.vectors import Dense, Element, Mask, Multi, Packed, Sparse, VectorColumn

_METADATA = b"vectormigrate"
_VERSION = 1


def to_table(batch: Batch) -> pa.Table:
    """The batch as an Arrow table; `Batch.vanished` is not part of it."""
    columns: dict[str, pa.Array[Any]] = {
        "id": batch.ids.array,
        "payload": pa.array([json.dumps(payload) for payload in batch.payloads], type=pa.string()),
    }
    described: dict[str, dict[str, Any]] = {}
    for name, column in batch.vectors.items():
        columns[f"vector:{name}"] = _to_arrow(column)
        columns[f"present:{name}"] = pa.array(
            [None] * len(batch) if column.valid is None else column.valid, type=pa.bool_()
        )
        described[name] = _describe(column)
    metadata = {"version": _VERSION, "ids": batch.ids.kind.value, "scope": batch.scope, "vectors": described}
    return pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(metadata).encode()})


def from_table(table: pa.Table) -> Batch:
    """The batch that `to_table` made a table of.

    Raises:
        ValueError: the table was not made by `to_table`.
    """
    metadata = _metadata(table.schema)
    kind = IdKind(metadata["ids"])
    vectors: dict[str, VectorColumn] = {}
    for name, described in metadata["vectors"].items():
        present = _flat(table, f"present:{name}")
        valid: Mask | None = None
        if present.null_count == 0 or len(present) == 0:
            valid = np.asarray(present.to_numpy(zero_copy_only=False), dtype=np.bool_)
        vectors[name] = _from_arrow(_flat(table, f"vector:{name}"), described, valid)
    payloads = [json.loads(text) for text in table.column("payload").to_pylist() if text is not None]
    return Batch(ids=IdColumn(kind, _flat(table, "id")), scope=metadata["scope"], vectors=vectors, payloads=payloads)


def ids_of(table: pa.Table) -> tuple[IdColumn, str | None]:
    """Ids and scope of a table of `to_table` that may have been read without its other columns.

    Raises:
        ValueError: the table was not made by `to_table`.
    """
    metadata = _metadata(table.schema)
    return IdColumn(IdKind(metadata["ids"]), _flat(table, "id")), metadata["scope"]


def write_batches(path: Path, batches: Iterable[Batch]) -> int:
    """Write batches of one scope, id kind and set of vectors to one file, a row group each; return the records.

    Raises:
        ValueError: there is no batch, or a batch differs from the first in one of those.
    """
    writer: pq.ParquetWriter | None = None
    records = 0
    try:
        for batch in batches:
            table = to_table(batch)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
                first = table.schema
            elif not table.schema.equals(first, check_metadata=True):
                raise ValueError(f"'{path}' holds batches of another scope, id kind or set of vectors")
            writer.write_table(table, row_group_size=max(1, len(table)))
            records += len(batch)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ValueError(f"there is no batch to write to '{path}'")
    return records


def read_batches(path: Path) -> Iterator[Batch]:
    """Yield the batches of a file, one in memory at a time; empty ones are left out."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            if len(table):
                yield from_table(table)


def _metadata(schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_METADATA)
    if raw is None:
        raise ValueError("the table has no metadata of ours; it was not written as a batch")
    metadata: dict[str, Any] = json.loads(raw)
    if metadata["version"] != _VERSION:
        raise ValueError(f"the table has form {metadata['version']}; this version reads form {_VERSION}")
    return metadata


def _flat(table: pa.Table, name: str) -> pa.Array[Any]:
    """A table's column as one array."""
    column: Any = table.column(name)
    chunks = column.chunks or [pa.array([], type=column.type)]
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _describe(column: VectorColumn) -> dict[str, Any]:
    if isinstance(column, Sparse):
        return {"form": "sparse"}
    if isinstance(column, Packed):
        return {"form": "packed", "element": column.element.value, "dim": column.dim}
    return {"form": "dense" if isinstance(column, Dense) else "multi", "dim": column.dim}


def _to_arrow(column: VectorColumn) -> pa.Array[Any]:
    if isinstance(column, Sparse):
        parts = [_ragged(column.indptr, values) for values in (column.indices, column.values)]
        return pa.StructArray.from_arrays(parts, names=["indices", "values"])
    if isinstance(column, Multi):
        return _ragged(column.offsets * column.dim, column.values.reshape(-1))
    flat = pa.array(np.ascontiguousarray(column.values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, column.values.shape[1])


def _ragged(offsets: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> pa.Array[Any]:
    return pa.LargeListArray.from_arrays(pa.array(offsets, type=pa.int64()), pa.array(np.ascontiguousarray(values)))


def _from_arrow(array: Any, described: dict[str, Any], valid: Mask | None) -> VectorColumn:
    if described["form"] == "sparse":
        offsets, indices = _unravel(array.field("indices"))
        return Sparse(offsets, indices, _unravel(array.field("values"))[1], valid)
    if described["form"] == "multi":
        offsets, values = _unravel(array)
        return Multi(offsets // described["dim"], values.reshape(-1, described["dim"]), valid)
    values = array.flatten().to_numpy(zero_copy_only=False)
    if described["form"] == "dense":
        return Dense(values.reshape(-1, described["dim"]), valid)
    element = Element(described["element"])
    return Packed(element, described["dim"], values.reshape(-1, element.width(described["dim"])), valid)


def _unravel(array: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Offsets that start at 0 and the values between them."""
    offsets = array.offsets.to_numpy()
    return offsets - offsets[0], array.flatten().to_numpy(zero_copy_only=False)

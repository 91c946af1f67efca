"""Files for Milvus's bulk insert.

https://milvus.io/docs/import-data.md

One folder for each partition. A column for each field: vectors are lists (2.3.5 refuses fixed-size ones), JSON and the
dynamic field `$meta` are text. At most 16 GB a file and 1,024 files a request; a server reads files from its own
storage only, and takes rows with an id that is there already as further rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.bulk_files import BulkFiles, float_lists
from vectormigrate_dagster.databases.columns import sparse_rows
from vectormigrate_dagster.databases.milvus.records import require_fit, storable
from vectormigrate_dagster.databases.milvus.schema import DEFAULT_PARTITION
from vectormigrate_dagster.databases.milvus.values import json_text
from vectormigrate_dagster.model import (
    Batch,
    Element,
    FieldSchema,
    FieldType,
    IdKind,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
)

_DYNAMIC = "$meta"
_TYPES: dict[FieldType, pa.DataType] = {
    FieldType.BOOL: pa.bool_(),
    FieldType.INT8: pa.int8(),
    FieldType.INT16: pa.int16(),
    FieldType.INT32: pa.int32(),
    FieldType.INT64: pa.int64(),
    FieldType.FLOAT32: pa.float32(),
    FieldType.FLOAT64: pa.float64(),
}
"""The others are text."""


class MilvusFiles(BulkFiles):
    """Parquet for `do_bulk_insert` of 2.3 and `bulk_import` since 2.4."""

    max_file_bytes = 2**30

    def folder_of(self, scope: str | None) -> str:
        """See `BulkFiles.folder_of`: the partition's name."""
        return DEFAULT_PARTITION if scope is None else scope

    def table_of(self, batch: Batch) -> tuple[pa.Table, list[Refusal]]:
        """See `BulkFiles.table_of`."""
        require_fit(batch, self.schema)
        fit = storable(batch, self.schema, missing_vectors=True)
        ids = fit.batch.ids
        number = self.schema.ids.kinds[0] is IdKind.I64
        columns: dict[str, pa.Array[Any]] = {
            self.schema.ids.field or "id": pa.array(ids.to_pylist(), pa.int64()) if number else pa.array(ids.texts())
        }
        for name, column in fit.batch.vectors.items():
            columns[name] = _vectors(column)
        for field in self.schema.fields:
            columns[field.name] = _column(field, [payload.get(field.name) for payload in fit.batch.payloads])
        if self.schema.dynamic:
            columns[_DYNAMIC] = pa.array(fit.dynamic, pa.string())
        return pa.table(columns), fit.refusals

    def steps(self, folder: Path, scopes: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
        """See `BulkFiles.steps`."""
        name = self.endpoint.collection
        partitions = ", ".join(repr(each) for _, each in scopes)
        return (
            f"copy what is in {folder} to the server's object storage (a standalone server with local storage reads "
            "it where it is)",
            f"collection '{name}' must exist as planned: 'vectormigrate export ... --create' makes it; so must its "
            f"partitions: {partitions}",
            "start it for the files of each partition: pymilvus.bulk_writer.bulk_import(url=..., "
            f"collection_name='{name}', partition_name=..., files=[[FILE], ...]) since 2.4, "
            f"pymilvus.utility.do_bulk_insert('{name}', [FILE], partition_name=...) one by one on 2.3",
            "wait until get_import_progress (2.3: get_bulk_insert_state) says it is completed",
        )


def _vectors(column: VectorColumn) -> pa.Array[Any]:
    if isinstance(column, Sparse):
        return pa.array([None if row is None else _sparse_text(row) for row in sparse_rows(column)], pa.string())
    if isinstance(column, Multi):
        raise TypeError("Milvus has no vectors of several vectors here")
    values = column.values
    if isinstance(column, Packed) and column.element is not Element.INT8:
        values = np.ascontiguousarray(values).view(np.uint8).reshape(len(column), -1)
    return float_lists(values, column.valid)


def _sparse_text(row: Any) -> str:
    return json.dumps({str(int(index)): float(weight) for index, weight in zip(*row, strict=True)})


def _column(field: FieldSchema, values: list[Any]) -> pa.Array[Any]:
    """A declared field's values; one with a default holds it where a record has none."""
    if field.default is not None:
        values = [field.default if value is None else value for value in values]
    if field.type is FieldType.JSON:
        return pa.array([None if value is None else json_text(value) for value in values], pa.string())
    if field.type is FieldType.ARRAY:
        return pa.array(values, pa.list_(_TYPES.get(field.element or FieldType.TEXT, pa.string())))
    return pa.array(values, _TYPES.get(field.type, pa.string()))

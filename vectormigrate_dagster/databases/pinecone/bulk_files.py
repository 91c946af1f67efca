"""Files for Pinecone's import from object storage.

https://docs.pinecone.io/guides/index-data/import-data

One folder for each namespace, `__default__` for the default one. The columns are `id`, `values`, `sparse_values` and
`metadata` (JSON text), and no others. At most 10 GB a file, 100,000 files and 10,000 namespaces an import; only into
namespaces that do not exist yet. Nobody documents a limit of row groups.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.bulk_files import BulkFiles, float_lists, lists
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.databases.pinecone.capabilities import DENSE_FIELD, SPARSE_FIELD
from vectormigrate_dagster.databases.pinecone.reading import namespace_of
from vectormigrate_dagster.databases.pinecone.records import require_writable
from vectormigrate_dagster.databases.pinecone.requests import lacking, misfit
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, Payload, Sparse, is_valid

_NUMBERS = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])


class PineconeFiles(BulkFiles):
    """Parquet for an index of `_values`, `_sparse_values` or both; one with other vectors imports JSON lines only."""

    max_file_bytes = 2**30

    def __init__(self, endpoint: Endpoint, schema: CollectionSchema) -> None:
        super().__init__(endpoint, schema)
        self._names = [vector.name for vector in schema.vectors]
        others = sorted(set(self._names) - {DENSE_FIELD, SPARSE_FIELD})
        if others:
            raise SchemaMismatch(
                f"Pinecone imports Parquet only into an index of '{DENSE_FIELD}' and '{SPARSE_FIELD}'; the plan has "
                f"vector '{others[0]}'; rename it under mapping.rename, or use 'vectormigrate migrate'"
            )
        self._required = [vector.name for vector in schema.vectors if not vector.optional]

    def folder_of(self, scope: str | None) -> str:
        """See `BulkFiles.folder_of`: the namespace's name."""
        name = namespace_of(scope)
        if "/" in name or name in (".", ".."):
            raise SchemaMismatch(
                f"namespace '{name}' cannot be the name of a folder, from which Pinecone would take it"
            )
        return name

    def table_of(self, batch: Batch) -> tuple[pa.Table, list[Refusal]]:
        """See `BulkFiles.table_of`."""
        require_writable(batch, self.schema.vectors, str(self.endpoint))
        reasons = list(map(self._reason, batch.ids.texts(), batch.payloads, self._present(batch)))
        refusals = [
            Refusal(text, reason, batch.scope)
            for text, reason in zip(batch.ids.texts(), reasons, strict=True)
            if reason is not None
        ]
        if refusals:
            batch = batch.take([row for row, reason in enumerate(reasons) if reason is None])
        columns: dict[str, pa.Array[Any]] = {"id": pa.array(batch.ids.texts(), pa.string())}
        if DENSE_FIELD in self._names:
            dense = batch.vectors[DENSE_FIELD]
            if not isinstance(dense, Dense):
                raise TypeError(f"'{DENSE_FIELD}' holds no float32 vectors")
            columns["values"] = float_lists(dense.values, dense.valid)
        if SPARSE_FIELD in self._names:
            columns["sparse_values"] = _numbers(batch.vectors.get(SPARSE_FIELD), len(batch))
        columns["metadata"] = pa.array([_text(payload) for payload in batch.payloads], pa.string())
        return pa.table(columns), refusals

    def steps(self, folder: Path, scopes: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
        """See `BulkFiles.steps`."""
        del scopes
        return (
            f"copy what is in {folder} to a bucket on S3, GCS or Azure, such as s3://BUCKET/import/; the folders are "
            "the namespaces, which must not exist yet",
            f"start it: Pinecone(api_key=...).index('{self.endpoint.collection}')"
            ".start_import(uri='s3://BUCKET/import/', error_mode='abort'), and look with .describe_import(id=...)",
        )

    def _present(self, batch: Batch) -> list[set[str]]:
        """The names of the vectors that each record has."""
        valid = {name: is_valid(column) for name, column in batch.vectors.items()}
        return [{name for name, there in valid.items() if there[row]} for row in range(len(batch))]

    def _reason(self, text: str, payload: Payload, vectors: set[str]) -> str | None:
        return misfit(text, payload, ()) or lacking(vectors, self._required)


def _numbers(column: Any, rows: int) -> pa.Array[Any]:
    """Sparse vectors as a column of structs, null where one is missing."""
    if column is None:
        return pa.nulls(rows, _NUMBERS)
    if not isinstance(column, Sparse):
        raise TypeError(f"'{SPARSE_FIELD}' holds no sparse vectors")
    parts = [lists(column.indptr, column.indices), lists(column.indptr, column.values)]
    missing = None if column.valid is None else pa.array(~column.valid)
    return pa.StructArray.from_arrays(parts, fields=list(_NUMBERS), mask=missing)


def _text(payload: Payload) -> str | None:
    return json.dumps(payload, ensure_ascii=False, allow_nan=False) if payload else None

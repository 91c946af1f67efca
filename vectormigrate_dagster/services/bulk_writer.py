"""Parquet files of a bulk import, written in bounded memory: a folder a scope, row groups and files of bounded size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster.databases.bulk_files import BulkFiles

_GROUP_BYTES = 64 * 2**20
"""Of all records that wait to be written, and so of the largest row group."""

_OPEN = 64
"""Files that are written at the same time; a scope that comes back after so many others begins a further file."""


@dataclass
class _Scope:
    """The files of one scope."""

    scope: str | None
    folder: str
    files: int = 0
    records: int = 0
    bytes: int = 0
    waiting: list[pa.Table] = field(default_factory=list)
    waiting_bytes: int = 0
    writer: pq.ParquetWriter | None = None


class FolderWriter:
    """Writes tables of scopes in any order; close it to have whole files."""

    def __init__(self, layout: BulkFiles, folder: Path) -> None:
        self._layout = layout
        self._folder = folder
        self._scopes: dict[str, _Scope] = {}  # by folder: two names of one scope share its files

    def write(self, scope: str | None, table: pa.Table) -> None:
        """Add records; a table without any is left out."""
        if table.num_rows == 0:
            return
        folder = self._layout.folder_of(scope)
        known = self._scopes.pop(folder, None) or _Scope(scope, folder)
        self._scopes[folder] = known  # the last that was written to stands last
        known.waiting.append(table)
        known.waiting_bytes += table.nbytes
        while sum(each.waiting_bytes for each in self._scopes.values()) > _GROUP_BYTES:
            self._flush(max(self._scopes.values(), key=lambda each: each.waiting_bytes))

    def scopes(self) -> list[_Scope]:
        """What was written, by folder."""
        return sorted(self._scopes.values(), key=lambda each: each.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for scope in self._scopes.values():
            if kind is None:
                self._flush(scope)
            self._end(scope)

    def _flush(self, scope: _Scope) -> None:
        """Write what waits as one row group."""
        if not scope.waiting:
            return
        table = pa.concat_tables(scope.waiting).combine_chunks()
        if scope.bytes and scope.bytes + scope.waiting_bytes > self._layout.max_file_bytes:
            self._end(scope)
        if scope.writer is None:
            scope.writer = self._begin(scope, table.schema)
        scope.writer.write_table(table, row_group_size=table.num_rows)
        scope.records += table.num_rows
        scope.bytes += scope.waiting_bytes
        scope.waiting, scope.waiting_bytes = [], 0

    def _begin(self, scope: _Scope, schema: pa.Schema) -> pq.ParquetWriter:
        opened = [each for each in self._scopes.values() if each.writer is not None]
        if len(opened) >= _OPEN:
            self._end(opened[0])
        folder = self._folder / scope.folder
        folder.mkdir(parents=True, exist_ok=True)
        scope.files += 1
        return pq.ParquetWriter(folder / f"{scope.files - 1:05}.parquet", schema)

    @staticmethod
    def _end(scope: _Scope) -> None:
        if scope.writer is not None:
            scope.writer.close()
        scope.writer, scope.bytes = None, 0

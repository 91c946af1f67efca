"""Files that a database's own bulk import reads: their columns, where they lie, and what is to be done with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.endpoint import Endpoint
from vectormigrate_dagster.model import Batch, CollectionSchema
from vectormigrate_dagster.model.vectors import Mask


class BulkFiles(ABC):
    """How the bulk import of one database wants a collection's records, as Parquet.

    Args:
        endpoint: where they will be imported; not connected to.
        schema: of the collection, as planned.

    Raises:
        SchemaMismatch: there is no bulk import of Parquet into such a collection.
    """

    max_file_bytes: int
    """Uncompressed; far below what the database takes, because a file is what is sent again if it fails."""

    def __init__(self, endpoint: Endpoint, schema: CollectionSchema) -> None:
        self.endpoint = endpoint
        self.schema = schema

    @abstractmethod
    def folder_of(self, scope: str | None) -> str:
        """The folder of a scope's files.

        Raises:
            SchemaMismatch: its name cannot be that of a folder.
        """

    @abstractmethod
    def table_of(self, batch: Batch) -> tuple[pa.Table, list[Refusal]]:
        """Records as the columns of a file, and those that have no place in it."""

    @abstractmethod
    def steps(self, folder: Path, scopes: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
        """What is to be done with the files, in order, for people.

        Args:
            folder: where the scopes' folders are.
            scopes: every scope with its folder's name.
        """


def float_lists(values: npt.NDArray[Any], valid: Mask | None) -> pa.Array[Any]:
    """Rows of numbers (n, d) as a column of lists, null where a row is missing; the numbers are not copied."""
    rows, width = values.shape
    return lists(np.arange(rows + 1) * width, np.ascontiguousarray(values).reshape(-1), valid)


def lists(offsets: npt.NDArray[np.int64], values: npt.NDArray[Any], valid: Mask | None = None) -> pa.Array[Any]:
    """A column of lists of which row i holds `values[offsets[i]:offsets[i+1]]`."""
    starts: Any = pa.array(offsets.astype(np.int32))
    numbers: Any = pa.array(values)
    made: pa.Array[Any] = pa.ListArray.from_arrays(starts, numbers, mask=None if valid is None else pa.array(~valid))
    return made

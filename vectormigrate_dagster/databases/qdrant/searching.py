"""What a search asks for, in Qdrant's words: https://qdrant.tech/documentation/concepts/filtering/#match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vectormigrate_dagster.databases.base import Queries, Where
from vectormigrate_dagster.databases.columns import query_rows
from vectormigrate_dagster.errors import SchemaMismatch

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def queries_of(vectors: Queries) -> Iterator[Any]:
    """Each query: a list, a list of lists, or a sparse vector."""
    from qdrant_client import models

    for row in query_rows(vectors):
        yield models.SparseVector(indices=row[0], values=row[1]) if isinstance(row, tuple) else row.tolist()


def filter_of(where: Where | None) -> Any:
    """A filter for records whose fields hold these values; None if there are none.

    Raises:
        SchemaMismatch: a path cannot name such a key.
    """
    from qdrant_client import models

    if not where:
        return None
    return models.Filter(
        must=[
            models.FieldCondition(key=_path(key), match=models.MatchValue(value=value)) for key, value in where.items()
        ]
    )


def _path(key: str) -> str:
    """A top-level key as a path; without quotes, a dot or a bracket would lead into it."""
    if _PLAIN_KEY.fullmatch(key):
        return key
    if '"' in key or "\\" in key or not key:
        raise SchemaMismatch(f"Qdrant cannot filter by field '{key}': a path has no way to name it")
    return f'"{key}"'

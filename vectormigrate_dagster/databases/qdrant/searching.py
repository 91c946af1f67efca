"""What a search or a filtered read asks for, in Qdrant's words.

https://qdrant.tech/documentation/concepts/filtering/#filtering-conditions
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vectormigrate_dagster.databases.base import Queries, Where
from vectormigrate_dagster.databases.columns import query_rows
from vectormigrate_dagster.databases.qdrant.limits import Limits
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


def range_filter(key: str, number: float, limits: Limits) -> Any:
    """A filter that every record passes whose field is a number not below this one; None if there can be none.

    A server compares float64, so both are rounded in the same way. Where the field has an index, that is asked and not
    the payload; one of integers has no fractions, and nothing beyond 64 bits, one of times no numbers at all (seen on
    1.19). So with any index but one of floats, all pass that are not known to be lower, those without the field too.
    """
    from qdrant_client import models

    path, index = path_of(key), limits.indexes.get(key)
    ranged = index is not None and index.type in ("float", "integer")
    if path is None or not (ranged or limits.filters_unindexed):
        return None
    if index is None or index.type == "float":
        return models.Filter(must=[models.FieldCondition(key=path, range=models.Range(gte=number))])
    return models.Filter(must_not=[models.FieldCondition(key=path, range=models.Range(lt=number))])


def path_of(key: str) -> str | None:
    """A top-level key as a path, in which a dot or a bracket would lead into it without quotes; None if it has none."""
    if _PLAIN_KEY.fullmatch(key):
        return key
    return None if '"' in key or "\\" in key or not key else f'"{key}"'


def _path(key: str) -> str:
    path = path_of(key)
    if path is None:
        raise SchemaMismatch(f"Qdrant cannot filter by field '{key}': a path has no way to name it")
    return path

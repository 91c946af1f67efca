"""What a search asks for, in Pinecone's words: https://docs.pinecone.io/guides/search/filter-by-metadata."""

from __future__ import annotations

from typing import Any

from vectormigrate_dagster.databases.base import Where
from vectormigrate_dagster.errors import SchemaMismatch


def filter_of(where: Where | None) -> dict[str, Any]:
    """A filter for records whose fields hold these values; empty if there are none.

    Raises:
        SchemaMismatch: the key would be taken for an operator.
    """
    for key in where or {}:
        if key.startswith("$"):
            raise SchemaMismatch(f"Pinecone cannot filter by field '{key}': it would be taken for an operator")
    return {key: {"$eq": value} for key, value in (where or {}).items()}

"""What a search asks for, in Milvus's words: https://milvus.io/docs/boolean.md."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Queries, Where
from vectormigrate_dagster.databases.columns import query_rows
from vectormigrate_dagster.databases.milvus.records import literal
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import CollectionSchema, Element, VectorSchema

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def queries_of(vector: VectorSchema, queries: Queries) -> list[Any]:
    """Each query as the client wants it for a vector of this type.

    https://github.com/milvus-io/pymilvus/blob/master/pymilvus/client/prepare.py (`_prepare_placeholder_str`)
    """
    return [
        dict(zip(*row, strict=True)) if isinstance(row, tuple) else _row(vector, row) for row in query_rows(queries)
    ]


def expression(where: Where | None, schema: CollectionSchema) -> str:
    """A filter for records whose fields hold these values; empty if there are none.

    Raises:
        SchemaMismatch: no filter can name such a key.
    """
    declared = {field.name for field in schema.fields if field.declared}
    return " and ".join(f"{_name(key, key in declared)} == {_literal(value)}" for key, value in (where or {}).items())


def _row(vector: VectorSchema, row: npt.NDArray[np.float32]) -> Any:
    match vector.element:
        case Element.BINARY:
            return np.packbits(row > 0).tobytes()
        case Element.BFLOAT16:
            return (np.ascontiguousarray(row, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        case Element.FLOAT32:
            return row.tolist()
    return row.astype(vector.element.dtype)


def _name(key: str, declared: bool) -> str:
    if declared or _IDENTIFIER.fullmatch(key):
        return key
    if '"' in key or "\\" in key:
        raise SchemaMismatch(f"Milvus cannot filter by field '{key}': a filter has no way to name it")
    return f'$meta["{key}"]'


def _literal(value: bool | int | str) -> str:
    return json.dumps(value) if isinstance(value, bool) else literal(value)

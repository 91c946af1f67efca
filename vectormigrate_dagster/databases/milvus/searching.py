"""What a search or a filtered read asks for, in Milvus's words: https://milvus.io/docs/boolean.md."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.base import Queries, Sleep, Where
from vectormigrate_dagster.databases.columns import query_rows
from vectormigrate_dagster.databases.milvus.records import literal
from vectormigrate_dagster.databases.milvus.values import INT_BITS
from vectormigrate_dagster.errors import SchemaMismatch, Unavailable
from vectormigrate_dagster.model import CollectionSchema, Element, FieldType, IndexSpec, VectorSchema

_INDEXED_RECORDS = 1024
"""Smaller segments get no index (`indexCoord.segment.minSegmentNumRowsToEnableIndex`)."""
_SERVED_SECONDS = 300.0
"""A server looks for new indexes every 10 s by default (`queryCoord.checkIndexInterval`)."""
_POLL_SECONDS = 0.5
_FLOATS = (FieldType.FLOAT32, FieldType.FLOAT64)
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


def range_expression(key: str, number: float, schema: CollectionSchema) -> str:
    """A filter that every record passes whose field is a number not below this one; empty if there is no such filter.

    Seen on 2.3.5 and Milvus Lite: a column of integers is compared with integers only, a float with the column's
    values as these are rounded, and a key of the dynamic field with integers and floats alike. A name within `$meta`
    has no escapes: with a backslash or a control character in it, nothing passes.
    """
    column = next((field for field in schema.fields if field.declared and field.name == key), None)
    if column is None:
        named = schema.dynamic and key and key.isprintable() and not {'"', "\\"} & set(key)
        return f'$meta["{key}"] >= {float(number)!r}' if named else ""
    if column.type in _FLOATS:
        return f"{key} >= {float(number)!r}"
    if column.type not in INT_BITS:
        return ""
    largest = 2 ** (INT_BITS[column.type] - 1) - 1  # whose negative is the smallest number that server 2.3 can read
    whole = min(math.floor(number), largest)
    return f"{key} >= {whole}" if whole >= -largest else ""


def wait_served(client: Any, collection: str, *, timeout: float, sleep: Sleep) -> None:
    """Wait until a server searches by the indexes that it has built, wherever the collection is in its memory.

    Until then it answers from an index of its own making: https://milvus.io/docs/index.md (interim index). A segment
    is listed as loaded only some time after it was flushed, and names its index only once the real one is served
    (seen on 2.3.5).

    Raises:
        Unavailable: it does not do so for minutes.
    """
    end = time.monotonic() + _SERVED_SECONDS
    while not _is_served(client, collection, timeout):
        if time.monotonic() > end:
            raise Unavailable(
                f"Milvus has built the indexes of '{collection}' and has not searched by them for {_SERVED_SECONDS:g} s"
                "; validate again when its query nodes have loaded them"
            )
        sleep(_POLL_SECONDS)


def _is_served(client: Any, collection: str, timeout: float) -> bool:
    """Whether every segment that gets an index is searched by it."""
    flushed = [
        segment
        for segment in client.list_persistent_segments(collection, timeout=timeout)
        if segment.state.name == "Flushed"
    ]
    loaded = client.list_loaded_segments(collection, timeout=timeout)
    indexed = {segment.segment_id for segment in (*flushed, *loaded) if segment.num_rows >= _INDEXED_RECORDS}
    return indexed <= {segment.segment_id for segment in loaded if segment.index_name}


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


def search_params(index: IndexSpec | None, k: int, ef: int | None) -> dict[str, Any]:
    """What a search says of the index; nothing where `ef` is not given or the index knows no such thing.

    https://milvus.io/docs/hnsw.md#Index-specific-search-params
    """
    if ef is None or index is None or index.type != "HNSW":
        return {}
    return {"params": {"ef": max(ef, k)}}

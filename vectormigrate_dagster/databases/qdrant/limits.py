"""How much one request may hold: by the server's limit on its size, and by the collection's strict mode."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from vectormigrate_dagster.databases.columns import rows_not_finite
from vectormigrate_dagster.errors import InvalidRecord
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    IndexSpec,
    Multi,
    Sparse,
    VectorColumn,
    VectorSchema,
    id_text,
)

REQUEST_BYTES = 30 * 2**20
"""A little under `service.max_request_size_mb`, 32 by default; a larger request is refused and halved."""

_JSON_BYTES = 22
"""Of a float32 as the client writes it: the shortest text of the same float64, a comma, and at most 24 in all."""

_RECORD_BYTES = 100
"""Of a record's id and the names around it."""

_NO_LIMIT = 2**31

_TOP_LEVEL = re.compile(r'"(?P<quoted>[^"]*)"|(?P<plain>[^."\[]+)')
"""A path of one key; a server puts it in quotes where it has to."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a collection allows.

    Args:
        vectors: its vectors, which pages are read by.
        page, batch, fetch: most records of a scroll, of a write, and of a read by ids.
        searches: most queries of a search.
        indexes: its indexes on top-level keys of payloads, by the key.
        filters_unindexed: reads may be filtered by a key without an index.
    """

    vectors: tuple[VectorSchema, ...]
    page: int
    batch: int
    fetch: int
    searches: int
    indexes: Mapping[str, IndexSpec]
    filters_unindexed: bool

    @classmethod
    def of(cls, schema: CollectionSchema, can: Capabilities) -> Limits:
        """Limits out of a collection's strict mode.

        Rates are a minute's tokens. A record that is written or read by id costs one, and a request that costs more
        than there can ever be is refused for good: lib/common/common/src/rate_limiting.rs,
        https://qdrant.tech/documentation/guides/administration/#strict-mode
        """
        strict: dict[str, Any] = schema.settings.get("strict_mode_config") or {}
        if not strict.get("enabled"):
            strict = {}
        return cls(
            vectors=schema.vectors,
            page=min(can.max_page_records, strict.get("max_query_limit") or _NO_LIMIT),
            batch=min(strict.get("upsert_max_batchsize") or _NO_LIMIT, strict.get("write_rate_limit") or _NO_LIMIT),
            fetch=min(can.max_page_records, strict.get("read_rate_limit") or _NO_LIMIT),
            searches=strict.get("search_max_batchsize") or _NO_LIMIT,
            indexes={
                path["plain"] or path["quoted"]: field.index
                for field in schema.fields
                if field.index is not None and (path := _TOP_LEVEL.fullmatch(field.name))
            },
            filters_unindexed=strict.get("unindexed_filtering_retrieve") is not False,
        )


def pieces_of(batch: Batch, limits: Limits) -> Iterator[Batch]:
    """The batch in pieces, each of which fits into one request of JSON."""
    ends = np.cumsum(_record_bytes(batch))
    start = 0
    while start < len(batch):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + REQUEST_BYTES, side="right")) - start
        stop = min(len(batch), start + max(1, min(fitting, limits.batch)))
        whole = start == 0 and stop == len(batch)
        yield batch if whole else batch.take(np.arange(start, stop, dtype=np.int64))
        start = stop


def require_storable(batch: Batch, where: str) -> None:
    """Refuse records that would be stored as something else, or that cannot be sent as JSON.

    These are components that are no number, which JSON cannot hold and gRPC would store; and in payloads numbers that
    are none (stored as null), integers that become floats, and text that is no Unicode.

    Args:
        batch: records to write.
        where: what refuses them, for the message.

    Raises:
        InvalidRecord: there are such; it names them.
    """
    reasons = dict.fromkeys(rows_not_finite(batch), "it stores no NaN and no infinite components")
    for row, payload in enumerate(batch.payloads):
        if (reason := _unfit(payload)) is not None:
            reasons.setdefault(row, reason)
    refuse(batch, reasons, where)


def refuse(batch: Batch, reasons: Mapping[int, str], where: str) -> None:
    """Refuse the batch because of the rows that `reasons` names; do nothing if there are none.

    Raises:
        InvalidRecord: there are such; it names them.
    """
    if reasons:
        rows = sorted(reasons)
        ids = [id_text(value) for value in batch.ids.take(np.asarray(rows, dtype=np.int64)).to_pylist()]
        raise InvalidRecord(f"{where} cannot keep id '{ids[0]}': {reasons[rows[0]]}", ids=ids)


def _unfit(value: Any) -> str | None:
    """Why a value of a payload would not come back as it is; None if it would."""
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else "its payload holds half of a surrogate pair"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"its payload holds {value}, which JSON has no number for"
    if isinstance(value, int):
        fits = -(2**63) <= value < 2**64
        return None if fits else f"its payload holds {value}, an integer out of the range that can be sent"
    inner: Any = ()
    if isinstance(value, dict):
        inner = (*value, *value.values())
    elif isinstance(value, list):
        inner = value
    return next((reason for each in inner if (reason := _unfit(each)) is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _record_bytes(batch: Batch) -> npt.NDArray[np.int64]:
    """About how many bytes each record takes in a request: int64 (n,)."""
    sizes = np.fromiter((len(to_json(row)) for row in batch.payloads), dtype=np.int64, count=len(batch))
    sizes += _RECORD_BYTES
    for column in batch.vectors.values():
        sizes += _components(column) * _JSON_BYTES
    return sizes


def _components(column: VectorColumn) -> npt.NDArray[np.int64] | int:
    if isinstance(column, Sparse):
        return 2 * np.diff(column.indptr)
    if isinstance(column, Multi):
        return np.diff(column.offsets) * column.dim
    return int(column.values.shape[1])

"""What of a batch can be sent, and how it is cut into requests."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vectormigrate_dagster.databases.base import Refusal
from vectormigrate_dagster.databases.entries import UnfitError
from vectormigrate_dagster.databases.pinecone.api import IndexApi
from vectormigrate_dagster.databases.pinecone.capabilities import MAX_ID_BYTES
from vectormigrate_dagster.model import Batch, Payload

REQUEST_BYTES = 1_900_000
"""A little under the 2 MB of one request: https://docs.pinecone.io/reference/api/database-limits#upsert-limits"""

REQUEST_RECORDS = 1000
_LARGEST_EXACT = 2**53


class Outgoing(NamedTuple):
    """One record to be sent.

    Args:
        record: in the form in which its API takes it.
        size: bytes that it takes in a request.
    """

    id: str
    record: Any
    size: int


def outgoing(batch: Batch, api: IndexApi) -> tuple[list[Outgoing], list[Refusal]]:
    """The records of a batch, and the refusals of those that cannot be sent as they are."""
    columns = [api.forms_of(column) for column in batch.vectors.values()]
    names, required, reserved = list(batch.vectors), sorted(api.required), api.reserved
    records: list[Outgoing] = []
    refusals: list[Refusal] = []
    for text, payload, *forms in zip(batch.ids.texts(), batch.payloads, *columns, strict=True):
        vectors = {name: form for name, form in zip(names, forms, strict=True) if form is not None}
        reason = misfit(text, payload, reserved) or lacking(vectors, required)
        if reason is None:
            try:
                records.append(Outgoing(text, *api.record(text, vectors, payload)))
            except UnfitError as error:
                reason = str(error)
        if reason is not None:
            refusals.append(Refusal(text, reason, batch.scope))
    return records, refusals


def requests(records: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Records in pieces, each of which fits into one request."""
    start, size = 0, 0
    for stop, one in enumerate(records):
        if stop > start and (size + one.size > REQUEST_BYTES or stop - start >= REQUEST_RECORDS):
            yield records[start:stop]
            start, size = stop, 0
        size += one.size
    if start < len(records):
        yield records[start:]


def misfit(text: str, payload: Payload, reserved: Collection[str]) -> str | None:
    """Why a record would come back as something else, or cannot be sent; None if it would not."""
    if not text.isascii() or not 0 < len(text) <= MAX_ID_BYTES or "\0" in text:
        return "it is no id of Pinecone's: 1 to 512 ASCII characters"
    for key, value in payload.items():
        kind = type(value)
        if key in reserved:
            return f"metadata '{key}' has the name of a vector, or one that Pinecone keeps for itself"
        if value is None:
            return f"metadata '{key}' is null, which Pinecone drops"
        if kind is float and not math.isfinite(value):
            return f"metadata '{key}' is {value}, which JSON has no number for"
        if kind is int and not -_LARGEST_EXACT <= value <= _LARGEST_EXACT and not _is_float64(value):
            return f"metadata '{key}' is {value}, which is no float64, and Pinecone has no other numbers"
    return None


def lacking(vectors: Collection[str], required: Iterable[str]) -> str | None:
    """Why a record has no place in an index that demands a vector; None if it has all of them."""
    return next(
        (f"it lacks vector '{name}', which this index demands" for name in required if name not in vectors), None
    )


def _is_float64(value: int) -> bool:
    return abs(value) < 2**64 and int(float(value)) == value

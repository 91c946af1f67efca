"""What the tests of the Qdrant stand-in share: points, and refusals over both faces."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import UnexpectedResponse

REFUSALS = (UnexpectedResponse, grpc.RpcError, ResourceExhaustedResponse)
UUIDS = [str(uuid.UUID(int=i << 100)) for i in (1, 2, 9)]


@contextmanager
def refused(http: int, code: str, words: str) -> Iterator[None]:
    """Expect a refusal: its HTTP status, or the name of its gRPC status, and what it says."""
    with pytest.raises(REFUSALS) as caught:
        yield
    error = caught.value
    if isinstance(error, UnexpectedResponse):
        assert (error.status_code, words in error.content.decode()) == (http, True), error
    elif isinstance(error, grpc.RpcError):
        assert (error.code().name, words in error.details()) == (code, True), error
    else:
        assert http == 429
        assert words in str(error)


def point(id: int | str, vector: object = (1.0, 2.0, 3.0, 4.0), **payload: object) -> models.PointStruct:
    return models.PointStruct(id=id, vector=list(vector) if isinstance(vector, tuple) else vector, payload=payload)


def ids(points: list[models.Record] | list[models.ScoredPoint]) -> list[int | str]:
    return [each.id for each in points]


def version(client: QdrantClient) -> tuple[int, ...]:
    return tuple(int(part) for part in client.info().version.split(".")[:2])

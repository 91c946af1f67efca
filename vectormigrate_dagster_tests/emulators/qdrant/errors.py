"""Refusals of a Qdrant server: one kind each, with its status over HTTP and over gRPC.

The words and codes are those of lib/storage/src/content_manager/errors.rs, src/actix/helpers.rs and
lib/storage/src/content_manager/conversions.rs of server 1.19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import grpc


@dataclass(frozen=True)
class _Status:
    prefix: str
    http: int
    grpc: grpc.StatusCode


class Kind(Enum):
    """What is wrong: the beginning of the message, the HTTP status and the gRPC status."""

    BAD_INPUT = _Status("Wrong input: ", 400, grpc.StatusCode.INVALID_ARGUMENT)
    ALREADY_EXISTS = _Status("Wrong input: ", 409, grpc.StatusCode.ALREADY_EXISTS)
    NOT_FOUND = _Status("Not found: ", 404, grpc.StatusCode.NOT_FOUND)
    SERVICE = _Status("Service internal error: ", 500, grpc.StatusCode.INTERNAL)
    BAD_REQUEST = _Status("Bad request: ", 400, grpc.StatusCode.INVALID_ARGUMENT)
    FORMAT = _Status("", 400, grpc.StatusCode.INVALID_ARGUMENT)
    VALIDATION = _Status("", 422, grpc.StatusCode.INVALID_ARGUMENT)
    STANDALONE = _Status("", 405, grpc.StatusCode.UNIMPLEMENTED)
    UNIMPLEMENTED = _Status("", 501, grpc.StatusCode.UNIMPLEMENTED)
    FORBIDDEN = _Status("Forbidden: ", 403, grpc.StatusCode.PERMISSION_DENIED)
    UNAUTHENTICATED = _Status("", 401, grpc.StatusCode.UNAUTHENTICATED)
    RATE_LIMIT = _Status("Rate limiting exceeded: ", 429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    UNAVAILABLE = _Status("Shard temporarily unavailable: ", 503, grpc.StatusCode.UNAVAILABLE)


class Refused(Exception):
    """The server does not carry out a request.

    Args:
        kind: what is wrong.
        description: the message without its prefix.
        retry_after: seconds after which the request may be repeated, if the server says so.
    """

    def __init__(self, kind: Kind, description: str, retry_after: float | None = None) -> None:
        super().__init__(kind.value.prefix + description)
        self.kind = kind
        self._retry_after = retry_after

    @property
    def retry_after(self) -> int | None:
        """Whole seconds, rounded up, as the server sends them."""
        return None if self._retry_after is None else math.ceil(self._retry_after)


def bad_input(description: str) -> Refused:
    return Refused(Kind.BAD_INPUT, description)


def bad_request(description: str) -> Refused:
    return Refused(Kind.BAD_REQUEST, description)

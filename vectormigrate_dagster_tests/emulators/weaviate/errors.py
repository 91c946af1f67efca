"""Refusals of a Weaviate server: each with its status over HTTP and over gRPC.

A server's own errors reach a gRPC client as UNKNOWN with their text; only keys and limits have codes of their own
(adapters/handlers/grpc/server.go of server 1.39).
"""

from __future__ import annotations

from enum import Enum

import grpc


class Kind(Enum):
    """What is wrong: the HTTP status and the gRPC status."""

    INVALID = (422, grpc.StatusCode.UNKNOWN)
    BAD_REQUEST = (400, grpc.StatusCode.UNKNOWN)
    NOT_FOUND = (404, grpc.StatusCode.UNKNOWN)
    INTERNAL = (500, grpc.StatusCode.UNKNOWN)
    UNAUTHENTICATED = (401, grpc.StatusCode.UNAUTHENTICATED)
    FORBIDDEN = (403, grpc.StatusCode.PERMISSION_DENIED)
    THROTTLED = (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    UNAVAILABLE = (503, grpc.StatusCode.UNAVAILABLE)

    @property
    def http(self) -> int:
        return self.value[0]

    @property
    def grpc(self) -> grpc.StatusCode:
        return self.value[1]


class Refused(Exception):
    """The server does not carry out a request, or does not store an object.

    Args:
        message: the server's words; empty for a reply without a body.
        kind: what is wrong.
        retry_after: seconds after which the request may be repeated, if the server says so.
    """

    def __init__(self, message: str, kind: Kind = Kind.INVALID, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Malformed(Refused):
    """A body over REST is not of the form that the API's description gives it.

    Args:
        code: of go-openapi's validation.
        message: its words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def not_found() -> Refused:
    """A reply that says no more than that there is no such thing."""
    return Refused("", Kind.NOT_FOUND)

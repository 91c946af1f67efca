"""Refusals of Pinecone's API: one kind each, with its HTTP status and its codes.

The control plane answers {"error": {"code", "message"}, "status"}, the data plane {"code", "message", "details"} with
the numbers of gRPC: https://docs.pinecone.io/reference/api/errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class _Status:
    http: int
    code: int
    name: str


class Kind(Enum):
    """What is wrong: HTTP status, number on the data plane, name on the control plane."""

    INVALID = _Status(400, 3, "INVALID_ARGUMENT")
    UNAUTHENTICATED = _Status(401, 16, "UNAUTHENTICATED")
    FORBIDDEN = _Status(403, 7, "FORBIDDEN")
    NOT_FOUND = _Status(404, 5, "NOT_FOUND")
    EXISTS = _Status(409, 6, "ALREADY_EXISTS")
    TOO_LARGE = _Status(413, 11, "PAYLOAD_TOO_LARGE")
    LONG_ADDRESS = _Status(414, 3, "URI_TOO_LONG")
    UNPROCESSABLE = _Status(422, 3, "UNPROCESSABLE_ENTITY")
    THROTTLED = _Status(429, 8, "RESOURCE_EXHAUSTED")
    INTERNAL = _Status(500, 13, "INTERNAL")
    UNIMPLEMENTED = _Status(501, 12, "UNIMPLEMENTED")
    UNAVAILABLE = _Status(503, 14, "UNAVAILABLE")


class Refused(Exception):
    """The server does not carry out a request.

    Args:
        kind: what is wrong.
        message: as the server words it.
        retry_after: seconds after which the request may be repeated, if the server says so.
    """

    def __init__(self, kind: Kind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after

    @property
    def http(self) -> int:
        return self.kind.value.http

    def of_data(self) -> dict[str, Any]:
        """The answer of a data plane."""
        return {"code": self.kind.value.code, "message": str(self), "details": []}

    def of_control(self) -> dict[str, Any]:
        """The answer of the control plane."""
        return {"error": {"code": self.kind.value.name, "message": str(self)}, "status": self.http}


def invalid(message: str) -> Refused:
    return Refused(Kind.INVALID, message)


def missing(message: str) -> Refused:
    return Refused(Kind.NOT_FOUND, message)

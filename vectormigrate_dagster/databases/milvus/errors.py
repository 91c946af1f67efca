"""What the errors of Milvus and of its client mean."""

from __future__ import annotations

import re
from typing import Any

from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)

NOT_LOADED = frozenset((101, 201))
"""The collection or a partition of it is not in memory."""

_OTHER_SCHEMA = 109
_MEANINGS: dict[int, tuple[type[DatabaseError], str]] = {
    8: (Throttled, "{0} asks us to slow down: {1}"),
    9: (Throttled, "{0} asks us to slow down: {1}"),
    100: (NotFound, "there is no {0}"),
    _OTHER_SCHEMA: (SchemaMismatch, "the schema of {0} was changed meanwhile: {1}; plan it again"),
    200: (NotFound, "{0} has no such partition: {1}"),
    700: (NotFound, "{0} has no such index: {1}"),
    800: (NotFound, "{0}: {1}; check 'options.database' in the migration file"),
    1400: (AuthenticationFailed, "{0} does not accept the key: {1}"),
    1401: (AuthenticationFailed, "{0} does not accept the key: {1}"),
}
_SERVER_AT_FAULT = frozenset(
    (2, 3, 4, 5, 11, 12, 103, 106, 202, 401, 503, *range(901, 907), 1001, 1002, 1302, 10_000, 10_001)
)
"""Unavailable, short of memory, at its limit, recovering, a node or the message queue failing, cancelled, too late."""

_PASSING = (
    "node not found",
    "node offline",
    "channel not available",
    "is not ready",
    "no available",
    "not healthy",
    "context deadline exceeded",
    "context canceled",
    "rpc error: code = Unavailable",
    "connection refused",
    "fail to get shard leaders",
    "failed to search/query delegator",
    "is not servcieable",  # as servers spell it
    "is not serviceable",
)
"""Parts of reasons that a server gives under the code of an unexpected error (65535).

It comes up, its nodes do not reach each other, or the collection is being released while it is read.
"""

_GAVE_UP = ("Retry timeout", "Retry run out")
"""What the client says where it has retried in vain (pymilvus/decorators.py)."""

_DATA_AT_FAULT = frozenset((1100, 1101, 1102, 1700, 1701, 1804, 1806))
"""A parameter is invalid, missing or too large, there is no such field, or data or a primary key make no sense."""

_UNEXPECTED = 65_535
_DATA_WORDS = re.compile(
    r"is not a number or infinity"
    r"|exceeds max (length|capacity)"
    r"|the \d+th element \(.*\) out of range"
    r"|the dim ?\(\d+\)"
    r"|should divide the dim"
    r"|the length ?\(\d+\) of"
)
"""Phrases by which servers before 2.4 blame data; they have one code for everything.

None can be the name of a collection, which has no spaces (seen on 2.3.5, internal/proxy/validate_util.go).
"""

_UNREADABLE_JSON = "json: cannot unmarshal"
"""What 2.3.5 says of a JSON field's value that is no object, under the code of a failing disk (1001)."""

_SCHEMA_VALIDATION = 6
"""Data at fault, as Milvus Lite says it (milvus_lite/adapter/grpc/errors.py); a server means something else by 6."""

_LITE = "milvus_lite"
"""What Milvus Lite says instead of a version (milvus_lite/adapter/grpc/servicer.py)."""

_DISK_FULL = ("no space left on device", "disk quota")
_TOO_LARGE = ("larger than max", "exceed the maxOutputSize", "exceeds the maximum size", "message too large")


class MilvusErrors(ClientDatabase):
    """A Milvus collection, as far as its errors go.

    Codes: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go.
    """

    _version: str = ""
    """What the server says it is."""

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        import grpc
        from pymilvus.exceptions import MilvusException

        if isinstance(error, grpc.RpcError):
            return self._from_grpc(error.code().name, error.details() or "", doing)
        if isinstance(error, MilvusException) and isinstance(error.code, grpc.StatusCode):
            return self._from_grpc(error.code.name, error.message, doing)
        if isinstance(error, MilvusException):
            return self._from_milvus(error, doing)
        return DatabaseError(f"{self.endpoint} failed: {type(error).__name__}: {error}")

    def _from_grpc(self, code: str, reason: str, doing: Doing) -> DatabaseError:
        if code == "RESOURCE_EXHAUSTED" and any(words in reason for words in _TOO_LARGE):
            return self._refused(reason, doing)  # to send the same again more slowly would not help
        if code == "UNAUTHENTICATED" or "auth check failure" in reason:
            return AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        if code == "DEADLINE_EXCEEDED":
            return Unavailable(f"{self.endpoint} did not answer in time; is the address right, and the server well?")
        return self._grpc(code, reason, doing)

    def _from_milvus(self, error: Any, doing: Doing) -> DatabaseError:
        from pymilvus.exceptions import SchemaMismatchRetryableException

        reason = error.message or str(error)
        if any(words in reason.lower() for words in _DISK_FULL):
            return DatabaseError(f"{self.endpoint} has no disk space left: {reason}; make room, then run it again")
        code = _OTHER_SCHEMA if isinstance(error, SchemaMismatchRetryableException) else error.code
        if code in _MEANINGS:
            kind, text = _MEANINGS[code]
            return kind(text.format(self.endpoint, reason))
        if _UNREADABLE_JSON in reason:
            return self._refused(f"a JSON field of this server holds objects only: {reason}", doing)
        passing = error.code in NOT_LOADED or any(words in reason for words in _PASSING)
        if error.retriable or error.code in _SERVER_AT_FAULT or passing or any(words in reason for words in _GAVE_UP):
            return Unavailable(f"{self.endpoint} does not answer: {reason}")
        blamed = doing != "write" or self._blames_data(error)
        return self._refused(reason, doing) if blamed else self._failed(reason)

    def _blames_data(self, error: Any) -> bool:
        """Whether an error is known to be about what was sent; records must not be given up for anything else."""
        from pymilvus import exceptions

        found_by_the_client = (
            exceptions.ParamError,
            exceptions.DataNotMatchException,
            exceptions.DataTypeNotMatchException,
            exceptions.DataTypeNotSupportException,
        )
        if isinstance(error, found_by_the_client) or error.code in _DATA_AT_FAULT:
            return True
        if error.code == _UNEXPECTED and _DATA_WORDS.search(error.message):
            return True
        return self._is_lite and error.code == _SCHEMA_VALIDATION

    @property
    def _is_lite(self) -> bool:
        """Whether it is Milvus Lite, in a folder or (`milvus-lite server`) behind an address."""
        return self.endpoint.embedded or self._version == _LITE


def is_too_large(error: DatabaseError) -> bool:
    """Whether a reply was refused because it is too large, so that a smaller page may be had."""
    return any(words in str(error) for words in _TOO_LARGE)

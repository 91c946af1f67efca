"""What Weaviate's refusals mean, over REST and over gRPC.

Over gRPC a server gives most errors the status UNKNOWN, and to each object of a batch a text; so texts decide.
Sources: adapters/handlers/grpc/server.go, entities/errors, entities/storagestate and usecases/objects/validation of
https://github.com/weaviate/weaviate.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vectormigrate_dagster.databases.client import ClientDatabase, Doing
from vectormigrate_dagster.databases.retry_after import retry_after
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    import httpx

_DISK_FULL = re.compile(r"no space left on device|disk quota", re.IGNORECASE)
_NO_COLLECTION = re.compile(
    r"could not find class|class .* not present in schema|class .*not found|could not find index for class"
    r"|cannot find index for class",
    re.IGNORECASE,
)
_NO_TENANT = re.compile(r"tenant not found", re.IGNORECASE)
_INACTIVE = re.compile(r"tenant not active", re.IGNORECASE)
_TENANCY = re.compile(r"multi-tenancy (?:is )?(?:not )?(?:enabled|disabled)", re.IGNORECASE)
_KEY = re.compile(r"unauthorized|invalid api key|anonymous access not enabled|forbidden", re.IGNORECASE)
_SLOW_DOWN = re.compile(
    r"not enough memory|memory pressure|too many requests|rate limit|limit exceeded|resource exhausted", re.IGNORECASE
)
_PASSING = re.compile(
    r"read-only|readonly|write-only mode|maintenance mode|scale.?out mode"
    r"|context (?:deadline exceeded|canceled)|deadline exceeded|connection re(?:fused|set)|broken pipe|i/o timeout"
    r"|cannot (?:reach|achieve) |consistency level|no replica|replica.* (?:not|fail|unavail)|leader not found"
    r"|shutting down|shutdown|already closed|not ready|is not open|unexpected EOF",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"larger than max|message too large|exceeds the maximum", re.IGNORECASE)

_STORAGE = re.compile(
    r"\b(?:shards?|index|lsm\w*|buckets?|segments?|memtable|commit.?log|replica\w*|replicat\w+|raft|schema version"
    r"|nodes?|remote|connect\w*|status code:? 5\d\d|EOF|panic\w*|unexpected error|input/output|too many open files)\b",
    re.IGNORECASE,
)
"""Words of those parts of a server that know nothing of what an object means: adapters/repos/db."""

_DATA_AT_FAULT = re.compile(
    r"invalid (?:[\w\[\]]+ )+property '|invalid cref|no such prop|unknown property|invalid UUID|property '.*': "
    r"|collection \S+ does not have configuration for vector "
    r"|invalid object '?\d|vector .* in collection .*: multi-vector token"
    r"|(?:Validate vector index .*: )?new node has a vector with length|vector lengths don't match"
    r"|'cref' .*: no object with id|(?:source|target): "
)
"""How the text of an error begins that is about one object; what follows may quote its values, whatever they hold."""

_NOT_FOUND, _REQUEST_TIMEOUT, _TOO_MANY, _SERVER_AT_FAULT = 404, 408, 429, 500
_REFUSED_CONTENT = (400, 413, 422)


def is_too_large(error: DatabaseError) -> bool:
    """Whether an answer does not fit into one message, so that a smaller page will."""
    return isinstance(error, Unavailable | InvalidRecord) and _TOO_LARGE.search(str(error)) is not None


def points_nowhere(error: SchemaMismatch) -> bool:
    """Whether a class could not be made because one is missing that a reference of it points to."""
    return "reference property to nonexistent class" in str(error)


class WeaviateErrors(ClientDatabase):
    """A Weaviate collection, as far as its errors go."""

    def _translate(self, error: Exception, doing: Doing) -> DatabaseError:
        import grpc
        import httpx

        if isinstance(error, httpx.HTTPStatusError):
            return self._of_rest(error.response, doing)
        if isinstance(error, grpc.RpcError):
            code, reason = error.code().name, error.details() or error.code().name
            return self._of_grpc(code, reason, doing)
        if isinstance(error, httpx.HTTPError | ConnectionError):
            late = isinstance(error, httpx.TimeoutException)
            reason = f"no answer in {self.options.timeout_s:g} s" if late else str(error) or type(error).__name__
            return Unavailable(f"{self.endpoint} does not answer: {reason}")
        if isinstance(error, RuntimeError | ValueError) and "closed" in str(error):
            return Unavailable(f"{self.endpoint} was closed; open it again")
        if isinstance(error, ValueError):
            return DatabaseError(f"{self.endpoint} gives answers that are none of Weaviate's; check 'url'")
        return DatabaseError(f"{self.endpoint} failed: {type(error).__name__}: {error}")

    def _of_rest(self, answer: httpx.Response, doing: Doing) -> DatabaseError:
        wait = retry_after(answer.headers.get("retry-after"))
        status, reason = answer.status_code, _said(answer)
        # What a class that is to be made lacks is no collection of ours that is missing.
        known = None if doing == "create" and status in _REFUSED_CONTENT else self._of_text(reason)
        if status in (401, 403):
            known = AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        elif status == _TOO_MANY or (status >= _SERVER_AT_FAULT and wait is not None):
            known = Throttled(f"{self.endpoint} asks us to slow down: {reason}", retry_after=wait)
        elif known is None and status == _NOT_FOUND:
            known = NotFound(f"there is no {self.endpoint}: {reason}")
        elif known is None and (status >= _SERVER_AT_FAULT or status == _REQUEST_TIMEOUT):
            known = Unavailable(f"{self.endpoint} failed: {reason}")
        if known is not None:
            return known
        if status in _REFUSED_CONTENT:
            return self._refused(reason, doing)
        return DatabaseError(
            f"{self.endpoint} was not reached, or refuses a request (HTTP {status}): {reason}; check 'url'"
        )

    def _of_grpc(self, code: str, reason: str, doing: Doing) -> DatabaseError:
        if _TOO_LARGE.search(reason):
            # A smaller piece of the batch may fit; a single record that does not is refused.
            kind = InvalidRecord if doing == "write" else Unavailable
            return kind(f"a message is too large for {self.endpoint}: {reason}")
        if code == "DEADLINE_EXCEEDED":
            return Unavailable(f"{self.endpoint} did not answer in {self.options.timeout_s:g} s")
        if (known := self._of_text(reason)) is not None:
            return known
        if code == "UNIMPLEMENTED":
            return DatabaseError(f"{self.endpoint}: its gRPC port is none of Weaviate's; check 'options.grpc_url'")
        return self._grpc(code, reason, doing)

    def _blames_data(self, reason: str) -> bool:
        """Whether a text is known to be about an object and not about the server."""
        return _DATA_AT_FAULT.match(reason) is not None

    def _blames_storage(self, reason: str) -> bool:
        """Whether an unknown text comes out of the server's storage, so that no object is known to be at fault."""
        return not self._blames_data(reason) and _STORAGE.search(reason) is not None

    def _of_text(self, reason: str) -> DatabaseError | None:
        """The error that a text stands for by itself, whatever its status code; None if it is of the plain kind."""
        error: DatabaseError | None = None
        if self._blames_data(reason):
            return None
        if _DISK_FULL.search(reason):
            error = DatabaseError(
                f"the disk of {self.endpoint} is full: {reason}; make room, then run the migration again"
            )
        elif _NO_TENANT.search(reason):
            error = NotFound(f"{self.endpoint}: {reason}")
        elif _NO_COLLECTION.search(reason):
            error = NotFound(f"there is no {self.endpoint}: {reason}")
        elif _INACTIVE.search(reason):
            error = Unavailable(f"{self.endpoint}: {reason}; somebody has made it inactive")
        elif _TENANCY.search(reason):
            error = SchemaMismatch(f"{self.endpoint}: {reason}")
        elif _KEY.search(reason):
            error = AuthenticationFailed(f"{self.endpoint} does not accept the key: {reason}")
        elif _SLOW_DOWN.search(reason):
            error = Throttled(f"{self.endpoint} asks us to slow down: {reason}")
        elif _PASSING.search(reason):
            error = Unavailable(f"{self.endpoint} cannot serve at the moment: {reason}")
        return error


def _said(answer: httpx.Response) -> str:
    """What the server said in the body of an answer: `{"error": [{"message": ...}]}`, or one of its other forms."""
    try:
        body = answer.json()
        errors = body.get("error", body)
        errors = errors if isinstance(errors, list) else [errors]
        return "; ".join(str(one["message"] if isinstance(one, dict) else one) for one in errors)
    except (ValueError, KeyError, AttributeError):
        return answer.text.strip()[:500] or str(answer.reason_phrase)

"""What the exceptions of Pinecone's client mean.

https://docs.pinecone.io/reference/api/errors
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vectormigrate_dagster.databases.retry_after import retry_after
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    DatabaseError,
    InvalidRecord,
    NotFound,
    Throttled,
    Unavailable,
)

if TYPE_CHECKING:
    from vectormigrate_dagster.databases.client import Doing
    from vectormigrate_dagster.databases.endpoint import Endpoint

_UNAUTHORIZED, _PAYMENT, _FORBIDDEN, _NOT_FOUND = 401, 402, 403, 404
_TIMEOUT, _TOO_LARGE, _TOO_MANY, _SERVER_AT_FAULT = 408, 413, 429, 500
_TOO_LARGE_MESSAGE = "message length too large"
_NO_NAMESPACE = "namespace not found"


def is_missing_namespace(error: NotFound) -> bool:
    """Whether it is a namespace that does not exist; Pinecone makes one with its first record."""
    return _NO_NAMESPACE in str(error).lower()


def translate(  # noqa: PLR0911  # one answer for each kind of exception
    error: Exception,
    endpoint: Endpoint,
    doing: Doing,
    refused: Callable[[str], DatabaseError],
    of_code: Callable[[str, str], DatabaseError],
) -> DatabaseError:
    """Say what an exception of the client means.

    Args:
        refused: makes the error for a request that is understood and not carried out, by its reason.
        of_code: makes the error for a gRPC status that means what it means everywhere, by its name and reason.
    """
    import grpc
    from pinecone.errors import (
        ApiError,
        IndexInitFailedError,
        IndexTerminatedError,
        PineconeConnectionError,
        PineconeTimeoutError,
        PineconeTypeError,
        PineconeValueError,
        ResponseParsingError,
    )

    if isinstance(error, grpc.RpcError):
        return _of_grpc(error, endpoint, doing, of_code)
    if isinstance(error, ApiError):
        return _of_status(error, endpoint, doing, refused)
    if isinstance(error, PineconeTimeoutError | PineconeConnectionError):
        return Unavailable(f"{endpoint} does not answer: {error}")
    if isinstance(error, IndexInitFailedError | IndexTerminatedError):
        return DatabaseError(f"{endpoint} cannot be used: {error}")
    if isinstance(error, ResponseParsingError):
        return DatabaseError(f"{endpoint} gives answers that are none of Pinecone's API 2026-07 ({error}); check 'url'")
    if isinstance(error, PineconeValueError | PineconeTypeError):
        return refused(str(error))
    return DatabaseError(f"{endpoint} failed: {type(error).__name__}: {error}")


def _of_grpc(
    error: Any, endpoint: Endpoint, doing: Doing, of_code: Callable[[str, str], DatabaseError]
) -> DatabaseError:
    code, text = error.code().name, error.details() or error.code().name
    if _TOO_LARGE_MESSAGE in text:
        # A smaller piece of the batch may fit; a single record that does not is refused.
        kind = InvalidRecord if doing == "write" else DatabaseError
        return kind(f"a message is too large for {endpoint}: {text}")
    if code == "RESOURCE_EXHAUSTED":
        wait = retry_after(dict(error.trailing_metadata() or ()).get("retry-after"))
        return Throttled(f"{endpoint} asks us to slow down: {text}", retry_after=wait)
    return of_code(code, text)


def _of_status(  # noqa: PLR0911  # one answer for each kind of status
    error: Any, endpoint: Endpoint, doing: Doing, refused: Callable[[str], DatabaseError]
) -> DatabaseError:
    status, text = error.status_code, error.message or error.reason or f"HTTP {error.status_code}"
    wait = retry_after((error.headers or {}).get("retry-after"))
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return AuthenticationFailed(f"{endpoint} does not accept the key, or does not allow it this: {text}")
    if status == _NOT_FOUND:
        return NotFound(f"there is no {endpoint}: {text}")
    if status == _TOO_MANY or (status >= _SERVER_AT_FAULT and wait is not None):
        return Throttled(f"{endpoint} asks us to slow down: {text}", retry_after=wait)
    if status == _TIMEOUT or status >= _SERVER_AT_FAULT:
        return Unavailable(f"{endpoint} failed: {text}")
    if status == _PAYMENT:
        return DatabaseError(f"{endpoint} asks for a payment: {text}")
    if status == _TOO_LARGE:
        # A smaller piece of the batch may fit; a single record that does not is refused.
        kind = InvalidRecord if doing == "write" else DatabaseError
        return kind(f"a message is too large for {endpoint}: {text}")
    if not isinstance(error.body, dict | list):
        return DatabaseError(f"{endpoint} was not reached, or refuses a request (HTTP {status}): {text}; check 'url'")
    return refused(text)

"""What Qdrant's refusals mean, over REST, over gRPC and in its embedded mode.

Servers answer both ways with the same texts: lib/storage/src/content_manager/{errors,conversions}.rs and
src/actix/helpers.rs of https://github.com/qdrant/qdrant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    from vectormigrate_dagster.databases.client import Doing
    from vectormigrate_dagster.databases.endpoint import Endpoint

_DISK_FULL = ("No space left on device", "Insufficient storage", "disk quota")
_TOO_LARGE = re.compile(r"larger than (?:max|allowed)|message length too large|Payload too large")
_NO_COLLECTION = re.compile(r"Collection `(?P<name>.*)` doesn't exist")
_NO_SHARD_KEY = re.compile(r"Shard key .*not (?:found|specified)")
_NO_VECTOR = re.compile(r"Not existing vector name error: ?(?P<name>.*)")
_STRICT_LIMIT = re.compile(r"Limit exceeded \d+ > \d+|larger than rate limiter capacity")
_NO_NUMBER = "Retry-After header value is not a valid integer: "
_BAD_REQUEST, _NOT_FOUND, _REQUEST_TIMEOUT, _CONFLICT, _TOO_MANY = 400, 404, 408, 409, 429
_UNFIT_CONTENT = (413, 422)
_SERVER_AT_FAULT, _INSUFFICIENT_STORAGE = 500, 507


def is_too_large(error: DatabaseError) -> bool:
    """Whether an answer does not fit into one message, so that a smaller page will."""
    return isinstance(error, Unavailable) and _TOO_LARGE.search(str(error)) is not None


def is_strict(error: DatabaseError) -> bool:
    """Whether the collection's strict mode allows less in one request than was asked for."""
    return isinstance(error, Throttled) and _STRICT_LIMIT.search(str(error)) is not None


def translate(
    error: Exception,
    endpoint: Endpoint,
    doing: Doing,
    *,
    refused: Callable[[str], DatabaseError],
    of_code: Callable[[str, str], DatabaseError],
) -> DatabaseError:
    """Say what an exception of the client means.

    Args:
        refused: makes the error for a request that is understood and not carried out, by its reason.
        of_code: makes the error for a gRPC status that means what it means everywhere, by its name and reason.
    """
    import grpc
    from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, ResourceExhaustedResponse):
        text = str(error)
        return _of_text(text, endpoint, doing) or slow_down(text, endpoint, float(error.retry_after_s))
    if isinstance(error, QdrantException):  # Retry-After was no whole number
        return slow_down("Too Many Requests", endpoint, retry_after(str(error).removeprefix(_NO_NUMBER)))
    if isinstance(error, UnexpectedResponse):
        text = text_of(error.content, error.reason_phrase)
        return _of_text(text, endpoint, doing) or _of_http(error, text, endpoint, doing) or refused(text)
    if isinstance(error, grpc.RpcError):
        text = error.details() or error.code().name
        return _of_text(text, endpoint, doing) or of_code(error.code().name, text)
    if isinstance(error, ResponseHandlingException):
        return _of_transport(error.source, endpoint)
    return _of_python(error, endpoint, refused)


def _of_text(text: str, endpoint: Endpoint, doing: Doing) -> DatabaseError | None:
    """The error that a text stands for by itself, whatever its status code; None if it is of the plain kind."""
    error: DatabaseError | None = None
    if any(words in text for words in _DISK_FULL):
        error = _disk_full(text, endpoint)
    elif _TOO_LARGE.search(text):
        # A smaller piece of the batch may fit; a single record that does not is refused.
        kind = InvalidRecord if doing == "write" else Unavailable
        error = kind(f"a message is too large for {endpoint}: {text}")
    elif (absent := _NO_COLLECTION.search(text)) and absent["name"] == endpoint.collection:
        error = NotFound(f"there is no {endpoint}")
    elif _NO_SHARD_KEY.search(text):
        error = NotFound(f"{endpoint} has no such shard key: {text}")
    elif doing == "write" and (vector := _NO_VECTOR.search(text)):
        error = SchemaMismatch(
            f"{endpoint} has no vector '{vector['name'].strip()}'; if the collection was changed since the plan was "
            "made, restore it or plan anew"
        )
    elif _STRICT_LIMIT.search(text):
        error = Throttled(f"{endpoint} allows less in one request by its strict mode: {text}")
    return error


def _of_http(answer: Any, text: str, endpoint: Endpoint, doing: Doing) -> DatabaseError | None:
    """The error for the status of an HTTP answer; None if the request is to blame, and `text` says why."""
    status = answer.status_code or 0
    wait = retry_after(answer.headers.get("retry-after"))
    error: DatabaseError | None = None
    if status in (401, 403):
        error = AuthenticationFailed(f"{endpoint} does not accept the key: {text}")
    elif status == _NOT_FOUND:
        error = NotFound(f"there is no {endpoint}: {text}")
    elif status == _TOO_MANY or (status >= _SERVER_AT_FAULT and wait is not None):
        error = slow_down(text, endpoint, wait)
    elif status == _INSUFFICIENT_STORAGE:
        error = _disk_full(text, endpoint)
    elif status == _REQUEST_TIMEOUT:
        error = Unavailable(f"{endpoint} did not finish in time: {text}")
    elif not _BAD_REQUEST <= status < _SERVER_AT_FAULT:
        error = Unavailable(f"{endpoint} failed: {text}")
    elif not _blames_content(status, answer.content, doing):
        error = DatabaseError(f"{endpoint} was not reached, or refuses a request (HTTP {status}): {text}; check 'url'")
    return error


def _blames_content(status: int, content: bytes, doing: Doing) -> bool:
    """Whether a refusal is about what was sent; others come from a proxy in between, or are about our calls."""
    if status == _BAD_REQUEST:
        return _said(content) is not None
    return status in _UNFIT_CONTENT or (status == _CONFLICT and doing == "create")


def _of_transport(cause: Exception, endpoint: Endpoint) -> DatabaseError:
    """The error for an answer that did not come or cannot be read."""
    from pydantic import ValidationError

    if isinstance(cause, ValidationError):
        return DatabaseError(f"{endpoint} gives answers that are none of Qdrant's; check 'url'")
    return Unavailable(f"{endpoint} does not answer: {cause or type(cause).__name__}")


def _of_python(error: Exception, endpoint: Endpoint, refused: Callable[[str], DatabaseError]) -> DatabaseError:
    """The embedded mode raises what Python raises, and so does the client for what it cannot send."""
    text = str(error)
    if isinstance(error, ValueError) and text == f"Collection {endpoint.collection} not found":
        return NotFound(f"there is no {endpoint}")
    if isinstance(error, ValueError) and "closed channel" in text:
        return Unavailable(f"{endpoint} was closed; open it again")
    if isinstance(error, ValueError | TypeError | KeyError):
        return refused(text)
    return DatabaseError(f"{endpoint} failed: {type(error).__name__}: {text}")


def slow_down(text: str, endpoint: Endpoint, seconds: float | None) -> Throttled:
    """The error for a server that asks for a pause."""
    return Throttled(f"{endpoint} asks us to slow down: {text}", retry_after=seconds)


def text_of(content: bytes, reason: str) -> str:
    """What the server said in the body of an answer, or the status line's words."""
    return _said(content) or content.decode(errors="replace").strip()[:500] or reason


def _said(content: bytes) -> str | None:
    """The error in the body of an answer of Qdrant's own; None if the body is somebody else's."""
    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _disk_full(text: str, endpoint: Endpoint) -> DatabaseError:
    return DatabaseError(f"the disk of {endpoint} is full: {text}; make room, then run the migration again")

"""Pages of ids and their tokens, which are opaque to clients."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from vectormigrate_dagster_tests.emulators.pinecone.errors import invalid
from vectormigrate_dagster_tests.emulators.pinecone.faults import Ordered
from vectormigrate_dagster_tests.emulators.pinecone.index import Index
from vectormigrate_dagster_tests.emulators.pinecone.namespace import Namespace
from vectormigrate_dagster_tests.emulators.pinecone.request import Request
from vectormigrate_dagster_tests.emulators.pinecone.settings import MAX_ID_BYTES


def token_of(scope: list[str], after: str) -> str:
    """A token to go on behind an id, good for one scope (what is listed, where, with which prefix) only."""
    return base64.urlsafe_b64encode(json.dumps([scope, after]).encode()).decode()


def after_token(scope: list[str], token: Any, ordered: Ordered) -> str | None:
    """The id behind which a page begins; None at the beginning.

    Raises:
        Refused: it is no token, one of another scope, or tests ordered that it be refused.
    """
    if token is None or token == "":
        return None
    ordered.check_token()
    try:
        of, after = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, AttributeError, TypeError, binascii.Error) as error:
        raise invalid("Invalid pagination token") from error
    if of != scope:
        raise invalid("Invalid pagination token")
    return str(after)


def page(
    index: Index, namespace: Namespace, prefix: Any, token: Any, limit: int, request: Request
) -> tuple[list[str], str | None]:
    """A page of ids in the order of their bytes, and the token of the next."""
    prefix = prefix or ""
    if not isinstance(prefix, str) or not prefix.isascii() or "\0" in prefix or len(prefix) > MAX_ID_BYTES:
        raise invalid(f"prefix must have at most {MAX_ID_BYTES} ASCII characters")
    scope = [index.name, namespace.name, prefix]
    after = after_token(scope, token, request.ordered)
    ids, more = namespace.page(prefix, after, limit)
    return ids, token_of(scope, ids[-1] if ids else after or "") if more else None


def limit_of(value: Any, largest: int, default: int) -> int:
    """How many a page may hold, as JSON or as text of a query string."""
    if value is None:
        return default
    try:
        limit = int(value)
    except (TypeError, ValueError) as error:
        raise invalid(f"limit must be an integer, got '{value}'") from error
    if not 1 <= limit <= largest:
        raise invalid(f"limit must be between 1 and {largest}, got {limit}")
    return limit


def paginated(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    """An answer with the token of the next page, or without any if it is the last."""
    return answer if token is None else {**answer, "pagination": {"next": token}}

"""How whoever watches a call that writes is asked before each of its requests: one call may make several, and wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vectormigrate_dagster.errors import InvalidRecord, Throttled

ANSWERS = (InvalidRecord, Throttled)
"""Errors that say that the request was not applied; after others it may have been, or may still be."""

Check = Callable[[], None]
"""Raises if nothing may be sent now."""

_check: ContextVar[Check | None] = ContextVar("check", default=None)
"""Of the call that is under way; `ahead` takes it along into its threads."""


@contextmanager
def watched(check: Check) -> Iterator[None]:
    """Have `check` asked before each request that writes, of the calls that are made inside of the block."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def about_to_write() -> None:
    """Ask whether the next request may be sent; to be called right before each one that writes."""
    check = _check.get()
    if check is not None:
        check()

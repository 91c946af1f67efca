"""Ask several questions at a time: a server takes its fifth of a second for each, however small the answer is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

from vectormigrate_dagster.databases.watch import ANSWERS
from vectormigrate_dagster.errors import DatabaseError

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 8


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `function` of each item, in order, while the next few are at work; what it raises is raised in its turn.

    Args:
        function: is called from several threads; what bounds the calls to a database it brings itself. How its
            requests are repeated is taken along (`patience`).
        items: taken as there is room for them.
    """
    left = iter(items)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="vectormigrate-ask")
    try:
        asked = deque(pool.submit(copy_context().run, function, item) for item in islice(left, _THREADS))
        while asked:
            first = asked.popleft()
            if isinstance(error := first.exception(), DatabaseError):
                raise _gravest(error, asked)
            answer = first.result()
            asked.extend(pool.submit(copy_context().run, function, item) for item in islice(left, 1))
            yield answer
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _gravest(first: DatabaseError, others: Iterable[Future[R]]) -> BaseException:
    """What to raise where several fail: one that leaves open whether a request was applied hides behind no other."""
    if not isinstance(first, ANSWERS):
        return first
    errors = [other.exception() for other in others if not other.cancel()]
    return next((error for error in errors if error is not None and not isinstance(error, ANSWERS)), first)

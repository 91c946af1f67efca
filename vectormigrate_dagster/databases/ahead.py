"""Ask several questions at a time: a server takes its fifth of a second for each, however small the answer is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

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
            answer = asked.popleft().result()
            asked.extend(pool.submit(copy_context().run, function, item) for item in islice(left, 1))
            yield answer
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

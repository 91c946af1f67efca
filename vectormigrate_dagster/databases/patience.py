"""How one of the many requests of a long call is repeated alone, by the policy that the call itself is made under.

A count may be a hundred thousand requests. Were all of them made again for one that was refused, it would never end on
a server that allows some hundred a second. Whoever makes a call says by `patient` how its requests are repeated; the
database asks each of them by `repeated`. Without a policy a request is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

Policy = Callable[[Callable[[], Any]], Any]
"""Makes a request until it succeeds or is given up, and returns its answer."""

_policy: ContextVar[Policy | None] = ContextVar("policy", default=None)
"""Of the call that is under way; `ahead` takes it along into its threads."""


@contextmanager
def patient(policy: Policy) -> Iterator[None]:
    """Repeat each request of the calls that are made inside of the block by `policy`."""
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


def repeated(request: Callable[[], T]) -> T:
    """Make one request of a call, as often as the policy of that call says."""
    policy = _policy.get()
    if policy is None:
        return request()
    answer: T = policy(request)
    return answer

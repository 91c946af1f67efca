"""What the live code sees of the machine while it is on stage: this world's clock, draws, threads and event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, Self, TypeVar
from unittest.mock import patch
from weakref import WeakSet

from vectormigrate_dagster.databases import ahead
from vectormigrate_dagster.live import dual_writer, group_commit
from vectormigrate_dagster.transfer import line
from vectormigrate_dagster.transfer.throttle import Interrupt
from vectormigrate_dagster.validation import pairs
from vectormigrate_dagster_tests.live.exploring.checks import ticket_of
from vectormigrate_dagster_tests.live.exploring.databases import SteppedJournal
from vectormigrate_dagster_tests.live.exploring.world import HERE, World

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 25.0
"""Every shorter wait takes so long here: a process may always be slow, and runs stay short."""


class VirtualTime:
    """`time` as the live code sees it."""

    def __init__(self, world: World) -> None:
        self.monotonic = self.perf_counter = self.time = world.monotonic
        self._world = world

    def sleep(self, seconds: float) -> None:
        """Wait, seldom and long rather than often and short."""
        self._world.sleep(max(seconds, POLL_SECONDS))


class VirtualSecrets:
    """`secrets` as the live code sees it: the same draws in every run with the same schedule."""

    def __init__(self) -> None:
        self._outside = 0

    def token_hex(self, size: int = 8) -> str:
        """A name."""
        if HERE.actor is not None:
            return HERE.actor.draw()
        self._outside += 1
        return f"stage-{self._outside}"

    def randbits(self, bits: int) -> int:
        """A number."""
        return ticket_of(self.token_hex())


class InOneThread:
    """A pool of no threads: what is submitted is done at once, so that an actor does one thing at a time."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take what a pool takes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do it; what ends an actor's thread goes through."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # it is the future's to tell
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        """There is nothing to wait for."""


class _NoThread:
    """A thread that is never begun: what it would do in the background, an actor does as a step when it ends."""

    def __init__(self, **_: Any) -> None:
        """Take what a thread takes."""

    def start(self) -> None:
        """Do nothing."""

    def join(self) -> None:
        """There is nothing to wait for."""


class _OneThread:
    """`threading` as the writer sees it."""

    Lock = threading.Lock
    Semaphore = threading.Semaphore
    Event = threading.Event
    Thread = _NoThread


class _OneTask:
    """`asyncio` as the writer sees it: its loop has one task, which waits where a thread would."""

    shield = staticmethod(asyncio.shield)
    wrap_future = staticmethod(asyncio.wrap_future)
    CancelledError = asyncio.CancelledError

    def __init__(self, clock: VirtualTime) -> None:
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        """Wait, by this world's clock."""
        self._clock.sleep(seconds)

    @staticmethod
    async def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it here."""
        return function(*args, **kwargs)


@contextmanager
def virtual(world: World, journal: SteppedJournal) -> Iterator[None]:
    """Let the live code see this world's clock and journal, and draw from this world."""
    clock, drawn = VirtualTime(world), VirtualSecrets()
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("vectormigrate_dagster.live"):
                if getattr(module, "time", None) is time:
                    stack.enter_context(patch.object(module, "time", clock))
                if getattr(module, "secrets", None) is secrets:
                    stack.enter_context(patch.object(module, "secrets", drawn))
        stack.enter_context(patch.object(dual_writer, "JournalDatabase", lambda url: journal))
        stack.enter_context(patch.object(logging.getLogger(dual_writer.__name__), "disabled", True))
        stack.enter_context(patch.object(group_commit, "threading", _OneThread))
        stack.enter_context(patch.object(group_commit, "_OPEN", WeakSet()))
        stack.enter_context(patch.object(dual_writer, "asyncio", _OneTask(clock)))
        for module in (line, pairs, ahead, dual_writer):
            stack.enter_context(patch.object(module, "ThreadPoolExecutor", InOneThread))
        stack.enter_context(patch.object(Interrupt, "sleep", lambda self, seconds: world.sleep(seconds)))
        yield

"""Blocking calls to something that may hang: answered within a time, and in a bounded number of threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Workers:
    """Threads for blocking calls, so many at a time.

    A call that hangs holds its thread for as long as it hangs, although its caller was told; once every thread is held,
    others are told as late. No thread keeps the process alive.
    """

    def __init__(self, threads: int) -> None:
        self._free = asyncio.Semaphore(threads)

    async def run(self, call: Callable[[], Answer], seconds: float) -> Answer:
        """What a call returns.

        Raises:
            TimeoutError: it has not ended in time; if a thread has begun it, it goes on.
            Exception: what it has raised.
        """
        async with asyncio.timeout(seconds):
            await self._free.acquire()
            begun = asyncio.wrap_future(_begin(call))
            begun.add_done_callback(lambda _: self._free.release())
            return _value(await asyncio.shield(begun))


class Question(Generic[Answer]):
    """A question that is asked in a thread; whoever asks while it is open waits for the same answer.

    What hangs holds one thread for as long as it hangs, however often others ask, and does not keep the process alive.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._open: Future[Answer | Exception] | None = None

    async def answer(self, seconds: float) -> Answer:
        """The answer.

        Raises:
            TimeoutError: it did not come in time.
            Exception: what asking has raised.
        """
        if self._open is None or self._open.done():
            self._open = _begin(self._ask)
        return _value(await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._open)), seconds))


def _begin(call: Callable[[], Answer]) -> Future[Answer | Exception]:
    """Call in a thread of its own; what is raised is a result too, so that nothing is missed if nobody waits for it."""
    answer: Future[Answer | Exception] = Future()
    context = contextvars.copy_context()  # spans of a trace know from it what they belong to

    def run() -> None:
        try:
            answer.set_result(context.run(call))
        except Exception as error:  # noqa: BLE001  (whoever asked gets it)
            answer.set_result(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


def _value(answer: Answer | Exception) -> Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer

"""The wish of this process's owner to end, as a flag that work looks at between batches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None

_ENDS: dict[signal.Signals, _Handler] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What ends a process by a signal that it was started to ignore."""

_stop = threading.Event()


def stop_requested() -> bool:
    """Whether this process was asked to end (SIGINT, SIGTERM) inside `graceful`."""
    return _stop.is_set()


def request_stop() -> None:
    """Ask this process to end, as a signal inside `graceful` does."""
    _stop.set()


@contextmanager
def graceful() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a flag; the second of either ends the process as usual.

    Outside the main thread it does nothing: signals belong to whoever runs that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signature of a handler
        _stop.set()
        usual = before[signal.Signals(number)]
        # A shell's background jobs begin with SIGINT ignored; whoever sends it twice means it.
        signal.signal(number, _ENDS[signal.Signals(number)] if usual is signal.SIG_IGN else usual)

    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _stop.clear()

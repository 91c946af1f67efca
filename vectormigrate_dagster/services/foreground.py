"""Work that whoever waits for it can end: it runs in a thread, and signals are left to the main thread.

Dagster would turn an interrupt into a failed run, and leave what was under way half done.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NoReturn, TypeVar

from vectormigrate_dagster.defs.signals import graceful
from vectormigrate_dagster.errors import Stopped

Result = TypeVar("Result")

_LOOK_SECONDS = 0.5
_STDERR = 2
_SHOW_CURSOR = b"\x1b[?25h\n"
"""DECTCEM: a progress bar has hidden it (https://vt100.net/docs/vt510-rm/DECTCEM.html)."""


def in_foreground(work: Callable[[], Result], look: Callable[[], None] = lambda: None) -> Result:
    """Do `work` while this process can be asked to end, and return what it returns.

    The first SIGINT or SIGTERM asks (`signals.stop_requested`). A second Ctrl-C does not return: it ends this process
    and its workers at once, with exit code 130, because a call may hang for minutes.

    Args:
        work: ends with `Stopped` soon after it was asked to end.
        look: is called about twice a second meanwhile.

    Raises:
        Stopped: it was asked to end.
    """
    with graceful(), ThreadPoolExecutor(1, thread_name_prefix="foreground") as pool:
        future = pool.submit(work)
        try:
            while wait([future], timeout=_LOOK_SECONDS).not_done:
                look()
        except KeyboardInterrupt:
            _leave_at_once()
        return future.result()


def _leave_at_once() -> NoReturn:
    """End this process and its workers without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for worker in multiprocessing.active_children():
        worker.kill()
    if os.isatty(_STDERR):
        os.write(_STDERR, _SHOW_CURSOR)
    os._exit(Stopped.exit_code)

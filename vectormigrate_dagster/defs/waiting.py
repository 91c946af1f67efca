"""Waits that may take minutes: they say what for, and whoever asks the work to end ends them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import dagster as dg

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.signals import stop_requested
from vectormigrate_dagster.defs.state import now
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster.transfer.throttle import Interrupt

Tell = Callable[[str], None]

_LOOK_SECONDS = 2.0
"""How often whoever waits looks whether somebody has said stop."""

_SLICE_SECONDS = 0.5

_owner: ContextVar[Tell | None] = ContextVar("owner", default=None)


def tell_nobody(line: str) -> None:
    """For whoever has nobody to tell."""
    del line


@contextmanager
def telling(owner: Tell) -> Iterator[None]:
    """Tell the owner of this process, too, what the runs of a block wait for; their logs are not shown to him."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def teller(context: dg.OpExecutionContext) -> Tell:
    """Tells a run's log, and the owner of this process; see `telling`."""

    def tell(line: str) -> None:
        context.log.info(line)
        if (owner := _owner.get()) is not None:
            owner(line)

    return tell


def wait_until_quiet(log: MigrationLog, seconds: Callable[[], float], *, tell: Tell) -> None:
    """Wait until nothing that was sent to the target can be applied any more.

    Args:
        log: the migration's state.
        seconds: how long that is from now on; asked again and again.
        tell: is told what is waited for.

    Raises:
        Stopped: the wait was ended.
    """
    sleep = until_stopped(log, Interrupt(stop_requested).sleep, left="what was done is recorded")
    if (first := seconds()) > _SLICE_SECONDS:
        tell(
            f"waiting for about {math.ceil(first)} s: what was sent before may arrive at the target until then "
            "(journal.request_seconds of the migration file)"
        )
    while (left := seconds()) > 0:
        sleep(min(left, _SLICE_SECONDS))


def until_stopped(log: MigrationLog, sleep: Sleep, *, left: str) -> Sleep:
    """Let waits end with `Stopped`, some seconds after `vectormigrate stop` was said.

    Args:
        log: the migration's state.
        sleep: waits.
        left: how it is left then.
    """
    began, looked = now(), time.monotonic()

    def wait(seconds: float) -> None:
        nonlocal looked
        sleep(seconds)
        if time.monotonic() - looked < _LOOK_SECONDS:
            return
        looked = time.monotonic()
        log.refresh()
        asked = log.control().stop_requested_at
        if asked is not None and asked > began:
            raise Stopped(f"stopped on request; {left}")

    return wait

"""Progress of long work: a bar on a terminal, plain lines in a file or a pipe; always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from vectormigrate_dagster.cli.render import duration, status_table

if TYPE_CHECKING:
    from vectormigrate_dagster.services.demo_live import Moment
    from vectormigrate_dagster.services.models import Status

__all__ = ["Comparing", "Progress", "show_moment", "watch"]

_LINE_SECONDS = 5.0
_WATCH_SECONDS = 2.0
_ENDED = {"completed", "failed", "stopped", "rolled_back"}


class Progress:
    """Shows each `Status` that it is called with, between `__enter__` and `__exit__`."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._last_line: tuple[float, str] | None = None
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, status: Status) -> None:
        """Show a status."""
        status = self._with_rate(status)
        if self._bar is None:
            self._print_line(status)
            return
        total, done = status.progress.total_records, status.progress.migrated_records
        if self._task is None:
            self._task = self._bar.add_task(self._name, total=total or None, numbers="")
        self._bar.update(self._task, total=total or None, completed=done, numbers=_numbers(status, short=True))

    def say(self, line: str) -> None:
        """Print a line; above the bar, where there is one."""
        if self._bar is None:
            click.echo(f"{self._name}: {line}", err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False)

    def _with_rate(self, status: Status) -> Status:
        """The status with what we saw ourselves, where no running work reports its rate."""
        now, moved = self._clock(), status.progress.migrated_records
        if self._first is None:
            self._first = (now, moved)
        began, moved_before = self._first
        left = status.progress.total_records - moved
        if status.rate_per_second is not None or moved <= moved_before or left <= 0:
            return status
        rate = (moved - moved_before) / max(now - began, 1e-3)
        return status.model_copy(update={"rate_per_second": rate, "eta_seconds": left / rate})

    def _print_line(self, status: Status) -> None:
        line, now = f"{self._name}: {_numbers(status)}", self._clock()
        if self._last_line is not None:
            last, previous = self._last_line
            all_there = status.progress.migrated_records >= status.progress.total_records
            if line == previous or (now - last < _LINE_SECONDS and not all_there):
                return
        self._last_line = (now, line)
        click.echo(line, err=True)


class Comparing:
    """Shows on a terminal how far comparing both sides is, between `__enter__` and `__exit__`; elsewhere nothing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, of: int, left: float | None) -> None:
        """Show how many parts are compared, of how many, and how many seconds the rest will take."""
        if self._bar is None or self._task is None:
            if not sys.stderr.isatty():
                return
            self._bar = _bar()
            self._task = self._bar.add_task(f"{self._name}: comparing", total=of, numbers="")
            self._bar.start()
        rest = f"  {duration(left)} left" if left else ""
        self._bar.update(self._task, total=of, completed=done, numbers=f"{done:,}/{of:,} parts{rest}")


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[numbers]}", markup=False),
        console=Console(stderr=True),
        expand=True,
        redirect_stdout=False,
        transient=True,
    )


def _numbers(status: Status, *, short: bool = False) -> str:
    progress = status.progress
    of = "/" if short else " of "
    parts = [f"{progress.migrated_records:,}{of}{progress.total_records:,}"]
    if status.rate_per_second is not None:
        parts.append(f"{status.rate_per_second:,.0f}/s")
    if status.eta_seconds:
        parts.append(f"{duration(status.eta_seconds)} left")
    if (
        status.indexing == "building"
        and status.phase != "rollback"
        and status.partitions.done == status.partitions.total
    ):
        parts.append("the target builds its index")
    if short:
        return "  ".join(parts)
    parts[0] += f" records ({progress.percentage:.2f} %)"
    return ", ".join(parts)


def show_moment(moment: Moment) -> None:
    """Print how the live demo stands, as a line."""
    numbers = f"{moment.writes:>6,} writes  lag {moment.lag_records:>4,} records, {moment.lag_seconds:>5.1f} s"
    click.echo(f"{moment.seconds:>6.1f} s  {moment.doing:<24}{numbers}  primary: {moment.primary}", err=True)


def watch(ask: Callable[[], Status], *, wait: Callable[[float], None] = time.sleep) -> None:
    """Show a status again and again until the work has ended; on a terminal in place, otherwise as lines."""
    status = ask()
    if not sys.stdout.isatty():
        line = ""
        while True:
            if (new := f"{status.migration_id}: {_numbers(status)}, {status.status.replace('_', ' ')}") != line:
                line = new
                click.echo(line)
            if status.status in _ENDED:
                return
            wait(_WATCH_SECONDS)
            status = ask()
    with Live(status_table(status), console=Console(), auto_refresh=False) as live:
        while status.status not in _ENDED:
            wait(_WATCH_SECONDS)
            status = ask()
            live.update(status_table(status), refresh=True)
